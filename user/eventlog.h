/* SPDX-License-Identifier: GPL-2.0-only */
/* Reads event logs: JSON lines, as event.schema.json describes them. */
#ifndef TIDEMARK_EVENTLOG_H
#define TIDEMARK_EVENTLOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "causal.h"

#define EVENTLOG_LINE_MOST (64 * 1024)
#define EVENTLOG_PROGRESS 8192 /* lines */

/* Where reading stopped, for people. */
struct eventlog_error {
	uint64_t line; /* 0: the file as a whole */
	char why[160];
};

/* One line. The strings are valid until the function that is given this returns. */
struct eventlog_line {
	struct causal_event event;     /* node, flow and file are left to the reader */
	const char *host, *node;       /* host "" if there is none */
	const char *proto, *src, *dst; /* NULL: this type has no flow */
	uint64_t lost;		       /* what a gap counts */
	uint64_t number;	       /* of the line, from 1 */
	const char *text;	       /* as it is, without its newline */
	size_t len;
	uint64_t at;  /* where it begins, in bytes */
	bool unknown; /* an earlier merge looked for its cause, and could not say */
};

typedef int (*eventlog_fn)(const struct eventlog_line *line, void *ctx);

/* Gives every event of the file to fn, up to the first line that is not one. Empty lines are passed
 * over, and so are keys and types that this version does not know: logs of newer ones stay readable.
 * progress, if any, is called now and then with the lines read. Returns 0, -EINVAL for a bad line,
 * or another -errno, fn's too; error is filled then.
 */
int eventlog_each(FILE *file, eventlog_fn fn, void *ctx, void (*progress)(uint64_t lines),
		  struct eventlog_error *error);

/* For eventlog_each(): adds to the struct causal that ctx is. What a merge left without a cause is
 * left so: of what contradicts itself it has seen more than can be seen here.
 */
int eventlog_add(const struct eventlog_line *line, void *ctx);

#endif
