// SPDX-License-Identifier: GPL-2.0-only
/* Frames read as the kernel's stages read them; every byte is asked for before it is looked at. */
#include <string.h>

#include "capture.h"
#include "dissect.h"
#include "linktype.h"

#define TYPE_IP 0x0800
#define TYPE_ARP 0x0806
#define TYPE_IP6 0x86dd
#define TYPE_VLAN 0x8100
#define TYPE_QINQ 0x88a8
#define TYPE_QINQ1 0x9100
#define TYPE_QINQ2 0x9200
#define TYPE_MPLS 0x8847
#define TYPE_MPLS_MANY 0x8848
#define TYPE_BRIDGED 0x6558 /* Ethernet, in GRE and GENEVE */

#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472
#define PORT_GENEVE 6081

#define LABELS_MOST 8
#define EXTENSIONS_MOST 8

struct cursor {
	const unsigned char *at, *end;
	__u32 beyond; /* bytes of the frame that were not kept */
};

/* What an IP header and those behind it say. */
struct layer {
	__u8 src[16], dst[16];
	__u16 src_port, dst_port;
	__u8 proto, header_proto;
	__u32 id, left; /* bytes of the datagram behind the cursor */
	int first, later, unported;
	struct dissected more;
};

static const unsigned char *take(struct cursor *c, __u32 n)
{
	const unsigned char *at = c->at;

	if ((__u32)(c->end - c->at) < n)
		return NULL;
	c->at += n;
	return at;
}

static __u32 be16(const unsigned char *at)
{
	return (__u32)at[0] << 8 | at[1];
}

static __u32 be32(const unsigned char *at)
{
	return be16(at) << 16 | be16(at + 2);
}

static void address_v4(__u8 to[16], const unsigned char *from)
{
	memset(to, 0, 10);
	to[10] = to[11] = 0xff;
	memcpy(to + 12, from, 4);
}

static int is_tag(__u32 type)
{
	return type == TYPE_VLAN || type == TYPE_QINQ || type == TYPE_QINQ1 || type == TYPE_QINQ2;
}

/* At most two tags; the type that follows, 0 when none is there. */
static __u32 tags_follow(struct cursor *c, __u32 type, __u16 *vlan)
{
	const unsigned char *at;

	for (int i = 0; i < TRACK_VLANS && is_tag(type); i++) {
		at = take(c, 4);
		if (!at)
			return 0;
		if (vlan)
			vlan[i] = (__u16)((be16(at) & 0xfff) | TRACK_TAGGED);
		type = be16(at + 2);
	}
	return is_tag(type) ? 0 : type; /* more of them are not looked behind */
}

static __u32 tags_read(struct cursor *c, __u16 *vlan)
{
	const unsigned char *at = take(c, 14);

	return at ? tags_follow(c, be16(at + 12), vlan) : 0;
}

static __u32 link_read(struct cursor *c, __u16 linktype, __u16 *vlan)
{
	__u32 skip, kept = (__u32)(c->end - c->at);
	__u16 type;

	if (link_header(linktype, c->at, kept, &skip, &type) || !take(c, skip))
		return 0;
	return tags_follow(c, type, vlan);
}

/* The stack to its bottom; what comes then only says so in its first four bits. */
static __u32 labels_read(struct cursor *c, __u32 type, __u32 *mpls)
{
	const unsigned char *at;

	for (int i = 0; i < LABELS_MOST; i++) {
		at = take(c, 4);
		if (!at)
			return type;
		if (!i)
			*mpls = be32(at) >> 12 | TRACK_LABELLED;
		if (!(at[2] & 1))
			continue;
		if (c->at == c->end)
			return type;
		return *c->at >> 4 == 4 ? TYPE_IP : *c->at >> 4 == 6 ? TYPE_IP6 : type;
	}
	return type;
}

static int v4_read(struct cursor *c, struct layer *l)
{
	__u32 room = (__u32)(c->end - c->at) + c->beyond, header, total, fragment;
	const unsigned char *at = take(c, 20);

	if (!at)
		return -1;
	header = (at[0] & 0xfU) * 4;
	total = be16(at + 2);
	if (!total) /* GSO beyond 64 KiB */
		total = room;
	if (at[0] >> 4 != 4 || header < 20 || total < header || total > room)
		return -1;
	if (!take(c, header - 20))
		return -1;
	address_v4(l->src, at + 12);
	address_v4(l->dst, at + 16);
	fragment = be16(at + 6);
	l->later = (fragment & 0x1fff) != 0;
	l->first = fragment & 0x2000 && !l->later;
	l->id = be16(at + 4);
	l->proto = l->header_proto = at[9];
	l->left = total - header;
	return 0;
}

