/* SPDX-License-Identifier: GPL-2.0-only */
/* What others say flows are for, from pipes, over HTTP, by fireflies: into the kernel's marks. */
#ifndef TIDEMARK_FLOWIN_H
#define TIDEMARK_FLOWIN_H

#include "../bpf/mark.h"
#include "firefly.h"

#define FLOWIN_WORDS 256

struct registry;

struct flowin_counts {
	__u64 started, ended;
	__u64 refused; /* lines, bodies and datagrams that are none */
	__u64 failed;  /* the kernel's table is full */
};

struct flowin {
	struct tidemark *t;
	const struct registry *registry;
	enum mark_how how; /* how packets carry it */
	struct flowin_counts counts;
	__u64 complained_ns; /* the last refusal that was said: one a second, the rest counted */
	__u64 unsaid;
};

/*
 * A line of flowd's pipe, without its newline: state, protocol, source, its port,
 * destination, its port, experiment, activity; numbers, or names of the registry. -EBADMSG,
 * and `words` says why.
 */
int flowin_line(const struct flowin *in, const char *line, size_t n, struct firefly *out,
		char words[FLOWIN_WORDS]);

/* Starts and ends, in their order, each connection by itself. 0, or what failed last. */
int flowin_take(struct flowin *in, const struct firefly *flows, size_t n);

/* Counted always, said at most once a second. */
void flowin_refuse(struct flowin *in, const char *where, const char *words);

#endif
