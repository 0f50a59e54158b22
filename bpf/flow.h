/* SPDX-License-Identifier: GPL-2.0-only */
/* Flows: a connection, both directions, as one node sees it. Shared with userspace. */
#ifndef TIDEMARK_FLOW_H
#define TIDEMARK_FLOW_H

#include "stage.h"
#include "types.h"

/*
 * Maps `flows` (admitted) and `embryonic` (not yet). Addresses are IPv6, IPv4 as
 * ::ffff:a.b.c.d; ports are in host order, 0 where the protocol has none, and the
 * identifier twice for ICMP echo.
 *
 * "Local" is the node's end: the source of what it sends, the destination of what it
 * receives. So both directions of a connection are one entry without comparing
 * addresses; a connection over loopback is two, one for each of its two sockets, which is
 * what they are; and a node that forwards has one towards each side, like a proxy.
 */
struct flow_key {
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u32 node;
	__u8 proto;
	__u8 _pad[3];
};

_Static_assert(sizeof(struct flow_key) == 44, "no hidden padding");

/* TCP, UDP, DCCP, SCTP, UDP-Lite: all begin with source and destination port. */
static inline __attribute__((always_inline)) int flow_has_ports(__u32 proto)
{
	return proto == 6 || proto == 17 || proto == 33 || proto == 132 || proto == 136;
}

enum flow_state {
	FLOW_OPEN,	  /* not TCP, or TCP older than us */
	FLOW_SYN,	  /* SYN seen */
	FLOW_SYN_ACK,	  /* and answered */
	FLOW_ESTABLISHED, /* handshake seen to its end */
	FLOW_CLOSING,	  /* one side has sent FIN */
	FLOW_CLOSED,	  /* both have */
	FLOW_RESET,
	FLOW_STATES_NR
};

/* flow.opener: who spoke first */
enum flow_opener {
	FLOW_OPENER_UNKNOWN, /* older than us */
	FLOW_OPENER_LOCAL,
	FLOW_OPENER_REMOTE,
};

/* flow.notes */
#define FLOW_OWNER_LISTENER (1U << 0) /* owner is the listener's: ask again when it sends */
#define FLOW_OWNER_ASKED (1U << 1)    /* no socket of the node has it: do not ask again */
#define FLOW_ADMITTED (1U << 2)	      /* lives in `flows`, not in `embryonic` */
#define FLOW_CARRIED (1U << 3)	      /* `cause` came in a packet */
#define FLOW_NEWS (1U << 4)	      /* and no event has told of it yet */
#define FLOW_WIRED (1U << 5)	      /* what we send carries stamps (TCP) */
#define FLOW_SPOKEN (1U << 6)	      /* data has come with a stamp, not only the handshake */
#define FLOW_TOLD (1U << 7) /* a report of it is out; what ends without one is looked for */

/* flow_dir.synced */
#define DIR_SYNCED (1U << 0) /* next_seq is known */
#define DIR_FILLED (1U << 1) /* the receiver says that it has what was in the hole */

/* One direction of a flow. */
struct flow_dir {
	__u64 packets;	 /* on the wire: a GSO or GRO packet counts its segments */
	__u64 bytes;	 /* whole packets with their headers */
	__u64 burst;	 /* stamp of the last burst this direction opened */
	__u32 next_seq;	 /* TCP: one past the highest byte seen */
	__u32 hole_from; /* TCP: bytes below next_seq not seen; equal: none */
	__u32 hole_to;
	__u16 generation; /* of that burst, see struct clock */
	__u8 tcp_flags;	  /* all flags seen, or-ed */
	__u8 synced;	  /* DIR_SYNCED and so on */
};

/*
 * 160 bytes: with the kernel's 48-byte header and the key an entry is 256, four cache
 * lines exactly. What every packet touches comes first.
 */
struct flow {
	__u32 last;	   /* jiffies, low 32 bits */
	__u8 state;	   /* enum flow_state */
	__u8 opener;	   /* enum flow_opener */
	__u8 notes;	   /* FLOW_* */
	__u8 peer_clocked; /* peer_clock is known */
	__u64 cause;	   /* last stamp carried to us on this flow */
	__u32 peer_clock;  /* clock of the node that sends to us, if it is on this host */
	__u32 uid;
	struct flow_dir dir[DIRS_NR];
	__u32 retransmits[DIRS_NR]; /* TCP: data seen again */
	__u32 mark;		    /* mark_* of mark.h, 0: not asked yet */
	__u32 record;		    /* what the record stage decided of it, 0: not asked yet */
	__u64 cgroup;		    /* id, cgroup v2 */
	__u64 first_ns;		    /* wall clock of the node */
	__u32 pid;		    /* local process, 0 unknown */
	__u32 isn;		    /* TCP: sequence number of the SYN */
	char comm[16];
};

_Static_assert(sizeof(struct flow) == 160, "four cache lines with key and header");

#endif
