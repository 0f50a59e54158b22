// SPDX-License-Identifier: GPL-2.0-only
/* Packets built layer by layer. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/flow.h"
#include "pkt.h"

void put16(__u8 *at, __u16 value)
{
	at[0] = value >> 8;
	at[1] = value;
}

void put32(__u8 *at, __u32 value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static __u8 *append(struct frame *f, unsigned bytes)
{
	__u8 *at = f->bytes + f->n;

	if (f->n + bytes > FRAME_MAX) {
		fprintf(stderr, "frame: longer than %d bytes\n", FRAME_MAX);
		abort();
	}
	f->n += bytes;
	return memset(at, 0, bytes);
}

static void name_type(struct frame *f, __u16 type)
{
	if (f->type_at)
		put16(f->bytes + f->type_at, type);
	f->type_at = 0;
}

static void name_next(struct frame *f, __u8 proto)
{
	if (f->next_at)
		f->bytes[f->next_at] = proto;
	f->next_at = 0;
}

void frame_begin(struct frame *f, unsigned src, unsigned dst)
{
	memset(f, 0, offsetof(struct frame, bytes));
	f->src = src;
	f->dst = dst;
}

/* The destination is loopback's own address, so that the kernel takes it for its own. */
void frame_ethernet(struct frame *f)
{
	__u8 *eth = append(f, ETH_HLEN);

	eth[11] = 1;
	f->type_at = 12;
}

void frame_vlan(struct frame *f, __u16 tpid)
{
	name_type(f, tpid);
	put16(append(f, 4), 42);
	f->type_at = f->n - 2;
}

void frame_other(struct frame *f, __u16 ethertype, unsigned bytes)
{
	name_type(f, ethertype);
	append(f, bytes);
}

static void v4_address(__u8 *at, unsigned host)
{
	put32(at, 8 << 24 | host);
}

static void v6_address(__u8 *at, unsigned host)
{
	static const __u8 prefix[16] = { 0xfd, 0, 0, 0, 0x86, 0xdd };

	memcpy(at, prefix, 16);
	put32(at + 12, host);
}

void frame_v4(struct frame *f, unsigned options)
{
	__u8 *ip;

	name_type(f, ETH_P_IP);
	f->l3 = f->n;
	ip = append(f, 20 + options);
	ip[0] = 0x45 + options / 4;
	ip[8] = 64;
	memset(ip + 20, 1, options); /* no operation */
	v4_address(ip + 12, f->src);
	v4_address(ip + 16, f->dst);
	f->next_at = f->l3 + 9;
}

/* The traffic class makes its first byte odd: without Ethernet that looks like multicast. */
void frame_v6(struct frame *f)
{
	__u8 *ip;

	name_type(f, ETH_P_IPV6);
	f->l3 = f->n;
	f->v6 = true;
	ip = append(f, 40);
	ip[0] = 0x61;
	ip[7] = 64;
	v6_address(ip + 8, f->src);
	v6_address(ip + 24, f->dst);
	f->next_at = f->l3 + 6;
}

void frame_ip(struct frame *f, bool v6, unsigned src, unsigned dst)
{
	frame_begin(f, src, dst);
	frame_ethernet(f);
	if (v6)
		frame_v6(f);
	else
		frame_v4(f, 0);
}

/* `offset` in bytes, a multiple of 8. */
void frame_fragment(struct frame *f, unsigned offset, bool more, __u32 id)
{
	__u8 *h;

	if (!f->v6) {
		put16(f->bytes + f->l3 + 4, id);
		put16(f->bytes + f->l3 + 6, offset / 8 | (more ? 0x2000 : 0));
		return;
	}
	name_next(f, IPPROTO_FRAGMENT);
	f->next_at = f->n;
	h = append(f, 8);
	put16(h + 2, offset | more);
	put32(h + 4, id);
}

/* Also AH, whose length is in words. */
void frame_extension(struct frame *f, __u8 proto, unsigned bytes)
{
	unsigned at = f->n;

	name_next(f, proto);
	append(f, bytes);
	f->bytes[at + 1] = proto == IPPROTO_AH ? bytes / 4 - 2 : bytes / 8 - 1;
	f->next_at = at;
}

void frame_tcp(struct frame *f, __u16 src, __u16 dst, __u32 seq, __u8 flags, unsigned options)
{
	__u8 *tcp;

	name_next(f, IPPROTO_TCP);
	f->l4 = f->n;
	tcp = append(f, 20 + options);
	f->l4_end = f->n;
	put16(tcp, src);
	put16(tcp + 2, dst);
	put32(tcp + 4, seq);
	tcp[12] = (5 + options / 4) << 4;
	tcp[13] = flags;
	memset(tcp + 20, 1, options);
}

