// SPDX-License-Identifier: GPL-2.0-only
/* Stage mark, the choice: which mark a flow gets, from when, until when; and what is heard. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pkt_mark.h"
#include "tap.h"

static struct rig r;
static struct tidemark t;

static const struct conn web = {
	.local = 1, .remote = 2, .local_port = 1000, .remote_port = 80, .v6 = true
};

/* A mark from words, or the test is wrong. */
static struct mark mark_of(const char *src, const char *dst, unsigned activity)
{
	struct mark m = { .experiment = 2, .activity = activity };
	const char *words;

	if ((src && endpoint_parse(src, &m.src, &words)) ||
	    (dst && endpoint_parse(dst, &m.dst, &words))) {
		printf("Bail out! %s %s: %s\n", src, dst, words);
		exit(1);
	}
	return m;
}

static __u32 add(const char *src, const char *dst, unsigned activity)
{
	struct mark m = mark_of(src, dst, activity);

	marking_add(&t, &m);
	return m.id;
}

/* The activity the connection's packets get, -1: none. */
static int activity_of(const struct conn *c, __u8 proto)
{
	struct flow f;

	if (conn_flow(&r, c, proto, &f) == RIG_NOWHERE || !(f.mark & MARK_MARKED))
		return -1;
	return mark_activity(f.mark);
}

static int udp_gets(const struct conn *c)
{
	conn_udp(&r, c, DIR_OUT, 10);
	return activity_of(c, IPPROTO_UDP);
}

static int tcp_gets(const struct conn *c, __u8 flags, __u32 seq)
{
	conn_tcp(&r, c, DIR_OUT, flags, seq, 0);
	return activity_of(c, IPPROTO_TCP);
}

#define LOCAL "fd00:0:86dd::1"
#define REMOTE "fd00:0:86dd::2"
#define ENDS "[" LOCAL "]:1000", "[" REMOTE "]:80"

/* Each rule is more specific than all that were there, and is added in both orders. */
static void test_precedence(void)
{
	static const struct {
		const char *src, *dst;
		__u8 proto;
		const char *node;
	} rules[] = {
		{ NULL, NULL, 0, "" },
		{ NULL, NULL, 0, "n1" },
		{ NULL, NULL, IPPROTO_UDP, "" },
		{ NULL, ":1-100", 0, "" },
		{ NULL, ":80", 0, "" },
		{ NULL, "fd00::/16", 0, "" },
		{ NULL, "fd00:0:86dd::/48", 0, "" },
		{ LOCAL, "fd00:0:86dd::/48", 0, "" },
		{ LOCAL, REMOTE, 0, "" },
		{ "[" LOCAL "]:1000", "[" REMOTE "]:80", 0, "" },
		{ "[" LOCAL "]:1000", "[" REMOTE "]:80", 0, "n1" },
		{ "[" LOCAL "]:1000", "[" REMOTE "]:80", IPPROTO_UDP, "" },
		{ "[" LOCAL "]:1000", "[" REMOTE "]:80", IPPROTO_UDP, "n1" },
	};
	const unsigned n = sizeof(rules) / sizeof(rules[0]);
	struct mark m;
	unsigned right = 0;

	for (int order = 0; order < 2; order++) {
		marking_reset(&r, &t);
		for (unsigned i = 0; i < n; i++) {
			unsigned at = order ? n - 1 - i : i;

			m = mark_of(rules[at].src, rules[at].dst, at);
			m.proto = rules[at].proto;
			snprintf(m.node, sizeof(m.node), "%s", rules[at].node);
			marking_add(&t, &m);
			right += udp_gets(&web) == (int)(order ? n - 1 : i);
		}
	}
	is_int(right, 2 * n, "the most specific wins, whatever the order they came in");
	marking_reset(&r, &t);
	add(NULL, "fd00:0:86dd::/48", 3);
	add("fd00:0:86dd::/48", NULL, 4);
	is_int(udp_gets(&web), 3, "of equals the older");
}

