// SPDX-License-Identifier: GPL-2.0-only
/* Bursts, causes, and clocks in the kernel: the records packets leave, and those they do not. */
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "rig.h"
#include "tap.h"
#include "tidemark.skel.h"

static struct rig r;

/* Node 1 is the client, node 2 the server; each has its own clock. */
static const struct conn client = {
	.local = 1, .remote = 2, .local_port = 1000, .remote_port = 80
};
static const struct conn server = {
	.local = 2, .remote = 1, .local_port = 80, .remote_port = 1000, .clock = 1
};
static const struct conn elsewhere = {
	.local = 1, .remote = 3, .local_port = 1001, .remote_port = 80
};

static void request(__u32 seq, unsigned n)
{
	conn_tcp(&r, &client, DIR_OUT, ACK, seq, n);
}

static void arrive(__u32 seq, unsigned n)
{
	conn_tcp(&r, &server, DIR_IN, ACK, seq, n);
}

static void pass(__u32 seq, unsigned n)
{
	request(seq, n);
	arrive(seq, n);
}

static void answer(__u32 seq, unsigned n)
{
	conn_tcp(&r, &server, DIR_OUT, ACK, seq, n);
	conn_tcp(&r, &client, DIR_IN, ACK, seq, n);
}

static void fine(void)
{
	const char *wrong = rig_wrong(&r);

	is_str(wrong ? wrong : "", "", "all accounted for, no stamp below one before it");
}

static __u64 events(enum dir dir)
{
	return rig_count(&r, dir).reason.event;
}

static void test_burst(void)
{
	struct clock before;
	__u64 now;

	rig_reset(&r);
	request(100, 10);
	before = r.clocks[0];
	for (int i = 1; i < 100; i++)
		request(100 + 10 * i, 10);
	is_int(events(DIR_OUT), 1, "a hundred packets one way: one record");
	ok(r.clocks[0].now == before.now && r.clocks[0].opened_ns == before.opened_ns &&
		   r.clocks[0].burst == before.burst,
	   "inside a burst the clock neither ticks nor is read");
	is_int(r.clocks[0].run, run_make(run_generation(before.run), 100, 1000),
	       "and one word counts it");
	now = r.clocks[0].now;
	conn_tcp(&r, &client, DIR_IN, ACK, 500, 1);
	is_str(rig_events(&r), "send 1000>80 10B 1p; recv 80>1000 1B 1p ended 100p 1000B",
	       "the other direction ends it");
	is_int(r.clocks[0].now, now + 1, "with the stamp after the burst's own");
	request(1100, 5);
	conn_udp(&r, &elsewhere, DIR_OUT, 3);
	request(1105, 5);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 80>1000 1B 1p ended 100p 1000B; "
	       "send 1000>80 5B 1p ended 1p 1B; send 1001>80 3B 1p ended 1p 5B; "
	       "send 1000>80 5B 1p ended 1p 3B",
	       "another flow ends it, and never joins the one before");
	conn_tcp(&r, &client, DIR_OUT, ACK, 1110, 0);
	conn_tcp(&r, &client, DIR_IN, ACK, 501, 0);
	request(1110, 5);
	is_int(events(DIR_OUT), 4, "acknowledgements do not");
	fine();
}

static void test_burst_end(void)
{
	rig_reset(&r);
	for (int i = 0; i < 3; i++)
		conn_udp(&r, &client, DIR_OUT, 10);
	rig_end(&r, 0);
	rig_end(&r, 0);
	is_str(rig_events(&r), "send 1000>80 10B 1p; none ended 3p 30B",
	       "a reader may end it, once");
	is_int(r.clocks[0].now, RIG_BEGIN + 1, "which is no event and takes no stamp");
	conn_udp(&r, &client, DIR_OUT, 10);
	is_str(rig_events(&r), "send 1000>80 10B 1p; none ended 3p 30B; send 1000>80 10B 1p",
	       "what follows is a new one");
	fine();
}

