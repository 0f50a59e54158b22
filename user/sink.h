/* SPDX-License-Identifier: GPL-2.0-only */
/* Where events go: a terminal, a file, a socket, another machine. One interface for all. */
#ifndef TIDEMARK_SINK_H
#define TIDEMARK_SINK_H

#include "join.h"

/* An event, or a gap: so many events of a node lost, up to a stamp. */
struct sink_event {
	const struct joined *joined; /* NULL: a gap */
	__u32 node;
	__u64 stamp, wall_ns;
	__u64 lost;	  /* of a gap */
	const char *line; /* the same as JSON with its newline, if the sink wants lines */
	size_t len;
};

struct sink_stats {
	__u64 events; /* handed on, gaps included */
	__u64 lost;   /* that found no room or no taker; told as gaps where that is possible */
	__u64 queued; /* bytes that wait */
	__u64 errors; /* tries that failed: writes, requests, readers dropped */
	__u64 readers;
};

/*
 * A sink is a struct that begins with this one. Nothing in it may wait: the rings of the
 * kernel fill meanwhile, for all other sinks too. What cannot be handed on at once is
 * queued within bounds, then lost and counted.
 */
struct sink {
	const char *kind;  /* "write", "socket", "otlp": in status and metrics */
	const char *where; /* file, directory, address */
	bool lines;
	struct sink_stats stats;
	/* Non-zero ends the whole tracer and is handed back. */
	int (*event)(struct sink *sink, const struct sink_event *event);
	/* Every few milliseconds, with CLOCK_MONOTONIC; may be NULL. */
	void (*tick)(struct sink *sink, __u64 now_ns);
	/* Names of nodes may have changed; may be NULL. */
	void (*rename)(struct sink *sink);
	/* The last call: hands on what it can, frees. The status, or 1 if words were needed. */
	int (*close)(struct sink *sink, int status);
	struct sink *next;
};

#endif
