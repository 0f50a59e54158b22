/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage node: which node, which clock, which direction. Known since the attach. */
#ifndef TIDEMARK_NODE_BPF_H
#define TIDEMARK_NODE_BPF_H

#include "pkt.bpf.h"
#include "event.h"

/* Not BPF_F_NO_PREALLOC: mark_touch walks it, and before 6.1 no syscall program could then. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct node);
} nodes __attribute__((weak)) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct attachment_key);
	__type(value, struct attachment);
} attachments __attribute__((weak)) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct settings);
} settings __attribute__((weak)) SEC(".maps");

static __always_inline struct settings *settings_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

/*
 * The attachment's own program has put node and clock into the control block. A packet
 * that came another way (somebody ran the pipeline directly) has no node: nothing here
 * may guess one.
 */
static __always_inline int stage_node(struct pass *at, struct pkt *p)
{
	if (!(p->how & ATTACH_LIVE)) {
		at->count->reason.no_node++;
		return DONE;
	}
	if (at->skb->pkt_type == PACKET_OTHERHOST && p->dir == DIR_IN &&
	    !(p->how & (ATTACH_PROMISC | ATTACH_FAR))) {
		at->count->reason.other_host++;
		return DONE;
	}
	return NEXT;
}

#endif