static void test_overflow(void)
{
	struct conn c = client;

	rig_reset(&r);
	c.segments = 40000;
	conn_udp(&r, &c, DIR_OUT, 100);
	c.segments = 25535;
	conn_udp(&r, &c, DIR_OUT, 100);
	is_int(run_packets(r.clocks[0].run), 65535, "a burst holds 65535 packets");
	conn_udp(&r, &client, DIR_OUT, 100);
	is_str(rig_events(&r), "send 1000>80 100B 40000p; send 1000>80 100B 1p ended 65535p 200B",
	       "one more opens another");
	rig_reset(&r);
	conn_udp(&r, &client, DIR_OUT, 10);
	r.clocks[0].run |= RUN_BYTES_MAX; /* as if it had sent 4 GB */
	r.clocks[0].run -= 20;
	conn_udp(&r, &client, DIR_OUT, 20);
	is_int(run_bytes(r.clocks[0].run), RUN_BYTES_MAX, "a burst holds 4 GB");
	conn_udp(&r, &client, DIR_OUT, 1);
	is_str(rig_events(&r), "send 1000>80 10B 1p; send 1000>80 1B 1p ended 2p 4294967295B",
	       "one byte more opens another");
	fine();
}

static void test_every_packet(void)
{
	struct conn c = client;

	rig_reset(&r);
	r.clocks[0].flags = r.clocks[1].flags = CLOCK_EVERY_PACKET;
	pass(100, 10);
	pass(110, 10);
	c.segments = 10;
	conn_udp(&r, &c, DIR_OUT, 1000);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 1000>80 10B 1p #1; send 1000>80 10B 1p; "
	       "recv 1000>80 10B 1p #3; send 1000>80 1000B 10p",
	       "with every packet a record, each is whole");
	is_int(r.clocks[0].now, RIG_BEGIN + 3, "and takes a stamp");
	is_int(run_packets(r.clocks[0].run), 0, "no burst is open");
	fine();
}

static void test_unread(void)
{
	rig_reset(&r);
	r.settings->reading = 0;
	pass(100, 10);
	answer(500, 10);
	is_str(rig_events(&r), "", "while nobody reads there are no records");
	is_str(rig_moved(&r), "in flow_new 1 flow_admitted 1 out flow_new 1 flow_admitted 1",
	       "and none is lost");
	ok(r.clocks[1].now > RIG_BEGIN && r.clocks[0].now > r.clocks[1].now - 2,
	   "but clocks tick and merge");
	fine();
}

static void test_cause(void)
{
	rig_reset(&r);
	r.clocks[0].now += 1ULL << 40; /* the server is far behind */
	pass(100, 10);
	pass(110, 10);
	answer(500, 20);
	pass(120, 10);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 1000>80 10B 1p #1; send 80>1000 20B 1p ended 2p 20B; "
	       "recv 80>1000 20B 1p #3 ended 2p 20B; send 1000>80 10B 1p ended 1p 20B; "
	       "recv 1000>80 10B 1p #5 ended 1p 20B",
	       "each receipt names its send");
	ok(r.clocks[1].now > RIG_BEGIN + (1ULL << 40), "and lifts the clock above it");
	fine();
}

/* What the sender left for the receiver was evicted before it was asked for. */
static void test_cause_evicted(void)
{
	struct send_key key;
	int sends = bpf_map__fd(r.skel->maps.sends);
	__u64 sent;

	rig_reset(&r);
	pass(100, 10);
	answer(500, 20);
	request(110, 10);
	sent = r.clocks[0].now;
	r.clocks[1].now = RIG_BEGIN; /* the receiver is far behind again */
	while (!bpf_map_get_next_key(sends, NULL, &key))
		bpf_map_delete_elem(sends, &key);
	arrive(110, 10);
	rig_drain(&r);
	ok(!r.events[r.events_n - 1].cause && r.events[r.events_n - 1].type == EVENT_recv,
	   "a stamp that was evicted is not made up");
	ok(r.clocks[1].now > sent, "but the sender is known for a node here, and its clock merged");
	is_int(rig_count(&r, DIR_IN).reason.cause_forgotten, 1, "which is counted");
	conn_udp(&r, &elsewhere, DIR_IN, 10);
	is_int(rig_count(&r, DIR_IN).reason.cause_forgotten, 1,
	       "who never was a node here is not taken for one");
}

