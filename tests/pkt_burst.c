// SPDX-License-Identifier: GPL-2.0-only
/* Bursts per flow (--burst flow): what goes on, what ends, and what the log is told. */
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

static void begin(void)
{
	rig_reset(&r);
	for (int i = 0; i < RIG_CLOCKS; i++)
		r.clocks[i].flags = CLOCK_BURST_FLOW;
}

static void end_all(__u64 before_ns)
{
	struct bursts_call call = { .before_ns = before_ns };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));

	ok(!bpf_prog_test_run_opts(bpf_program__fd(r.skel->progs.bursts_end), &opts),
	   "the reader has old bursts ended");
}

static void fine(void)
{
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

static void request(__u32 seq, unsigned n)
{
	conn_tcp(&r, &client, DIR_OUT, ACK, seq, n);
}

static void arrive(__u32 seq, unsigned n)
{
	conn_tcp(&r, &server, DIR_IN, ACK, seq, n);
}

static void test_interleaved(void)
{
	__u64 packets = 0, bytes = 0;

	begin();
	for (int i = 0; i < 3; i++) {
		request(100 + 10 * i, 10);
		arrive(100 + 10 * i, 10);
		conn_udp(&r, &elsewhere, DIR_OUT, 7);
	}
	is_str(rig_events(&r), "send 1000>80 10B 1p; recv 1000>80 10B 1p #1; send 1001>80 7B 1p",
	       "flows that take turns are one burst each");
	ok(r.events[0].flags & EVENT_BURST_FLOW && r.events[1].flags & EVENT_BURST_FLOW,
	   "and each says that it was folded like that");
	end_all(~0ULL);
	rig_drain(&r);
	is_int(r.events_n, 6, "all three are ended");
	for (unsigned i = 3; i < r.events_n; i++) {
		packets += run_packets(r.events[i].ended);
		bytes += run_bytes(r.events[i].ended);
	}
	is_int(packets, 9, "with every packet");
	is_int(bytes, 81, "and every byte");
	request(130, 10);
	rig_drain(&r);
	is_int(r.events_n, 7, "what follows is a new one");
	fine();
}

static void test_turns(void)
{
	begin();
	request(100, 10);
	request(110, 10);
	conn_tcp(&r, &client, DIR_IN, ACK, 500, 5);
	request(120, 10);
	request(130, 10);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 80>1000 5B 1p ended 2p 20B; "
	       "send 1000>80 10B 1p ended 1p 5B",
	       "a flow that turns around ends its burst");
	conn_tcp(&r, &client, DIR_OUT, ACK | FIN, 140, 0);
	is_str(strstr(rig_events(&r), "close"), "close 1000>80 0B 1p ended 2p 20B",
	       "and so does its end");
	fine();
}

static void test_causes(void)
{
	begin();
	request(100, 10);
	arrive(100, 10);
	conn_tcp(&r, &server, DIR_OUT, ACK, 500, 5);
	conn_tcp(&r, &client, DIR_IN, ACK, 500, 5);
	request(110, 10);
	arrive(110, 10);
	is_str(rig_events(&r),
	       "send 1000>80 10B 1p; recv 1000>80 10B 1p #1; send 80>1000 5B 1p ended 1p 10B; "
	       "recv 80>1000 5B 1p #3 ended 1p 10B; send 1000>80 10B 1p ended 1p 5B; "
	       "recv 1000>80 10B 1p #5 ended 1p 5B",
	       "each receipt names its send, and one with a new cause is an event");
	fine();
}

static void test_young(void)
{
	begin();
	request(100, 10);
	end_all(1);
	is_str(rig_events(&r), "send 1000>80 10B 1p", "one that has just begun goes on");
	r.settings->reading = 0;
	conn_udp(&r, &elsewhere, DIR_OUT, 7);
	r.settings->reading = 1;
	request(110, 10);
	end_all(~0ULL);
	ok(strstr(rig_events(&r), "none ended 2p 20B"), "also what went on while nobody read");
}

static void test_by_node(void)
{
	rig_reset(&r);
	conn_udp(&r, &elsewhere, DIR_OUT, 7);
	request(100, 10);
	conn_udp(&r, &elsewhere, DIR_OUT, 7);
	rig_drain(&r);
	ok(r.events_n == 3 && !(r.events[0].flags & EVENT_BURST_FLOW),
	   "without it each turn is an event, and none says otherwise");
	is_int(rig_entries(bpf_map__fd(r.skel->maps.bursts)), 0, "and nothing is kept for flows");
	fine();
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	test_interleaved();
	test_turns();
	test_causes();
	test_young();
	test_by_node();
	rig_close(&r);
	return done();
}
