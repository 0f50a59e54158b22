/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage parse: from bytes to struct pkt. */
#ifndef TIDEMARK_PARSE_BPF_H
#define TIDEMARK_PARSE_BPF_H

#include "pkt.bpf.h"
#include "track.h"

/* The ports of a fragmented datagram are in its first fragment only. */
struct fragment_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 id;
	__u32 node;
	__u8 proto; /* as in the header that says it is a fragment */
	__u8 _pad[3];
};

struct fragment_ports {
	__u16 src_port;
	__u16 dst_port;
	__u8 proto; /* in IPv6 extensions may come before it, in the first fragment only */
	__u8 _pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct fragment_key);
	__type(value, struct fragment_ports);
} fragments SEC(".maps");

#define PARSE_VLANS 2
#define PARSE_LABELS 8
#define PARSE_EXTENSIONS 8
#define PARSE_FAR 0x3fff /* no transport header lies deeper */
#define PARSE_PULL 512	 /* bytes to make linear, from the deepest header known, when in pages */

/*
 * The cursor every step below advances. A step returns 0, or PARSE_SHORT when the bytes
 * are not (yet) in reach of direct access, or DONE after counting why.
 */
#define PARSE_SHORT 1

struct cursor {
	void *at;
	void *end;
};

/*
 * `at` bytes into the packet. The two are read in assembly because the compiler, told that
 * they are 32 bits wide, may widen what it has read, and then they are packet pointers no more.
 */
static __always_inline struct cursor cursor_at(struct __sk_buff *skb, __u32 at)
{
	struct cursor c;

	asm volatile("%0 = *(u32 *)(%2 + %3)\n"
		     "%1 = *(u32 *)(%2 + %4)\n"
		     : "=&r"(c.at), "=&r"(c.end)
		     : "r"(skb), "i"(offsetof(struct __sk_buff, data)),
		       "i"(offsetof(struct __sk_buff, data_end)));
	c.at += at;
	return c;
}

struct l3 {
	__u8 src[16];
	__u8 dst[16];
	__u32 fragment_id;
	__u32 at;   /* offset of what comes next */
	__u32 left; /* bytes of the datagram from there on */
	__u8 proto;
	__u8 fragment_proto;
	__u8 first; /* first fragment, of several */
	__u8 later; /* later fragment */
};

static __always_inline void addr_from_v4(__u8 to[16], __be32 from)
{
	__u32 *word = (__u32 *)to;

	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = from;
}

static __always_inline void addr_copy(__u8 to[16], const __u8 from[16])
{
	*(struct addr_words *)to = *(const struct addr_words *)from;
}

static __always_inline int parse_is_tag(__u32 type)
{
	return type == ETH_P_8021Q || type == ETH_P_8021AD || type == ETH_P_QINQ1 ||
	       type == ETH_P_QINQ2;
}

/* Over Ethernet and VLAN tags; the ethertype is what skb->protocol says without them. */
static __always_inline int parse_l2(struct cursor *c, struct pkt *p, __be16 *type,
				    struct counters *count)
{
	struct ethhdr *eth = c->at;
	struct vlan_hdr *tag;

	if ((void *)(eth + 1) > c->end)
		return PARSE_SHORT;
	*type = eth->h_proto;
	c->at = eth + 1;
	p->l3 = sizeof(*eth);
#pragma unroll
	for (int i = 0; i < PARSE_VLANS; i++) {
		if (!parse_is_tag(bpf_ntohs(*type)))
			return 0;
		tag = c->at;
		if ((void *)(tag + 1) > c->end)
			return PARSE_SHORT;
		p->vlan[i] = (bpf_ntohs(tag->tci) & 0xfff) | TRACK_TAGGED;
		*type = tag->proto;
		c->at = tag + 1;
		p->l3 += sizeof(*tag);
	}
	if (parse_is_tag(bpf_ntohs(*type))) {
		count->reason.too_many_headers++;
		return DONE;
	}
	return 0;
}

/*
 * RFC 3032: over the labels; the last is marked so, and what follows says itself whether
 * it is IP. By helper, for the reasons parse_extensions() gives.
 */
__checked int parse_labels(struct __sk_buff *skb, struct pkt *p)
{
	struct counters *count;
	__be32 entry;
	__u8 version;

	if (!p)
		return DONE;
	count = counters_of(p->dir);
	if (!count)
		return DONE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PARSE_LABELS; i++) {
		if (bpf_skb_load_bytes(skb, p->l3, &entry, sizeof(entry)))
			goto truncated;
		p->l3 += sizeof(entry);
		if (!i)
			p->mpls = bpf_ntohl(entry) >> 12 | TRACK_LABELLED;
		if (!(entry & bpf_htonl(MPLS_BOTTOM)))
			continue;
		if (bpf_skb_load_bytes(skb, p->l3, &version, 1))
			goto truncated;
		if (version >> 4 == 4)
			p->ethertype = ETH_P_IP;
		else if (version >> 4 == 6)
			p->ethertype = ETH_P_IPV6;
		return 0;
	}
	count->reason.too_many_headers++;
	return DONE;
