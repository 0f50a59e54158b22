/* SPDX-License-Identifier: GPL-2.0-only */
/* Peers: addresses that clocks are exchanged with; and sockets whose packets carry them. */
#ifndef TIDEMARK_PEER_BPF_H
#define TIDEMARK_PEER_BPF_H

#include "pkt.bpf.h"
#include "wire.h"

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PEERS_MOST);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct peer_key);
	__type(value, __u32);
} peers __attribute__((weak)) SEC(".maps");

static __always_inline int peer_clocks(const __u8 address[16])
{
	struct peer_key key = { .bits = 128 };
	__u32 *flags;

	*(struct addr_words *)key.address = *(const struct addr_words *)address;
	flags = bpf_map_lookup_elem(&peers, &key);
	return flags && *flags & PEER_CLOCKS;
}

/* wire.state */
#define WIRE_SHOWN (1U << 0)	/* the other side has shown the option: data may have it */
#define WIRE_GREETS (1U << 1)	/* the next segment has it, whatever it is */
#define WIRE_RESERVED (1U << 2) /* room for it was reserved in the segment now being made */
#define WIRE_JOINED (1U << 3)	/* joined_to is valid */

/* No more than this is on its way from sock_ops to the device. */
#define WIRE_BETWEEN (1U << 20)

/*
 * What sock_ops and the clock stage tell each other of a TCP socket. sock_ops decides
 * whether a segment has the option and leaves it blank; the clock stage fills it in. A
 * segment without has been counted where that was decided: see wire.bpf.c.
 */
struct wire {
	__u64 burst; /* stamp of the burst the socket sent last, */
	__u32 node;
	__u32 clock;
	__u32 joined_to; /* segments without option up to this sequence number are counted */
	__u32 retransmits;
	__u16 generation; /* and its generation, 0: ended as it began */
	__u8 state;	  /* WIRE_* */
	__u8 syns;
	__u32 _pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wire);
} wires __attribute__((weak)) SEC(".maps");

#endif