static int is_extension(__u8 proto)
{
	return proto == 0 || proto == 43 || proto == 44 || proto == 51 || proto == 60 ||
	       proto == 135;
}

static int extensions_read(struct cursor *c, struct layer *l)
{
	for (int i = 0; i < EXTENSIONS_MOST && is_extension(l->proto); i++) {
		const unsigned char *at = take(c, 8);
		__u32 length;

		if (!at || l->left < 8)
			return -1;
		length = (at[1] + 1U) * 8;
		if (l->proto == 51)
			length = (at[1] + 2U) * 4;
		if (l->proto == 44) {
			length = 8;
			l->later = (be16(at + 2) & 0xfff8) != 0;
			l->first = be16(at + 2) & 1 && !l->later;
			l->id = be32(at + 4);
			l->header_proto = at[0];
		}
		if (length < 8 || length > l->left || !take(c, length - 8))
			return -1;
		l->left -= length;
		l->proto = at[0];
		if (l->later)
			return 0;
	}
	return is_extension(l->proto) ? -1 : 0;
}

static int v6_read(struct cursor *c, struct layer *l)
{
	__u32 room = (__u32)(c->end - c->at) + c->beyond, payload;
	const unsigned char *at = take(c, 40);

	if (!at || at[0] >> 4 != 6)
		return -1;
	payload = be16(at + 4);
	if (!payload)
		payload = room - 40;
	if (payload > room - 40)
		return -1;
	memcpy(l->src, at + 8, 16);
	memcpy(l->dst, at + 24, 16);
	l->proto = l->header_proto = at[6];
	l->left = payload;
	return extensions_read(c, l);
}

static int transport_read(struct cursor *c, struct layer *l)
{
	const unsigned char *at = c->at;
	__u32 room = (__u32)(c->end - c->at), header = 8;

	switch (l->proto) {
	case 6:
		if (l->left < 20 || room < 20)
			return -1;
		header = (at[12] >> 4) * 4U;
		if (header < 20 || header > l->left)
			return -1;
		l->more.seq = be32(at + 4);
		l->more.tcp_flags = at[13];
		l->src_port = (__u16)be16(at);
		l->dst_port = (__u16)be16(at + 2);
		break;
	case 17:
		if (l->left < 8 || room < 8)
			return -1;
		l->src_port = (__u16)be16(at);
		l->dst_port = (__u16)be16(at + 2);
		break;
	case 1:
	case 58:
		if (l->left < 8 || room < 8)
			return -1;
		if (l->proto == 1 ? at[0] == 8 || at[0] == 0 : at[0] == 128 || at[0] == 129)
			l->src_port = l->dst_port = (__u16)be16(at + 4);
		break;
	case 33:
	case 132:
	case 136:
		if (l->left < 8 || room < 8)
			return -1;
		l->src_port = (__u16)be16(at);
		l->dst_port = (__u16)be16(at + 2);
		header = 0;
		break;
	default:
		header = 0;
	}
	l->more.payload = l->left - header;
	if (header > room)
		header = room;
	l->more.header = header;
	c->at += header;
	return 0;
}

static int fragment_is(const struct dissect_fragment *f, const struct dissect_fragment *key)
{
	return f->used && f->id == key->id && f->node == key->node &&
	       f->header_proto == key->header_proto && !memcmp(f->src, key->src, 32);
}

/* Its place, or that of who has to make room for it. */
static struct dissect_fragment *fragment_find(struct dissector *d,
					      const struct dissect_fragment *key)
{
	__u32 hash = key->id * 2654435761U ^ key->node ^ (__u32)key->header_proto << 24;
	struct dissect_fragment *f, *free = NULL;

	for (int i = 12; i < 16; i++)
		hash = (hash ^ key->src[i] ^ (__u32)key->dst[i] << 8) * 16777619U;
	for (__u32 i = 0; i < 8; i++) {
		f = &d->fragments[(hash + i) % DISSECT_FRAGMENTS];
		if (fragment_is(f, key))
			return f;
		if (!free && !f->used)
			free = f;
	}
	return free ? free : &d->fragments[hash % DISSECT_FRAGMENTS];
}

