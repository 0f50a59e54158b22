/* SPDX-License-Identifier: GPL-2.0-only */
/* Makes the track of a packet: addresses, tags, tunnels, everything a query may ask. */
#ifndef TIDEMARK_TRACK_BPF_H
#define TIDEMARK_TRACK_BPF_H

#include "parse.bpf.h"
#include "record.h"

/* Where one is made before it is known whether, and where, it is kept. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct packet);
} drafts SEC(".maps");

static __always_inline struct packet *draft_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&drafts, &zero);
}

/* Its ends as the node sees them, given as from and to. */
static __always_inline void track_ends(struct flow_key *key, int from_local, const __u8 from[16],
				       const __u8 to[16], __u16 from_port, __u16 to_port)
{
	addr_copy(key->local, from_local ? from : to);
	addr_copy(key->remote, from_local ? to : from);
	key->local_port = from_local ? from_port : to_port;
	key->remote_port = from_local ? to_port : from_port;
}

/* RFC 826, for Ethernet and IPv4: the two protocol addresses. */
__checked int track_arp(struct __sk_buff *skb, struct pkt *p)
{
	struct packet *d = draft_get();
	__u8 from[16], to[16];
	__be32 arp[7];

	if (!p || !d || bpf_skb_load_bytes(skb, p->l3, arp, sizeof(arp)))
		return 0;
	if (arp[0] != bpf_htonl(1 << 16 | ETH_P_IP) || bpf_ntohl(arp[1]) >> 16 != 0x0604)
		return 0;
	addr_from_v4(from, (__be32)bpf_htonl(bpf_ntohl(arp[3]) << 16 | bpf_ntohl(arp[4]) >> 16));
	addr_from_v4(to, arp[6]);
	track_ends(&d->track.flow, p->from_local, from, to, 0, 0);
	return 0;
}

/* Ports, or the identifier of an echo, of what begins at l3->at. Are they there? */
static __always_inline int track_ports(struct __sk_buff *skb, const struct l3 *l3, __u16 *from,
				       __u16 *to)
{
	__be16 port[4];

	if (l3->later)
		return 0;
	if (flow_has_ports(l3->proto)) {
		if (l3->left < 4 || bpf_skb_load_bytes(skb, l3->at, port, 4))
			return 0;
		*from = bpf_ntohs(port[0]);
		*to = bpf_ntohs(port[1]);
		return 1;
	} else if (l3->proto == IPPROTO_ICMP || l3->proto == IPPROTO_ICMPV6) {
		if (l3->left < 8 || bpf_skb_load_bytes(skb, l3->at, port, 8))
			return 0;
		switch (bpf_ntohs(port[0]) >> 8) {
		case ICMP_ECHOREPLY:
		case ICMP_ECHO:
			if (l3->proto != IPPROTO_ICMP)
				return 0;
			break;
		case ICMPV6_ECHO_REQUEST:
		case ICMPV6_ECHO_REPLY:
			if (l3->proto != IPPROTO_ICMPV6)
				return 0;
			break;
		default:
			return 0;
		}
		*from = *to = bpf_ntohs(port[2]);
	}
	return 0;
}

/*
 * The IP packet that begins at `at`, whatever it is in: into the draft's inner key, or for
 * one that has no flow (cut short, a fragment without its first) into the outer one.
 */
__checked int track_ip(struct __sk_buff *skb, struct pkt *p, __u32 at, __u32 type, __u32 inner)
{
	struct packet *d = draft_get();
	__u16 from_port = 0, to_port = 0;
	struct ipv6hdr v6;
	struct flow_key *key;
	struct l3 l3 = {};

	if (!p || !d)
		return 0;
	l3.at = at;
	if (type == ETH_P_IP) {
		struct iphdr *ip = (struct iphdr *)&v6;

		if (bpf_skb_load_bytes(skb, at, ip, sizeof(*ip)) || ip->ver_ihl >> 4 != 4)
			return 0;
		addr_from_v4(l3.src, ip->saddr);
		addr_from_v4(l3.dst, ip->daddr);
		l3.proto = ip->protocol;
		l3.later = (ip->frag_off & bpf_htons(IP_OFFSET)) != 0;
		l3.at += (ip->ver_ihl & 0xf) * 4;
		l3.left = bpf_ntohs(ip->tot_len) - (ip->ver_ihl & 0xf) * 4;
	} else if (type == ETH_P_IPV6) {
		if (bpf_skb_load_bytes(skb, at, &v6, sizeof(v6)) || *(__u8 *)&v6 >> 4 != 6)
			return 0;
		addr_copy(l3.src, v6.saddr);
		addr_copy(l3.dst, v6.daddr);
		l3.proto = v6.nexthdr;
		l3.left = bpf_ntohs(v6.payload_len);
		l3.at += sizeof(v6);
		if (inner && parse_is_extension(l3.proto))
			parse_extensions(skb, &l3, p->dir);
	} else {
		return 0;
	}
	if ((!inner || !track_ports(skb, &l3, &from_port, &to_port)) && flow_has_ports(l3.proto))
		d->track.unported |= inner ? TRACK_INNER_UNPORTED : TRACK_UNPORTED;
	key = inner ? &d->track.inner : &d->track.flow;
	key->proto = l3.proto;
	track_ends(key, p->from_local, l3.src, l3.dst, from_port, to_port);
	return 0;
}

