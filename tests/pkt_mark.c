// SPDX-License-Identifier: GPL-2.0-only
/* Stage mark, the bytes: each way to mark, on packets of every shape. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "pkt_mark.h"
#include "tap.h"

static struct rig r;
static struct tidemark t;

/* CMS (3), activity 14: as an option, and as a label without entropy. */
#define EXPERIMENT 3
#define ACTIVITY 14
#define OPTION 0x1e, 3, 0, EXPERIMENT, ACTIVITY
#define LABEL (0x180 << 9 | ACTIVITY << 2)

enum shape {
	PLAIN,
	VLAN,
	QINQ,
	HAS_HBH,	/* of which the padding has no room */
	HAS_HBH_PADDED, /* has */
	HAS_DO,		/* has */
	HAS_BOTH,
	ROUTED,
	FIRST_FRAGMENT,
	LATER_FRAGMENT,
	LAYER_3,
	SHAPES_NR
};

static const char *const shapes[SHAPES_NR] = {
	"plain",
	"with a VLAN tag",
	"with two VLAN tags",
	"with a hop-by-hop header that is full",
	"with a hop-by-hop header that has padding",
	"with a destination header",
	"with both headers",
	"with a routing header",
	"the first fragment",
	"a later fragment",
	"without Ethernet",
};

static const char *const hows[] = { "label", "hop-by-hop", "destination", "both" };

static void extension(struct frame *f, __u8 proto, const __u8 *bytes, unsigned n)
{
	unsigned at = f->n;

	frame_extension(f, proto, n);
	memcpy(f->bytes + at + 2, bytes, n - 2);
}

/* The mark's own header. */
static void option_header(struct frame *f, __u8 proto)
{
	static const __u8 bytes[] = { OPTION, 0 };

	extension(f, proto, bytes, 8);
}

/* Hop-by-hop as it is, or with the option in it. */
static void hop_header(struct frame *f, enum shape shape, bool marked)
{
	static const __u8 alert[] = { 5, 2, 0, 0, 1, 0 };
	static const __u8 alert_marked[] = { 5, 2, 0, 0, 1, 0, OPTION, 1, 1, 0 };
	static const __u8 padding[] = { 1, 4, 0, 0, 0, 0 };
	static const __u8 padding_marked[] = { OPTION, 0 };
	bool padded = shape != HAS_HBH;

	if (shape == HAS_HBH || shape == HAS_HBH_PADDED || shape == HAS_BOTH)
		extension(f, IPPROTO_HOPOPTS,
			  padded   ? marked ? padding_marked : padding
			  : marked ? alert_marked
				   : alert,
			  marked && !padded ? 16 : 8);
	else if (marked)
		option_header(f, IPPROTO_HOPOPTS);
}

static void destination_header(struct frame *f, enum shape shape, bool marked)
{
	static const __u8 padding[] = { 0, 0, 0, 0, 0, 0 };

	if (marked)
		option_header(f, IPPROTO_DSTOPTS);
	else if (shape == HAS_DO || shape == HAS_BOTH)
		extension(f, IPPROTO_DSTOPTS, padding, 8);
}

/* how -1: as it goes in. A tag that was in the packet comes back as the device's. */
static void build(struct frame *f, enum shape shape, bool udp, int how, unsigned payload)
{
	bool hop = how == MARK_HOP_BY_HOP || how == MARK_BOTH;
	bool destination = how == MARK_DESTINATION || how == MARK_BOTH;

	frame_begin(f, 1, 2);
	if (shape != LAYER_3)
		frame_ethernet(f);
	if (shape == QINQ && !hop && !destination)
		frame_vlan(f, ETH_P_8021AD);
	if ((shape == VLAN && !hop && !destination) || shape == QINQ)
		frame_vlan(f, ETH_P_8021Q);
	frame_v6(f);
	hop_header(f, shape, hop);
	destination_header(f, shape, destination);
	if (shape == ROUTED)
		frame_extension(f, IPPROTO_ROUTING, 24);
	if (shape == FIRST_FRAGMENT || shape == LATER_FRAGMENT)
		frame_fragment(f, shape == LATER_FRAGMENT ? 1024 : 0, true, 77);
	if (shape == LATER_FRAGMENT)
		frame_l4(f, udp ? IPPROTO_UDP : IPPROTO_TCP, 8);
	else if (udp)
		frame_udp(f, 7, 9);
	else
		frame_tcp(f, 7, 9, 1000, ACK, 12);
	frame_payload(f, payload);
	frame_end(f);
}

static void label_set(struct frame *f, __u32 label)
{
	f->bytes[f->l3 + 1] = (f->bytes[f->l3 + 1] & 0xf0) | label >> 16;
	put16(f->bytes + f->l3 + 2, label);
}

