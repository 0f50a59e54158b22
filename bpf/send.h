/* SPDX-License-Identifier: GPL-2.0-only */
/* The stamps of what was sent lately, for receivers on the same host. Shared. */
#ifndef TIDEMARK_SEND_H
#define TIDEMARK_SEND_H

#include "types.h"

#define SENDS_KEPT 8

/* Map `sends`: by the message's ends, whoever the nodes are. Addresses as in flow_key. */
struct send_key {
	__u8 src[16];
	__u8 dst[16];
	__u16 src_port;
	__u16 dst_port;
	__u8 proto;
	__u8 _pad[3];
};

_Static_assert(sizeof(struct send_key) == 40, "no hidden padding");

/*
 * The last bursts one end sent, newest at `newest`: where each began (TCP sequence) and
 * its stamp. A receiver looks for the newest that began at or before the bytes it got.
 */
struct sends {
	__u64 stamp[SENDS_KEPT];
	__u32 seq[SENDS_KEPT];
	__u32 newest;
	__u32 clock; /* the sender's */
};

#endif
