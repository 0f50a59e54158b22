// SPDX-License-Identifier: GPL-2.0-only
/* Posts bodies to an HTTP server, one at a time, over TLS if asked; never waits. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>

#include "loop.h"
#include "poster.h"

/* libevent's own client cannot be given Mbed TLS before its version 2.2, so this is both. */

#define TIMEOUT_NS (10ULL * 1000 * 1000 * 1000)

struct poster {
	struct event_base *base;
	struct evdns_base *dns;
	const char *host;
	struct sockaddr_storage at; /* if the host is an address */
	__u16 port;
	bool secure, connected, greeted, busy, ended;
	struct tls_files files;
	struct bufferevent *wire;
	struct tls *tls;
	struct evbuffer *request, *answer; /* without TLS's wrapping */
	struct waiter *timeout;
	poster_fn fn;
	void *ctx;
};

/* ---- answers ---------------------------------------------------------------------------------- */

/* The value of a header of the head, or NULL; *len without blanks around it. */
static const char *header_find(const char *head, const char *end, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (const char *line = head; line < end;) {
		const char *next = memchr(line, '\n', end - line), *value = line + n + 1;
		const char *last = next ? next : end;

		if (last - line > (long)n && line[n] == ':' && !strncasecmp(line, name, n)) {
			while (value < last && (*value == ' ' || *value == '\t'))
				value++;
			while (last > value && strchr(" \t\r", last[-1]) && last[-1])
				last--;
			*len = last - value;
			return value;
		}
		line = next ? next + 1 : end;
	}
	return NULL;
}

/* How long the body is; -1: that is not said so that we could go on behind it. */
static long body_length(const char *head, const char *end)
{
	const char *value;
	long length = 0;
	size_t len;

	value = header_find(head, end, "connection", &len);
	if (value && len == 5 && !strncasecmp(value, "close", 5))
		return -1;
	if (header_find(head, end, "transfer-encoding", &len))
		return -1;
	value = header_find(head, end, "content-length", &len);
	if (!value || !len || len > 5)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (value[i] < '0' || value[i] > '9')
			return -1;
		length = length * 10 + value[i] - '0';
	}
	return length > POSTER_ANSWER_MOST / 2 ? -1 : length;
}

/*
 * The status is all that matters. What follows is read only to use the connection again, and
 * if its length is not told plainly the connection is closed instead.
 */
int poster_answer(const char *at, size_t len, struct poster_answer *answer)
{
	const char *end, *body;
	long length;

	for (;;) {
		if (len < 12)
			return 0;
		if (memcmp(at, "HTTP/1.", 7) || (at[7] != '0' && at[7] != '1') || at[8] != ' ' ||
		    at[9] < '1' || at[9] > '5' || at[10] < '0' || at[10] > '9' || at[11] < '0' ||
		    at[11] > '9')
			return -EINVAL;
		answer->status = (at[9] - '0') * 100 + (at[10] - '0') * 10 + at[11] - '0';
		end = memmem(at, len, "\r\n\r\n", 4);
		if (!end)
			return len > POSTER_ANSWER_MOST / 2 ? -EINVAL : 0;
		body = end + 4;
		if (answer->status >= 200)
			break;
		len -= body - at; /* it goes on, says this one */
		at = body;
	}
	length = answer->status == 204 ? 0 : body_length(at, end);
	answer->keep = length >= 0 && at[7] == '1';
	return !answer->keep || (size_t)length <= len - (body - at);
}

/* ---- the connection ---------------------------------------------------------------------------- */

static void wire_close(struct poster *p)
{
	if (p->wire)
		bufferevent_free(p->wire);
	tls_free(p->tls);
	p->wire = NULL;
	p->tls = NULL;
	p->connected = p->greeted = p->ended = false;
}

static void post_end(struct poster *p, int status, const char *why, bool keep)
{
	waiter_free(p->timeout);
	p->timeout = NULL;
	p->busy = false;
	evbuffer_drain(p->request, evbuffer_get_length(p->request));
	evbuffer_drain(p->answer, evbuffer_get_length(p->answer));
	if (!keep)
		wire_close(p);
	p->fn(status, why, p->ctx);
}

