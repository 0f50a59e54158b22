// SPDX-License-Identifier: GPL-2.0-only
/* Asks servers outside from where they see us, now and then, and remembers. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/http.h>

#include "log.h"
#include "publicaddr.h"
#include "stun.h"

#define TRIES 4
#define TRY_MS 500 /* and twice as long after each */
#define HTTP_SECONDS 10
#define ANSWER_BYTES_MAX 1500

struct publicaddr;

struct stun_server {
	struct publicaddr *p;
	struct sockaddr_in6 at;
	__u8 id[STUN_ID_BYTES];
	unsigned tries;
	int fd;
	struct event *event; /* an answer, or time to try again */
};

struct http_server {
	struct publicaddr *p;
	struct evhttp_uri *uri;
	struct evhttp_connection *connection;
};

struct publicaddr {
	struct event_base *base;
	struct publicaddr_options o;
	struct event *timer;
	struct evdns_base
		*dns; /* evhttp resolves by it: the C library cannot, in a static binary */
	struct stun_server stun[PUBLICADDR_SERVERS_MAX];
	struct http_server http[PUBLICADDR_SERVERS_MAX];
	struct {
		bool known;
		__u8 address[16];
	} found[2]; /* IPv6, IPv4 */
};

static bool is_v4(const __u8 address[16])
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(address, mapped, sizeof(mapped));
}

bool address_is_private(const __u8 address[16])
{
	const __u8 *a = address + 12;

	if (is_v4(address))
		return a[0] == 10 || (a[0] == 172 && (a[1] & 0xf0) == 16) ||
		       (a[0] == 192 && a[1] == 168) || (a[0] == 169 && a[1] == 254) ||
		       (a[0] == 100 && (a[1] & 0xc0) == 64);
	return (address[0] & 0xfe) == 0xfc || (address[0] == 0xfe && (address[1] & 0xc0) == 0x80);
}

void publicaddr_apply(const struct publicaddr *p, __u8 address[16])
{
	bool v4 = is_v4(address);

	for (size_t i = 0; i < p->o.map_n; i++)
		if (!memcmp(p->o.map[i].from, address, 16)) {
			memcpy(address, p->o.map[i].to, 16);
			return;
		}
	if (p->found[v4].known && address_is_private(address))
		memcpy(address, p->found[v4].address, 16);
}

bool publicaddr_known(const struct publicaddr *p, bool v4, __u8 address[16])
{
	if (p->found[v4].known)
		memcpy(address, p->found[v4].address, 16);
	return p->found[v4].known;
}

static void found(struct publicaddr *p, const __u8 address[16], const char *by)
{
	bool v4 = is_v4(address), news;
	char text[INET6_ADDRSTRLEN];

	/* A server within the same private network tells what everybody knows. */
	if (address_is_private(address))
		return;
	news = !p->found[v4].known || memcmp(p->found[v4].address, address, 16);
	p->found[v4].known = true;
	memcpy(p->found[v4].address, address, 16);
	if (news)
		log_info("public address %s, says %s",
			 inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text,
				   sizeof(text)),
			 by);
}

/* ---- STUN -------------------------------------------------------------------------------- */

static void stun_try(struct stun_server *s)
{
	struct timeval wait = { .tv_usec = (TRY_MS << s->tries) * 1000 };
	__u8 request[STUN_REQUEST_BYTES];

	wait.tv_sec = wait.tv_usec / 1000000;
	wait.tv_usec %= 1000000;
	if (s->tries++ == TRIES) {
		log_debug("a STUN server does not answer");
		event_del(s->event);
		return;
	}
	stun_request(request, s->id);
	if (sendto(s->fd, request, sizeof(request), MSG_NOSIGNAL, (void *)&s->at, sizeof(s->at)) <
	    0)
		log_debug("STUN: %s", strerror(errno));
	event_add(s->event, &wait);
}

