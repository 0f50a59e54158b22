/* SPDX-License-Identifier: GPL-2.0-only */
/* Waiting for many things at once: what we use of libevent, whose struct event is not ours. */
#ifndef TIDEMARK_LOOP_H
#define TIDEMARK_LOOP_H

#include <linux/types.h>
#include <stdbool.h>

struct event_base;
struct waiter;

/* NULL without memory or descriptors. */
struct event_base *loop_new(void);
void loop_free(struct event_base *base);

/* Until loop_break(). 0, or -errno. */
int loop_run(struct event_base *base);
void loop_break(struct event_base *base);

/* What is ready, waiting for it at most so long. -EBUSY from inside the loop. */
int loop_once(struct event_base *base, __u64 ns);

/* Each returns NULL without memory, lives until waiter_free(), and calls from loop_run() only. */
typedef void (*wait_fn)(int fd, void *ctx);

/* While the descriptor is readable; with `edge`, once whenever it wakes those who wait. */
struct waiter *loop_readable(struct event_base *base, int fd, bool edge, wait_fn fn, void *ctx);
struct waiter *loop_writable(struct event_base *base, int fd, wait_fn fn, void *ctx);

/* Every so often, fd -1. */
struct waiter *loop_every(struct event_base *base, __u64 ns, wait_fn fn, void *ctx);

/* SIGINT, SIGTERM and SIGHUP, which are blocked from here on: instead of fd, the signal. */
struct waiter *loop_signals(struct event_base *base, wait_fn fn, void *ctx);

void waiter_free(struct waiter *waiter); /* NULL is fine */

#endif