static int tls_send(void *ctx, const unsigned char *from, size_t n)
{
	struct poster *p = ctx;

	return evbuffer_add(bufferevent_get_output(p->wire), from, n) ? MBEDTLS_ERR_SSL_ALLOC_FAILED
								      : (int)n;
}

static int tls_recv(void *ctx, unsigned char *to, size_t n)
{
	struct poster *p = ctx;
	int got = evbuffer_remove(bufferevent_get_input(p->wire), to, n);

	return got > 0 ? got : p->ended ? 0 : MBEDTLS_ERR_SSL_WANT_READ;
}

/* 1: greeted; 0: not yet; -1: `why` not. */
static int greet(struct poster *p, char *why, size_t size)
{
	int err = mbedtls_ssl_handshake(&p->tls->ssl);
	const mbedtls_x509_crt *cert;

	if (err == MBEDTLS_ERR_SSL_WANT_READ || err == MBEDTLS_ERR_SSL_WANT_WRITE)
		return 0;
	if (err) {
		size_t len = (size_t)snprintf(why, size, "TLS: ");

		tls_words(p->tls, err, why + len, size - len);
		return -1;
	}
	cert = mbedtls_ssl_get_peer_cert(&p->tls->ssl);
	if (!cert || (p->at.ss_family && !tls_is_for(cert, &p->at))) {
		snprintf(why, size,
			 "TLS: its certificate is not for this address "
			 "(subjectAltName IP)");
		return -1;
	}
	p->greeted = true;
	return 1;
}

/* The request into TLS, what comes out of it into the answer. False: the connection is no more. */
static bool tls_turn(struct poster *p)
{
	unsigned char bytes[4096];
	int n;

	while (evbuffer_get_length(p->request)) {
		n = evbuffer_copyout(p->request, bytes, sizeof(bytes));
		n = mbedtls_ssl_write(&p->tls->ssl, bytes, n);
		if (n == MBEDTLS_ERR_SSL_WANT_READ || n == MBEDTLS_ERR_SSL_WANT_WRITE)
			break;
		if (n <= 0)
			return false;
		evbuffer_drain(p->request, n);
	}
	while ((n = mbedtls_ssl_read(&p->tls->ssl, bytes, sizeof(bytes))) > 0)
		evbuffer_add(p->answer, bytes, n);
	return n == MBEDTLS_ERR_SSL_WANT_READ || n == MBEDTLS_ERR_SSL_WANT_WRITE;
}

static void step(struct poster *p)
{
	struct poster_answer answer = {};
	char why[256] = "";
	bool open = !p->ended;
	int got = 0;

	if (!p->connected)
		return;
	if (p->secure && !p->greeted) {
		got = greet(p, why, sizeof(why));
		if (got < 0 && p->busy)
			post_end(p, 0, why, false);
		else if (got < 0)
			wire_close(p);
		if (got <= 0)
			return;
	}
	if (p->secure) {
		open &= tls_turn(p);
	} else {
		evbuffer_add_buffer(bufferevent_get_output(p->wire), p->request);
		evbuffer_add_buffer(p->answer, bufferevent_get_input(p->wire));
	}
	if (!p->busy) { /* nobody asked: the server closes what is idle */
		if (!open || evbuffer_get_length(p->answer))
			wire_close(p);
		return;
	}
	got = poster_answer((const char *)evbuffer_pullup(p->answer, -1),
			    evbuffer_get_length(p->answer), &answer);
	if (got > 0)
		post_end(p, answer.status, NULL, answer.keep && open);
	else if (got < 0)
		post_end(p, 0, "not HTTP", false);
	else if (!open && answer.status >= 200)
		post_end(p, answer.status, NULL, false);
	else if (!open)
		post_end(p, 0, "the connection ended", false);
}

static void wire_read(struct bufferevent *wire, void *ctx)
{
	(void)wire;
	step(ctx);
}

static void wire_event(struct bufferevent *wire, short what, void *ctx)
{
	struct poster *p = ctx;
	int dns = bufferevent_socket_get_dns_error(wire);
	char why[128];

	if (what & BEV_EVENT_CONNECTED) {
		p->connected = true;
	} else if (p->connected) {
		p->ended = true;
	} else {
		snprintf(why, sizeof(why), "%s",
			 dns ? evutil_gai_strerror(dns)
			     : evutil_socket_error_to_string(EVUTIL_SOCKET_ERROR()));
		post_end(p, 0, why, false);
		return;
	}
	step(p);
}

