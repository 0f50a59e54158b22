/* SPDX-License-Identifier: GPL-2.0-only */
/* Reads packets from pcap and pcapng files of any tool. */
#ifndef TIDEMARK_CAPTURE_H
#define TIDEMARK_CAPTURE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>

#define CAPTURE_FRAME_MAX (1U << 20)

/* As the registry at www.tcpdump.org/linktypes.html has them. */
enum {
	LINKTYPE_NULL = 0,
	LINKTYPE_ETHERNET = 1,
	LINKTYPE_RAW_LINUX = 12, /* what some write for raw IP, */
	LINKTYPE_RAW_OPENBSD = 14,
	LINKTYPE_RAW = 101, /* and what it is when read */
	LINKTYPE_LOOP = 108,
	LINKTYPE_LINUX_SLL = 113,
	LINKTYPE_IPV4 = 228,
	LINKTYPE_IPV6 = 229,
	LINKTYPE_LINUX_SLL2 = 276,
};

struct capture_packet {
	__u64 wall_ns;
	const __u8 *bytes; /* until the next is read */
	__u32 kept, wire;  /* bytes there are, bytes the frame had */
	__u32 interface;   /* counted over the whole file */
	__u16 linktype;
};

struct capture;

/* Reads from where the file stands; it stays the caller's. NULL, and `words` says why. */
struct capture *capture_open(FILE *file, char *words, size_t size);
void capture_close(struct capture *c);

/* 1: a packet; 0: the end; -EBADMSG: damaged or cut short here, and why in `words`. */
int capture_next(struct capture *c, struct capture_packet *packet, char *words, size_t size);

/* What the file calls an interface, or "". */
const char *capture_interface(const struct capture *c, __u32 interface);

/* Of all packets of a pcap file; -1: of pcapng, where each packet says its own. */
int capture_linktype(const struct capture *c);

#endif