static __u32 label_of(const __u8 *ip)
{
	return (ip[1] & 0xf) << 16 | ip[2] << 8 | ip[3];
}

static bool same(const struct frame *f, const struct rig *rig)
{
	if (rig->out_n == f->n && !memcmp(rig->out, f->bytes, f->n))
		return true;
	for (unsigned i = 0; i < rig->out_n || i < f->n; i++)
		if (i >= f->n || i >= rig->out_n || rig->out[i] != f->bytes[i]) {
			printf("# %u bytes, want %u; byte %u is %02x, want %02x\n", rig->out_n,
			       f->n, i, rig->out[i], f->bytes[i]);
			break;
		}
	return false;
}

static void begin(int how)
{
	struct mark m = { .experiment = EXPERIMENT, .activity = ACTIVITY, .how = how };

	marking_reset(&r, &t);
	if (how >= 0)
		marking_add(&t, &m);
}

static int run(const struct frame *f, enum shape shape)
{
	return rig_run(&r, f, OUT | (shape == LAYER_3 ? ATTACH_L3 : 0));
}

static void test_shape(enum shape shape, bool udp, int how)
{
	bool fragment = shape == FIRST_FRAGMENT || shape == LATER_FRAGMENT;
	static struct frame in, want;
	struct counters c;
	int verdict;

	begin(how);
	if (shape == LATER_FRAGMENT) { /* whose ports are known from the first */
		build(&in, FIRST_FRAGMENT, udp, -1, 100);
		run(&in, FIRST_FRAGMENT);
	}
	build(&in, shape, udp, -1, 100);
	build(&want, shape, udp, how && !fragment ? how : -1, 100);
	verdict = run(&in, shape);
	if (!how)
		label_set(&want, LABEL | (label_of(r.out + in.l3) & MARK_ENTROPY_MASK));
	c = rig_count(&r, DIR_OUT);
	ok(same(&want, &r) && verdict == -1 &&
		   (how ? fragment ? c.reason.mark_fragment : c.reason.mark_header
			: c.reason.mark_label) > 0,
	   "%s %s, %s", udp ? "UDP" : "TCP", shapes[shape], hows[how]);
}

/* What is not asked for is not touched. */
static void test_miss(void)
{
	struct mark m = { .experiment = EXPERIMENT, .activity = ACTIVITY, .how = MARK_BOTH };
	static struct frame f;
	unsigned changed = 0;

	for (int none = 0; none < 2; none++) {
		marking_reset(&r, &t);
		m.dst.ported = true;
		m.dst.low = m.dst.high = 4711;
		if (!none)
			marking_add(&t, &m);
		for (int shape = 0; shape < SHAPES_NR; shape++)
			for (int udp = 0; udp < 2; udp++) {
				build(&f, shape, udp, -1, 100);
				run(&f, shape);
				changed += !same(&f, &r);
			}
		is_int(changed, 0,
		       none ? "without any mark nothing is touched"
			    : "packets of no mark come out as they went in");
	}
	begin(MARK_BOTH);
	build(&f, PLAIN, false, -1, 100);
	rig_run(&r, &f, IN);
	ok(same(&f, &r), "nor is what is received");
}

/* Six bits of DSCP and two of ECN share a word with the label. */
static void test_classes(void)
{
	static struct frame f;
	unsigned kept = 0;

	begin(MARK_LABEL);
	for (unsigned class = 0; class < 256; class ++) {
		build(&f, PLAIN, true, -1, 10);
		f.bytes[f.l3] = 0x60 | class >> 4;
		f.bytes[f.l3 + 1] = class << 4 | 0xf;
		put16(f.bytes + f.l3 + 2, 0xffff);
		run(&f, PLAIN);
		label_set(&f, LABEL | (label_of(r.out + f.l3) & MARK_ENTROPY_MASK));
		kept += same(&f, &r);
	}
	is_int(kept, 256, "all 256 traffic classes stay what they were");
}

static void test_entropy(void)
{
	static struct frame f;
	__u32 label, seen = 0, never = ~0U;

	begin(MARK_LABEL);
	for (unsigned port = 1; port <= 64; port++) {
		frame_ip(&f, true, 1, 2);
		frame_udp(&f, port, 9);
		frame_end(&f);
		run(&f, PLAIN);
		label = label_of(r.out + f.l3);
		run(&f, PLAIN);
		if (label != label_of(r.out + f.l3))
			break;
		seen |= label;
		never &= label;
	}
	is_int(label, label_of(r.out + f.l3), "entropy is drawn once a flow");
	is_int(seen & ~never, MARK_ENTROPY_MASK, "all of its bits, and no others, vary");
}