static void test_no_match(void)
{
	struct conn other = web;

	marking_reset(&r, &t);
	add("[" LOCAL "]:1000", NULL, 3);
	add(LOCAL, "fd00:0:86dd::4:0/110", 4);
	add(NULL, ":81-90", 5);
	other.local_port = 1001;
	is_int(udp_gets(&other), -1, "what no rule is for gets no mark");
	other.remote_port = 90;
	is_int(udp_gets(&other), 5, "a range includes its last port");
	other.remote_port = 91;
	is_int(udp_gets(&other), -1, "and ends there");
	other.remote = 0x4ffff;
	is_int(udp_gets(&other), 4, "a prefix that ends within a byte includes its last address");
	other.remote = 0x80000;
	is_int(udp_gets(&other), -1, "and ends there");
}

static void test_two_sources(void)
{
	struct conn one = web, two = web;

	marking_reset(&r, &t);
	two.local = 7;
	add(ENDS, 3);
	add("[fd00:0:86dd::7]:1000", "[" REMOTE "]:80", 4);
	is_int(udp_gets(&one), 3, "two sources, the same ports and destination: the one's mark");
	is_int(udp_gets(&two), 4, "and the other's");
}

/* Which packets of a rule's change are marked: the very next. */
static void test_change(void)
{
	struct flow f, before;
	__u32 id;

	marking_reset(&r, &t);
	is_int(udp_gets(&web), -1, "no mark yet");
	id = add(NULL, ":80", 3);
	is_int(udp_gets(&web), 3, "the next packet has it");
	conn_flow(&r, &web, IPPROTO_UDP, &before);
	is_int(add(NULL, ":80", 4), id, "the same again replaces it");
	is_int(udp_gets(&web), 4, "and changes the flow");
	conn_flow(&r, &web, IPPROTO_UDP, &f);
	is_int(f.mark & MARK_ENTROPY_MASK, before.mark & MARK_ENTROPY_MASK,
	       "which keeps its entropy");
	add(ENDS, 5);
	is_int(udp_gets(&web), 5, "a single flow's mark is in force at once, too");
}

static bool all(const struct mark *mark, void *ctx)
{
	(void)mark;
	(void)ctx;
	return true;
}

static void test_remove(void)
{
	marking_reset(&r, &t);
	add(NULL, ":80", 3);
	add(ENDS, 4);
	is_int(udp_gets(&web), 4, "marked");
	is_int(marks_remove(&t, all, NULL), 2, "both removed");
	is_int(udp_gets(&web), -1, "the next packet has no mark");
	is_int(rig_entries(t.map[MAP_marks]), 0, "nothing is left");
}

/* The wire's end of a connection is the end of what was said of it alone. */
static void test_reuse(void)
{
	marking_reset(&r, &t);
	add(ENDS, 3);
	is_int(tcp_gets(&web, SYN, 100), 3, "the SYN has it already");
	conn_tcp(&r, &web, DIR_IN, SYN | ACK, 500, 0);
	is_int(tcp_gets(&web, ACK, 101), 3, "and what follows");
	conn_tcp(&r, &web, DIR_IN, ACK | FIN, 501, 0);
	is_int(rig_entries(t.map[MAP_marks]), 1, "one side's FIN is not the end");
	is_int(tcp_gets(&web, ACK | FIN, 101), 3, "the last FIN has it");
	is_int(rig_entries(t.map[MAP_marks]), 0, "and ends it");
	is_int(tcp_gets(&web, ACK | FIN, 101), 3, "sent again, it still has");
	is_int(tcp_gets(&web, SYN, 9000), -1, "the ports' next connection has not");

	marking_reset(&r, &t);
	add(ENDS, 3);
	tcp_gets(&web, SYN, 100);
	conn_tcp(&r, &web, DIR_IN, RST | ACK, 0, 0);
	is_int(rig_entries(t.map[MAP_marks]), 0, "a RST ends it too");
	is_int(rig_count(&r, DIR_IN).reason.mark_ended, 1, "counted");

	marking_reset(&r, &t);
	add(ENDS, 3);
	tcp_gets(&web, SYN, 100);
	is_int(tcp_gets(&web, SYN, 7000), -1,
	       "a new connection whose predecessor's end was missed");
	is_int(rig_count(&r, DIR_OUT).reason.mark_ended, 1, "is known, and counted");

	marking_reset(&r, &t);
	tcp_gets(&web, SYN, 100);
	conn_tcp(&r, &web, DIR_IN, RST | ACK, 0, 0);
	add(ENDS, 3);
	is_int(tcp_gets(&web, RST, 101), -1, "what is said for the next is not the last one's");
	is_int(tcp_gets(&web, SYN, 9000), 3, "but the next one's");

	marking_reset(&r, &t);
	add(NULL, ":80", 3);
	tcp_gets(&web, SYN, 100);
	conn_tcp(&r, &web, DIR_IN, RST | ACK, 0, 0);
	is_int(tcp_gets(&web, SYN, 9000), 3, "a rule goes on for every connection");
}

