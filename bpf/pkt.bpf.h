/* SPDX-License-Identifier: GPL-2.0-only */
/* struct pkt: what the stages know about one packet, and what they may answer. */
#ifndef TIDEMARK_PKT_BPF_H
#define TIDEMARK_PKT_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "uapi.bpf.h"
#include "stage.h"
#include "counter.h"
#include "flow.h"
#include "node.h"

/*
 * By words, which every place an address is in allows. Told of bytes only, the compiler
 * copies bytes: 32 instructions, of which the verifier follows every one.
 */
struct addr_words {
	__u32 word[4];
} __attribute__((may_alias));

/* What a stage answers: go on; only stages that see all go on; or a tc verdict (>= 0). */
#define NEXT TC_ACT_UNSPEC
#define DONE (-2)

/* Checked by itself; weak, so that no argument that looks unused is optimised away. */
#define __checked __attribute__((noinline, weak))
#define READ_ONCE(x) (*(volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile __typeof__(x) *)&(x) = (v))

/* pkt.events: what there is to note about this packet, in the order it is noted */
#define NOTE_CONNECT (1U << 0)
#define NOTE_ACCEPT (1U << 1)
#define NOTE_RETRANSMIT (1U << 2)
#define NOTE_MESSAGE (1U << 3)
#define NOTE_CLOSE (1U << 4)
#define NOTE_MERGE (1U << 5) /* no event, but the peer's clock came with it (SYN-ACK) */
#define NOTE_AHEAD (1U << 8) /* no event yet: data beyond a hole */
#define NOTE_HEARD (1U << 7) /* no event, but who is it? (SYN) */
#define NOTE_CARRY (1U << 6) /* no event, but the peer will want our clock (SYN-ACK) */
#define NOTE_LAST (NOTE_MESSAGE | NOTE_CLOSE) /* both: data with a FIN */

/*
 * Values only, no pointer: so a stage can change the packet and the next one still be
 * right, and it can be handed to a function that the verifier checks by itself. Parser
 * and slow path are such functions: inlined, their branches multiplied beyond what the
 * verifier will look at.
 */
struct pkt {
	struct flow_key key;
	__u32 clock;   /* index */
	__u32 how;     /* ATTACH_* */
	__u32 l4;      /* offset of the transport header */
	__u32 payload; /* bytes behind the transport header, of all segments together */
	__u32 wire;    /* bytes with all headers, of all segments together */
	__u32 segments;
	__u32 seq;	 /* TCP: of the first payload byte; once in `flow`, of the first new one */
	__u32 ack;	 /* TCP: the sender has everything below */
	__u32 fresh;	 /* payload bytes not seen before */
	__u32 len;	 /* of the buffer; of a file's packet, of all of it */
	__u32 mpls;	 /* as in struct track, */
	__u16 vlan[2];	 /* these too, but for a tag outside of the frame */
	__u16 ethertype; /* after tags and labels, host order */
	__u16 l3;	 /* offset of what it names, the network header */
	__u64 stamp;	 /* of the last event noted, or of the burst joined; 0: of none */
	__u8 dir;	 /* enum dir: did the node send it? */
	__u8 from_local; /* its source is the local end: as dir, but for a mirror port */
	__u8 tcp_flags;
	__u8 v6;
	__u8 ported;	  /* has ports, or an echo identifier, or a protocol with neither */
	__u8 tail;	  /* a later fragment: not the beginning of a message */
	__u8 head;	  /* the first of several fragments */
	__u8 fragment;	  /* first or later */
	__u8 keyed;	  /* the key is whole */
	__u16 notes;	  /* NOTE_* */
	__u8 options;	  /* TCP: bytes of options, 0 if there are none but the usual timestamps */
	__u8 flags;	  /* EVENT_* of what will be noted */
	__u32 idle;	  /* jiffies since the flow's last packet */
	__u32 surplus;	  /* UDP: bytes behind the datagram, inside the IP packet */
	__u32 blank;	  /* TCP: offset of the option to be filled in, or 0 */
	__u32 hash;	  /* UDP with a peer: see wire_hash() */
	__u64 carried;	  /* the stamp that came with it, if it may be merged */
	__u64 rejected;	  /* or if it may not */
	__u32 filled;	  /* bytes of the flow's hole, which it is told to have been filled, */
	__u32 filled_seq; /* and the first of them */
};

/* And the pointers, for the stages that are inlined. */
struct pass {
	struct __sk_buff *skb;
	struct counters *count; /* this CPU's, this direction's */
	struct flow *flow;	/* NULL: this packet has none */
	__u32 parts;		/* this pipeline's, see part.bpf.h */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DIRS_NR);
	__type(key, __u32);
	__type(value, struct counters);
} counters __attribute__((weak)) SEC(".maps");

static __always_inline struct counters *counters_of(__u32 dir)
{
	return bpf_map_lookup_elem(&counters, &dir);
}

#endif
