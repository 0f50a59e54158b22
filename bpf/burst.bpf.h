/* SPDX-License-Identifier: GPL-2.0-only */
/* How a burst begins, is gone on with and ends: one a clock, or one a flow (--burst flow). */
#ifndef TIDEMARK_BURST_BPF_H
#define TIDEMARK_BURST_BPF_H

#include "event.bpf.h"
#include "flow.bpf.h"
#include "part.bpf.h"
#include "run.bpf.h"

/* What begins on a clock, and what comes of it. */
struct begin {
	__u64 carried; /* the stamp that came with it, or 0 */
	__u64 wall_ns;
	__u32 packets;
	__u32 bytes;
	__u8 open; /* a burst of messages, not an event that is whole */
	__u8 keep; /* there is no room for a record: end nothing */
	__u8 more; /* stamps to take besides: the next ones, for what follows from it */
	__u8 _pad;

	__u32 generation; /* of the burst, or 0: whole */
	__u64 stamp;	  /* 0 before: to be taken */
	__u64 ended;	  /* struct clock.run of what was open, no packets: nothing was */
};

/*
 * Begin something new on a clock: take a stamp, end the burst that is open. A burst has
 * one stamp, that of its first message: it is what its receivers are told.
 *
 * One exchange ends the old burst, learns what it came to, and begins the new: whoever
 * does it first, every packet is in exactly one burst, and nobody ever waits. A
 * generation comes round after 65536 beginnings, so burst_extend compares the burst's
 * stamp too before it takes a run for its own.
 *
 * What may go on with a burst is only what no later stamp of its clock can have caused.
 * So the stamp is taken first and the old burst ended after: what still joins that one in
 * between was sent before the new event was anyone's past (its packet is still with us).
 * And the new burst may go on only if its stamp is still the latest once it is in place:
 * else another CPU began something in between, whose burst we have just ended, and ours
 * would go on with a stamp older than that event. Then it is whole as it is; nobody has
 * joined it, because only clock_opened() lets them.
 *
 * An event that finds no room for its record ticks and merges all the same, for order must
 * hold for what comes after. It cannot end the open burst, which only a record could tell;
 * but nothing may be added to that one, here or where its packets are received.
 *
 * Checked by itself: inlined wherever something begins, its retries were half of what the
 * verifier had to look at.
 */
__checked int clock_begin(struct clock *c, struct begin *b)
{
	__u64 run;

	if (!c || !b)
		return 0;
	b->generation = 0;
	b->ended = 0;
	if (b->stamp) /* taken with the one before, which has ended what there was */
		return 0;
	if (b->keep) {
		WRITE_ONCE(c->burst, CLOCK_NO_BURST);
		b->stamp = clock_take_some(&c->now, b->carried, b->wall_ns, 1 + b->more);
		return 0;
	}
	b->generation = __sync_fetch_and_add(&c->generation, 1) & 0xffff;
	if (!b->generation) /* means "whole" in a record */
		b->generation = __sync_fetch_and_add(&c->generation, 1) & 0xffff;
	b->stamp = clock_take_some(&c->now, b->carried, b->wall_ns, 1 + b->more);
	run = run_make(b->generation, b->open ? b->packets : 0, b->open ? b->bytes : 0);
	b->ended = __sync_lock_test_and_set(&c->run, run);
	if (b->open && READ_ONCE(c->now) == b->stamp)
		return 0;
	if (b->open) /* if somebody ended it meanwhile, that end will be nobody's */
		__sync_val_compare_and_swap(&c->run, run, run_make(b->generation, 0, 0));
	b->generation = 0;
	return 0;
}

/* From here on messages may join. */
static __always_inline void clock_opened(struct clock *c, struct flow_dir *d, const struct begin *b,
					 __u64 boot_ns)
{
	d->burst = b->stamp;
	d->generation = b->generation;
	c->opened_ns = boot_ns;
	/* Unless a later one has begun already. NO_BURST + 1 is 0. */
	if (READ_ONCE(c->burst) + 1 <= b->stamp)
		WRITE_ONCE(c->burst, b->stamp);
	/* Another CPU may have said meanwhile that nothing may be added: say it again. */
	if (READ_ONCE(c->now) != b->stamp)
		WRITE_ONCE(c->burst, CLOCK_NO_BURST);
}

