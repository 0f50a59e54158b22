/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets built layer by layer. */
#ifndef TIDEMARK_PKT_H
#define TIDEMARK_PKT_H

#include <linux/if_ether.h>
#include <linux/types.h>
#include <netinet/in.h>
#include <stdbool.h>

/* BPF_PROG_TEST_RUN takes less: 3500 bytes and little more fit its page. */
#define FRAME_MAX 8000

/*
 * A packet. Each frame_*() call appends a layer and writes its name into the one before;
 * frame_end() writes the lengths. What was written can then be spoiled through `bytes`.
 *
 * Host h is 8.0.x.y or fd00:0:86dd::h. Without an Ethernet header the kernel's test run
 * takes bytes 12 and 13 for the ethertype all the same: those of such a source are right.
 */
struct frame {
	unsigned n;
	unsigned src, dst;	      /* hosts */
	unsigned type_at, next_at;    /* where the next layer's name goes; 0: nowhere */
	unsigned l3, l4, l4_end, udp; /* offsets */
	__u32 gso_segs, gso_size;
	bool v6;
	__u8 bytes[FRAME_MAX];
};

void frame_begin(struct frame *f, unsigned src, unsigned dst);
void frame_ethernet(struct frame *f);
void frame_vlan(struct frame *f, __u16 tpid);
void frame_other(struct frame *f, __u16 ethertype, unsigned bytes);
void frame_v4(struct frame *f, unsigned options);
void frame_v6(struct frame *f);
void frame_fragment(struct frame *f, unsigned offset, bool more, __u32 id);
void frame_extension(struct frame *f, __u8 proto, unsigned bytes);
void frame_tcp(struct frame *f, __u16 src, __u16 dst, __u32 seq, __u8 flags, unsigned options);
void frame_udp(struct frame *f, __u16 src, __u16 dst);
void frame_icmp(struct frame *f, __u8 type, __u16 id);
void frame_l4(struct frame *f, __u8 proto, unsigned bytes);
void frame_payload(struct frame *f, unsigned bytes);
void frame_end(struct frame *f);

/* Ethernet and IPv4, or IPv6, in one call. */
void frame_ip(struct frame *f, bool v6, unsigned src, unsigned dst);

/*
 * A packet of every shape there is, for tests that spoil them: sample i, or NULL past the
 * last. Returns its name. `end` is where its transport header ends, 0: it has no IP.
 */
const char *frame_sample(struct frame *f, unsigned i, unsigned *end);

/* TCP flags */
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

void put16(__u8 *at, __u16 value);
void put32(__u8 *at, __u32 value);

#endif
