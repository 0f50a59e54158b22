/* SPDX-License-Identifier: GPL-2.0-only */
/* The clocks by index, and how a message joins the burst that is open on one. */
#ifndef TIDEMARK_RUN_BPF_H
#define TIDEMARK_RUN_BPF_H

#include "pkt.bpf.h"
#include "clock.h"

/* By index. Mapped into userspace too, which sets skews and reads it for `show`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct clock);
} clocks __attribute__((weak)) SEC(".maps");

static __always_inline struct clock *clock_get(__u32 index)
{
	return bpf_map_lookup_elem(&clocks, &index);
}

/* Is this burst the one that is open, and may anything be added to it? */
static __always_inline int run_is_open(const struct clock *c, __u64 burst, __u16 generation)
{
	return !(c->flags & (CLOCK_EVERY_PACKET | CLOCK_BURST_FLOW)) &&
	       run_generation(READ_ONCE(c->run)) == generation && READ_ONCE(c->burst) == burst;
}

/* Count a message in the burst that is open there. 0: it had ended, or is full. */
static __always_inline int run_add(__u64 *at, __u16 generation, __u32 packets, __u32 bytes)
{
	__u64 run = READ_ONCE(*at), got;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 4; i++) {
		if (run_generation(run) != generation || !run_packets(run) ||
		    !run_has_room(run, packets, bytes))
			return 0;
		got = __sync_val_compare_and_swap(at, run, run + ((__u64)packets << 32) + bytes);
		if (got == run)
			return 1;
		run = got;
	}
	return 0;
}

static __always_inline int run_join(struct clock *c, __u16 generation, __u32 packets, __u32 bytes)
{
	return run_add(&c->run, generation, packets, bytes);
}

#endif
