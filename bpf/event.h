/* SPDX-License-Identifier: GPL-2.0-only */
/* Event records, as they leave the kernel through the rings in `events`. */
#ifndef TIDEMARK_EVENT_H
#define TIDEMARK_EVENT_H

#include "types.h"

/*
 * The names are those of the event log; "" has no line of its own there.
 *	X(name, text)
 */
#define EVENTS(X)                           \
	X(none, "") /* only ends a burst */ \
	X(send, "send")                     \
	X(recv, "recv")                     \
	X(connect, "connect")               \
	X(accept, "accept")                 \
	X(close, "close")                   \
	X(retransmit, "retransmit")         \
	X(node_up, "node-up")               \
	X(node_down, "node-down")           \
	X(gap, "gap")                       \
	X(drop, "drop")

enum event_type {
#define X(name, text) EVENT_##name,
	EVENTS(X)
#undef X
		EVENTS_NR
};

/*
 * A burst is told in two halves. The message that opens it leaves a record at once, with
 * what only that moment knows: stamp, cause, flow, process. The next event of the same
 * clock carries, in `ended`, how many packets and bytes the burst had come to. Userspace
 * joins the halves by (clock, generation). So nothing has to be kept in the kernel where
 * two CPUs could write it at once, and a burst costs one record.
 *
 * A record with generation 0 is whole by itself. `ended` of 0 packets ends nothing.
 */
struct event {
	__u64 stamp;   /* of the first message */
	__u64 cause;   /* the stamp that came with it, 0 none known */
	__u64 wall_ns; /* the node's wall clock, skew included */
	__u64 ended;   /* struct clock.run of the burst that this event ended */
	__u32 node;
	__u32 clock;
	__u32 bytes; /* payload so far: of the packet that opened the burst */
	__u32 packets;
	__u32 seq; /* TCP: first new byte */
	__u32 pid; /* of the local process, 0 unknown */
	__u16 generation;
	__u8 type;  /* enum event_type */
	__u8 proto; /* IPPROTO_* */
	__u8 tcp_flags;
	__u8 dir;	/* enum dir */
	__u16 src_port; /* the message's ends: the same on both sides */
	__u16 dst_port;
	__u16 flags;	/* EVENT_IN_BAND and so on */
	__u32 hash;	/* UDP with a peer: wire_hash() of the first datagram, else 0 */
	__u64 rejected; /* a stamp that came with it and was not merged */
	__u32 mark;	/* of its flow, mark.h; 0: none */
	__u32 _pad;
	__u8 src[16];
	__u8 dst[16];
	char comm[16];
};

_Static_assert(sizeof(struct event) == 136, "no hidden padding");

/* event.flags */
#define EVENT_IN_BAND (1U << 0)	   /* the cause came in the packet */
#define EVENT_FLAGGED (1U << 1)	   /* from further ahead than a clock should be */
#define EVENT_NO_ROOM (1U << 2)	   /* came without a stamp, for which there was no room */
#define EVENT_UNSTAMPED (1U << 3)  /* sent without a stamp: not in the sample */
#define EVENT_BURST_FLOW (1U << 4) /* a burst that goes on whatever else its node does */

/* Context of the syscall programs `event_end` and `event_node`. */
struct event_call {
	__u32 clock; /* index */
	__u32 node;
	__u32 type; /* event_node: EVENT_node_up or EVENT_node_down */
	__u32 _pad;
};

/* Context of `bursts_end`: those that were opened before this (BOOTTIME). */
struct bursts_call {
	__u64 before_ns;
};

/*
 * Map `bursts`, by flow: where bursts are per flow (--burst flow), the one that is open on it,
 * as struct clock has it otherwise.
 */
struct burst {
	__u64 run;	 /* its generation, packets and bytes */
	__u64 stamp;	 /* of the flow's last event: a burst with a smaller one is over */
	__u64 opened_ns; /* BOOTTIME */
	__u32 clock;	 /* index */
	__u32 _pad;
};

#endif
