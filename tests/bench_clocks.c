// SPDX-License-Identifier: GPL-2.0-only
/* Why hybrid logical clocks: one random run, ordered by wall clocks, Lamport clocks, vector clocks and
 * hybrid ones. Who puts effects before causes, who knows what time it is, and what it costs.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/clock.h"
#include "world.h"

#define STEPS 50000
#define SAMPLES 1000000
#define APART_NS 100000000ULL /* events that people would want in the order they happened */

struct clocks {
	uint64_t *lamport, *happened;
	uint32_t (*vector)[WORLD_NODES];
};

static void clocks_run(const struct world *world, struct clocks *clocks)
{
	clocks->lamport = calloc(world->n, sizeof(*clocks->lamport));
	clocks->happened = calloc(world->n, sizeof(*clocks->happened));
	clocks->vector = calloc(world->n, sizeof(*clocks->vector));
	for (uint32_t i = 0; i < world->n; i++) {
		const struct world_event *event = &world->events[i];

		for (unsigned k = 0; k <= event->causes_n; k++) {
			uint32_t from = k ? event->causes[k - 1] : event->before;

			if (from == UINT32_MAX)
				continue;
			if (clocks->lamport[from] > clocks->lamport[i])
				clocks->lamport[i] = clocks->lamport[from];
			for (unsigned n = 0; n < WORLD_NODES; n++)
				if (clocks->vector[from][n] > clocks->vector[i][n])
					clocks->vector[i][n] = clocks->vector[from][n];
		}
		clocks->lamport[i]++;
		clocks->vector[i][event->node]++;
		clocks->happened[i] = event->wall_ns - (uint64_t)world->skew_ns[event->node];
	}
}

static bool vector_before(const uint32_t *a, const uint32_t *b)
{
	bool less = false;

	for (unsigned i = 0; i < WORLD_NODES; i++) {
		if (a[i] > b[i])
			return false;
		less |= a[i] < b[i];
	}
	return less;
}

enum { WALL, LAMPORT, VECTOR, HYBRID, KINDS };

/* -1: a before b, 1: after, 0: this clock does not say. */
static int said(const struct world *world, const struct clocks *clocks, int kind, uint32_t a,
		uint32_t b)
{
	uint64_t x, y;

	if (kind == VECTOR)
		return vector_before(clocks->vector[a], clocks->vector[b])   ? -1
		       : vector_before(clocks->vector[b], clocks->vector[a]) ? 1
									     : 0;
	x = kind == WALL      ? world->events[a].wall_ns
	    : kind == LAMPORT ? clocks->lamport[a]
			      : world->events[a].hlc;
	y = kind == WALL      ? world->events[b].wall_ns
	    : kind == LAMPORT ? clocks->lamport[b]
			      : world->events[b].hlc;
	return x < y ? -1 : x > y;
}

static void compare(struct world *world, const char *title)
{
	static const char *const names[KINDS] = { "wall clock", "Lamport", "vector", "hybrid" };
	struct clocks clocks;

	clocks_run(world, &clocks);
	printf("\n%s: %u events of %u nodes\n%-12s %10s %22s %12s\n", title, world->n,
	       world->nodes_n, "order by", "inversions", "against time, undecided", "bytes");
	for (int kind = 0; kind < KINDS; kind++) {
		uint64_t pairs = 0, inverted = 0, wrong = 0, open = 0, taken = 0;

		for (uint32_t i = 0; i < world->n; i++)
			for (unsigned k = 0; k < world->events[i].causes_n; k++) {
				pairs++;
				inverted += said(world, &clocks, kind, world->events[i].causes[k],
						 i) != -1;
			}
		while (taken < SAMPLES) {
			uint32_t a = (uint32_t)world_random(world, world->n);
			uint32_t b = (uint32_t)world_random(world, world->n);
			int says;

			if (clocks.happened[a] + APART_NS > clocks.happened[b])
				continue;
			taken++;
			says = said(world, &clocks, kind, a, b);
			wrong += says > 0;
			open += !says;
		}
		printf("%-12s %8.2f %% %10.2f %% %8.2f %% %11u\n", names[kind],
		       100.0 * (double)inverted / (double)pairs, 100.0 * (double)wrong / SAMPLES,
		       100.0 * (double)open / SAMPLES, kind == VECTOR ? 4 * world->nodes_n : 8);
	}
	free(clocks.lamport);
	free(clocks.happened);
	free(clocks.vector);
}

/* All messages carry their stamps; node i is off by skew[i]. */
static void run(const char *title, const int64_t *skew, unsigned quiet)
{
	struct world world = {};

	world_make(&world, 11);
	world.nodes_n = 4;
	for (unsigned i = 0; i < world.flows_n; i++) {
		world.flows[i].from = i % 4;
		world.flows[i].to = (i + 1 + i / 4 % 3) % 4;
		/* A part of the world that is seldom spoken to. */
		if (quiet && world.flows[i].to == 3)
			world.flows[i].to = (world.flows[i].from + 1) % 3;
		if (quiet && world.flows[i].from == world.flows[i].to)
			world.flows[i].to = (world.flows[i].to + 1) % 3;
	}
	for (unsigned i = 0; i < 4; i++)
		world.skew_ns[i] = skew[i];
	world_run(&world, STEPS);
	compare(&world, title);
	world_free(&world);
}

int main(void)
{
	static const int64_t ntp[] = { 0, 4000000, -3000000, 1500000 };
	static const int64_t wild[] = { 0, 3000000000, -7200000000000, 37000000000 };

	run("clocks kept by NTP, within 4 ms", ntp, 0);
	run("the same, and one node only speaks and never listens", ntp, 1);
	run("clocks 3 s, 37 s and 2 h off", wild, 0);
	return 0;
}
