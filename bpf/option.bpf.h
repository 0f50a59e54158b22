/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks as IPv6 options: room in the packet, the headers, and the MSS that leaves room. */
#ifndef TIDEMARK_OPTION_BPF_H
#define TIDEMARK_OPTION_BPF_H

#include "mark.h"
#include "pkt.bpf.h"

#define ETHERNET_BYTES 14
#define IPV6_BYTES 40
#define IPV6_MTU_LEAST 1280 /* RFC 8200: every link carries so much */
#define IPV6_PAYLOAD_MOST 65535

#define OPTION_PAD1 0
#define OPTION_PADN 1
#define OPTION_BYTES 5 /* type, length, experiment, activity */

#define HEADER_MOST 64	/* longer ones are left alone, */
#define OPTIONS_MOST 8 /* and those with more options */
#define PADDING_MOST 7	/* more is no padding: Linux drops such packets */

/* An options header as it was read or made, and as it becomes. */
struct header {
	__u8 bytes[HEADER_MOST + 16];
	__u32 length;
	__u32 grown; /* bytes of it that are new */
};

static __always_inline void header_make(struct header *h, __u32 mark)
{
	__u32 experiment = mark_experiment(mark);

	h->bytes[2] = MARK_OPTION;
	h->bytes[3] = MARK_OPTION_DATA;
	h->bytes[4] = experiment >> 8;
	h->bytes[5] = experiment;
	h->bytes[6] = mark_activity(mark);
	h->length = h->grown = MARK_OPTION_BYTES;
}

static __always_inline int header_read(struct __sk_buff *skb, __u32 at, struct header *h)
{
	__u32 length;

	if (bpf_skb_load_bytes(skb, at, h->bytes, 8))
		return -1;
	length = (h->bytes[1] + 1) * 8;
	if (length > HEADER_MOST)
		return -1;
	if (length > 8 && bpf_skb_load_bytes(skb, at, h->bytes, length))
		return -1;
	h->length = length;
	return 0;
}

/*
 * Where the options end and only padding follows; the header's length: there is none. 0:
 * it cannot be read, or has the option already (then *there).
 */
static __always_inline __u32 header_padding(const struct header *h, int *there)
{
	__u32 at = 2, pad = 0, step;
	__u8 type;

	*there = 0;
#pragma clang loop unroll(disable)
	for (int i = 0; i < OPTIONS_MOST; i++) {
		if (at >= h->length)
			break;
		at &= HEADER_MOST - 1;
		type = h->bytes[at];
		step = type == OPTION_PAD1 ? 1 : 2 + h->bytes[at + 1];
		if (type == MARK_OPTION) {
			*there = 1;
			return 0;
		}
		if (type > OPTION_PADN)
			pad = 0;
		else if (!pad)
			pad = at;
		at += step;
	}
	if (at != h->length)
		return 0;
	return pad ? pad : at;
}

enum { OPTION_DONE, OPTION_THERE, OPTION_NONE };

/* Into the padding, or behind it all, in eight bytes more. */
__checked int header_extend(struct header *h, __u32 mark)
{
	__u32 at, rest, end;
	int there;

	if (!h)
		return OPTION_NONE;
	at = header_padding(h, &there);
	if (!at)
		return there ? OPTION_THERE : OPTION_NONE;
	end = h->length;
	if (end - at < OPTION_BYTES || end - at > PADDING_MOST) {
		at = end;
		end += 8;
		h->length = end;
		h->grown = 8;
		h->bytes[1]++;
	}
	if (at > HEADER_MOST)
		return OPTION_NONE;
	h->bytes[at] = MARK_OPTION;
	h->bytes[at + 1] = MARK_OPTION_DATA;
	h->bytes[at + 2] = mark_experiment(mark) >> 8;
	h->bytes[at + 3] = mark_experiment(mark);
	h->bytes[at + 4] = mark_activity(mark);
	rest = end - at - OPTION_BYTES; /* 0 to 3 */
	if (rest)
		h->bytes[at + 5] = rest == 1 ? OPTION_PAD1 : OPTION_PADN;
	if (rest > 1)
		h->bytes[at + 6] = rest - 2;
	if (rest > 2)
		h->bytes[at + 7] = 0;
	return OPTION_DONE;
}

/*
 * The flags to make room with, or -1: it would exceed the MTU. What is still to be cut
 * into segments counts as one of them: if that has no room, TCP's are cut smaller, which
 * the kernel does when it makes the room; datagrams cannot be.
 */
