/* SPDX-License-Identifier: GPL-2.0-only */
/* What a running daemon says of itself: a file in the state directory, read by `show`. */
#ifndef TIDEMARK_DAEMON_H
#define TIDEMARK_DAEMON_H

#include <jansson.h>
#include <stdio.h>

#include "serve.h"
#include "tidemark.h"
#include "tracer.h"

struct daemon {
	const struct tidemark *t;
	const struct tracer *tracer;
	const char *config;  /* a file, absolute */
	char *const *listen; /* where it answers */
	unsigned listen_n;
	__u64 since_ns; /* wall clock */
	__u64 reloads, reloads_refused;
	const struct serve *serve; /* NULL: nothing is recorded */
	const char *recording;	   /* where to */
	char *written;		   /* what the file says now */
};

/* pid, since, config, listen, events, lost, sinks, record. NULL without memory. */
json_t *daemon_json(const struct daemon *daemon);

/* Writes the file if it would say something else than it does. */
void daemon_save(struct daemon *daemon);

/* Takes the file away. */
void daemon_forget(struct daemon *daemon);

/* `show daemon`. 0, or 1; -ENOENT if none runs. */
int daemon_show(const struct tidemark *t, FILE *file, bool json);

#endif