/* Sent in three bursts, received after all of them. */
static void test_cause_late(void)
{
	rig_reset(&r);
	for (int i = 0; i < 3; i++) {
		request(100 + 20 * i, 10);
		request(110 + 20 * i, 10);
		conn_udp(&r, &elsewhere, DIR_OUT, 1);
	}
	for (int i = 0; i < 6; i++)
		arrive(100 + 10 * i, 10);
	rig_drain(&r);
	is_int(events(DIR_IN), 3, "three bursts sent are three received, though in one run");
	is_str(strstr(rig_events(&r), "recv"),
	       "recv 1000>80 10B 1p #1; recv 1000>80 10B 1p #3 ended 2p 20B; "
	       "recv 1000>80 10B 1p #5 ended 2p 20B",
	       "each byte's cause is the burst it was sent in");
	fine();
	rig_reset(&r);
	request(100, 10);
	conn_udp(&r, &elsewhere, DIR_OUT, 1);
	request(110, 10);
	arrive(110, 10);
	arrive(100, 10);
	is_str(strstr(rig_events(&r), "recv"), "recv 1000>80 10B 1p #3",
	       "of a flow that was first seen out of order, what is older is no message");
	fine();
}

static void test_forgotten(void)
{
	__u64 stamp;

	rig_reset(&r);
	for (int i = 0; i < SENDS_KEPT + 1; i++) {
		request(100 + 10 * i, 10);
		conn_udp(&r, &elsewhere, DIR_OUT, 1);
	}
	rig_drain(&r);
	stamp = r.events[r.events_n - 2].stamp; /* the last send on the flow */
	arrive(100, 10);
	arrive(110, 10);
	is_int(rig_count(&r, DIR_IN).reason.cause_forgotten, 1, "a forgotten cause is counted");
	rig_drain(&r);
	is_int(r.events[r.events_n - 2].cause, 0, "and none is invented");
	ok(r.events[r.events_n - 2].stamp > stamp, "but the stamp is above what it may have been");
	is_int(r.events[r.events_n - 1].cause, r.events[2].stamp, "the next is still known");
	fine();
}

static void test_handshake(void)
{
	rig_reset(&r);
	r.clocks[1].now += 1ULL << 40;
	conn_tcp(&r, &client, DIR_OUT, SYN, 99, 0);
	conn_tcp(&r, &server, DIR_IN, SYN, 99, 0);
	conn_tcp(&r, &server, DIR_OUT, SYN | ACK, 499, 0);
	ok(r.clocks[0].now < r.clocks[1].now, "before the answer, the client's clock is behind");
	conn_tcp(&r, &client, DIR_IN, SYN | ACK, 499, 0);
	ok(r.clocks[0].now > r.clocks[1].now, "the SYN-ACK carries the server's clock");
	conn_tcp(&r, &client, DIR_OUT, ACK, 100, 0);
	conn_tcp(&r, &server, DIR_IN, ACK, 100, 0);
	pass(100, 5);
	conn_tcp(&r, &client, DIR_OUT, ACK | FIN, 105, 0);
	conn_tcp(&r, &server, DIR_IN, ACK | FIN, 105, 0);
	conn_tcp(&r, &server, DIR_OUT, RST | ACK, 500, 0);
	conn_tcp(&r, &client, DIR_IN, RST | ACK, 500, 0);
	is_str(rig_events(&r),
	       "connect 1000>80 0B 1p; none; accept 1000>80 0B 1p #1; send 1000>80 5B 1p; "
	       "recv 1000>80 5B 1p #4; close 1000>80 0B 1p ended 1p 5B; "
	       "close 1000>80 0B 1p #6 ended 1p 5B; close 80>1000 0B 1p; close 80>1000 0B 1p #8",
	       "connect, accept, both FIN and RST are causes and have them");
	fine();
}

static void test_retransmit(void)
{
	rig_reset(&r);
	request(100, 10);
	request(100, 10);
	arrive(100, 10);
	arrive(100, 10);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; retransmit 1000>80 0B 1p ended 1p 10B; "
	       "recv 1000>80 10B 1p #2",
	       "a retransmission is an event with a later stamp; the duplicate is none");
	fine();
}

