/* SPDX-License-Identifier: GPL-2.0-only */
/* A world that writes logs, and knows what really happened: random message passing between nodes
 * whose clocks are wrong, some of whose messages lose their stamps.
 */
#ifndef TIDEMARK_WORLD_H
#define TIDEMARK_WORLD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define WORLD_NODES 8
#define WORLD_FLOWS 24
#define WORLD_FILES 4
#define WORLD_WAITING 64
#define WORLD_CAUSES 64 /* messages in one receive */

struct world_message {
	uint32_t event; /* its send */
	uint32_t seq, bytes;
	uint64_t stamp, hash;
	bool stripped;
};

struct world_flow {
	unsigned from, to; /* nodes */
	bool tcp, nat;
	char src[32], dst[32];	       /* where it is sent */
	char nat_src[32], nat_dst[32]; /* where it is received */
	uint32_t seq;
	struct world_message waiting[WORLD_WAITING];
	unsigned waiting_n;
};

struct world_event {
	unsigned node, flow;
	bool recv;
	uint64_t hlc, cause, wall_ns;
	uint32_t seq, bytes, packets;
	uint64_t hash;
	bool stripped; /* recv: it has no cause in the log */
	uint32_t causes[WORLD_CAUSES];
	unsigned causes_n;
	uint32_t before;     /* the event of its node before it, or UINT32_MAX */
	unsigned file, line; /* where it was written; line from 1 */
};

struct world {
	uint64_t random;
	unsigned nodes_n, flows_n, files_n;
	unsigned strip_percent, nat_percent, lose_percent, twice_percent;
	uint64_t now_ns;
	int64_t skew_ns[WORLD_NODES];
	uint64_t clock[WORLD_NODES];
	uint32_t last[WORLD_NODES]; /* event */
	struct world_flow flows[WORLD_FLOWS];
	struct world_event *events;
	uint32_t n, size;
};

uint64_t world_random(struct world *world, uint64_t below);

/* Everything but the percentages is drawn from the seed. */
void world_make(struct world *world, uint64_t seed);

/* So many steps, then whatever is on its way arrives. */
void world_run(struct world *world, unsigned steps);

/* Into files_n files, by node; shuffled: lines in any order. */
void world_write(struct world *world, FILE *const files[], bool shuffled);

void world_free(struct world *world);

#endif