__checked int option_room(struct __sk_buff *skb, struct pkt *p, __u32 payload, __u32 grow)
{
	__u32 mtu = 0, length;

	if (!p || payload + grow > IPV6_PAYLOAD_MOST)
		return -1;
	length = IPV6_BYTES + payload + grow;
	if (skb->gso_size)
		length -= p->payload - skb->gso_size;
	bpf_check_mtu(skb, 0, &mtu, 0, 0);
	if (length <= mtu)
		return skb->gso_size ? BPF_F_ADJ_ROOM_FIXED_GSO : 0;
	return skb->gso_size && p->key.proto == IPPROTO_TCP ? 0 : -1;
}

enum { ROOM_MADE, ROOM_REFUSED, ROOM_LOST };

/*
 * Make room behind the IPv6 header. The kernel does that only where it follows the
 * Ethernet header directly, so a VLAN tag that is in the packet is taken off meanwhile;
 * it comes back as the device's, which writes it in front of the packet when it sends.
 * One that cannot be put back (no memory) would leave the packet in another VLAN: LOST.
 */
__checked int room_make(struct __sk_buff *skb, struct pkt *p, __u32 grow, __u32 flags)
{
	struct vlan_hdr tag = {};
	__u32 before, made;
	int tagged, ours;

	if (!p)
		return ROOM_REFUSED;
	tagged = !(p->how & ATTACH_L3) && p->l3 > ETHERNET_BYTES;
	ours = tagged && !skb->vlan_present;
	if (tagged) {
		struct {
			__be16 proto, tci;
		} first;

		/* Three tags: the kernel takes off two. */
		if (!ours && p->l3 > ETHERNET_BYTES + sizeof(tag))
			return ROOM_REFUSED;
		if (bpf_skb_load_bytes(skb, ETHERNET_BYTES - 2, &first, sizeof(first)))
			return ROOM_REFUSED;
		tag.proto = ours ? first.proto : skb->vlan_proto;
		tag.tci = ours ? bpf_ntohs(first.tci) : skb->vlan_tci;
		if (bpf_skb_vlan_pop(skb))
			return ROOM_REFUSED;
	}
	before = skb->len;
	bpf_skb_adjust_room(skb, grow, BPF_ADJ_ROOM_NET, flags);
	made = skb->len - before; /* it may fail after it made the room */
	if (tagged && bpf_skb_vlan_push(skb, tag.proto, tag.tci))
		return ROOM_LOST;
	if (ours) {
		p->l3 -= sizeof(tag);
		p->l4 -= sizeof(tag);
	}
	if (made != grow)
		return ROOM_REFUSED;
	p->l4 += grow;
	p->wire += grow * p->segments;
	return ROOM_MADE;
}

static __always_inline int room_failed(struct counters *count, int made)
{
	count->reason.mark_failed++;
	return made == ROOM_LOST ? TC_ACT_SHOT : NEXT;
}

/* The words of the option's header that is next to `next`. */
static __always_inline void option_words(__be32 words[2], __u8 next, __u32 mark)
{
	words[0] = bpf_htonl((__u32)next << 24 | MARK_OPTION << 8 | MARK_OPTION_DATA);
	words[1] = bpf_htonl(mark_experiment(mark) << 16 | mark_activity(mark) << 8);
}

struct option_words {
	__be32 word[4];
} __attribute__((packed, aligned(2)));

/* Payload length and next header, hop limit as it is. */
static __always_inline struct ipv6hdr *ipv6_at(struct __sk_buff *skb, __u32 l3, __u32 behind)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;

	if (l3 > 64 || data + l3 + IPV6_BYTES + behind > end)
		return NULL;
	return data + l3;
}

/*
 * A packet that has options headers: the mark's option goes into them. What must come
 * first stays first, so up to two headers are moved, and written again.
 */
