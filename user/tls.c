// SPDX-License-Identifier: GPL-2.0-only
/* One end of TLS, before it has a connection: certificates read, what is believed. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <linux/types.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/error.h>
#include <mbedtls/oid.h>

#include "log.h"
#include "tls.h"

/* Where distributions keep whom they believe, in one file. */
static const char *const believed[] = {
	"/etc/ssl/certs/ca-certificates.crt",
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem",
	"/etc/ssl/cert.pem",
};

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

void tls_free(struct tls *tls)
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

/* Of so many, some may be of a kind the library does not know: those are not believed. */
static int believed_read(struct tls *tls)
{
	for (size_t i = 0; i < sizeof(believed) / sizeof(believed[0]); i++)
		if (!access(believed[i], R_OK) &&
		    mbedtls_x509_crt_parse_file(&tls->ca, believed[i]) >= 0)
			return 0;
	log_error("%s: not there, so no certificate is believed; name whose are", believed[0]);
	return -EINVAL;
}

static int files_read(struct tls *tls, const struct tls_files *files)
{
	int err = files->ca ? mbedtls_x509_crt_parse_file(&tls->ca, files->ca) : 0;

	if (err)
		return wrong(files->ca, err);
	if (!files->ca && believed_read(tls))
		return -EINVAL;
	if (!files->cert)
		return 0;
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

static int settle(struct tls *tls, const struct tls_files *files, int end)
{
	int err = mbedtls_ssl_config_defaults(&tls->config, end, MBEDTLS_SSL_TRANSPORT_STREAM,
					      MBEDTLS_SSL_PRESET_DEFAULT);

	if (!err && files->cert)
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
	return err ? wrong("TLS", err) : 0;
}

struct tls *tls_new(const struct tls_files *files, int end)
{
	struct tls *tls = calloc(1, sizeof(*tls));
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
		err = settle(tls, files, end);
	if (!err)
		return tls;
	tls_free(tls);
	return NULL;
}

/* Later versions of the library refuse to go on unless they were told of NULL. */
int tls_expect(struct tls *tls, const char *name)
{
	int err = mbedtls_ssl_set_hostname(&tls->ssl, name);

	return err ? wrong(name ? name : "TLS", err) : 0;
}

/* Mbed TLS 2.28 compares names only; an address is an alternative name of four or sixteen bytes. */
int tls_is_for(const mbedtls_x509_crt *cert, const struct sockaddr_storage *at)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
	const void *address = at->ss_family == AF_INET ? (const void *)&v4->sin_addr
						       : (const void *)&v6->sin6_addr;
	size_t len = at->ss_family == AF_INET ? 4 : 16;

	if (!(cert->ext_types & MBEDTLS_X509_EXT_SUBJECT_ALT_NAME))
		return 0;
	for (const mbedtls_x509_sequence *name = &cert->subject_alt_names; name; name = name->next)
		if (name->buf.tag == (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7) && name->buf.len == len &&
		    !memcmp(name->buf.p, address, len))
			return 1;
	return 0;
}

void tls_words(const struct tls *tls, int err, char *words, size_t size)
{
	__u32 bad = mbedtls_ssl_get_verify_result(&tls->ssl);

	if (bad && bad != -1U)
		mbedtls_x509_crt_verify_info(words, size, "", bad);
	else
		mbedtls_strerror(err, words, size);
	words[strcspn(words, "\n")] = 0;
}
