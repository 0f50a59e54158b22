/* SPDX-License-Identifier: GPL-2.0-only */
/* What a sink has lost, by node, until it can be told. */
#ifndef TIDEMARK_GAPS_H
#define TIDEMARK_GAPS_H

#include "lines.h"
#include "sink.h"

/* Starts as {}. */
struct gaps {
	struct gap {
		__u32 node;
		__u64 stamp, wall_ns, count;
	} * all;
	size_t n;
	struct gap
		rest; /* of nodes for which there was no memory: told under the last one's name */
};

void gaps_add(struct gaps *gaps, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count);
bool gaps_any(const struct gaps *gaps);

/* Each as a line, and forgotten if fn returns 0; else the rest stays. Returns what fn said. */
int gaps_tell(struct gaps *gaps, struct lines *lines, const char *reason,
	      int (*fn)(const char *line, size_t len, void *ctx), void *ctx);

void gaps_free(struct gaps *gaps);

#endif