/* Tables written by the kernel itself: one flow forgotten, its connection living on. */
static void test_evicted(void)
{
	struct flow_key key;

	marking_reset(&r, &t);
	add(ENDS, 3);
	tcp_gets(&web, SYN, 100);
	while (!bpf_map_get_next_key(bpf_map__fd(r.skel->maps.embryonic), NULL, &key))
		bpf_map_delete_elem(bpf_map__fd(r.skel->maps.embryonic), &key);
	is_int(tcp_gets(&web, ACK, 101), 3,
	       "a connection that was evicted from the table keeps it");
}

static void until_over(__u64 from_ns, __u64 span_ns)
{
	struct timespec now;

	do
		clock_gettime(CLOCK_BOOTTIME, &now);
	while (now.tv_sec * 1000000000ULL + now.tv_nsec < from_ns + span_ns);
}

static void test_for(void)
{
	struct mark rule = mark_of(NULL, ":80", 3), single = mark_of(ENDS, 4);
	struct timespec now;
	int got = 0;

	marking_reset(&r, &t);
	clock_gettime(CLOCK_BOOTTIME, &now);
	rule.for_ns = 30000000000;
	single.for_ns = 2000000;
	marking_add(&t, &rule);
	marking_add(&t, &single);
	is_int(udp_gets(&web), 4, "--for: while it lasts");
	until_over(now.tv_sec * 1000000000ULL + now.tv_nsec, 4000000);
	/* A packet all the time: that it fell silent is not what ends it. */
	for (int i = 0; i < 30000000 && (got = udp_gets(&web)) == 4; i++)
		;
	is_int(got, 3, "when it is over the next that fits has its place, in mid-flow");
	is_int(rig_entries(t.map[MAP_marks]), 0, "and nothing is left of it");
}

static void test_full(void)
{
	char src[64];
	struct mark *marks = calloc(1200, sizeof(*marks));
	size_t bad = 0;

	marking_reset(&r, &t);
	for (unsigned i = 0; i < 1200; i++) {
		snprintf(src, sizeof(src), "[fd00::%x]:7", i + 1);
		marks[i] = mark_of(src, "[fd00::]:9", 3);
	}
	is_int(marks_add(&t, marks, 1024, &bad), 0, "the table takes what it is made for");
	is_int(marks_add(&t, marks + 1024, 1, &bad), -ENOSPC, "then refuses");
	is_int(rig_entries(t.map[MAP_marks]), 1024, "and forgets none");
	marks_remove(&t, all, NULL);
	is_int(marks_add(&t, marks, 1200, &bad), -ENOSPC, "too many at once");
	is_int(rig_entries(t.map[MAP_marks]), 0, "are not taken in part");
	for (unsigned i = 0; i < RULES_MAX + 1; i++) {
		snprintf(src, sizeof(src), ":%u", i + 1);
		marks[i] = mark_of(src, NULL, 3);
	}
	is_int(marks_add(&t, marks, RULES_MAX + 1, &bad), -ENOSPC, "nor are rules");
	is_int(t.settings->marks_rules & 0xffff, 0, "in part");
	is_int(marks_add(&t, marks, RULES_MAX, &bad), 0, "as many as there is room for");
	is_int(udp_gets(&web), -1, "none of which fits");
	marks[0] = mark_of(NULL, NULL, 3);
	is_int(marks_add(&t, marks, 1, &bad), -ENOSPC, "and no more");
	is_int(udp_gets(&web), -1, "which changes nothing");
	free(marks);
}

