// SPDX-License-Identifier: GPL-2.0-only
/* Join the two halves of bursts, and put events in stamp order within a window. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/clock.h"
#include "join.h"

#define BUCKETS 4096

/*
 * An event that waits: for its burst's end, for its turn, or for both. It is in the list by
 * arrival; if its beginning is here, in the heap by stamp; and while its burst is open, or
 * only the end of it has come, in the hash of bursts.
 */
struct held {
	struct joined joined;
	__u64 arrived_ns;
	struct held *hash_next;
	struct held *prev, *next; /* by arrival; or free */
	size_t at;		  /* in the heap */
	bool open, begun;
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

static void heap_set(struct join *join, size_t at, struct held *held)
{
	join->heap[at] = held;
	held->at = at;
}

/* Find the place of what belongs at or above `at`. */
static void heap_up(struct join *join, size_t at, struct held *held)
{
	for (; at && before(held, join->heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap_set(join, at, join->heap[(at - 1) / 2]);
	heap_set(join, at, held);
}

static void heap_down(struct join *join, size_t at, struct held *held)
{
	size_t child;

	while ((child = 2 * at + 1) < join->heap_n) {
		if (child + 1 < join->heap_n && before(join->heap[child + 1], join->heap[child]))
			child++;
		if (!before(join->heap[child], held))
			break;
		heap_set(join, at, join->heap[child]);
		at = child;
	}
	heap_set(join, at, held);
}

static int heap_add(struct join *join, struct held *held)
{
	struct held **grown;

	if (join->heap_n == join->heap_size) {
		size_t size = join->heap_size ? 2 * join->heap_size : 1024;

		grown = realloc(join->heap, size * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		join->heap = grown;
		join->heap_size = size;
	}
	heap_up(join, join->heap_n++, held);
	return 0;
}

static void heap_remove(struct join *join, struct held *held)
{
	struct held *last = join->heap[--join->heap_n];

	if (last == held)
		return;
	if (before(last, held))
		heap_up(join, held->at, last);
	else
		heap_down(join, held->at, last);
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
	held->prev = join->newest;
	if (join->newest)
		join->newest->next = held;
	else
		join->oldest = held;
	join->newest = held;
	return held;
}

static void held_free(struct join *join, struct held *held)
{
	if (held->prev)
		held->prev->next = held->next;
	else
		join->oldest = held->next;
	if (held->next)
		held->next->prev = held->prev;
	else
		join->newest = held->prev;
	held->next = join->free;
	join->free = held;
}

static void held_end(struct held *held, __u64 run)
{
	held->joined.packets = run_packets(run);
	held->joined.bytes = run_bytes(run);
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
	if (!held)
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
	int err;

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
	err = heap_add(join, held);
	if (err) {
		held_free(join, held);
		return err;
	}
	held->begun = true;
	held->open = e->generation != 0;
	if (run)
		held_end(held, run);
	else if (held->open)
		burst_put(join, held);
	return 0;
}

/* Give one, whole or as it is known so far. */
static int join_one(struct join *join, struct held *held)
{
	int err = join->fn(&held->joined, join->ctx);

	if (held->open)
		burst_take(join, held->joined.event.clock, held->joined.event.generation);
	heap_remove(join, held);
	held_free(join, held);
	return err;
}

/* Its turn has come: others have had their time, and its burst is over or long overdue. */
static bool due(const struct join *join, const struct held *held, __u64 now_ns)
{
	if (join->heap_n > JOIN_MOST)
		return true;
	return held->arrived_ns + (held->open ? 2 : 1) * JOIN_WINDOW_NS <= now_ns;
}

int join_give(struct join *join, __u64 now_ns)
{
	struct held *held, *next;
	int err = 0;

	while (!err && join->heap_n && due(join, join->heap[0], now_ns))
		err = join_one(join, join->heap[0]);
	/* Those too far ahead to get a turn, and ends whose beginnings nobody will see. */
	for (held = join->oldest; !err && held; held = next) {
		next = held->next;
		if (held->arrived_ns + 2 * JOIN_WINDOW_NS > now_ns)
			break;
		if (held->begun) {
			err = join_one(join, held);
		} else if (held->arrived_ns + 8 * JOIN_WINDOW_NS <= now_ns) {
			burst_take(join, held->joined.event.clock, held->joined.event.generation);
			held_free(join, held);
		}
	}
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

	while (!err && join->heap_n)
		err = join_one(join, join->heap[0]);
	return err;
}