/*
 * Where what the tunnel carries begins, and its ethertype; 0: this is no tunnel. Ports as
 * Linux uses them: VXLAN has an old one of its own.
 */
static __always_inline __u32 tunnel_enter(struct __sk_buff *skb, const struct pkt *p, __u32 *at,
					  __u32 *vni)
{
	__u16 port = p->from_local ? p->key.remote_port : p->key.local_port, flags;
	__be32 h[2];

	*at = p->l4;
	switch (p->key.proto) {
	case IPPROTO_IPIP:
		return ETH_P_IP;
	case IPPROTO_IPV6:
		return ETH_P_IPV6;
	case IPPROTO_GRE: /* RFC 2784, 2890 */
		if (bpf_skb_load_bytes(skb, p->l4, h, 4))
			return 0;
		flags = bpf_ntohl(h[0]) >> 16;
		if (flags & GRE_VERSION)
			return 0;
		*at += 4 + (flags & GRE_CSUM ? 4 : 0) + (flags & GRE_KEY ? 4 : 0) +
		       (flags & GRE_SEQ ? 4 : 0);
		return bpf_ntohl(h[0]) & 0xffff;
	case IPPROTO_UDP:
		if (port != PORT_VXLAN && port != PORT_VXLAN_OLD && port != PORT_GENEVE)
			return 0;
		if (bpf_skb_load_bytes(skb, p->l4 + 8, h, sizeof(h)))
			return 0;
		*vni = bpf_ntohl(h[1]) >> 8 | TRACK_NUMBERED;
		*at += 16;
		if (port != PORT_GENEVE) /* RFC 7348 */
			return bpf_ntohl(h[0]) >> 24 & 8 ? ETH_P_TEB : 0;
		*at += (bpf_ntohl(h[0]) >> 24 & 0x3f) * 4; /* RFC 8926 */
		return bpf_ntohl(h[0]) & 0xffff;
	}
	return 0;
}

__checked int track_inner(struct __sk_buff *skb, struct pkt *p)
{
	struct packet *d = draft_get();
	__u32 type, at, vni = 0;
	__be16 word[2];

	if (!p || !d)
		return 0;
	type = tunnel_enter(skb, p, &at, &vni);
	if (!type)
		return 0;
	d->track.vni = vni;
	if (type == ETH_P_TEB) {
		if (bpf_skb_load_bytes(skb, at + 12, word, 2))
			return 0;
		type = bpf_ntohs(word[0]);
		at += 14;
#pragma clang loop unroll(disable)
		for (int i = 0; i < PARSE_VLANS; i++) {
			if (!parse_is_tag(type))
				break;
			if (bpf_skb_load_bytes(skb, at, word, 4))
				return 0;
			type = bpf_ntohs(word[1]);
			at += 4;
		}
	}
	return track_ip(skb, p, at, type, 1);
}

static __always_inline int track_is_tunnel(const struct pkt *p)
{
	switch (p->key.proto) {
	case IPPROTO_UDP:
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
	case IPPROTO_GRE:
		return !p->tail;
	}
	return 0;
}

/*
 * Everything but class and owner. A tag that the card, or the kernel, has taken out of the
 * frame is the outermost.
 */
__checked int track_make(struct __sk_buff *skb, struct pkt *p)
{
	struct packet *d = draft_get();
	struct track *t;

	if (!p || !d)
		return 0;
	t = &d->track;
	__builtin_memset(&t->inner, 0, sizeof(t->inner));
	t->flow = p->key;
	t->ethertype = p->ethertype;
	t->vlan[0] = p->vlan[0];
	t->vlan[1] = p->vlan[1];
	if (skb->vlan_present && !(p->how & ATTACH_L3)) {
		t->vlan[1] = p->vlan[0];
		t->vlan[0] = (skb->vlan_tci & 0xfff) | TRACK_TAGGED;
	}
	t->unported = 0;
	t->mpls = p->mpls;
	t->vni = 0;
	t->device = skb->ifindex;
	if (!p->keyed) {
		__builtin_memset(&t->flow, 0, sizeof(t->flow));
		t->flow.node = p->key.node;
		if (p->ethertype == ETH_P_ARP)
			track_arp(skb, p);
		else
			track_ip(skb, p, p->l3, p->ethertype, 0);
	} else if (track_is_tunnel(p)) {
		track_inner(skb, p);
	}
	return 0;
}

#endif
