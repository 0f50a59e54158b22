// SPDX-License-Identifier: GPL-2.0-only
/* A connection over which queries are asked: plain, or TLS with certificates on both sides. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>

#include "channel.h"

#define NAME_MOST 256

struct channel {
	int fd;
	struct tls *tls;
	bool client, greeted;
	const char *name;
	struct sockaddr_storage at;
	char peer[NAME_MOST];
};

struct channel *channel_plain(int fd)
{
	struct channel *c = calloc(1, sizeof(*c));

	if (c)
		c->fd = fd;
	else
		close(fd);
	return c;
}

int channel_files(const struct tls_files *files)
{
	struct tls *tls = tls_new(files, MBEDTLS_SSL_IS_SERVER);

	tls_free(tls);
	return tls ? 0 : -EINVAL;
}

/* ---- bytes ------------------------------------------------------------------------------ */

/* An interrupted call is tried again by none of ours: a signal is how a query is cancelled. */
static int socket_send(void *ctx, const unsigned char *from, size_t n)
{
	const struct channel *c = ctx;
	ssize_t sent = send(c->fd, from, n, MSG_NOSIGNAL);

	if (sent < 0)
		return errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE : -0x4E;
	return (int)sent;
}

static int socket_recv(void *ctx, unsigned char *to, size_t n)
{
	const struct channel *c = ctx;
	ssize_t got = recv(c->fd, to, n, 0);

	if (got < 0)
		return errno == EINTR	 ? MBEDTLS_ERR_SSL_WANT_READ
		       : errno == EAGAIN ? MBEDTLS_ERR_SSL_TIMEOUT
					 : -0x4C;
	return (int)got;
}

static struct channel *secured_open(int fd, const struct tls_files *files, int end)
{
	struct channel *c = channel_plain(fd);

	if (!c)
		return NULL;
	c->tls = tls_new(files, end);
	if (!c->tls) {
		channel_close(c);
		return NULL;
	}
	c->client = end == MBEDTLS_SSL_IS_CLIENT;
	mbedtls_ssl_set_bio(&c->tls->ssl, c, socket_send, socket_recv, NULL);
	return c;
}

struct channel *channel_server(int fd, const struct tls_files *files)
{
	return secured_open(fd, files, MBEDTLS_SSL_IS_SERVER);
}

struct channel *channel_client(int fd, const struct tls_files *files, const char *name,
			       const struct sockaddr_storage *at)
{
	struct channel *c = secured_open(fd, files, MBEDTLS_SSL_IS_CLIENT);

	if (!c)
		return NULL;
	c->name = name;
	c->at = *at;
	/* Without a name the library compares none, and we the address. */
	if (!tls_expect(c->tls, name))
		return c;
	channel_close(c);
	return NULL;
}

/* ---- who is there ------------------------------------------------------------------------ */

/*
 * Both sides have certificates of one authority. One for clients that does not say so
 * could be shown by a client who plays the server: so it must say what it is for.
 */
static const char *not_for_this(const struct channel *c, const mbedtls_x509_crt *cert)
{
	static const char server[] = MBEDTLS_OID_SERVER_AUTH, client[] = MBEDTLS_OID_CLIENT_AUTH;

	if (!(cert->ext_types & MBEDTLS_X509_EXT_EXTENDED_KEY_USAGE) ||
	    mbedtls_x509_crt_check_extended_key_usage(cert, c->client ? server : client,
						      sizeof(server) - 1))
		return c->client ? "the server's certificate is not for servers (extendedKeyUsage "
				   "serverAuth)"
				 : "the client's certificate is not for clients (extendedKeyUsage "
				   "clientAuth)";
	if (c->client && !c->name && !tls_is_for(cert, &c->at))
		return "the server's certificate is not for this address (subjectAltName IP); "
		       "--name NAME asks for a name instead";
	return NULL;
}

int channel_greet(struct channel *c, char *words, size_t size)
{
	const mbedtls_x509_crt *cert;
	const char *why;
	int err;

	if (!c->tls)
		return 0;
	do
		err = mbedtls_ssl_handshake(&c->tls->ssl);
	while (err == MBEDTLS_ERR_SSL_WANT_READ || err == MBEDTLS_ERR_SSL_WANT_WRITE);
	if (err) {
		tls_words(c->tls, err, words, size);
		return -EACCES;
	}
	cert = mbedtls_ssl_get_peer_cert(&c->tls->ssl);
	why = cert ? not_for_this(c, cert) : "there is no certificate";
	if (why) {
		snprintf(words, size, "%s", why);
		mbedtls_ssl_send_alert_message(&c->tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL,
					       MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT);
		return -EACCES;
	}
	if (mbedtls_x509_dn_gets(c->peer, sizeof(c->peer), &cert->subject) < 0)
		snprintf(c->peer, sizeof(c->peer), "a name that is too long");
	c->greeted = true;
	return 0;
}

const char *channel_peer(const struct channel *c)
{
	return c->greeted ? c->peer : NULL;
}

int channel_fd(const struct channel *c)
{
	return c->fd;
}

size_t channel_pending(const struct channel *c)
{
	return c->tls ? mbedtls_ssl_get_bytes_avail(&c->tls->ssl) : 0;
}

ssize_t channel_read(struct channel *c, void *to, size_t n)
{
	ssize_t got;

	if (!c->tls) {
		got = recv(c->fd, to, n, 0);
		return got < 0 ? -errno : got;
	}
	got = mbedtls_ssl_read(&c->tls->ssl, to, n);
	if (got >= 0)
		return got;
	switch (got) {
	case MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY:
		return 0;
	case MBEDTLS_ERR_SSL_WANT_READ:
	case MBEDTLS_ERR_SSL_WANT_WRITE:
		return -EINTR;
	case MBEDTLS_ERR_SSL_TIMEOUT:
		return -EAGAIN;
	}
	return -ECONNRESET;
}

int channel_write(struct channel *c, const void *from, size_t n)
{
	const unsigned char *at = from;
	ssize_t put;

	for (; n; at += put, n -= put) {
		put = c->tls ? mbedtls_ssl_write(&c->tls->ssl, at, n)
			     : send(c->fd, at, n, MSG_NOSIGNAL);
		if (c->tls ? put == MBEDTLS_ERR_SSL_WANT_WRITE || put == MBEDTLS_ERR_SSL_WANT_READ
			   : put < 0 && errno == EINTR)
			put = 0;
		else if (put <= 0)
			return c->tls ? -EPIPE : errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	return 0;
}

void channel_close(struct channel *c)
{
	if (!c)
		return;
	if (c->greeted)
		mbedtls_ssl_close_notify(&c->tls->ssl);
	tls_free(c->tls);
	close(c->fd);
	free(c);
}
