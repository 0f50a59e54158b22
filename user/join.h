/* SPDX-License-Identifier: GPL-2.0-only */
/* From the kernel's records to whole events in stamp order. */
#ifndef TIDEMARK_JOIN_H
#define TIDEMARK_JOIN_H

#include <stdbool.h>

#include "../bpf/event.h"

/*
 * How long an event is held back, from its arrival, for others with smaller stamps to
 * come: longer than a burst may stay open (100 ms) and its records may lie in a ring. An
 * event whose clock is far ahead of all others would wait for ever; it is given after
 * twice that, out of order.
 */
#define JOIN_WINDOW_NS (125ULL * 1000 * 1000)

/* Most events held; then the smallest goes at once. Some 40 MiB. */
#define JOIN_MOST 262144

/* A whole event: a burst's totals are in. */
struct joined {
	struct event event;
	__u64 bytes;
	__u32 packets;
};

struct join;

/* Gets each event in order. Non-zero stops and is handed back. */
typedef int (*join_fn)(const struct joined *joined, void *ctx);

struct join *join_new(join_fn fn, void *ctx);
void join_free(struct join *join);

/* A record, as it came. -ENOMEM, or what the callback said. */
int join_add(struct join *join, const struct event *event, __u64 now_ns);

/* Give what has waited long enough. */
int join_give(struct join *join, __u64 now_ns);

/* Give everything, bursts still open as they are known. */
int join_drain(struct join *join);

#endif
