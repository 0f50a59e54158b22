/* SPDX-License-Identifier: GPL-2.0-only */
/* Posts bodies to an HTTP server, one at a time, over TLS if asked; never waits. */
#ifndef TIDEMARK_POSTER_H
#define TIDEMARK_POSTER_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "tls.h"

#define POSTER_ANSWER_MOST (64 << 10)

struct event_base;
struct poster;

/* All of it stays the caller's. */
struct poster_options {
	const char *host; /* a name, or an address without brackets */
	__u16 port;
	bool secure;
	struct tls_files tls;
};

/* The answer's status, or 0 and why there is none. Never from within poster_post(). */
typedef void (*poster_fn)(int status, const char *why, void *ctx);

/* Nothing is connected to yet. NULL: said why. */
struct poster *poster_new(struct event_base *base, const struct poster_options *o, poster_fn fn,
			  void *ctx);

/* `head`: the request up to its headers' end, its length included. One at a time. -errno. */
int poster_post(struct poster *p, const void *head, size_t head_len, const void *body, size_t len);

void poster_free(struct poster *p);

/* What there is of an answer. */
struct poster_answer {
	int status;
	bool keep; /* the connection may be used again */
};

/*
 * Bytes of an answer, as far as they have come: 1 when it is there, as far as it matters; 0: more
 * is needed; -EINVAL: not HTTP, or too long.
 */
int poster_answer(const char *at, size_t len, struct poster_answer *answer);

#endif