truncated:
	count->reason.truncated++;
	return DONE;
}

static __always_inline int parse_v4(struct cursor *c, struct l3 *l3, __u32 room,
				    struct counters *count)
{
	struct iphdr *ip = c->at;
	__u32 header, total, fragment;

	if ((void *)(ip + 1) > c->end)
		return PARSE_SHORT;
	header = (ip->ver_ihl & 0xf) * 4;
	total = bpf_ntohs(ip->tot_len);
	if (ip->ver_ihl >> 4 != 4 || header < sizeof(*ip))
		goto bad;
	if (!total) /* a GSO packet above 64 KiB (BIG TCP): the buffer knows */
		total = room;
	if (total < header)
		goto bad;
	if (total > room) {
		count->reason.truncated++;
		return DONE;
	}
	addr_from_v4(l3->src, ip->saddr);
	addr_from_v4(l3->dst, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	l3->later = (fragment & IP_OFFSET) != 0;
	l3->first = (fragment & IP_MF) && !l3->later;
	l3->fragment_id = bpf_ntohs(ip->id);
	l3->proto = ip->protocol;
	l3->fragment_proto = ip->protocol;
	l3->left = total - header;
	l3->at += header;
	return 0;
bad:
	count->reason.bad_header++;
	return DONE;
}

/* One bit each, and not one comparison each, which the verifier would follow both ways. */
static __always_inline int parse_is_extension(__u8 proto)
{
	const __u64 are = 1ULL << IPPROTO_HOPOPTS | 1ULL << IPPROTO_ROUTING |
			  1ULL << IPPROTO_DSTOPTS | 1ULL << IPPROTO_AH | 1ULL << IPPROTO_FRAGMENT;

	return proto == IPPROTO_MH || (proto < 64 && are >> proto & 1);
}

/*
 * RFC 8200, section 4: along the chain of extension headers to the transport header.
 * Few packets have any, so this reads by helper (18 ns a header, wherever the bytes lie)
 * and is a function of its own: inlined with packet pointers, six headers cost the
 * verifier a million instructions.
 */
__checked int parse_extensions(struct __sk_buff *skb, struct l3 *l3, __u32 dir)
{
	struct counters *count = counters_of(dir);
	struct frag_hdr h; /* the others are this with other names */
	__u32 length;

	if (!l3 || !count)
		return DONE;
#pragma clang loop unroll(disable)
	for (int i = 0; i < PARSE_EXTENSIONS; i++) {
		if (!parse_is_extension(l3->proto))
			return 0;
		if (l3->left < sizeof(h) || bpf_skb_load_bytes(skb, l3->at, &h, sizeof(h)))
			goto truncated;
		length = (h.reserved + 1) * 8;
		if (l3->proto == IPPROTO_AH) /* RFC 4302: in words, less two */
			length = (h.reserved + 2) * 4;
		if (l3->proto == IPPROTO_FRAGMENT) {
			length = sizeof(h);
			l3->later = (h.frag_off & bpf_htons(IP6_OFFSET)) != 0;
			l3->first = (h.frag_off & bpf_htons(IP6_MF)) && !l3->later;
			l3->fragment_id = bpf_ntohl(h.identification);
			l3->fragment_proto = h.nexthdr;
		}
		if (length > l3->left)
			goto truncated;
		l3->left -= length;
		l3->at += length;
		l3->proto = h.nexthdr;
		if (l3->later) /* what follows is the middle of something */
			return 0;
	}
	if (!parse_is_extension(l3->proto))
		return 0;
	count->reason.too_many_headers++;
	return DONE;
truncated:
	count->reason.truncated++;
	return DONE;
}

static __always_inline int parse_v6(struct cursor *c, struct l3 *l3, __u32 room,
				    struct counters *count)
{
	struct ipv6hdr *ip = c->at;
	__u32 payload;

	if ((void *)(ip + 1) > c->end)
		return PARSE_SHORT;
	if (*(__u8 *)ip >> 4 != 6) {
		count->reason.bad_header++;
		return DONE;
	}
	payload = bpf_ntohs(ip->payload_len);
	if (!payload) /* a jumbogram, which GSO makes of BIG TCP */
		payload = room < sizeof(*ip) ? 0 : room - sizeof(*ip);
	if (payload + sizeof(*ip) > room) {
		count->reason.truncated++;
		return DONE;
	}
	addr_copy(l3->src, ip->saddr);
	addr_copy(l3->dst, ip->daddr);
	l3->later = 0;
	l3->first = 0;
	l3->fragment_id = 0;
	l3->proto = ip->nexthdr;
	l3->left = payload;
	l3->at += sizeof(*ip);
	return 0;
}

/* Ports as (source, destination), and how long the transport header is. */
static __always_inline int parse_l4(struct cursor *c, const struct l3 *l3, struct pkt *p,
				    struct counters *count, __u16 *src_port, __u16 *dst_port)
{
	struct icmphdr *icmp;
	struct udphdr *udp;
	struct tcphdr *tcp;
	__u32 header;

