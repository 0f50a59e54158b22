// SPDX-License-Identifier: GPL-2.0-only
/* A connection over which queries are asked: plain, or TLS with certificates on both sides. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/ssl.h>

#include "channel.h"
#include "log.h"

#define NAME_MOST 256

struct channel {
	int fd;
	struct secured {
		mbedtls_entropy_context entropy;
		mbedtls_ctr_drbg_context random;
		mbedtls_x509_crt cert, ca;
		mbedtls_pk_context key;
		mbedtls_ssl_config config;
		mbedtls_ssl_context ssl;
	} * tls;
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

/* ---- files ------------------------------------------------------------------------------ */

static int wrong(const char *file, int err)
{
	char words[128];

	mbedtls_strerror(err, words, sizeof(words));
	log_error("%s: %s", file, words);
	return -EINVAL;
}

/* A key that others can read is none. */
static int key_is_ours(const char *file)
{
	struct stat st;

	if (stat(file, &st)) {
		log_error("%s: %s", file, strerror(errno));
		return -EINVAL;
	}
	if (st.st_mode & 077) {
		log_error("%s: others can read it; chmod 600 %s", file, file);
		return -EINVAL;
	}
	return 0;
}

static void secured_free(struct secured *tls)
{
	if (!tls)
		return;
	mbedtls_ssl_free(&tls->ssl);
	mbedtls_ssl_config_free(&tls->config);
	mbedtls_pk_free(&tls->key);
	mbedtls_x509_crt_free(&tls->ca);
	mbedtls_x509_crt_free(&tls->cert);
	mbedtls_ctr_drbg_free(&tls->random);
	mbedtls_entropy_free(&tls->entropy);
	free(tls);
}

static int files_read(struct secured *tls, const struct tls_files *files)
{
	int err = mbedtls_x509_crt_parse_file(&tls->ca, files->ca);

	if (err)
		return wrong(files->ca, err);
	err = mbedtls_x509_crt_parse_file(&tls->cert, files->cert);
	if (err)
		return wrong(files->cert, err);
	err = key_is_ours(files->key);
	if (err)
		return err;
	err = mbedtls_pk_parse_keyfile(&tls->key, files->key, NULL);
	if (err)
		return wrong(files->key, err);
	if (mbedtls_pk_check_pair(&tls->cert.pk, &tls->key)) {
		log_error("%s: not the key of %s", files->key, files->cert);
		return -EINVAL;
	}
	return 0;
}

static struct secured *secured_new(const struct tls_files *files)
{
	struct secured *tls = calloc(1, sizeof(*tls));
	int err;

	if (!tls)
		return NULL;
	mbedtls_entropy_init(&tls->entropy);
	mbedtls_ctr_drbg_init(&tls->random);
	mbedtls_x509_crt_init(&tls->cert);
	mbedtls_x509_crt_init(&tls->ca);
	mbedtls_pk_init(&tls->key);
	mbedtls_ssl_config_init(&tls->config);
	mbedtls_ssl_init(&tls->ssl);
	err = mbedtls_ctr_drbg_seed(&tls->random, mbedtls_entropy_func, &tls->entropy, NULL, 0);
	if (err)
		wrong("random numbers", err);
	else
		err = files_read(tls, files);
	if (!err)
		return tls;
	secured_free(tls);
	return NULL;
}

int channel_files(const struct tls_files *files)
{
	struct secured *tls = secured_new(files);

	secured_free(tls);
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
	struct secured *tls;
	int err;

	if (!c)
		return NULL;
	c->tls = tls = secured_new(files);
	if (!tls) {
		channel_close(c);
		return NULL;
	}
	c->client = end == MBEDTLS_SSL_IS_CLIENT;
	err = mbedtls_ssl_config_defaults(&tls->config, end, MBEDTLS_SSL_TRANSPORT_STREAM,
					  MBEDTLS_SSL_PRESET_DEFAULT);
	if (!err)
		err = mbedtls_ssl_conf_own_cert(&tls->config, &tls->cert, &tls->key);
	mbedtls_ssl_conf_min_version(&tls->config, MBEDTLS_SSL_MAJOR_VERSION_3,
				     MBEDTLS_SSL_MINOR_VERSION_3); /* TLS 1.2 */
	mbedtls_ssl_conf_authmode(&tls->config, MBEDTLS_SSL_VERIFY_REQUIRED);
	mbedtls_ssl_conf_ca_chain(&tls->config, &tls->ca, NULL);
	mbedtls_ssl_conf_rng(&tls->config, mbedtls_ctr_drbg_random, &tls->random);
	mbedtls_ssl_conf_session_tickets(&tls->config, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
	mbedtls_ssl_conf_renegotiation(&tls->config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
	if (!err)
		err = mbedtls_ssl_setup(&tls->ssl, &tls->config);
	if (err) {
		wrong("TLS", err);
		channel_close(c);
		return NULL;
	}
	mbedtls_ssl_set_bio(&tls->ssl, c, socket_send, socket_recv, NULL);
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
	int err;

	if (!c)
		return NULL;
	c->name = name;
	c->at = *at;
	/* Without a name the library compares none, and we the address. */
	err = name ? mbedtls_ssl_set_hostname(&c->tls->ssl, name) : 0;
	if (!err)
		return c;
	wrong(name, err);
	channel_close(c);
	return NULL;
}

/* ---- who is there ------------------------------------------------------------------------ */

/* Mbed TLS 2.28 compares names only; an address is an alternative name of four or sixteen bytes. */
static bool is_for_address(const mbedtls_x509_crt *cert, const struct sockaddr_storage *at)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
	const void *address = at->ss_family == AF_INET ? (const void *)&v4->sin_addr
						       : (const void *)&v6->sin6_addr;
	size_t len = at->ss_family == AF_INET ? 4 : 16;

	if (!(cert->ext_types & MBEDTLS_X509_EXT_SUBJECT_ALT_NAME))
		return false;
	for (const mbedtls_x509_sequence *name = &cert->subject_alt_names; name; name = name->next)
		if (name->buf.tag == (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7) && name->buf.len == len &&
		    !memcmp(name->buf.p, address, len))
			return true;
	return false;
}

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
	if (c->client && !c->name && !is_for_address(cert, &c->at))
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
		__u32 bad = mbedtls_ssl_get_verify_result(&c->tls->ssl);

		if (bad && bad != -1U)
			mbedtls_x509_crt_verify_info(words, size, "", bad);
		else
			mbedtls_strerror(err, words, size);
		words[strcspn(words, "\n")] = 0;
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
	secured_free(c->tls);
	close(c->fd);
	free(c);
}
