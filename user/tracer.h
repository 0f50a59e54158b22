/* SPDX-License-Identifier: GPL-2.0-only */
/* The engine of `trace` and `run`: from the kernel's rings, joined and in order, to sinks. */
#ifndef TIDEMARK_TRACER_H
#define TIDEMARK_TRACER_H

#include "discover.h"
#include "lines.h"
#include "sink.h"

struct event_base;
struct tracer;

/*
 * Reads an open datapath of which we are the reader. Everything happens in the base's loop;
 * when it cannot go on it breaks that loop. NULL: said why. The choice stays the caller's.
 */
struct tracer *tracer_open(struct tidemark *t, struct event_base *base,
			   const struct discover_choice *choice);

/* Only these nodes are handed on; none: all. The ids stay the caller's. */
void tracer_only(struct tracer *tracer, const __u32 *ids, size_t n);

/* The sink is the tracer's from here on. */
void tracer_add(struct tracer *tracer, struct sink *sink);
struct sink *tracer_sinks(const struct tracer *tracer);

/* Close the sinks of this kind, or all with NULL. Returns status, or what closing made of it. */
int tracer_drop(struct tracer *tracer, const char *kind, int status);

/* For sinks that have gaps of their own to tell. */
struct lines *tracer_lines(const struct tracer *tracer);

/* Begin to receive; says `watching N nodes`. -errno, said. */
int tracer_start(struct tracer *tracer);

/* Other nodes are chosen: follow those instead. -errno, said. */
int tracer_follow(struct tracer *tracer, const struct discover_choice *choice);

/* What is left, bursts that are open included, goes to the sinks. Nothing is recorded after. */
void tracer_finish(struct tracer *tracer);

/* Whole events so far, and those that no ring had room for. */
__u64 tracer_events(const struct tracer *tracer);
__u64 tracer_lost(const struct tracer *tracer);

/* Why the loop was broken: the datapath was taken down, or a sink's error. */
bool tracer_gone(const struct tracer *tracer);
int tracer_error(const struct tracer *tracer);

/* Without the sinks: lets go of rings and namespaces, so that a datapath can be taken down. */
void tracer_stop(struct tracer *tracer);

/* All of it, sinks too. The status, or 1 if a sink had to say why. */
int tracer_close(struct tracer *tracer, int status);

#endif
