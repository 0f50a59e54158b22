/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracks and packets: what is kept of the wire, and what is known of it. Shared. */
#ifndef TIDEMARK_TRACK_H
#define TIDEMARK_TRACK_H

#include "flow.h"
#include "types.h"

#define TRACK_VLANS 2
#define TRACK_TAGGED 0x1000	  /* in track.vlan: there is a tag, its id may be 0 */
#define TRACK_LABELLED (1U << 20) /* in track.mpls: there is a label */
#define TRACK_NUMBERED (1U << 24) /* in track.vni: there is one */

/* track.unported: a later fragment whose first did not come, or cut short before the ports */
#define TRACK_UNPORTED (1U << 0)
#define TRACK_INNER_UNPORTED (1U << 1)

/*
 * Everything a query may ask of a packet but its time. Packets that agree in it are one
 * track: a flow as it came through one device, tags and tunnel included. So an index
 * describes tracks, and for each only lists where its packets are. Zero where there is
 * none, so that tracks compare and hash as bytes.
 *
 * What is no IP has no flow: only the node, the ethertype, the tags; ARP has its two
 * protocol addresses, as from sender and to target.
 */
struct track {
	struct flow_key flow;	 /* node always; the outermost IP header's */
	struct flow_key inner;	 /* in VXLAN, GENEVE, GRE, IP-in-IP; proto 0: no tunnel; node 0 */
	__u16 ethertype;	 /* after tags and labels, host order */
	__u16 vlan[TRACK_VLANS]; /* outermost first: id | TRACK_TAGGED */
	__u8 class;		 /* of recording */
	__u8 unported; /* TRACK_UNPORTED...: ports there may be, but not in these packets */
	__u32 mpls;    /* outermost label | TRACK_LABELLED */
	__u32 vni;     /* VXLAN's or GENEVE's | TRACK_NUMBERED */
	__u32 device;  /* ifindex, within the node */
	__u32 mark;    /* as struct flow.mark, without generation */
	__u32 pid;     /* of the local process, 0 unknown */
	char comm[16];
};

_Static_assert(sizeof(struct track) == 132, "no hidden padding");

static inline __attribute__((always_inline)) int track_has_ports(const struct track *t)
{
	return flow_has_ports(t->flow.proto) && !(t->unported & TRACK_UNPORTED);
}

static inline __attribute__((always_inline)) int track_has_inner_ports(const struct track *t)
{
	return flow_has_ports(t->inner.proto) && !(t->unported & TRACK_INNER_UNPORTED);
}

/* packet.flags */
#define PACKET_OUT (1U << 0)	 /* the node sent it */
#define PACKET_L3 (1U << 1)	 /* begins with the IP header, there is no Ethernet */
#define PACKET_FORWARD (1U << 2) /* from track.flow.local to .remote: as OUT, but on mirrors */
#define PACKET_GSO (1U << 3)	 /* several segments in one buffer, as the stack handed it on */

/* Above them, of a packet from a file: what its bytes begin with, LINKTYPE_* and one more. */
#define PACKET_LINK_SHIFT 16
#define PACKET_LINK(linktype) (((linktype) + 1U) << PACKET_LINK_SHIFT)

/* A packet as it leaves the kernel: this, then `kept` bytes of the frame. */
struct packet {
	__u64 wall_ns; /* the node's wall clock, skew included; of a file, the file's */
	__u64 stamp;   /* of the event it is part of; none is, the clock's latest */
	__u32 kept;    /* bytes that follow */
	__u32 wire;    /* bytes the frame had */
	__u32 flags;   /* PACKET_* */
	struct track track;
};

_Static_assert(sizeof(struct packet) == 160, "no hidden padding");

#endif
