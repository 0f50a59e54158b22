/* SPDX-License-Identifier: GPL-2.0-only */
/* Compiled filters: what a class of recording wants, asked of a track. Shared. */
#ifndef TIDEMARK_FILTER_H
#define TIDEMARK_FILTER_H

#include "mark.h"
#include "track.h"

#define FILTER_OPS_MAX 32

/*
 * A filter is its expression in postfix order: tests push a truth, AND and OR take two and
 * push one, NOT turns one over. What remains on top is the answer; an empty filter says
 * yes. The truths are the bits of one word, so that nothing is addressed by how far the
 * filter has come, which a verifier would have to follow.
 */
enum filter_code {
	FILTER_AND,
	FILTER_OR,
	FILTER_NOT,
	FILTER_TRUE,
	FILTER_ENDPOINT, /* any end in `sides`: address, port and protocol all fit */
	FILTER_VALUE,	 /* (field & mask) is within low and high */
	FILTER_COMM,	 /* comm is `bytes`, where `bytes_mask` says */
};

/* filter_op.sides: which ends, or which layers. */
#define FILTER_LOCAL (1U << 0)
#define FILTER_REMOTE (1U << 1)
#define FILTER_INNER_LOCAL (1U << 2)
#define FILTER_INNER_REMOTE (1U << 3)
#define FILTER_OUTER (FILTER_LOCAL | FILTER_REMOTE)
#define FILTER_INNER (FILTER_INNER_LOCAL | FILTER_INNER_REMOTE)
#define FILTER_ANY (FILTER_OUTER | FILTER_INNER)

/* filter_op.flags, of an endpoint */
#define FILTER_ADDRESS (1U << 0) /* the address counts */
#define FILTER_PORT (1U << 1)	 /* the port counts, of a protocol that has them */
#define FILTER_V6 (1U << 2)	 /* no IPv4 address, whatever the mask lets by; or of a protocol */
#define FILTER_V4 (1U << 3)	 /* of a protocol: in IPv4 only */

enum filter_field {
	FILTER_ETHERTYPE,
	FILTER_PROTO, /* in the layers of `sides` */
	FILTER_VLAN,  /* either tag */
	FILTER_MPLS,
	FILTER_VNI,
	FILTER_NODE,
	FILTER_DEVICE,
	FILTER_MARK,
	FILTER_PID,
	FILTER_CLASS,
	FILTER_FIELDS_NR
};

struct filter_op {
	__u8 code;  /* enum filter_code */
	__u8 sides; /* FILTER_LOCAL... */
	__u8 flags; /* FILTER_ADDRESS..., of a FILTER_PROTO FILTER_V4 or _V6 */
	__u8 proto; /* of an endpoint; 0: any (with FILTER_PORT: any that has ports) */
	__u8 field; /* enum filter_field, of a value */
	__u8 _pad[3];
	__u32 low; /* of port or value, inclusive */
	__u32 high;
	__u32 mask;	/* of a value */
	__u32 bytes[4]; /* an address as in struct flow_key, or comm */
	__u32 bytes_mask[4];
};

_Static_assert(sizeof(struct filter_op) == 52, "no hidden padding");

#define FILTER_IP 0x0800
#define FILTER_IP6 0x86dd

struct filter_words {
	__u32 word[4];
} __attribute__((may_alias));

#define FILTER_NO_PORT (~0U) /* there is one, but nobody knows it */

static inline __attribute__((always_inline)) int filter_is_v4(const __u8 address[16])
{
	const struct filter_words *a = (const struct filter_words *)address;

	return !(a->word[0] | a->word[1]) && address[8] == 0 && address[9] == 0 &&
	       address[10] == 0xff && address[11] == 0xff;
}

static inline __attribute__((always_inline)) int
filter_end(const struct filter_op *op, const __u8 address[16], __u32 port, __u32 proto)
{
	const struct filter_words *a = (const struct filter_words *)address;
	__u32 wrong = 0;

	if (op->flags & FILTER_ADDRESS) {
		wrong = ((a->word[0] ^ op->bytes[0]) & op->bytes_mask[0]) |
			((a->word[1] ^ op->bytes[1]) & op->bytes_mask[1]) |
			((a->word[2] ^ op->bytes[2]) & op->bytes_mask[2]) |
			((a->word[3] ^ op->bytes[3]) & op->bytes_mask[3]);
		if (op->flags & FILTER_V6)
			wrong |= filter_is_v4(address);
	}
	if (op->flags & FILTER_PORT) {
		wrong |= port < op->low || port > op->high;
		wrong |= !flow_has_ports(proto);
	}
	if (op->proto)
		wrong |= proto != op->proto;
	return !wrong;
}