static void test_udp(void)
{
	rig_reset(&r);
	conn_udp(&r, &client, DIR_OUT, 10);
	conn_udp(&r, &server, DIR_IN, 10);
	conn_udp(&r, &client, DIR_OUT, 10);
	conn_udp(&r, &server, DIR_IN, 10);
	conn_udp(&r, &server, DIR_OUT, 0);
	conn_udp(&r, &client, DIR_IN, 0);
	conn_udp(&r, &client, DIR_OUT, 10);
	conn_udp(&r, &server, DIR_IN, 10);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 1000>80 10B 1p #1; send 80>1000 0B 1p ended 2p 20B; "
	       "recv 80>1000 0B 1p #3 ended 2p 20B; send 1000>80 10B 1p ended 1p 0B; "
	       "recv 1000>80 10B 1p #5 ended 1p 0B",
	       "datagrams name their burst, empty ones too");
	fine();
}

/* T32 of one node that talks to itself; and two nodes on one clock (--clock host). */
static void test_one_clock(void)
{
	struct conn self = client, back = server;

	rig_reset(&r);
	self.remote = back.remote = 1;
	back.local = 1;
	back.clock = 0;
	conn_udp(&r, &self, DIR_OUT, 10);
	conn_udp(&r, &back, DIR_IN, 10);
	is_str(rig_events(&r), "send 1000>80 10B 1p; recv 1000>80 10B 1p #1 ended 1p 10B",
	       "T32: over loopback, one clock, the send before its receipt");
	is_int(rig_entries(bpf_map__fd(r.skel->maps.embryonic)), 2, "and a flow for each socket");
	fine();
	rig_reset(&r);
	back = server;
	back.clock = 0;
	for (int i = 0; i < 3; i++) {
		r.node = 1;
		conn_udp(&r, &client, DIR_OUT, 10);
		r.node = 2;
		conn_udp(&r, &back, DIR_IN, 10);
	}
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 1000>80 10B 1p #1 ended 1p 10B; "
	       "send 1000>80 10B 1p ended 1p 10B; recv 1000>80 10B 1p #3 ended 1p 10B; "
	       "send 1000>80 10B 1p ended 1p 10B; recv 1000>80 10B 1p #5 ended 1p 10B",
	       "two nodes on one clock end each other's bursts");
	is_int(r.events[1].node, 2, "and stay two nodes");
	fine();
}

static __u64 boot_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

#define HOUR_NS (3600LL * 1000 * 1000 * 1000)

static void test_physical(void)
{
	const __s64 offset = 1700000000LL * 1000000000;
	__u64 before, after, last;

	rig_reset(&r);
	r.clocks[0].now = r.clocks[1].now = 0;
	r.clocks[1].skew_ns = -2 * HOUR_NS;
	r.settings->realtime_offset_ns = offset;
	before = boot_ns() + offset;
	pass(100, 10);
	after = boot_ns() + offset;
	rig_drain(&r);
	ok(r.events[0].stamp >= (before & ~CLOCK_COUNTER_MASK) && r.events[0].stamp <= after,
	   "a stamp is BOOTTIME and the published offset");
	is_int(r.events[0].stamp & CLOCK_COUNTER_MASK, 0, "with the counter at 0");
	is_int(r.events[1].stamp, r.events[0].stamp + 1, "two hours behind, a receipt follows it");
	ok(r.events[1].wall_ns < after - HOUR_NS, "though its wall clock says otherwise");
	last = r.clocks[0].now;
	r.settings->realtime_offset_ns = offset - HOUR_NS;
	conn_udp(&r, &elsewhere, DIR_OUT, 1);
	is_int(r.clocks[0].now, last + 1, "T23: the wall clock set back, stamps count on");
	r.settings->realtime_offset_ns = offset + HOUR_NS;
	request(110, 10);
	ok(r.clocks[0].now > last + HOUR_NS - 1000000000, "set forward, they follow at once");
	fine();
}

/* T25: the next program finds the clocks that the one before left pinned. */
static void test_restart(void)
{
	const struct rig_sizes sizes = { .clocks_pin = "/sys/fs/bpf/pkt-clocks" };
	struct clock left;

	rig_reset(&r);
	pass(100, 10);
	pass(110, 10);
	left = r.clocks[0];
	is_int(bpf_map__pin(r.skel->maps.clocks, sizes.clocks_pin), 0, "T25: clocks are pinned");
	rig_close(&r);
	if (!ok(!rig_open(&r, &sizes), "the next finds them"))
		return;
	r.settings->reading = 1;
	request(120, 10);
	rig_drain(&r);
	is_int(r.events[0].stamp, left.now + 1, "and goes on above every stamp there was");
	is_int(r.events[0].ended, left.run, "which it ends");
	unlink(sizes.clocks_pin);
}

