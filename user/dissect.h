/* SPDX-License-Identifier: GPL-2.0-only */
/* Frames read as the kernel's stages read them: what track is this packet of? */
#ifndef TIDEMARK_DISSECT_H
#define TIDEMARK_DISSECT_H

#include "../bpf/track.h"

#define DISSECT_FRAGMENTS 1024

/* The ports of a fragmented datagram are in its first fragment only. */
struct dissect_fragment {
	__u8 src[16], dst[16];
	__u32 id, node;
	__u16 src_port, dst_port;
	__u8 header_proto, proto, used;
};

/* Zero to begin with. */
struct dissector {
	struct dissect_fragment fragments[DISSECT_FRAGMENTS];
};

/* What is of the packet rather than of its track. */
struct dissected {
	__u32 seq;
	__u32 ip_id;	  /* of IPv4, or of an IPv6 fragment */
	__u32 payload;	  /* bytes behind the transport header */
	__u32 payload_at; /* offset */
	__u32 header;	  /* bytes before that: the transport header, of TCP, UDP, ICMP */
	__u8 tcp_flags;
	__u8 is_fragment; /* not the first */
};

/* Of packet.flags, what an interface of this type in a segment says. */
__u32 dissect_flags(__u16 linktype);

/*
 * `kept` bytes of a frame that had `wire`, with `flags` as struct packet has them. Fills
 * all of the track that the bytes tell: not node, device, class, mark, process; but
 * track->flow.node is to be there already, for the fragments.
 */
void dissect(struct dissector *d, const unsigned char *frame, __u32 kept, __u32 wire, __u32 flags,
	     struct track *track, struct dissected *more);

#endif