static void test_v4(void)
{
	static struct frame f;
	unsigned changed = 0;

	for (int how = 0; how < MARK_HOWS_NR; how++) {
		begin(how);
		frame_ip(&f, false, 1, 2);
		frame_tcp(&f, 7, 9, 1000, ACK, 12);
		frame_payload(&f, 100);
		frame_end(&f);
		run(&f, PLAIN);
		changed += !same(&f, &r);
		changed += rig_count(&r, DIR_OUT).reason.mark_ipv4 != 1;
	}
	is_int(changed, 0, "IPv4 is never touched, and counted");
	is_str(rig_moved(&r), "out flow_new 1 event 1 mark_flow 1 mark_ipv4 1",
	       "but its flow has the mark");
}

/* `room` bytes below the MTU. */
static void mtu_packet(struct frame *f, bool udp, int how, unsigned mtu, unsigned room)
{
	build(f, PLAIN, udp, how, mtu - 40 - (udp ? 8 : 32) - room);
}

static void test_mtu(unsigned mtu, bool udp)
{
	const char *proto = udp ? "UDP" : "TCP";
	static struct frame f, want;
	unsigned grow;

	marking_mtu(mtu);
	for (int how = MARK_HOP_BY_HOP; how < MARK_HOWS_NR; how++) {
		grow = how == MARK_BOTH ? 16 : 8;
		begin(how);
		mtu_packet(&f, udp, -1, mtu, grow);
		mtu_packet(&want, udp, how, mtu, grow);
		run(&f, PLAIN);
		ok(same(&want, &r), "%s, MTU %u: %s fills it to the last byte", proto, mtu,
		   hows[how]);
		mtu_packet(&f, udp, -1, mtu, grow - 1);
		run(&f, PLAIN);
		ok(same(&f, &r) && rig_count(&r, DIR_OUT).reason.mark_no_room == 1,
		   "%s, MTU %u: %s does not exceed it", proto, mtu, hows[how]);
	}
	begin(MARK_LABEL);
	mtu_packet(&f, udp, -1, mtu, 0);
	run(&f, PLAIN);
	ok(rig_count(&r, DIR_OUT).reason.mark_label == 1, "%s, MTU %u: a label needs no room",
	   proto, mtu);
	marking_mtu(65536);
}

/* The test run can not say that segments are TCP's: the kernel makes no room in such. */
static void test_gso(bool udp)
{
	static struct frame f;

	for (int how = 0; how < MARK_HOWS_NR; how++) {
		begin(how);
		build(&f, PLAIN, udp, -1, 2000);
		f.gso_segs = 2;
		f.gso_size = 1000;
		run(&f, PLAIN);
		if (!how)
			label_set(&f, LABEL | (label_of(r.out + f.l3) & MARK_ENTROPY_MASK));
		ok(same(&f, &r) && rig_count(&r, DIR_OUT).reason.mark_failed == (how > 0),
		   "%s segments in one buffer, %s: right, or untouched and counted",
		   udp ? "UDP" : "TCP", hows[how]);
	}
}

/*
 * Longer segments than a router would forward uncut behind a destination header are not
 * even tried; what it is told to make room in, this kernel then refuses (see above).
 */
static void test_gso_slack(void)
{
	static struct frame f;

	marking_mtu(1500);
	for (int how = MARK_HOP_BY_HOP; how < MARK_HOWS_NR; how++) {
		unsigned most = how == MARK_DESTINATION ? 1400 : how == MARK_BOTH ? 1392 : 1468;

		for (unsigned more = 0; more < 2; more++) {
			begin(how);
			build(&f, PLAIN, false, -1, 2 * (most + more));
			f.gso_segs = 2;
			f.gso_size = most + more;
			run(&f, PLAIN);
			if (how == MARK_HOP_BY_HOP)
				is_int(rig_count(&r, DIR_OUT).reason.mark_failed, 1,
				       "segments of any size get a hop-by-hop header");
			else
				ok(rig_count(&r, DIR_OUT).reason.mark_no_room == more,
				   "%s: segments of %u bytes %s", hows[how], most + more,
				   more ? "go as they are" : "are tried");
			ok(same(&f, &r), "and not a byte is changed in vain");
		}
	}
	marking_mtu(65536);
}

/* Twice through a node, or through two. */
static void test_already(void)
{
	static struct frame f;

	for (int how = MARK_HOP_BY_HOP; how < MARK_HOWS_NR; how++) {
		begin(how);
		build(&f, PLAIN, true, how, 100);
		run(&f, PLAIN);
		ok(same(&f, &r) && rig_count(&r, DIR_OUT).reason.mark_already == 1,
		   "%s: the option is there once, whoever wrote it", hows[how]);
	}
}

