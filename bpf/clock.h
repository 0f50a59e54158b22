/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The hybrid logical clock: one file, compiled for the kernel and for userspace.
 *
 * After Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks" (2014), in a
 * packed form. A stamp is one unsigned 64-bit number: nanoseconds since the Unix epoch
 * whose low 16 bits are replaced by a counter. It reads as time, compares as an integer,
 * and a counter that overflows carries into the time by itself. With P = the physical
 * time with its low 16 bits cleared:
 *
 *	send:    max(old + 1, P)
 *	receive: max(max(old, carried) + 1, P)
 *
 * A stamp never repeats and never decreases, whatever physical time does: order holds for
 * any P, only accuracy depends on it.
 */
#ifndef TIDEMARK_CLOCK_H
#define TIDEMARK_CLOCK_H

#include "types.h"

#define CLOCK_COUNTER_BITS 16
#define CLOCK_COUNTER_MASK ((1ULL << CLOCK_COUNTER_BITS) - 1)

/* A stamp from outside that is further ahead than this is flagged, or not merged. */
#define CLOCK_FLAG_AHEAD_NS (500ULL * 1000 * 1000)
#define CLOCK_MAX_AHEAD_NS (24ULL * 3600 * 1000 * 1000 * 1000)

/* clock.burst, when nothing may be added to the burst that is open. No stamp is all ones. */
#define CLOCK_NO_BURST (~0ULL)

/* clock.flags */
#define CLOCK_EVERY_PACKET (1U << 0) /* an event per segment, no bursts */
#define CLOCK_BURST_FLOW (1U << 1)   /* bursts are per flow: in the map `bursts`, not here */

/*
 * A clock, and the burst that is open on it: a run of messages of one flow in one
 * direction with no other event of this clock in between. One cache line; aligned so
 * that two clocks never share one.
 *
 * `run` is the burst's whole changing state in one word, so that it is opened, extended
 * and closed by single atomic operations and no lock: see run_* below and clock.bpf.h.
 */
struct clock {
	__u64 now;	  /* largest stamp handed out or merged */
	__u64 burst;	  /* stamp of the last burst opened, or CLOCK_NO_BURST */
	__u64 run;	  /* its generation, packets and bytes */
	__u64 opened_ns;  /* BOOTTIME when it was opened */
	__s64 skew_ns;	  /* added to physical time: an instrument (--skew) */
	__u64 lost;	  /* events that found no room in the ring buffer */
	__u32 node;	  /* id of the node, 0: free (with one clock a host: the first's) */
	__u32 flags;	  /* CLOCK_* */
	__u32 generation; /* of the next burst; only its low 16 bits travel */
	__u32 told;	  /* of `lost`, low 32 bits: what readers have made gaps of */
};

_Static_assert(sizeof(struct clock) == 64, "a clock is one cache line");

/* The least the next stamp may be, having heard of `carried` (0: of nothing). */
static inline __u64 clock_floor(__u64 carried, __u64 physical_ns)
{
	__u64 physical = physical_ns & ~CLOCK_COUNTER_MASK;

	return carried + 1 > physical ? carried + 1 : physical;
}

/* The stamp that follows `old`: both rules in one, for a send has heard of nothing. */
static inline __u64 clock_next(__u64 old, __u64 carried, __u64 physical_ns)
{
	__u64 floor = clock_floor(carried, physical_ns);

	return old + 1 > floor ? old + 1 : floor;
}

/*
 * Take the next `n` stamps of a clock, and return the first: larger than every stamp it
 * handed out before and than `carried`. Wait-free and safe against any number of other CPUs,
 * and against being interrupted by itself: a compare-and-swap that keeps losing ends in an
 * addition, which cannot lose. `*now` only ever grows, so adding the distance that would have
 * been enough for an older value is enough for a newer one.
 */
static inline __u64 clock_take_some(__u64 *now, __u64 carried, __u64 physical_ns, __u32 n)
{
	__u64 floor = clock_floor(carried, physical_ns);
	__u64 old = *(volatile __u64 *)now, next, got;

	for (int i = 0; i < 4; i++) {
		next = old + 1 > floor ? old + 1 : floor;
		got = __sync_val_compare_and_swap(now, old, next + n - 1);
		if (got == old)
			return next;
		old = got;
	}
	next = old + 1 > floor ? old + 1 : floor;
	return __sync_fetch_and_add(now, next - old + n - 1) + (next - old);
}

static inline __u64 clock_take(__u64 *now, __u64 carried, __u64 physical_ns)
{
	return clock_take_some(now, carried, physical_ns, 1);
}

/*
 * May a stamp that came from outside this host be merged? All ones never, whatever the
 * bound: the next stamp would wrap to zero. `max_ahead_ns` of 0 means no other bound.
 */
static inline int clock_admits(__u64 carried, __u64 physical_ns, __u64 max_ahead_ns)
{
	if (carried >= ~CLOCK_COUNTER_MASK)
		return 0;
	return !max_ahead_ns || carried <= physical_ns || carried - physical_ns <= max_ahead_ns;
}

/* How far a stamp is ahead of physical time, in ns; 0 if it is not. */
static inline __u64 clock_ahead_ns(__u64 stamp, __u64 physical_ns)
{
	return stamp > physical_ns ? stamp - physical_ns : 0;
}

/* A stamp on the wire is 8 bytes, most significant first, whatever the machine. */
static inline void clock_to_wire(__u64 stamp, __u8 wire[8])
{
	for (int i = 0; i < 8; i++)
		wire[i] = stamp >> (56 - 8 * i);
}

static inline __u64 clock_from_wire(const __u8 wire[8])
{
	__u64 stamp = 0;

	for (int i = 0; i < 8; i++)
		stamp = stamp << 8 | wire[i];
	return stamp;
}

/*
 * struct clock.run: generation 16 | packets 16 | bytes 32. No packets: no burst is open.
 * A burst that would overflow either count is closed and another opened.
 */
#define RUN_PACKETS_MAX 0xffffULL
#define RUN_BYTES_MAX 0xffffffffULL

static inline __u64 run_make(__u32 generation, __u32 packets, __u32 bytes)
{
	return (__u64)(generation & 0xffff) << 48 | (__u64)(packets & 0xffff) << 32 | bytes;
}

static inline __u16 run_generation(__u64 run)
{
	return run >> 48;
}

static inline __u32 run_packets(__u64 run)
{
	return run >> 32 & 0xffff;
}

static inline __u32 run_bytes(__u64 run)
{
	return run;
}

static inline int run_has_room(__u64 run, __u32 packets, __u32 bytes)
{
	return (__u64)run_packets(run) + packets <= RUN_PACKETS_MAX &&
	       (run & RUN_BYTES_MAX) + bytes <= RUN_BYTES_MAX;
}

#endif