static void timed_out(int fd, void *ctx)
{
	(void)fd;
	post_end(ctx, 0, "no answer in ten seconds", false);
}

static int dns_open(struct poster *p)
{
	if (p->dns)
		return 0;
	/* Numbers too are read by it: libc's resolver is not there (resolve.c). */
	p->dns = evdns_base_new(p->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!p->dns)
		return -ENOMEM;
	if (!p->at.ss_family)
		evdns_base_resolv_conf_parse(p->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
	return 0;
}

static int wire_open(struct poster *p)
{
	if (p->secure) {
		p->tls = tls_new(&p->files, MBEDTLS_SSL_IS_CLIENT);
		if (!p->tls || tls_expect(p->tls, p->at.ss_family ? NULL : p->host))
			return -EINVAL;
		mbedtls_ssl_set_bio(&p->tls->ssl, p, tls_send, tls_recv, NULL);
	}
	p->wire = bufferevent_socket_new(p->base, -1,
					 BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (!p->wire)
		return -ENOMEM;
	bufferevent_setcb(p->wire, wire_read, NULL, wire_event, p);
	bufferevent_setwatermark(p->wire, EV_READ, 0, POSTER_ANSWER_MOST);
	if (bufferevent_enable(p->wire, EV_READ | EV_WRITE) ||
	    bufferevent_socket_connect_hostname(p->wire, p->dns, AF_UNSPEC, p->host, p->port))
		return -EIO;
	return 0;
}

int poster_post(struct poster *p, const void *head, size_t head_len, const void *body, size_t len)
{
	int err = dns_open(p);

	if (!err &&
	    (evbuffer_add(p->request, head, head_len) || evbuffer_add(p->request, body, len)))
		err = -ENOMEM;
	if (!err && !p->wire)
		err = wire_open(p);
	if (!err)
		p->timeout = loop_every(p->base, TIMEOUT_NS, timed_out, p);
	if (err || !p->timeout) {
		evbuffer_drain(p->request, evbuffer_get_length(p->request));
		wire_close(p);
		return err ? err : -ENOMEM;
	}
	p->busy = true;
	bufferevent_trigger(p->wire, EV_READ, BEV_OPT_DEFER_CALLBACKS);
	return 0;
}

/* ---- from beginning to end ------------------------------------------------------------------------ */

struct poster *poster_new(struct event_base *base, const struct poster_options *o, poster_fn fn,
			  void *ctx)
{
	struct poster *p = calloc(1, sizeof(*p));
	struct sockaddr_in *v4;
	struct sockaddr_in6 *v6;
	struct tls *tls;

	if (!p)
		return NULL;
	*p = (struct poster){
		.base = base,
		.host = o->host,
		.port = o->port,
		.secure = o->secure,
		.files = o->tls,
		.fn = fn,
		.ctx = ctx,
		.request = evbuffer_new(),
		.answer = evbuffer_new(),
	};
	v4 = (struct sockaddr_in *)&p->at;
	v6 = (struct sockaddr_in6 *)&p->at;
	if (inet_pton(AF_INET, o->host, &v4->sin_addr) == 1)
		v4->sin_family = AF_INET;
	else if (inet_pton(AF_INET6, o->host, &v6->sin6_addr) == 1)
		v6->sin6_family = AF_INET6;
	/* Files that are not right are said now; each connection reads them anew. */
	tls = p->secure ? tls_new(&p->files, MBEDTLS_SSL_IS_CLIENT) : NULL;
	if (!p->request || !p->answer || (p->secure && !tls)) {
		poster_free(p);
		p = NULL;
	}
	tls_free(tls);
	return p;
}

void poster_free(struct poster *p)
{
	if (!p)
		return;
	waiter_free(p->timeout);
	if (p->tls && p->greeted)
		mbedtls_ssl_close_notify(&p->tls->ssl);
	wire_close(p);
	if (p->dns)
		evdns_base_free(p->dns, 0);
	if (p->request)
		evbuffer_free(p->request);
	if (p->answer)
		evbuffer_free(p->answer);
	free(p);
}