void frame_udp(struct frame *f, __u16 src, __u16 dst)
{
	__u8 *udp;

	name_next(f, IPPROTO_UDP);
	f->l4 = f->udp = f->n;
	udp = append(f, 8);
	f->l4_end = f->n;
	put16(udp, src);
	put16(udp + 2, dst);
}

void frame_icmp(struct frame *f, __u8 type, __u16 id)
{
	__u8 *icmp;

	name_next(f, f->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	f->l4 = f->n;
	icmp = append(f, 8);
	f->l4_end = f->n;
	icmp[0] = type;
	put16(icmp + 4, id);
}

void frame_l4(struct frame *f, __u8 proto, unsigned bytes)
{
	name_next(f, proto);
	f->l4 = f->l4_end = f->n;
	if (flow_has_ports(proto)) /* of what begins with them, as long as a header is */
		f->l4_end += 8;
	memset(append(f, bytes), 0xa5, bytes);
}

void frame_payload(struct frame *f, unsigned bytes)
{
	memset(append(f, bytes), 'x', bytes);
}

void frame_end(struct frame *f)
{
	if (f->udp)
		put16(f->bytes + f->udp + 4, f->n - f->udp);
	if (f->v6)
		put16(f->bytes + f->l3 + 4, f->n - f->l3 - 40);
	else if (f->n > f->l3 && f->bytes[f->l3] >> 4 == 4)
		put16(f->bytes + f->l3 + 2, f->n - f->l3);
}

static void sample_tcp(struct frame *f, unsigned options)
{
	frame_tcp(f, 7, 9, 1000, ACK | PSH, options);
	frame_payload(f, 20);
}

static void sample_udp(struct frame *f)
{
	frame_udp(f, 7, 9);
	frame_payload(f, 20);
}

static const char *sample_v4(struct frame *f, unsigned i)
{
	if (i != 3)
		frame_vlan(f, i == 4 ? ETH_P_8021AD : ETH_P_8021Q);
	if (i == 4)
		frame_vlan(f, ETH_P_8021Q);
	frame_v4(f, i == 0 ? 40 : 0);
	switch (i) {
	case 0:
		sample_tcp(f, 40);
		return "TCP, both headers with all options they can have";
	case 1:
		sample_udp(f);
		return "UDP over IPv4";
	case 2:
		frame_icmp(f, 8, 99);
		frame_payload(f, 20);
		return "ICMP echo";
	case 3:
		sample_tcp(f, 12);
		return "TCP over IPv4 without a tag";
	case 4:
		sample_tcp(f, 0);
		return "TCP over IPv4 in two tags";
	case 5:
		frame_fragment(f, 0, true, 5);
		sample_udp(f);
		return "first fragment of UDP over IPv4";
	case 6:
		frame_l4(f, 132, 30);
		return "SCTP";
	case 7:
		frame_tcp(f, 7, 9, 1000, SYN, 20);
		return "a SYN";
	default:
		frame_tcp(f, 7, 9, 1000, RST | ACK, 0);
		return "a reset";
	}
}

static const char *sample_v6(struct frame *f, unsigned i)
{
	if (i != 3)
		frame_vlan(f, ETH_P_8021Q);
	frame_v6(f);
	switch (i) {
	case 0:
		sample_tcp(f, 40);
		return "TCP over IPv6";
	case 1:
		sample_udp(f);
		return "UDP over IPv6";
	case 2:
		frame_icmp(f, 129, 99);
		frame_payload(f, 20);
		return "ICMPv6 echo reply";
	case 3:
		sample_udp(f);
		return "UDP over IPv6 without a tag";
	case 4:
		for (int k = 0; k < 8; k++)
			frame_extension(f, k ? IPPROTO_DSTOPTS : IPPROTO_HOPOPTS, 8 + 8 * k);
		sample_tcp(f, 0);
		return "TCP behind eight extension headers";
	case 5:
		frame_extension(f, IPPROTO_ROUTING, 24);
		frame_fragment(f, 0, true, 5);
		sample_udp(f);
		return "first fragment of UDP over IPv6, routed";
	case 6:
		frame_extension(f, IPPROTO_AH, 24);
		sample_udp(f);
		return "UDP, authenticated";
	default:
		frame_l4(f, 50, 30);
		return "ESP";
	}
}

const char *frame_sample(struct frame *f, unsigned i, unsigned *end)
{
	const unsigned v4 = 9, v6 = 8;
	const char *name;

	frame_begin(f, 1, 2);
	frame_ethernet(f);
	*end = 0;
	if (i >= v4 + v6) {
		if (i > v4 + v6 + 1)
			return NULL;
		frame_vlan(f, ETH_P_8021Q);
		frame_other(f, i == v4 + v6 ? ETH_P_ARP : 0x88cc, 28);
		return i == v4 + v6 ? "ARP" : "LLDP";
	}
	name = i < v4 ? sample_v4(f, i) : sample_v6(f, i - v4);
	frame_end(f);
	*end = f->l4_end;
	return name;
}
