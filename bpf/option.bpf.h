/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks as IPv6 options: room in the packet, the headers, and the MSS that leaves room. */
#ifndef TIDEMARK_OPTION_BPF_H
#define TIDEMARK_OPTION_BPF_H

#include "mark.h"
#include "parse.bpf.h"

#define ETHERNET_BYTES 14
#define IPV6_BYTES 40
#define IPV6_MTU_LEAST 1280 /* RFC 8200: every link carries so much */
#define IPV6_PAYLOAD_MOST 65535

#define TCP_OPTIONS_MOST 40
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define MSS_BEFORE 6 /* options looked at for it: everybody writes it first */

#define OPTION_PAD1 0
#define OPTION_PADN 1
#define OPTION_BYTES 5 /* type, length, experiment, activity */

#define HEADER_MOST 64 /* longer ones are left alone, */
#define OPTIONS_MOST 8 /* and those with more options */
#define PADDING_MOST 7 /* more is no padding: Linux drops such packets */

/*
 * Is it within? In two comparisons of the very register that is used: merged into one of
 * a copy, as compilers do, older verifiers (6.1) learn nothing from them.
 */
static __always_inline int within(__u32 *n, __u32 least, __u32 most)
{
	asm volatile("" : "+r"(*n));
	if (*n < least)
		return 0;
	asm volatile("" : "+r"(*n));
	return *n <= most;
}

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
 * What a router has said of the way to an address: "packet too big". The kernel knows it
 * too, but a tc program may ask it for a route only where it forwards.
 */
struct path_key {
	__u8 address[16];
	__u32 node;
};

struct path {
	__u32 mtu;
	__u32 since; /* jiffies */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct path_key);
	__type(value, struct path);
} paths SEC(".maps");

/* The least MTU known of on the way, or the device's. */
static __always_inline __u32 path_mtu(const struct pkt *p, __u32 mtu, __u32 length)
{
	struct path_key key = { .node = p->key.node };
	struct path *path;

	if (length <= IPV6_MTU_LEAST)
		return mtu;
	addr_copy(key.address, p->key.remote);
	path = bpf_map_lookup_elem(&paths, &key);
	return path && path->mtu < mtu ? path->mtu : mtu;
}

/*
 * What a full TCP segment must leave free beside a TCP header of 20 bytes. With a
 * destination header that is more than the option takes: a Linux that forwards a buffer
 * of segments still to be cut (5.15 to 6.18 at least) looks for TCP's header where that
 * header is, reads its length from the sequence number, and finds the segments too long
 * for the next device. With room for the longest it can read, it never does.
 */
static __always_inline __u32 option_slack(__u32 how)
{
	return (how & MARK_HOP_BY_HOP ? MARK_OPTION_BYTES : 0) +
	       (how & MARK_DESTINATION ? TCP_OPTIONS_MOST : 0);
}

/*
 * The flags to make room with, or -1: it would exceed the MTU. What is still to be cut
 * into segments counts as one of them: if that has no room, TCP's are cut smaller, which
 * the kernel does when it makes the room; datagrams cannot be, and what has a destination
 * header would not be small enough (see above).
 */
