/* SPDX-License-Identifier: GPL-2.0-only */
/* The rings of events, one a CPU, and the map that holds them. */
#ifndef TIDEMARK_RINGS_H
#define TIDEMARK_RINGS_H

#include <stddef.h>

/*
 * Putting a ring into the outer map makes the kernel wait until every packet that may
 * still use what was there before has passed: 10 to 20 ms, though nothing was there
 * before. So a thread does that, while the rest of the datapath is made.
 */
struct rings;

/* Makes the outer map and begins to fill it. NULL and errno. */
struct rings *rings_make(unsigned cpus, size_t bytes);

int rings_map(const struct rings *rings);

/* Every ring is in its place when this returns 0; -errno. */
int rings_ready(struct rings *rings);

void rings_free(struct rings *rings);

/* A map for a ring a CPU, empty: its descriptor, or -errno. */
int rings_holder(const char *name, unsigned cpus);

struct ring_buffer;

/*
 * For the packets, whose rings come when somebody records and go when he ends: new ones in
 * the place of none, or with `bytes` 0 none. Afterwards no program writes into an old one.
 * -errno.
 */
int rings_put(int map, unsigned cpus, size_t bytes);

/* One consumer for one CPU's ring; NULL and errno, ENOENT if there is no ring. */
struct ring_buffer *rings_reader(int map, unsigned cpu,
				 int (*record)(void *ctx, void *data, size_t size), void *ctx);

#endif