__checked int mark_extend(struct __sk_buff *skb, struct pkt *p, __u32 mark)
{
	struct header hop = {}, dest = {};
	struct counters *count;
	struct ipv6hdr *ip;
	__u32 how = mark_how(mark), at, payload, length, grow;
	int had_hop, flags, made, done = 0;
	__u8 first, next;

	if (!p)
		return NEXT;
	count = counters_of(p->dir);
	ip = ipv6_at(skb, p->l3, 0);
	if (!count || !ip)
		return NEXT;
	payload = bpf_ntohs(ip->payload_len);
	first = next = ip->nexthdr;
	at = p->l3 + IPV6_BYTES;
	had_hop = first == IPPROTO_HOPOPTS;
	if (had_hop) {
		if (header_read(skb, at, &hop))
			goto full;
		next = hop.bytes[0];
		if (how & MARK_HOP_BY_HOP)
			done = header_extend(&hop, mark);
	} else if (how & MARK_HOP_BY_HOP) {
		header_make(&hop, mark);
		hop.bytes[0] = next;
	}
	if (done == OPTION_NONE)
		goto full;
	if (how & MARK_DESTINATION && next == IPPROTO_DSTOPTS) {
		if (header_read(skb, at + hop.length - hop.grown, &dest))
			goto full;
		made = header_extend(&dest, mark);
		if (made == OPTION_NONE)
			goto full;
		if (made == OPTION_THERE && (done == OPTION_THERE || !(how & MARK_HOP_BY_HOP)))
			goto there;
	} else if (how & MARK_DESTINATION) {
		header_make(&dest, mark);
		dest.bytes[0] = next;
		next = IPPROTO_DSTOPTS;
	} else if (done == OPTION_THERE) {
		goto there;
	}
	if (hop.length) {
		first = IPPROTO_HOPOPTS;
		hop.bytes[0] = next;
	} else {
		first = next;
	}
	grow = hop.grown + dest.grown;
	if (grow) {
		flags = option_room(skb, p, payload, grow);
		if (flags < 0) {
			count->reason.mark_no_room++;
			return NEXT;
		}
		made = room_make(skb, p, grow, flags);
		if (made != ROOM_MADE)
			return room_failed(count, made);
	}
	at = p->l3 + IPV6_BYTES;
	length = hop.length;
	if (length >= 8 && length <= sizeof(hop.bytes))
		bpf_skb_store_bytes(skb, at, hop.bytes, length, 0);
	at += length;
	length = dest.length;
	if (length >= 8 && length <= sizeof(dest.bytes))
		bpf_skb_store_bytes(skb, at, dest.bytes, length, 0);
	ip = ipv6_at(skb, p->l3, 0);
	if (ip) {
		ip->payload_len = bpf_htons(payload + grow);
		ip->nexthdr = first;
	}
	count->reason.mark_header++;
	return NEXT;
full:
	count->reason.mark_header_full++;
	return NEXT;
there:
	count->reason.mark_already++;
	return NEXT;
}

/* A packet without options headers, which is nearly every one: eight or sixteen bytes. */
__checked int mark_option(struct __sk_buff *skb, struct pkt *p, __u32 mark)
{
	__u32 how = mark_how(mark), grow = how == MARK_BOTH ? 16 : 8, payload;
	struct counters *count;
	struct option_words *to;
	struct ipv6hdr *ip;
	int flags, made;
	__u8 next;

	if (!p)
		return NEXT;
	count = counters_of(p->dir);
	ip = ipv6_at(skb, p->l3, 0);
	if (!count || !ip)
		return NEXT;
	payload = bpf_ntohs(ip->payload_len);
	next = ip->nexthdr;
	if (p->fragment) {
		count->reason.mark_fragment++;
		return NEXT;
	}
	if (!payload) { /* a jumbogram: its own option must tell its length */
		count->reason.mark_header_full++;
		return NEXT;
	}
	if (next == IPPROTO_HOPOPTS || (how & MARK_DESTINATION && next == IPPROTO_DSTOPTS))
		return mark_extend(skb, p, mark);
	flags = option_room(skb, p, payload, grow);
	if (flags < 0) {
		count->reason.mark_no_room++;
		return NEXT;
	}
	made = room_make(skb, p, grow, flags);
	if (made != ROOM_MADE)
		return room_failed(count, made);
	ip = ipv6_at(skb, p->l3, 16);
	if (!ip)
		return NEXT; /* never: it was there, and the room is behind it */
	ip->payload_len = bpf_htons(payload + grow);
	ip->nexthdr = how & MARK_HOP_BY_HOP ? IPPROTO_HOPOPTS : IPPROTO_DSTOPTS;
	to = (void *)(ip + 1);
	option_words(to->word, how == MARK_BOTH ? IPPROTO_DSTOPTS : next, mark);
	if (how == MARK_BOTH)
		option_words(to->word + 2, next, mark);
	count->reason.mark_header++;
	return NEXT;
}

#endif