__checked int option_room(struct __sk_buff *skb, struct pkt *p, __u32 payload, __u32 grow,
			  __u32 how)
{
	__u32 mtu = 0, length, gso = skb->gso_size;

	if (!p || payload + grow > IPV6_PAYLOAD_MOST)
		return -1;
	length = IPV6_BYTES + payload + grow;
	if (gso)
		length -= p->payload - gso;
	bpf_check_mtu(skb, 0, &mtu, 0, 0);
	mtu = path_mtu(p, mtu, length);
	if (gso && p->key.proto == IPPROTO_TCP && how & MARK_DESTINATION &&
	    IPV6_BYTES + sizeof(struct tcphdr) + gso + option_slack(how) > mtu)
		return -1;
	if (length <= mtu)
		return gso ? BPF_F_ADJ_ROOM_FIXED_GSO : 0;
	return gso && p->key.proto == IPPROTO_TCP ? 0 : -1;
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
		flags = option_room(skb, p, payload, grow, how);
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
	if (within(&length, 8, sizeof(hop.bytes)))
		bpf_skb_store_bytes(skb, at, hop.bytes, length, 0);
	at += length;
	length = dest.length;
	if (within(&length, 8, sizeof(dest.bytes)))
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
	flags = option_room(skb, p, payload, grow, how);
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

/* Where the MSS option's value is in these TCP options, or 0. */
static __always_inline __u32 mss_find(const __u8 options[TCP_OPTIONS_MOST], __u32 length)
{
	__u32 at = 0;
	__u8 kind;

#pragma clang loop unroll(disable)
	for (int i = 0; i < MSS_BEFORE; i++) {
		if (at + 4 > length || at > TCP_OPTIONS_MOST - 4)
			return 0;
		kind = options[at];
		if (kind == TCP_OPTION_MSS)
			return options[at + 1] == 4 ? at + 2 : 0;
		if (kind == TCP_OPTION_END)
			return 0;
		if (kind != TCP_OPTION_NOP && options[at + 1] < 2)
			return 0;
		at += kind == TCP_OPTION_NOP ? 1 : options[at + 1];
	}
	return 0;
}

/*
 * A connection whose packets will carry options: what its peer says it can receive is
 * lowered before TCP hears it, so that no segment will be too long to have one.
 */
__checked int mark_mss(struct __sk_buff *skb, struct pkt *p, __u32 mark)
{
	__u32 mtu = 0, at, length, most;
	__u8 options[TCP_OPTIONS_MOST] = {}, doff;
	__be16 was, is;
	struct counters *count;

	if (!p)
		return 0;
	count = counters_of(p->dir);
	if (!count || bpf_skb_load_bytes(skb, p->l4 + 12, &doff, 1))
		return 0;
	length = (doff >> 4) * 4;
	if (length <= sizeof(struct tcphdr))
		return 0;
	length -= sizeof(struct tcphdr);
	if (!within(&length, 4, TCP_OPTIONS_MOST) ||
	    bpf_skb_load_bytes(skb, p->l4 + sizeof(struct tcphdr), options, length))
		return 0;
	at = mss_find(options, length);
	if (!at || at > TCP_OPTIONS_MOST - 2)
		return 0;
	bpf_check_mtu(skb, 0, &mtu, 0, 0);
	most = path_mtu(p, mtu, mtu);
	if (most < IPV6_MTU_LEAST)
		return 0;
	most -= IPV6_BYTES + sizeof(struct tcphdr) + option_slack(mark_how(mark));
	if ((__u32)(options[at] << 8 | options[at + 1]) <= most)
		return 0;
	was = bpf_htons(options[at] << 8 | options[at + 1]);
	is = bpf_htons(most);
	if (bpf_skb_store_bytes(skb, p->l4 + sizeof(struct tcphdr) + at, &is, 2, 0))
		return 0;
	if (at & 1) { /* across two of the words that are summed */
		was = __builtin_bswap16(was);
		is = __builtin_bswap16(is);
	}
	bpf_l4_csum_replace(skb, p->l4 + 16, was, is, 2);
	count->reason.mark_mss++;
	return 0;
}

/*
 * A router has no way on for a packet so long. Remembered, so that nothing is made longer
 * than that. And if it was the option that made it too long, the kernel is told of so much
 * less, or it would send the same again, and again be told.
 */
__checked int mark_too_big(struct __sk_buff *skb, struct pkt *p)
{
	struct path path = { .since = bpf_jiffies64() };
	struct path_key key = {};
	struct {
		struct icmphdr icmp; /* its last four bytes are the MTU */
		struct ipv6hdr ip;
		__u8 header[8];
	} said;
	__be32 mtu, less;
	__u32 grow, how;

	if (!p || bpf_skb_load_bytes(skb, p->l4, &said, sizeof(said)))
		return 0;
	if (said.icmp.type != ICMPV6_TOO_BIG)
		return 0;
	mtu = *(__be32 *)&said.icmp.id;
	path.mtu = bpf_ntohl(mtu);
	if (path.mtu < IPV6_MTU_LEAST)
		path.mtu = IPV6_MTU_LEAST;
	key.node = p->key.node;
	addr_copy(key.address, said.ip.daddr);
	bpf_map_update_elem(&paths, &key, &path, BPF_ANY);
	if ((said.ip.nexthdr != IPPROTO_HOPOPTS && said.ip.nexthdr != IPPROTO_DSTOPTS) ||
	    said.header[2] != MARK_OPTION)
		return 0;
	how = said.ip.nexthdr == IPPROTO_DSTOPTS  ? MARK_DESTINATION
	      : said.header[0] == IPPROTO_DSTOPTS ? MARK_BOTH
						  : MARK_HOP_BY_HOP;
	grow = option_slack(how);
	if (path.mtu < IPV6_MTU_LEAST + grow)
		return 0;
	less = bpf_htonl(path.mtu - grow);
	if (bpf_skb_store_bytes(skb, p->l4 + 4, &less, sizeof(less), 0))
		return 0;
	bpf_l4_csum_replace(skb, p->l4 + 2, mtu, less, 4);
	return 0;
}

#endif
