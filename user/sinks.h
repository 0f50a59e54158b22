/* SPDX-License-Identifier: GPL-2.0-only */
/* The sinks a daemon has: rotated files, a stream socket, OTLP. What can be chosen of each. */
#ifndef TIDEMARK_SINKS_H
#define TIDEMARK_SINKS_H

#include <argp.h>

#include "lines.h"
#include "sink.h"

struct event_base;
struct tracer;

/*
 * Text as users write it, as the YAML reader leaves it, and below what it comes to, filled
 * by sink_*_check(); 0 or NULL: the default.
 */
struct sink_write_options {
	char *dir, *file_size, *file_age, *budget;
	__u64 file_bytes, file_age_ns, budget_bytes;
};

struct sink_socket_options {
	char *path;
	unsigned *uid, *gid; /* who may read besides root; NULL: nobody */
	bool greets;	     /* with an empty line, once a reader will get what comes */
};

struct sink_otlp_options {
	char *url, *queue, *queue_size;
	char *ca, *cert, *key; /* of https */
	char **headers;	       /* "Name: value" */
	unsigned headers_count;
	__u64 queue_bytes;
	/* of the url */
	char host[256], path[256];
	__u16 port;
	bool secure;
};

#define SINK_FILE_BYTES (64ULL << 20)
#define SINK_FILE_AGE_NS (3600ULL * 1000000000)
#define SINK_BUDGET_BYTES (1ULL << 30)
#define SINK_QUEUE_BYTES (64ULL << 20)

/*
 * `--write DIR`: files rotated by size and age, compressed once closed, the oldest deleted
 * to stay within the budget. NULL: said why.
 */
struct sink *sink_write_open(const struct sink_write_options *o, struct lines *lines);

/* `--socket PATH`: streams lines to any number of readers. NULL: said why. */
struct sink *sink_socket_open(const struct sink_socket_options *o, struct event_base *base,
			      struct lines *lines);

/* `--otlp URL`: log records in batches to an OpenTelemetry collector. NULL: said why. */
struct sink *sink_otlp_open(const struct sink_otlp_options *o, struct event_base *base,
			    const char *state_dir);

/* --write and its kin; the input of the parser. Bad values end with status 2. */
struct sinks_options {
	struct sink_write_options write;
	struct sink_socket_options socket;
	struct sink_otlp_options otlp;
};

extern const struct argp sinks_argp;

/* Those that were asked for become the tracer's. 0, or 1 after saying why. */
int sinks_open(struct tracer *tracer, const struct sinks_options *o, struct event_base *base,
	       const char *state_dir);

/* http[s]://HOST[:PORT][/PATH] into host, port and path; -EINVAL. */
int sink_otlp_url(struct sink_otlp_options *o);

/* What is wrong with the files for that, as words, or NULL. */
const char *sink_otlp_files(const struct sink_otlp_options *o);

#endif