/* Remember the first fragment's ports, or recall them for a later one: -1, nobody knows them. */
static int fragment_note(struct dissector *d, struct layer *l, __u32 node)
{
	struct dissect_fragment key = {
		.id = l->id, .node = node, .header_proto = l->header_proto, .used = 1
	};
	struct dissect_fragment *f;

	memcpy(key.src, l->src, 16);
	memcpy(key.dst, l->dst, 16);
	f = fragment_find(d, &key);
	if (l->first) {
		*f = key;
		f->src_port = l->src_port;
		f->dst_port = l->dst_port;
		f->proto = l->proto;
		return 0;
	}
	if (!fragment_is(f, &key))
		return -1;
	l->src_port = f->src_port;
	l->dst_port = f->dst_port;
	l->proto = f->proto;
	return 0;
}

/* An IP header and what is behind it. With a dissector, fragments are known again. */
static int layer_read(struct cursor *c, __u32 type, struct layer *l, struct dissector *d,
		      __u32 node)
{
	int err = type == TYPE_IP ? v4_read(c, l) : type == TYPE_IP6 ? v6_read(c, l) : -1;

	if (err)
		return err;
	l->more.ip_id = l->id;
	l->more.is_fragment = l->later != 0;
	if (!l->later)
		err = transport_read(c, l);
	else
		l->more.payload = l->left;
	if (!err && d && (l->first || l->later))
		err = fragment_note(d, l, node);
	return err;
}

static void flow_fill(struct flow_key *flow, const struct layer *l, int forward)
{
	memcpy(forward ? flow->local : flow->remote, l->src, 16);
	memcpy(forward ? flow->remote : flow->local, l->dst, 16);
	flow->local_port = forward ? l->src_port : l->dst_port;
	flow->remote_port = forward ? l->dst_port : l->src_port;
	flow->proto = l->proto;
}

/* Ports, or the identifier of an echo, whatever the lengths say. Are they there? */
static int ports_peek(struct cursor *c, struct layer *l)
{
	const unsigned char *at;

	if (l->later)
		return 0;
	if (flow_has_ports(l->proto)) {
		at = l->left < 4 ? NULL : take(c, 4);
		if (!at)
			return 0;
		l->src_port = (__u16)be16(at);
		l->dst_port = (__u16)be16(at + 2);
		return 1;
	} else if (l->proto == 1 || l->proto == 58) {
		at = l->left < 8 ? NULL : take(c, 8);
		if (at && (l->proto == 1 ? at[0] == 8 || at[0] == 0 : at[0] == 128 || at[0] == 129))
			l->src_port = l->dst_port = (__u16)be16(at + 4);
	}
	return 0;
}

/*
 * What can be said of an IP packet that has no flow, for it is cut short or lies, and of one
 * in a tunnel: addresses and protocol at least, as the kernel notes them.
 */
static int layer_peek(struct cursor *c, __u32 type, struct layer *l, int inner)
{
	const unsigned char *at = take(c, type == TYPE_IP ? 20 : 40);
	__u32 header;

	if (!at || at[0] >> 4 != (type == TYPE_IP ? 4 : 6))
		return -1;
	if (type == TYPE_IP) {
		header = (at[0] & 0xfU) * 4;
		address_v4(l->src, at + 12);
		address_v4(l->dst, at + 16);
		l->proto = at[9];
		l->later = (be16(at + 6) & 0x1fff) != 0;
		l->left = be16(at + 2) - header;
		c->at = at + header < c->end ? at + header : c->end;
	} else {
		memcpy(l->src, at + 8, 16);
		memcpy(l->dst, at + 24, 16);
		l->proto = at[6];
		l->left = be16(at + 4);
		if (inner)
			extensions_read(c, l);
	}
	l->unported = (!inner || !ports_peek(c, l)) && flow_has_ports(l->proto);
	return 0;
}

/* RFC 2784, 2890: flags say which optional words there are. 0: nothing we follow. */
static __u32 gre_read(struct cursor *c)
{
	const unsigned char *at = take(c, 4);
	__u32 words;

	if (!at || at[1] & 7) /* version 0 only */
		return 0;
	words = !!(at[0] & 0x80) + !!(at[0] & 0x20) + !!(at[0] & 0x10);
	if (!take(c, words * 4))
		return 0;
	return be16(at + 2);
}

