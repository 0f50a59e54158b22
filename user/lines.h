/* SPDX-License-Identifier: GPL-2.0-only */
/* Events as JSON lines in memory, made once for all sinks that want them. */
#ifndef TIDEMARK_LINES_H
#define TIDEMARK_LINES_H

#include "join.h"
#include "tidemark.h"

struct lines;

struct lines *lines_open(const struct tidemark *t); /* NULL without memory */
void lines_close(struct lines *lines);

/* The line, newline included, until the next of its kind: a gap does not disturb an event. */
const char *lines_event(struct lines *lines, const struct joined *joined, size_t *len);
const char *lines_gap(struct lines *lines, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count,
		      const char *reason, size_t *len);

/* Names are read again. */
void lines_rename(struct lines *lines);

#endif
