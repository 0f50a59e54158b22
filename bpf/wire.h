/* SPDX-License-Identifier: GPL-2.0-only */
/* Clocks in packets: what is on the wire, whom it is exchanged with. Shared. */
#ifndef TIDEMARK_WIRE_FORMAT_H
#define TIDEMARK_WIRE_FORMAT_H

#include "types.h"

/*
 * Our number among the experiments (RFC 6994), the same in TCP and in UDP options. Others
 * use kind 253 too: number and length are always looked at together.
 */
#define WIRE_EXID 0x7469

/* TCP option: kind 253, length, ExID, stamp. A stamp of 0 is a blank: none was filled in. */
#define WIRE_TCP_KIND 253
#define WIRE_TCP_BYTES 12

/*
 * UDP options (RFC 9868) lie behind the datagram, inside the IP packet: a zero if the
 * datagram's length is odd, a checksum of 2 bytes, then EXP: kind 127, length, ExID, stamp.
 */
#define WIRE_UDP_KIND 127
#define WIRE_UDP_OPTION_BYTES 12
#define WIRE_UDP_BYTES (2 + WIRE_UDP_OPTION_BYTES)
#define WIRE_UDP_MOST 64 /* no longer surplus is looked through */

/* Map `peers`: longest prefix wins. Addresses as in flow_key, so IPv4 has 96 bits more. */
struct peer_key {
	__u32 bits;
	__u8 address[16];
};

/* peer value: flags */
#define PEER_CLOCKS (1U << 0) /* stamps are written to it and believed from it */

#define PEERS_MOST 1024

/*
 * Map `skews`: what the stamps of a remote address say of its clock, by node. With
 * d = stamp - our physical time when it came, and a message on its way for some time >= 0:
 *
 * A stamp whose counter is 0 was the remote's physical time when it was taken, which was
 * before it came: the remote clock is ahead of ours by at least the largest such d.
 *
 * A stamp is never below the physical time at which it was taken (but for the 16 bits that
 * are cut off), so the remote clock is ahead by at most the smallest d, plus the time the
 * message took. That holds where the stamp was taken as the message left: with a new
 * stamp, in TCP. A later datagram of a burst has the stamp of the first.
 */
struct skew_key {
	__u32 node;
	__u8 remote[16];
};

struct skew {
	__s64 most_ns;	/* smallest d of new stamps in TCP; largest number: none yet */
	__s64 least_ns; /* largest d of stamps that are physical time */
	__u64 stamps;	/* how many came */
	__u64 physical; /* how many of them were physical time */
};

/* What tells a datagram from others where its stamp got lost: over its first bytes. */
#define WIRE_HASH_BYTES 64

static inline __u32 wire_hash(const __u64 words[WIRE_HASH_BYTES / 8], __u32 length)
{
	__u64 h = 0x9e3779b97f4a7c15ULL ^ length;

	for (int i = 0; i < WIRE_HASH_BYTES / 8; i++) {
		h = (h ^ words[i]) * 0xff51afd7ed558ccdULL;
		h ^= h >> 32;
	}
	return h ? h : 1;
}

/*
 * Is the burst of datagrams with this stamp one of those that are sent without it? Asked of the
 * stamp alone, so that all of a burst have the same answer and nothing has to be kept.
 */
static inline int wire_sampled_out(__u64 stamp, __u32 one_in)
{
	return one_in > 1 && (__u32)(stamp * 0x9e3779b97f4a7c15ULL >> 32) % one_in != 0;
}

#endif
