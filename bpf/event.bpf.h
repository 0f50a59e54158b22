/* SPDX-License-Identifier: GPL-2.0-only */
/* The way out of the kernel: rings of event records, and counted losses. */
#ifndef TIDEMARK_EVENT_BPF_H
#define TIDEMARK_EVENT_BPF_H

#include "pkt.bpf.h"
#include "clock.h"
#include "event.h"

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/* One ring a CPU: order comes from the stamps, and two CPUs never wait for one lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} events SEC(".maps");

static __always_inline struct event *event_reserve(void)
{
	__u32 cpu = bpf_get_smp_processor_id();
	void *ring = bpf_map_lookup_elem(&events, &cpu);

	return ring ? bpf_ringbuf_reserve(ring, sizeof(struct event), 0) : NULL;
}

/*
 * A waking submit costs a CPU an interrupt (5 us in a virtual machine), and a reader that
 * keeps up is woken for every record. So nobody is woken: the reader comes by timer.
 */
static __always_inline void event_submit(struct event *e)
{
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* Counted at the clock, from which the reader makes a `gap` of the node. */
static __always_inline void event_lose(struct clock *c)
{
	__sync_fetch_and_add(&c->lost, 1);
}

#endif