static void stun_event(evutil_socket_t fd, short what, void *ctx)
{
	struct stun_server *s = ctx;
	struct sockaddr_in6 from;
	__u8 answer[ANSWER_BYTES_MAX], address[16];
	socklen_t len;
	ssize_t n;

	if (what & EV_TIMEOUT) {
		stun_try(s);
		return;
	}
	while (len = sizeof(from),
	       (n = recvfrom(fd, answer, sizeof(answer), 0, (void *)&from, &len)) >= 0) {
		/* Who can not read the request can not know its id; the address alone is forged. */
		if (stun_answer(answer, n, s->id, address))
			continue;
		found(s->p, address, "STUN");
		s->tries = TRIES;
		event_del(s->event);
		return;
	}
}

static void stun_ask(struct stun_server *s)
{
	if (!s->at.sin6_family)
		return;
	if (getrandom(s->id, sizeof(s->id), GRND_NONBLOCK) != sizeof(s->id))
		return;
	s->tries = 0;
	stun_try(s);
}

static int stun_open(struct publicaddr *p, struct stun_server *s, const struct sockaddr_in6 *at)
{
	int off = 0;

	s->p = p;
	s->at = *at;
	s->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		return -errno;
	setsockopt(s->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	s->event = event_new(p->base, s->fd, EV_READ | EV_PERSIST, stun_event, s);
	return s->event ? 0 : -ENOMEM;
}

void publicaddr_stun(struct publicaddr *p, size_t n, const struct sockaddr_in6 *at)
{
	p->stun[n].at = *at;
	stun_ask(&p->stun[n]);
}

/* ---- HTTP -------------------------------------------------------------------------------- */

/* The address and nothing else, but for white space around it. */
static int plain_address(struct evbuffer *body, __u8 address[16])
{
	char text[INET6_ADDRSTRLEN + 8] = "", *at = text;
	size_t n = evbuffer_get_length(body);

	if (n >= sizeof(text) || evbuffer_copyout(body, text, n) != (ssize_t)n)
		return -EBADMSG;
	while (isspace((unsigned char)*at))
		at++;
	at[strcspn(at, " \t\r\n")] = 0;
	memset(address, 0, 16);
	if (inet_pton(AF_INET6, at, address) == 1)
		return 0;
	address[10] = address[11] = 0xff;
	return inet_pton(AF_INET, at, address + 12) == 1 ? 0 : -EBADMSG;
}

static void http_answer(struct evhttp_request *request, void *ctx)
{
	struct http_server *s = ctx;
	__u8 address[16];

	if (!request || evhttp_request_get_response_code(request) != 200 ||
	    plain_address(evhttp_request_get_input_buffer(request), address)) {
		log_debug("%s: no address from there", evhttp_uri_get_host(s->uri));
		return;
	}
	found(s->p, address, evhttp_uri_get_host(s->uri));
}

static void http_ask(struct http_server *s)
{
	const char *path = evhttp_uri_get_path(s->uri), *host = evhttp_uri_get_host(s->uri);
	struct evhttp_request *request = evhttp_request_new(http_answer, s);

	if (!request)
		return;
	evhttp_add_header(evhttp_request_get_output_headers(request), "Host", host);
	evhttp_add_header(evhttp_request_get_output_headers(request), "Connection", "close");
	evhttp_make_request(s->connection, request, EVHTTP_REQ_GET, path && *path ? path : "/");
}

/* evhttp keeps the brackets of an IPv6 host on, and does not connect to it then. */
static int url_host(const struct evhttp_uri *uri, char *out, size_t size)
{
	const char *host = evhttp_uri_get_host(uri);
	struct in6_addr any;
	size_t n = host ? strlen(host) : 0;

	if (!n || n >= size)
		return -EINVAL;
	if (*host == '[') {
		memcpy(out, host + 1, n - 2);
		out[n - 2] = 0;
		return inet_pton(AF_INET6, out, &any) == 1 ? 0 : -EINVAL;
	}
	memcpy(out, host, n + 1);
	return 0;
}

static int http_open_url(struct publicaddr *p, struct http_server *s, const char *url)
{
	char host[PUBLICADDR_URL_MAX];
	int port;

	s->p = p;
	s->uri = evhttp_uri_parse(url);
	if (!s->uri || url_host(s->uri, host, sizeof(host)))
		return -EINVAL;
	port = evhttp_uri_get_port(s->uri);
	if (!p->dns)
		p->dns = evdns_base_new(p->base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
							 EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!p->dns) /* no resolv.conf: addresses need none */
		p->dns = evdns_base_new(p->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	s->connection = evhttp_connection_base_new(p->base, p->dns, host, port > 0 ? port : 80);
	if (!s->connection)
		return -ENOMEM;
	evhttp_connection_set_timeout(s->connection, HTTP_SECONDS);
	evhttp_connection_set_max_body_size(s->connection, ANSWER_BYTES_MAX);
	evhttp_connection_set_max_headers_size(s->connection, 16384);
	return 0;
}

bool publicaddr_url_valid(const char *url)
{
	struct evhttp_uri *uri = evhttp_uri_parse(url);
	char host[PUBLICADDR_URL_MAX];
	bool valid = uri && evhttp_uri_get_scheme(uri) &&
		     !strcmp(evhttp_uri_get_scheme(uri), "http") &&
		     !url_host(uri, host, sizeof(host)) && strlen(url) < PUBLICADDR_URL_MAX;

	if (uri)
		evhttp_uri_free(uri);
	return valid;
}

/* ---- both -------------------------------------------------------------------------------- */

int publicaddr_pair_parse(const char *text, struct publicaddr_pair *out)
{
	const char *equals = strchr(text, '=');
	char from[INET6_ADDRSTRLEN];
	__u8 *to[2] = { out->from, out->to };
	const char *part[2] = { from, equals ? equals + 1 : NULL };

	if (!equals || (size_t)(equals - text) >= sizeof(from))
		return -EINVAL;
	memcpy(from, text, equals - text);
	from[equals - text] = 0;
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < 2; i++) {
		if (inet_pton(AF_INET6, part[i], to[i]) == 1)
			continue;
		if (inet_pton(AF_INET, part[i], to[i] + 12) != 1)
			return -EINVAL;
		to[i][10] = to[i][11] = 0xff;
	}
	return is_v4(out->from) == is_v4(out->to) ? 0 : -EINVAL;
}

static void ask(evutil_socket_t fd, short what, void *ctx)
{
	struct publicaddr *p = ctx;

	(void)fd, (void)what;
	for (size_t i = 0; i < p->o.stun_n; i++)
		stun_ask(&p->stun[i]);
	for (size_t i = 0; i < p->o.http_n; i++)
		http_ask(&p->http[i]);
}

static int timer_start(struct publicaddr *p)
{
	const struct timeval every = { .tv_sec = p->o.refresh_ns / 1000000000,
				       .tv_usec = p->o.refresh_ns % 1000000000 / 1000 };

	if (!p->o.stun_n && !p->o.http_n)
		return 0;
	p->timer = event_new(p->base, -1, EV_PERSIST, ask, p);
	if (!p->timer)
		return -ENOMEM;
	if (p->o.refresh_ns)
		event_add(p->timer, &every);
	ask(-1, 0, p);
	return 0;
}

struct publicaddr *publicaddr_open(struct event_base *base, const struct publicaddr_options *o)
{
	struct publicaddr *p = calloc(1, sizeof(*p));
	int err = 0;

	if (!p)
		return NULL;
	p->base = base;
	p->o = *o;
	for (size_t i = 0; i < PUBLICADDR_SERVERS_MAX; i++)
		p->stun[i].fd = -1;
	for (size_t i = 0; i < o->stun_n && !err; i++)
		err = stun_open(p, &p->stun[i], &o->stun[i]);
	for (size_t i = 0; i < o->http_n && !err; i++)
		err = http_open_url(p, &p->http[i], o->http[i]);
	if (!err)
		err = timer_start(p);
	if (!err)
		return p;
	publicaddr_close(p);
	errno = -err;
	return NULL;
}

void publicaddr_close(struct publicaddr *p)
{
	if (!p)
		return;
	if (p->timer)
		event_free(p->timer);
	for (size_t i = 0; i < PUBLICADDR_SERVERS_MAX; i++) {
		if (p->stun[i].event)
			event_free(p->stun[i].event);
		if (p->stun[i].fd >= 0)
			close(p->stun[i].fd);
		if (p->http[i].connection)
			evhttp_connection_free(p->http[i].connection);
		if (p->http[i].uri)
			evhttp_uri_free(p->http[i].uri);
	}
	if (p->dns)
		evdns_base_free(p->dns, 0);
	free(p);
}