/* Which ends are meant, of those that there are. */
static inline __attribute__((always_inline)) int filter_endpoint(const struct filter_op *op,
								 const struct track *track)
{
	__u32 none = track->unported & TRACK_UNPORTED ? FILTER_NO_PORT : 0;
	__u32 inner_none = track->unported & TRACK_INNER_UNPORTED ? FILTER_NO_PORT : 0;
	int found = 0;

	if (op->flags & FILTER_V6 && track->ethertype != FILTER_IP6 && !track->inner.proto)
		return 0;
	if (op->sides & FILTER_LOCAL)
		found |= filter_end(op, track->flow.local, track->flow.local_port | none,
				    track->flow.proto);
	if (op->sides & FILTER_REMOTE)
		found |= filter_end(op, track->flow.remote, track->flow.remote_port | none,
				    track->flow.proto);
	if (!track->inner.proto)
		return found;
	if (op->sides & FILTER_INNER_LOCAL)
		found |= filter_end(op, track->inner.local, track->inner.local_port | inner_none,
				    track->inner.proto);
	if (op->sides & FILTER_INNER_REMOTE)
		found |= filter_end(op, track->inner.remote, track->inner.remote_port | inner_none,
				    track->inner.proto);
	return found;
}

static inline __attribute__((always_inline)) int filter_within(const struct filter_op *op,
							       __u32 value)
{
	value &= op->mask;
	return value >= op->low && value <= op->high;
}

/* In IPv4 the protocol 1 is ICMP, in IPv6 it is nothing. */
static inline __attribute__((always_inline)) int filter_proto(const struct filter_op *op,
							      const struct track *track)
{
	int v4 = track->ethertype == FILTER_IP && !(op->flags & FILTER_V6);
	int v6 = track->ethertype == FILTER_IP6 && !(op->flags & FILTER_V4);

	if (op->sides & FILTER_OUTER && (v4 | v6) && filter_within(op, track->flow.proto))
		return 1;
	if (!(op->sides & FILTER_INNER) || !track->inner.proto ||
	    !filter_within(op, track->inner.proto))
		return 0;
	return !(op->flags & (filter_is_v4(track->inner.local) ? FILTER_V6 : FILTER_V4));
}

static inline __attribute__((always_inline)) int filter_value(const struct filter_op *op,
							      const struct track *track)
{
	switch (op->field) {
	case FILTER_ETHERTYPE:
		return filter_within(op, track->ethertype);
	case FILTER_PROTO:
		return filter_proto(op, track);
	case FILTER_VLAN:
		return filter_within(op, track->vlan[0]) || filter_within(op, track->vlan[1]);
	case FILTER_MPLS:
		return filter_within(op, track->mpls);
	case FILTER_VNI:
		return filter_within(op, track->vni);
	case FILTER_NODE:
		return filter_within(op, track->flow.node);
	case FILTER_DEVICE:
		return filter_within(op, track->device);
	case FILTER_MARK:
		return filter_within(op, track->mark);
	case FILTER_PID:
		return filter_within(op, track->pid);
	case FILTER_CLASS:
		return filter_within(op, track->class);
	}
	return 0;
}

static inline __attribute__((always_inline)) int filter_comm(const struct filter_op *op,
							     const struct track *track)
{
	const struct filter_words *c = (const struct filter_words *)track->comm;

	return !(((c->word[0] ^ op->bytes[0]) & op->bytes_mask[0]) |
		 ((c->word[1] ^ op->bytes[1]) & op->bytes_mask[1]) |
		 ((c->word[2] ^ op->bytes[2]) & op->bytes_mask[2]) |
		 ((c->word[3] ^ op->bytes[3]) & op->bytes_mask[3]));
}

/* One test, not a connective. */
static inline __attribute__((always_inline)) int filter_test(const struct filter_op *op,
							     const struct track *track)
{
	switch (op->code) {
	case FILTER_TRUE:
		return 1;
	case FILTER_ENDPOINT:
		return filter_endpoint(op, track);
	case FILTER_VALUE:
		return filter_value(op, track);
	case FILTER_COMM:
		return filter_comm(op, track);
	}
	return 0;
}

/* Truths before the first step: an empty filter says yes. */
#define FILTER_BEGUN 1U

/* The truths after one more operation. */
static inline __attribute__((always_inline)) __u32
filter_step(const struct filter_op *op, const struct track *track, __u32 truths)
{
	__u32 top = truths & 1;

	switch (op->code) {
	case FILTER_AND:
		return truths >> 1 & (top | ~1U);
	case FILTER_OR:
		return truths >> 1 | top;
	case FILTER_NOT:
		return truths ^ 1;
	}
	return truths << 1 | filter_test(op, track);
}

/* Does the track pass? `ops` has room for FILTER_OPS_MAX, `n` are used. */
static inline __attribute__((always_inline)) int filter_run(const struct filter_op *ops, __u32 n,
							    const struct track *track)
{
	__u32 truths = FILTER_BEGUN;

	for (__u32 i = 0; i < FILTER_OPS_MAX && i < n; i++)
		truths = filter_step(&ops[i], track, truths);
	return truths & 1;
}

#endif
