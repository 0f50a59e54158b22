/* SPDX-License-Identifier: GPL-2.0-only */
/* One end of TLS, before it has a connection: certificates read, what is believed. */
#ifndef TIDEMARK_TLS_H
#define TIDEMARK_TLS_H

#include <stddef.h>
#include <sys/socket.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>

/*
 * In PEM. The key is its owner's alone. Of a client both cert and key may be NULL, and then it
 * shows none; so may ca, which is then whom this machine believes.
 */
struct tls_files {
	const char *cert, *key, *ca;
};

struct tls {
	mbedtls_entropy_context entropy;
	mbedtls_ctr_drbg_context random;
	mbedtls_x509_crt cert, ca;
	mbedtls_pk_context key;
	mbedtls_ssl_config config;
	mbedtls_ssl_context ssl;
};

/* Reads the files. TLS 1.2 at least; the other end must show a certificate. NULL: said why. */
struct tls *tls_new(const struct tls_files *files, int end);
void tls_free(struct tls *tls);

/* Whom the other end's certificate must be for; NULL: see tls_is_for(). -EINVAL, said. */
int tls_expect(struct tls *tls, const char *name);

/* Is the certificate for this address? For a name the library has looked. */
int tls_is_for(const mbedtls_x509_crt *cert, const struct sockaddr_storage *at);

/* Why the handshake failed. */
void tls_words(const struct tls *tls, int err, char *words, size_t size);

#endif