static void test_nodes(void)
{
	struct mark m = mark_of(NULL, NULL, 3);
	struct conn other = web;
	size_t bad;

	marking_reset(&r, &t);
	snprintf(m.node, sizeof(m.node), "n2");
	marking_add(&t, &m);
	is_int(udp_gets(&web), -1, "another node's rule is not this one's");
	other.clock = 1;
	is_int(udp_gets(&other), 3, "but its own");
	snprintf(m.node, sizeof(m.node), "later");
	m.activity = 4;
	is_int(marks_add(&t, &m, 1, &bad), 0, "a rule may wait for its node");
	is_int(udp_gets(&web), -1, "and fits none");
	t.lock = 0; /* as whoever makes a node has it */
	marks_node_new(&t, "later", 1);
	t.lock = -1;
	is_int(udp_gets(&web), 4, "until the node comes");
	m = mark_of(ENDS, 5);
	snprintf(m.node, sizeof(m.node), "nobody");
	is_int(marks_add(&t, &m, 1, &bad), -ENODEV, "one flow's mark can not wait");
}

/* Datagrams have no end but silence: five minutes of it, here written into the table. */
static void silent_for(__u32 seconds)
{
	struct timespec now;
	struct flow_key key;
	struct flow f;
	__u32 tick = tidemark_tick(&t);

	clock_gettime(CLOCK_MONOTONIC, &now);
	r.settings->began_jiffies = tick - 250000; /* 4 ms each */
	r.settings->began_ns = now.tv_sec * 1000000000ULL - 1000000000000ULL;
	bpf_map_get_next_key(bpf_map__fd(r.skel->maps.embryonic), NULL, &key);
	bpf_map_lookup_elem(bpf_map__fd(r.skel->maps.embryonic), &key, &f);
	f.last = tick - seconds * 250;
	bpf_map_update_elem(bpf_map__fd(r.skel->maps.embryonic), &key, &f, BPF_ANY);
}

static void test_idle(void)
{
	marking_reset(&r, &t);
	add(ENDS, 3);
	is_int(udp_gets(&web), 3, "datagrams of a single flow");
	silent_for(200);
	is_int(udp_gets(&web), 3, "after three minutes of silence: still that flow");
	silent_for(400);
	is_int(udp_gets(&web), -1, "after six, another");
	is_int(rig_entries(t.map[MAP_marks]), 0, "and the mark is gone");
}

