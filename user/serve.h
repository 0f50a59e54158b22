/* SPDX-License-Identifier: GPL-2.0-only */
/* The daemon's query service: who is let in, what runs, what is cancelled. */
#ifndef TIDEMARK_SERVE_H
#define TIDEMARK_SERVE_H

#include <jansson.h>

#include "ask.h"
#include "channel.h"

#define SERVE_QUERIES 16 /* at once, unless said otherwise */
#define SERVE_QUERIES_MOST 32
#define SERVE_GUESTS_MOST 64 /* connections, of each kind */
#define SERVE_KEYS_MOST 16

struct event_base;
struct serve;

/* All of it stays the caller's, as long as the service is open or set to something else. */
struct serve_options {
	const char *dir;		   /* of the record, */
	const char *keys[SERVE_KEYS_MOST]; /* and files with what it was encrypted with */
	unsigned keys_n;
	const char *path; /* a unix socket; NULL: none */
	const unsigned *uid, *gid;
	const char *listen; /* of TLS; NULL: none */
	struct sockaddr_storage at;
	socklen_t at_len;
	struct tls_files tls;
	unsigned queries;
};

/* Listens. NULL: said why. */
struct serve *serve_open(struct event_base *base, const struct serve_options *o);

/* Other options; what runs, runs on. -errno, said, and nothing listens. */
int serve_set(struct serve *serve, const struct serve_options *o);
void serve_close(struct serve *serve);

struct serve_stats {
	unsigned running;
	__u64 queries, refused, cancelled, bytes;
};
void serve_stats(const struct serve *serve, struct serve_stats *stats);

/* What runs, an array. */
json_t *serve_list(const struct serve *serve);

/* -ENOENT: no such query. */
int serve_cancel(struct serve *serve, __u32 id);

/*
 * A query of the daemon's own, for HTTP: returns a socket from which frames come, not
 * blocking; closing it cancels. -errno.
 */
int serve_ask(struct serve *serve, const struct ask *ask, const char *who);

#endif