static void test_node_events(void)
{
	struct event_call call = { .clock = 0, .node = 1, .type = EVENT_node_up };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));
	int fd = bpf_program__fd(r.skel->progs.event_node);

	rig_reset(&r);
	is_int(bpf_prog_test_run_opts(fd, &opts), 0, "a node appears");
	request(100, 10);
	call.type = EVENT_node_down;
	is_int(bpf_prog_test_run_opts(fd, &opts), 0, "and goes");
	is_str(rig_events(&r),
	       "node_up 0>0 0B 1p; send 1000>80 10B 1p; node_down 0>0 0B 1p ended 1p 10B",
	       "both are events of its clock");
	fine();
}

/* T39: a namespace that comes back is another node, with another id. */
static void test_other_node(void)
{
	rig_reset(&r);
	request(100, 10);
	r.node = 9;
	request(100, 10);
	is_int(rig_entries(bpf_map__fd(r.skel->maps.embryonic)), 2,
	       "T39: the same ends in another node are another flow");
	is_str(rig_moved(&r), "out flow_new 2 event 2", "and the same bytes a message of its own");
	fine();
}

/* Two flows of a third node take turns, each time a new burst, until there is no room. */
static void ring_fill(void)
{
	struct conn a = elsewhere, b = client;

	a.clock = b.clock = 2;
	for (int i = 0; i < 200; i++)
		conn_udp(&r, i & 1 ? &a : &b, DIR_OUT, 1);
}

static void test_full_ring(void)
{
	__u64 now;

	rig_reset(&r);
	ring_fill();
	now = rig_count(&r, DIR_OUT).reason.event_lost;
	is_int(now + events(DIR_OUT), 200, "a full ring: each burst is a record, or one lost");
	ok(now > 100, "most of them are lost");
	is_int(r.clocks[2].lost, now, "as the clock knows");
	is_int(r.clocks[2].now, RIG_BEGIN + 200, "and all have stamps");
	now = r.clocks[0].now;
	pass(100, 10);
	ok(r.clocks[0].now > now && r.clocks[1].now > r.clocks[0].now,
	   "where no record fits, clocks tick and merge");
	rig_drain(&r);
	r.events_n = 0;
	pass(110, 10);
	is_str(rig_events(&r), "send 1000>80 10B 1p; recv 1000>80 10B 1p #1",
	       "with room again, all is as before");
	fine();
}

/*
 * A node far ahead tells the client, whose record of that is lost. What the client says
 * next, on the connection whose burst was open before, must carry it all the same.
 */
static void test_full_ring_order(void)
{
	const struct conn ahead = {
		.local = 3, .remote = 1, .local_port = 80, .remote_port = 1001, .clock = 3
	};

	rig_reset(&r);
	r.clocks[3].now += 1ULL << 40;
	pass(100, 10);
	conn_udp(&r, &ahead, DIR_OUT, 1);
	ring_fill();
	conn_udp(&r, &elsewhere, DIR_IN, 1);
	ok(r.clocks[0].lost == 1 && r.clocks[0].now > r.clocks[3].now,
	   "told by a node far ahead, and the record is lost");
	rig_drain(&r);
	r.events_n = 0;
	pass(110, 10);
	conn_tcp(&r, &server, DIR_OUT, ACK, 500, 10);
	rig_drain(&r);
	ok(r.events_n == 3 && r.events[2].stamp > r.clocks[3].now,
	   "who hears of the client next is above that node too");
	fine();
}

int main(void)
{
	const struct rig_sizes small = { .ring_bytes = 4096 };

	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	test_burst();
	test_burst_end();
	test_overflow();
	test_every_packet();
	test_unread();
	test_cause();
	test_cause_evicted();
	test_cause_late();
	test_forgotten();
	test_handshake();
	test_retransmit();
	test_udp();
	test_one_clock();
	test_physical();
	test_restart();
	test_node_events();
	test_other_node();
	rig_close(&r);
	if (rig_open(&r, &small))
		return 1;
	test_full_ring();
	test_full_ring_order();
	rig_close(&r);
	return done();
}
