// SPDX-License-Identifier: GPL-2.0-only
/* Join the two halves of bursts, and put events in stamp order within a window. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/clock.h"
#include "join.h"

#define BUCKETS 4096

/*
 * An event that waits: for its burst's end, for its turn, or for both. It is in three
 * places: the hash of open bursts, the heap by stamp, the list by arrival. Given out of
 * turn it stays in the heap, marked, until it comes up.
 */
struct held {
	struct joined joined;
	__u64 arrived_ns;
	struct held *hash_next; /* open bursts, and ends that came before their beginnings */
	struct held *next;	/* by arrival; or free */
	bool open, begun, given;
};

struct join {
	join_fn fn;
	void *ctx;
	struct held **heap;
	size_t heap_n, heap_size;
	struct held *oldest, *newest;
	struct held *free;
	struct held *buckets[BUCKETS];
};

struct join *join_new(join_fn fn, void *ctx)
{
	struct join *join = calloc(1, sizeof(*join));

	if (join) {
		join->fn = fn;
		join->ctx = ctx;
	}
	return join;
}

static void list_free(struct held *held)
{
	while (held) {
		struct held *next = held->next;

		free(held);
		held = next;
	}
}

void join_free(struct join *join)
{
	if (!join)
		return;
	for (size_t i = 0; i < join->heap_n; i++)
		if (join->heap[i]->given)
			free(join->heap[i]);
	list_free(join->oldest);
	list_free(join->free);
	free(join->heap);
	free(join);
}

static bool before(const struct held *a, const struct held *b)
{
	const struct event *x = &a->joined.event, *y = &b->joined.event;

	return x->stamp != y->stamp ? x->stamp < y->stamp : x->node < y->node;
}

static int heap_push(struct join *join, struct held *held)
{
	struct held **grown;
	size_t i = join->heap_n;

	if (i == join->heap_size) {
		join->heap_size = join->heap_size ? 2 * join->heap_size : 1024;
		grown = realloc(join->heap, join->heap_size * sizeof(*grown));
		if (!grown) {
			join->heap_size = i;
			return -ENOMEM;
		}
		join->heap = grown;
	}
	for (join->heap_n++; i && before(held, join->heap[(i - 1) / 2]); i = (i - 1) / 2)
		join->heap[i] = join->heap[(i - 1) / 2];
	join->heap[i] = held;
	return 0;
}

static void heap_pop(struct join *join)
{
	struct held *last = join->heap[--join->heap_n];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < join->heap_n) {
		if (child + 1 < join->heap_n && before(join->heap[child + 1], join->heap[child]))
			child++;
		if (!before(join->heap[child], last))
			break;
		join->heap[i] = join->heap[child];
		i = child;
	}
	if (join->heap_n)
		join->heap[i] = last;
}

static struct held **bucket(struct join *join, __u32 clock, __u16 generation)
{
	return &join->buckets[(clock * 31 + generation) % BUCKETS];
}

/* The burst, taken out of the hash; NULL if not there. */
static struct held *burst_take(struct join *join, __u32 clock, __u16 generation)
{
	for (struct held **at = bucket(join, clock, generation); *at; at = &(*at)->hash_next) {
		struct held *held = *at;

		if (held->joined.event.clock == clock &&
		    held->joined.event.generation == generation) {
			*at = held->hash_next;
			return held;
		}
	}
	return NULL;
}

static void burst_put(struct join *join, struct held *held)
{
	const struct event *e = &held->joined.event;
	struct held **at = bucket(join, e->clock, e->generation);

	held->hash_next = *at;
	*at = held;
}

static struct held *held_new(struct join *join, __u64 now_ns)
{
	struct held *held = join->free;

	if (held)
		join->free = held->next;
	else
		held = malloc(sizeof(*held));
	if (!held)
		return NULL;
	memset(held, 0, sizeof(*held));
	held->arrived_ns = now_ns;
	if (join->newest)
		join->newest->next = held;
	else
		join->oldest = held;
	join->newest = held;
	return held;
}

static void held_end(struct held *held, __u64 run)
{
	held->joined.packets = run_packets(run);
	held->joined.bytes = run_bytes(run);
	held->joined.last = held->joined.event.stamp + held->joined.packets - 1;
	held->open = false;
}