/* RFC 7348, RFC 8926: the type of what is inside, and the network's number. */
static __u32 udp_tunnel(struct cursor *c, __u16 port, __u32 *vni)
{
	const unsigned char *at;
	__u32 type = TYPE_BRIDGED;

	if (port != PORT_VXLAN && port != PORT_VXLAN_LINUX && port != PORT_GENEVE)
		return 0;
	at = take(c, 8);
	if (!at)
		return 0;
	if (port == PORT_GENEVE) {
		if (at[0] >> 6 || !take(c, (at[0] & 0x3fU) * 4))
			return 0;
		type = be16(at + 2);
	} else if (!(at[0] & 8)) {
		return 0;
	}
	*vni = be32(at + 4) >> 8 | TRACK_NUMBERED;
	return type;
}

static void inner_read(struct cursor *c, const struct layer *outer, struct track *track,
		       int forward)
{
	struct layer inner = {};
	__u32 type = 0;

	if (outer->later)
		return;
	if (outer->proto == 4)
		type = TYPE_IP;
	else if (outer->proto == 41)
		type = TYPE_IP6;
	else if (outer->proto == 47)
		type = gre_read(c);
	else if (outer->proto == 17)
		type = udp_tunnel(c, outer->dst_port, &track->vni);
	if (type == TYPE_BRIDGED)
		type = tags_read(c, NULL);
	if ((type != TYPE_IP && type != TYPE_IP6) || layer_peek(c, type, &inner, 1))
		return;
	flow_fill(&track->inner, &inner, forward);
	track->unported |= inner.unported ? TRACK_INNER_UNPORTED : 0;
}

static void arp_read(struct cursor *c, struct track *track, int forward)
{
	const unsigned char *at = take(c, 28);

	if (!at || be16(at + 2) != TYPE_IP || at[4] != 6 || at[5] != 4)
		return;
	address_v4(forward ? track->flow.local : track->flow.remote, at + 14);
	address_v4(forward ? track->flow.remote : track->flow.local, at + 24);
}

void dissect(struct dissector *d, const unsigned char *frame, __u32 kept, __u32 wire, __u32 flags,
	     struct track *track, struct dissected *more)
{
	struct cursor c = { frame, frame + kept, wire > kept ? wire - kept : 0 }, bare;
	int forward = (flags & PACKET_FORWARD) != 0;
	struct layer outer = {};
	__u32 type;

	memset(more, 0, sizeof(*more));
	if (flags & PACKET_L3)
		type = !kept ? 0 : frame[0] >> 4 == 4 ? TYPE_IP : frame[0] >> 4 == 6 ? TYPE_IP6 : 0;
	else if (flags >> PACKET_LINK_SHIFT)
		type = link_read(&c, (__u16)((flags >> PACKET_LINK_SHIFT) - 1), track->vlan);
	else
		type = tags_read(&c, track->vlan);
	if (type == TYPE_MPLS || type == TYPE_MPLS_MANY)
		type = labels_read(&c, type, &track->mpls);
	track->ethertype = (__u16)type;
	if (type == TYPE_ARP)
		arp_read(&c, track, forward);
	if (type != TYPE_IP && type != TYPE_IP6)
		return;
	bare = c;
	if (layer_read(&c, type, &outer, d, track->flow.node)) {
		if (outer.later) {
			*more = outer.more;
			more->payload_at = (__u32)(c.at - frame);
		}
		outer = (struct layer){};
		if (layer_peek(&bare, type, &outer, 0))
			return;
		flow_fill(&track->flow, &outer, forward);
		track->unported |= outer.unported ? TRACK_UNPORTED : 0;
		return;
	}
	flow_fill(&track->flow, &outer, forward);
	*more = outer.more;
	more->payload_at = (__u32)(c.at - frame);
	inner_read(&c, &outer, track, forward);
}

__u32 dissect_flags(__u16 linktype)
{
	if (linktype == LINKTYPE_ETHERNET)
		return 0;
	if (linktype == LINKTYPE_RAW)
		return PACKET_L3;
	return PACKET_LINK(linktype);
}