static void full(const char *sentence, const __u8 *bytes, unsigned n)
{
	static struct frame f;

	begin(MARK_HOP_BY_HOP);
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_v6(&f);
	extension(&f, IPPROTO_HOPOPTS, bytes, n);
	frame_udp(&f, 7, 9);
	frame_end(&f);
	run(&f, PLAIN);
	ok(same(&f, &r) && rig_count(&r, DIR_OUT).reason.mark_header_full == 1, "%s", sentence);
}

static void test_full(void)
{
	static const __u8 broken[] = { 5, 9, 0, 0, 0, 0 }, lengthless[] = { 1, 2, 0, 0, 0, 5 };
	static __u8 many[62];
	static struct frame f;

	full("an option longer than its header: left alone", broken, 8);
	full("an option without its length: left alone", lengthless, 8);
	for (unsigned i = 0; i < sizeof(many); i += 2)
		many[i] = 0x3e;
	full("more options than are followed: left alone", many, 64);
	begin(MARK_HOP_BY_HOP);
	build(&f, PLAIN, true, -1, 100);
	put16(f.bytes + f.l3 + 4, 0);
	run(&f, PLAIN);
	ok(same(&f, &r) && rig_count(&r, DIR_OUT).reason.mark_header_full == 1,
	   "a jumbogram, whose length is in an option: left alone");
}

/* Three tags cannot be; a protocol with neither ports nor connection can. */
static void test_other(void)
{
	static struct frame f;

	begin(MARK_LABEL);
	frame_ip(&f, true, 1, 2);
	frame_l4(&f, 132, 40);
	frame_end(&f);
	run(&f, PLAIN);
	label_set(&f, LABEL | (label_of(r.out + f.l3) & MARK_ENTROPY_MASK));
	ok(same(&f, &r), "a protocol that is neither TCP nor UDP (SCTP) is marked too");
	frame_ip(&f, true, 1, 2);
	frame_icmp(&f, 128, 99);
	frame_end(&f);
	run(&f, PLAIN);
	label_set(&f, LABEL | (label_of(r.out + f.l3) & MARK_ENTROPY_MASK));
	ok(same(&f, &r), "and so is a ping");
}

static __u32 dice = 1;

static __u32 below(__u32 n)
{
	dice = dice * 1664525 + 1013904223;
	return (__u64)dice * n >> 32;
}

/*
 * Packets of every shape with bytes spoiled. Whatever they are, what comes out is longer by
 * an option's headers (less a tag that the device has now) or as long, and ends as it did.
 */
static void test_spoiled(void)
{
	unsigned samples = 0, end, bad = 0, marked = 0, runs = 0, tail;
	static struct frame f;
	int grown;

	while (frame_sample(&f, samples, &end))
		samples++;
	for (int how = 0; how < MARK_HOWS_NR; how++) {
		begin(how);
		for (unsigned i = 0; i < 40000; i++) {
			frame_sample(&f, below(samples), &end);
			for (unsigned k = below(4); k && end; k--)
				f.bytes[12 + below(end - 12)] = below(4) ? below(256) : below(64);
			if (run(&f, PLAIN) == RIG_REFUSED)
				continue;
			runs++;
			grown = (int)r.out_n - (int)f.n;
			marked += grown > 0;
			tail = f.n > 190 ? f.n - 190 : 0; /* behind what may be written */
			if ((grown && grown != 8 && grown != 16 && grown != 4 && grown != 12 &&
			     grown != -4) ||
			    (!how && grown) ||
			    memcmp(r.out + r.out_n - tail, f.bytes + f.n - tail, tail))
				bad++;
		}
	}
	ok(!bad && runs > 100000 && marked > 10000,
	   "%u spoiled packets come out whole, %u of them longer", runs, marked);
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	marking_open(&r, &t);
	for (int how = 0; how < MARK_HOWS_NR; how++)
		for (int udp = 0; udp < 2; udp++)
			for (int shape = 0; shape < SHAPES_NR; shape++)
				/* A test run takes any device for Ethernet when it makes room. */
				if (!how || shape != LAYER_3)
					test_shape(shape, udp, how);
	test_miss();
	test_classes();
	test_entropy();
	test_v4();
	for (int udp = 0; udp < 2; udp++) {
		test_mtu(1500, udp);
		test_mtu(3000, udp);
		test_gso(udp);
	}
	test_gso_slack();
	test_already();
	test_full();
	test_other();
	test_spoiled();
	rig_close(&r);
	return done();
}