/* ---- per flow ------------------------------------------------------------------------------ */

/*
 * The tempting rule: a burst goes on until its own flow does something else, whatever its node
 * does meanwhile. Hosts with many interleaved flows have few events by it, and lose what order
 * there is between a burst's later messages and the rest. Every burst says so in the log.
 *
 * Least recently used goes first; which is a burst that has ended, unless more flows than there
 * are entries spoke in the last moment.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct burst);
} bursts SEC(".maps");

static const struct burst burst_empty;

static __always_inline int burst_per_flow(const struct clock *c)
{
	return part_is_here(PART_BURSTS) && c->flags & CLOCK_BURST_FLOW;
}

/* Only ever up: of two CPUs the one with the later stamp wins, whoever comes first. */
static __always_inline void burst_raise(struct burst *open, __u64 stamp)
{
	__u64 old = READ_ONCE(open->stamp), got;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 8 && old < stamp; i++) {
		got = __sync_val_compare_and_swap(&open->stamp, old, stamp);
		if (got == old)
			return;
		old = got;
	}
}

/*
 * As clock_begin(), of the flow instead of the clock: the stamp is told before the old burst is
 * ended, so that of two CPUs at once the one with the smaller stamp finds out, and opens none.
 */
__checked int burst_begin_flow(struct clock *c, struct pkt *p, struct begin *b)
{
	struct flow_key key;
	struct burst *open;
	__u64 run;

	if (!c || !p || !b)
		return 0;
	b->generation = 0;
	b->ended = 0;
	if (b->stamp)
		return 0;
	key = p->key;
	open = bpf_map_lookup_elem(&bursts, &key);
	if (!open && b->open && !b->keep) {
		bpf_map_update_elem(&bursts, &key, &burst_empty, BPF_NOEXIST);
		open = bpf_map_lookup_elem(&bursts, &key);
	}
	b->stamp = clock_take_some(&c->now, b->carried, b->wall_ns, 1 + b->more);
	if (!open)
		return 0;
	burst_raise(open, b->stamp);
	if (b->keep)
		return 0;
	b->generation = __sync_fetch_and_add(&c->generation, 1) & 0xffff;
	if (!b->generation)
		b->generation = __sync_fetch_and_add(&c->generation, 1) & 0xffff;
	open->clock = p->clock;
	open->opened_ns = bpf_ktime_get_boot_ns();
	run = run_make(b->generation, b->open ? b->packets : 0, b->open ? b->bytes : 0);
	b->ended = __sync_lock_test_and_set(&open->run, run);
	if (b->open && READ_ONCE(open->stamp) == b->stamp)
		return 0;
	if (b->open)
		__sync_val_compare_and_swap(&open->run, run, run_make(b->generation, 0, 0));
	b->generation = 0;
	return 0;
}

/* Count a message in the flow's burst. 0: it is over, or full. */
__checked int burst_join(struct pkt *p, __u64 stamp, __u32 generation)
{
	struct flow_key key;
	struct burst *open;

	if (!p)
		return 0;
	key = p->key;
	open = bpf_map_lookup_elem(&bursts, &key);
	if (!open || READ_ONCE(open->stamp) != stamp)
		return 0;
	return run_add(&open->run, generation, p->segments, p->fresh);
}

/* ---- either --------------------------------------------------------------------------------- */

static __always_inline void burst_begin(struct clock *c, struct pkt *p, struct begin *b)
{
	if (burst_per_flow(c))
		burst_begin_flow(c, p, b);
	else
		clock_begin(c, b);
}

static __always_inline void burst_opened(struct clock *c, struct flow_dir *d, const struct begin *b,
					 __u64 boot_ns)
{
	if (burst_per_flow(c)) {
		d->burst = b->stamp;
		d->generation = b->generation;
		return;
	}
	clock_opened(c, d, b, boot_ns);
}

#endif