/* A burst has ended; its beginning may still lie in another CPU's ring. */
static int join_end(struct join *join, __u32 clock, __u64 run, __u64 now_ns)
{
	struct held *held = burst_take(join, clock, run_generation(run));

	if (held && held->begun) {
		held_end(held, run);
		return 0;
	}
	held = held_new(join, now_ns);
	if (!held)
		return -ENOMEM;
	held->joined.event.clock = clock;
	held->joined.event.generation = run_generation(run);
	held->joined.event.ended = run;
	burst_put(join, held);
	return 0;
}

static int join_begin(struct join *join, const struct event *e, __u64 now_ns)
{
	struct held *held = e->generation ? burst_take(join, e->clock, e->generation) : NULL;
	__u64 run = 0;

	if (held && !held->begun) {
		run = held->joined.event.ended;
	} else {
		if (held) /* 65536 bursts ago, and never ended: its end was lost */
			held->open = false;
		held = held_new(join, now_ns);
		if (!held)
			return -ENOMEM;
	}
	held->joined.event = *e;
	held->joined.bytes = e->bytes;
	held->joined.packets = e->packets;
	held->joined.last = e->stamp + e->packets - 1;
	held->begun = true;
	held->open = e->generation != 0;
	if (run)
		held_end(held, run);
	else if (held->open)
		burst_put(join, held);
	return heap_push(join, held);
}

static int join_one(struct join *join, struct held *held)
{
	held->given = true;
	if (held->open) {
		burst_take(join, held->joined.event.clock, held->joined.event.generation);
		held->open = false;
	}
	return join->fn(&held->joined, join->ctx);
}

/* Let go of what has been given, and of ends whose beginnings nobody will see. */
static void join_sweep(struct join *join, __u64 now_ns)
{
	while (join->heap_n && join->heap[0]->given) {
		struct held *held = join->heap[0];

		heap_pop(join);
		held->begun = false; /* out of the heap: the list may free it */
	}
	while (join->oldest) {
		struct held *held = join->oldest;
		bool stray = !held->begun && !held->given;

		if (held->begun || (stray && held->arrived_ns + 8 * JOIN_WINDOW_NS > now_ns))
			return;
		if (stray)
			burst_take(join, held->joined.event.clock, held->joined.event.generation);
		join->oldest = held->next;
		if (!join->oldest)
			join->newest = NULL;
		held->next = join->free;
		join->free = held;
	}
}

int join_give(struct join *join, __u64 now_ns)
{
	struct held *held;
	int err = 0;

	join_sweep(join, now_ns);
	while (!err && join->heap_n) {
		held = join->heap[0];
		if (!held->given) {
			bool full = join->heap_n > JOIN_MOST;

			if (!full &&
			    (held->arrived_ns + JOIN_WINDOW_NS > now_ns ||
			     (held->open && held->arrived_ns + 2 * JOIN_WINDOW_NS > now_ns)))
				break;
			err = join_one(join, held);
		}
		join_sweep(join, now_ns);
	}
	/* Too far ahead to wait for its turn. */
	for (held = join->oldest; !err && held; held = held->next) {
		if (held->arrived_ns + 2 * JOIN_WINDOW_NS > now_ns)
			break;
		if (held->begun && !held->given)
			err = join_one(join, held);
	}
	join_sweep(join, now_ns);
	return err;
}

int join_add(struct join *join, const struct event *e, __u64 now_ns)
{
	int err = 0;

	if (run_packets(e->ended))
		err = join_end(join, e->clock, e->ended, now_ns);
	if (!err && e->type != EVENT_none)
		err = join_begin(join, e, now_ns);
	if (!err && join->heap_n > JOIN_MOST)
		err = join_give(join, now_ns);
	return err;
}

int join_drain(struct join *join)
{
	int err = 0;

	while (!err && join->heap_n) {
		struct held *held = join->heap[0];

		heap_pop(join);
		if (!held->given)
			err = join_one(join, held);
		held->begun = false;
	}
	join_sweep(join, ~0ULL);
	return err;
}