static __u16 sum_of(const __u8 *bytes, unsigned n, __u32 sum)
{
	for (unsigned i = 0; i < n; i++)
		sum += i & 1 ? bytes[i] : bytes[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Of the TCP or ICMPv6 that a frame has to its end; 0xffff: right. */
static __u16 l4_sum(const __u8 *bytes, const struct frame *f, __u8 proto)
{
	return sum_of(bytes + f->l4, f->n - f->l4,
		      sum_of(bytes + f->l3 + 8, 32, f->n - f->l4 + proto));
}

/* A SYN-ACK as it is received, with an MSS after so many bytes of padding. */
static void syn_ack(struct frame *f, unsigned padding, __u16 mss)
{
	frame_ip(f, true, 2, 1);
	frame_tcp(f, 80, 1000, 500, SYN | ACK, 12);
	f->bytes[f->l4 + 20 + padding] = 2;
	f->bytes[f->l4 + 21 + padding] = 4;
	put16(f->bytes + f->l4 + 22 + padding, mss);
	frame_end(f);
	put16(f->bytes + f->l4 + 16, 0);
	put16(f->bytes + f->l4 + 16, ~l4_sum(f->bytes, f, IPPROTO_TCP));
}

static int mss_heard(struct frame *f, unsigned padding, __u16 mss)
{
	const __u8 *at;

	syn_ack(f, padding, mss);
	at = r.out + f->l4 + 22 + padding;
	tcp_gets(&web, SYN, 100);
	rig_run(&r, f, IN);
	if (l4_sum(r.out, f, IPPROTO_TCP) != 0xffff)
		return -1;
	return at[0] << 8 | at[1];
}

static void test_mss(void)
{
	static struct frame f;
	struct mark m = mark_of(NULL, ":80", 3);
	/* Of a destination header more than it takes: see option_slack(). */
	const int mosts[] = { 1440, 1432, 1400, 1392 };

	marking_mtu(1500);
	for (int how = 0; how < MARK_HOWS_NR; how++) {
		int most = mosts[how];

		marking_reset(&r, &t);
		m.how = how;
		marking_add(&t, &m);
		is_int(mss_heard(&f, 0, 1440), most, "the MSS we hear leaves room for the option");
		is_int(mss_heard(&f, 1, 1440), most, "also where it stands across two words");
		is_int(mss_heard(&f, 0, 1220), 1220, "a smaller one stays");
		is_int(rig_count(&r, DIR_IN).reason.mark_mss, how ? 2 : 0, "counted");
	}
	marking_reset(&r, &t);
	m = mark_of(":80", NULL, 3);
	m.how = MARK_HOP_BY_HOP;
	marking_add(&t, &m);
	syn_ack(&f, 0, 1440);
	f.bytes[f.l4 + 13] = SYN;
	put16(f.bytes + f.l4, 1000);
	put16(f.bytes + f.l4 + 2, 80);
	put16(f.bytes + f.l4 + 16, 0);
	put16(f.bytes + f.l4 + 16, ~l4_sum(f.bytes, &f, IPPROTO_TCP));
	rig_run(&r, &f, IN);
	ok((r.out[f.l4 + 22] << 8 | r.out[f.l4 + 23]) == 1432 &&
		   l4_sum(r.out, &f, IPPROTO_TCP) == 0xffff,
	   "a server hears it of whoever connects");
	marking_mtu(65536);
}

/* A router's answer to a packet of 1400 bytes from 1 to 2, which had the option or not. */
static void too_big(struct frame *f, __u32 mtu, bool option)
{
	__u8 *inner;

	frame_ip(f, true, 9, 1);
	frame_icmp(f, 2, 0);
	put32(f->bytes + f->l4 + 4, mtu);
	frame_payload(f, 60);
	inner = f->bytes + f->l4 + 8;
	inner[0] = 0x60;
	inner[6] = option ? 0 : IPPROTO_UDP;
	memcpy(inner + 8, f->bytes + f->l3 + 24, 16);
	memcpy(inner + 24, f->bytes + f->l3 + 24, 16);
	inner[39] = 2;
	memcpy(inner + 40, (__u8[]){ IPPROTO_UDP, 0, 0x1e, 3, 0, 2, 3, 0 }, 8);
	frame_end(f);
	put16(f->bytes + f->l4 + 2, 0);
	put16(f->bytes + f->l4 + 2, ~l4_sum(f->bytes, f, IPPROTO_ICMPV6));
}

static __u32 mtu_heard(struct frame *f, __u32 mtu, bool option)
{
	too_big(f, mtu, option);
	rig_run(&r, f, IN);
	if (l4_sum(r.out, f, IPPROTO_ICMPV6) != 0xffff)
		return 0;
	return r.out[f->l4 + 4] << 24 | r.out[f->l4 + 5] << 16 | r.out[f->l4 + 6] << 8 |
	       r.out[f->l4 + 7];
}

static void test_path(void)
{
	struct mark m = mark_of(NULL, NULL, 3);
	static struct frame f;

	marking_mtu(1500);
	marking_reset(&r, &t);
	m.how = MARK_HOP_BY_HOP;
	marking_add(&t, &m);
	conn_udp(&r, &web, DIR_OUT, 1352);
	is_int(rig_count(&r, DIR_OUT).reason.mark_header, 1, "1400 bytes and the option, marked");
	is_int(mtu_heard(&f, 1400, false), 1400, "too big for a router: we hear how much fits");
	is_int(mtu_heard(&f, 1400, true), 1392, "and of a marked packet, how much without option");
	is_int(mtu_heard(&f, 1280, true), 1280, "but never below what every link carries");
	mtu_heard(&f, 1400, true);
	conn_udp(&r, &web, DIR_OUT, 1352);
	is_int(rig_count(&r, DIR_OUT).reason.mark_no_room, 1,
	       "what would be too big is not marked");
	conn_udp(&r, &web, DIR_OUT, 1344);
	is_int(rig_count(&r, DIR_OUT).reason.mark_header, 2, "what fits is");
	marking_mtu(65536);
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	marking_open(&r, &t);
	test_precedence();
	test_no_match();
	test_two_sources();
	test_change();
	test_remove();
	test_reuse();
	test_evicted();
	test_for();
	test_full();
	test_nodes();
	test_idle();
	test_mss();
	test_path();
	rig_close(&r);
	return done();
}