	switch (l3->proto) {
	case IPPROTO_TCP:
		tcp = c->at;
		if (l3->left < sizeof(*tcp))
			goto truncated;
		if ((void *)(tcp + 1) > c->end)
			return PARSE_SHORT;
		header = (tcp->doff >> 4) * 4;
		if (header < sizeof(*tcp)) {
			count->reason.bad_header++;
			return DONE;
		}
		if (header > l3->left)
			goto truncated;
		*src_port = bpf_ntohs(tcp->source);
		*dst_port = bpf_ntohs(tcp->dest);
		p->seq = bpf_ntohl(tcp->seq);
		p->tcp_flags = tcp->flags;
		p->payload = l3->left - header;
		p->ack = bpf_ntohl(tcp->ack_seq);
		p->options = header - sizeof(*tcp);
		if (p->options == 12 && (void *)(tcp + 1) + 4 <= c->end &&
		    *(__u32 *)(tcp + 1) == bpf_htonl(TCP_OPTIONS_USUAL))
			p->options = 0;
		return 0;
	case IPPROTO_UDP:
		udp = c->at;
		if (l3->left < sizeof(*udp))
			goto truncated;
		if ((void *)(udp + 1) > c->end)
			return PARSE_SHORT;
		*src_port = bpf_ntohs(udp->source);
		*dst_port = bpf_ntohs(udp->dest);
		/* Of a fragmented or GSO datagram, what is here; the whole says len. */
		p->payload = l3->left - sizeof(*udp);
		if (l3->first && bpf_ntohs(udp->len) > sizeof(*udp))
			p->payload = bpf_ntohs(udp->len) - sizeof(*udp);
		/* What is behind the datagram is no payload: options (RFC 9868). */
		if (!l3->first && bpf_ntohs(udp->len) >= sizeof(*udp) &&
		    bpf_ntohs(udp->len) < l3->left) {
			p->surplus = l3->left - bpf_ntohs(udp->len);
			p->payload -= p->surplus;
		}
		return 0;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		icmp = c->at;
		if (l3->left < sizeof(*icmp))
			goto truncated;
		if ((void *)(icmp + 1) > c->end)
			return PARSE_SHORT;
		p->payload = l3->left - sizeof(*icmp);
		if (l3->proto == IPPROTO_ICMP
			    ? icmp->type == ICMP_ECHO || icmp->type == ICMP_ECHOREPLY
			    : icmp->type == ICMPV6_ECHO_REQUEST || icmp->type == ICMPV6_ECHO_REPLY)
			*src_port = *dst_port = bpf_ntohs(icmp->id);
		return 0;
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
	case IPPROTO_UDPLITE:
		udp = c->at; /* of which only the ports are alike */
		if (l3->left < sizeof(*udp))
			goto truncated;
		if ((void *)(udp + 1) > c->end)
			return PARSE_SHORT;
		*src_port = bpf_ntohs(udp->source);
		*dst_port = bpf_ntohs(udp->dest);
		p->payload = l3->left;
		return 0;
	default:
		p->payload = l3->left;
		return 0;
	}
truncated:
	count->reason.truncated++;
	return DONE;
}

/* Remember the first fragment's ports, or recall them for a later one. */
static __always_inline int parse_fragment(struct l3 *l3, struct pkt *p, struct counters *count,
					  __u16 *src_port, __u16 *dst_port)
{
	struct fragment_ports ports = { .src_port = *src_port,
					.dst_port = *dst_port,
					.proto = l3->proto };
	struct fragment_ports *known;
	struct fragment_key key = { .id = l3->fragment_id,
				    .node = p->key.node,
				    .proto = l3->fragment_proto };

	addr_copy(key.src, l3->src);
	addr_copy(key.dst, l3->dst);
	if (l3->first) {
		bpf_map_update_elem(&fragments, &key, &ports, BPF_ANY);
		return 0;
	}
	p->payload = l3->left;
	p->tail = 1;
	known = bpf_map_lookup_elem(&fragments, &key);
	if (!known) {
		count->reason.fragment_unknown++;
		return DONE;
	}
	count->reason.fragment++;
	*src_port = known->src_port;
	*dst_port = known->dst_port;
	l3->proto = known->proto;
	return 0;
}

static __always_inline int parse_packet(struct __sk_buff *skb, struct pkt *p,
					struct counters *count)
{
	struct cursor c = cursor_at(skb, 0);
	__u16 src_port = 0, dst_port = 0;
	__be16 type = skb->protocol;
	struct l3 l3 = {};
	int err;

