/* SPDX-License-Identifier: GPL-2.0-only */
/* Events at second hand: the daemon reads them, and gives them to every `trace` that asks. */
#ifndef TIDEMARK_LIVE_H
#define TIDEMARK_LIVE_H

#include <stdio.h>

#include "lines.h"
#include "sink.h"
#include "tidemark.h"

struct event_base;

/* What the daemon offers, of the kind "trace"; it costs nothing while nobody reads. NULL: said. */
struct sink *live_open(const struct tidemark *t, struct event_base *base, struct lines *lines);

/* The reader of these events, if it offers them: a descriptor, or -errno. */
int live_connect(const struct tidemark *t);

struct live_options {
	FILE *log; /* also written to, as JSON; or NULL */
	const char *log_name;
	bool json;
	const __u32 *only; /* ids of nodes, none: all */
	size_t only_n;
	__u64 duration_ns; /* 0: until a signal */
};

/* Prints what comes from there, to stdout. An exit status; closes it. */
int live_print(const struct tidemark *t, int fd, const struct live_options *o);

#endif