	if (!(p->how & ATTACH_L3)) {
		err = parse_l2(&c, p, &type, count);
		if (err)
			return err;
	}
	p->ethertype = bpf_ntohs(type);
	if (p->ethertype == ETH_P_MPLS_UC || p->ethertype == ETH_P_MPLS_MC) {
		err = parse_labels(skb, p);
		if (err)
			return err;
	}
	/*
	 * Read back, as something that the verifier knows no value of: so it follows what comes
	 * once, and not again for every number of tags. Labels are few, hence the mask.
	 */
	l3.at = READ_ONCE(p->l3) & 0xff;
	type = bpf_htons(READ_ONCE(p->ethertype));
	c = cursor_at(skb, l3.at);
	if (type == bpf_htons(ETH_P_IP)) {
		err = parse_v4(&c, &l3, p->len - l3.at, count);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		p->v6 = 1;
		err = parse_v6(&c, &l3, p->len - l3.at, count);
		if (!err && parse_is_extension(l3.proto))
			err = parse_extensions(skb, &l3, p->dir);
	} else {
		if (type == bpf_htons(ETH_P_ARP))
			count->reason.arp++;
		else
			count->reason.other_ethertype++;
		return DONE;
	}
	if (err)
		return err;
	if (l3.at > PARSE_FAR) { /* the verifier wants to know that it is not */
		count->reason.too_many_headers++;
		return DONE;
	}
	p->l4 = l3.at;
	p->head = l3.first;
	c = cursor_at(skb, l3.at);
	if (!l3.later) {
		err = parse_l4(&c, &l3, p, count, &src_port, &dst_port);
		if (err)
			return err;
	}
	if (l3.first || l3.later) {
		p->fragment = 1;
		err = parse_fragment(&l3, p, count, &src_port, &dst_port);
		if (err)
			return err;
	}
	p->key.proto = l3.proto;
	p->segments = skb->gso_segs > 1 ? skb->gso_segs : 1;
	p->wire = p->len;
	if (p->segments > 1) /* each carries the headers */
		p->wire += (p->segments - 1) * (p->len - p->payload);

	/* Whose end is whose: the node's is local. A mirror port has none: the lower. */
	if (p->how & ATTACH_PROMISC && skb->pkt_type == PACKET_OTHERHOST && p->dir == DIR_IN) {
		__u64 a = bpf_be64_to_cpu(*(__u64 *)l3.src), b = bpf_be64_to_cpu(*(__u64 *)l3.dst);

		if (a == b) {
			a = bpf_be64_to_cpu(*(__u64 *)(l3.src + 8));
			b = bpf_be64_to_cpu(*(__u64 *)(l3.dst + 8));
		}
		p->from_local = a < b || (a == b && src_port < dst_port);
	}
	if (p->from_local) {
		addr_copy(p->key.local, l3.src);
		addr_copy(p->key.remote, l3.dst);
		p->key.local_port = src_port;
		p->key.remote_port = dst_port;
	} else {
		addr_copy(p->key.local, l3.dst);
		addr_copy(p->key.remote, l3.src);
		p->key.local_port = dst_port;
		p->key.remote_port = src_port;
	}
	p->keyed = 1;
	return NEXT;
}

/* Once over the packet as it lies. */
__checked int parse(struct __sk_buff *skb, struct pkt *p)
{
	struct counters *count;

	if (!p)
		return DONE;
	count = counters_of(p->dir);
	return count ? parse_packet(skb, p, count) : DONE;
}

/*
 * When the headers do not lie in the linear part, they are pulled there. That moves bytes
 * inside the kernel's buffer and changes none.
 */
__checked int parse_pull(struct __sk_buff *skb, struct pkt *p)
{
	__u32 want;

	if (!p)
		return -1;
	want = p->l4 + PARSE_PULL;
	if (want > skb->len)
		want = skb->len;
	return bpf_skb_pull_data(skb, want);
}

/*
 * Headers into struct pkt. Whatever cannot be read is counted with its reason and left to
 * the kernel: a later stage never sees half a packet. Tried again from out here: a loop
 * around the parser would have the verifier follow it three times.
 */
static __always_inline int stage_parse(struct pass *at, struct pkt *p)
{
	int err = parse(at->skb, p);

	if (err != PARSE_SHORT)
		return err;
#pragma clang loop unroll(disable)
	for (int i = 0; i < 2; i++) { /* network header, transport header, both in reach */
		if (parse_pull(at->skb, p))
			break;
		err = parse(at->skb, p);
		if (err != PARSE_SHORT)
			return err;
	}
	at->count->reason.truncated++;
	return DONE;
}

#endif
