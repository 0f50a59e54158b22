// SPDX-License-Identifier: GPL-2.0-only
/* What a packet costs: the pipeline less an empty program, by what the packet makes it do. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/event.h"
#include "../bpf/flow.h"
#include "../user/class.h"
#include "../user/rings.h"
#include "bench.h"
#include "../user/pipeline.h"

#define CPU 1
#define SAMPLES_MOST 101
#define SAMPLES_LEAST 7
#define RING_BYTES (4 << 20)
#define PACKETS_BYTES (16 << 20)
#define FLOWS_NEVER_SEEN (1U << 24)

#define UDP .frame = { .kind = FRAME_UDP, .payload = 64 }
#define UDP_OUT .frame = { .kind = FRAME_UDP, .payload = 64, .out = true }
#define UDP6 .frame = { .kind = FRAME_UDP, .payload = 64, .v6 = true }
#define TCP .frame = { .kind = FRAME_TCP, .payload = 100 }
#define TCP_OUT .frame = { .kind = FRAME_TCP, .payload = 100, .out = true }
#define ACK .frame = { .kind = FRAME_TCP }
#define VLANS .frame = { .kind = FRAME_UDP, .payload = 64, .vlans = 2 }
#define OTHER .frame = { .kind = FRAME_OTHER }
#define TWO .flows = 2
#define STEP .seq_step = 100
#define PAIR .how_other = ATTACH_LIVE | 1 /* the receiver's clock */

/* What is attached: nothing that does anything, a minimal flow tracker, or Tidemark. */
enum next { NEXT_PIPELINE, NEXT_EMPTY, NEXT_TRACKER };

struct pipe_case {
	const char *name;
	struct traffic_spec traffic;
	enum next next;
	bool one_way; /* nobody answers: flows stay embryonic */
	bool reading, every_packet;
	const char *recorded; /* with this class */
	double budget_ns;
	__u32 parts; /* of the pipeline, beyond what a start loads: there, and not used */
};

struct measured {
	double ns;	   /* a packet, over the traffic program alone */
	double tracker_ns; /* the same for a minimal flow tracker, one flow */
	bool noisy;
};

static struct {
	struct tidemark t;
	int pipeline;
	struct ring_buffer *ring, *packets;
	double per_case;		   /* seconds */
	struct traffic tracker, untracked; /* for comparison, next to every case */
	double base_ns;			   /* the loop of the test run, subtracted everywhere */
} bench;

static int ignore(void *ctx, void *data, size_t size)
{
	(void)ctx;
	(void)data;
	(void)size;
	return 0;
}

static void record_begin(const char *class)
{
	static struct class_list classes;
	__u32 slots[CLASSES];
	char words[256];

	memset(&classes, 0, sizeof(classes));
	if (rings_put(bench.t.map[MAP_packets], bench.t.cpus, PACKETS_BYTES) ||
	    class_parse(&classes, class, words, sizeof(words)) ||
	    class_finish(&classes, CLASS_WHOLE, &bench.t) ||
	    class_publish(&bench.t, &classes, UINT32_MAX, slots))
		bench_die("cannot record");
	bench.packets = rings_reader(bench.t.map[MAP_packets], CPU, ignore, NULL);
	if (!bench.packets)
		bench_die("no ring of packets");
	class_generation(&bench.t);
}

static void datapath_open(const struct pipe_case *c)
{
	unsigned flows = c->one_way ? 0 : c->traffic.flows * 2;
	__u32 cpu = CPU, id;
	int fd = -1;

	bench_begin(&bench.t, flows > 65536 ? flows : 65536, RING_BYTES);
	if (pipeline_need(&bench.t, c->parts))
		bench_die("no such pipeline");
	bench.pipeline = bpf_obj_get(BENCH_PINS "/pipeline");
	if (!bpf_map_lookup_elem(bench.t.map[MAP_events], &cpu, &id))
		fd = bpf_map_get_fd_by_id(id);
	bench.ring = fd < 0 ? NULL : ring_buffer__new(fd, ignore, NULL, NULL);
	if (bench.pipeline < 0 || !bench.ring)
		bench_die("no pipeline or no ring");
	close(fd);
	if (c->recorded)
		record_begin(c->recorded);
	bench.t.settings->reading = c->reading;
	for (int i = 0; c->every_packet && i < 2; i++)
		bench.t.clocks[i].flags |= CLOCK_EVERY_PACKET;
}

static void datapath_close(void)
{
	ring_buffer__free(bench.packets);
	bench.packets = NULL;
	ring_buffer__free(bench.ring);
	close(bench.pipeline);
	bench_end(&bench.t);
}

/* Both sides of every flow speak, in small blocks: what has no answer yet is soon evicted. */
static void flows_admit(const struct pipe_case *c)
{
	struct traffic_spec spec = c->traffic;
	unsigned each = spec.how_other ? 2 : 1, flows = spec.flows ? spec.flows : 1;
	struct traffic way[2];

	if (spec.frame.kind == FRAME_OTHER)
		return;
	spec.at_random = 0;
	spec.seq_step = 0;
	spec.next = bench.pipeline;
	spec.frame.payload = 0;
	traffic_open(&way[0], &spec);
	spec.frame.out = !spec.frame.out;
	if (spec.how_other)
		spec.how_other ^= ATTACH_EGRESS;
	traffic_open(&way[1], &spec);
	for (unsigned n = 0; n < 2 * flows + 512; n += 256)
		for (int i = 0; i < 2; i++)
			traffic_run(&way[i], 256 * each, NULL);
	traffic_close(&way[0]);
	traffic_close(&way[1]);
}

static void tracker_open(void)
{
	struct traffic_spec spec = { UDP, .next = -1, .tracker = true };

	traffic_open(&bench.tracker, &spec);
	spec.idle = true;
	traffic_open(&bench.untracked, &spec);
}

static double run(const struct traffic *traffic, unsigned repeat, bool *quiet)
{
	double s = traffic_run(traffic, repeat, quiet);

	ring_buffer__consume(bench.ring);
	if (bench.packets)
		ring_buffer__consume(bench.packets);
	return s * 1e9;
}

/*
 * What is compared runs in turn, a few milliseconds each: a machine that is slow for a
 * while is slow for all of them.
 */
static struct measured measure(const struct pipe_case *c, const struct traffic *with,
			       const struct traffic *without)
{
	double ns[2][SAMPLES_MOST], tracker[2][SAMPLES_MOST], got[4];
	double end = bench_wall() + bench.per_case;
	const struct traffic *const runs[] = { with, without, &bench.tracker, &bench.untracked };
	unsigned repeat = c->reading || c->recorded ? 12000 : 50000;
	size_t n[2] = { 0, 0 };
	bool quiet, all_quiet;

	run(with, repeat, &quiet);
	while (n[0] < SAMPLES_MOST && n[1] < SAMPLES_MOST &&
	       (bench_wall() < end || n[0] + n[1] < 3)) {
		all_quiet = true;
		for (int i = 0; i < 4; i++) {
			got[i] = run(runs[i], repeat, &quiet);
			all_quiet &= quiet;
		}
		ns[!all_quiet][n[!all_quiet]] = got[0] - got[1];
		tracker[!all_quiet][n[!all_quiet]++] = got[2] - got[3];
		bench.base_ns = got[3];
	}
	all_quiet = n[0] >= SAMPLES_LEAST || n[0] >= n[1];
	return (struct measured){ .ns = median(ns[!all_quiet], n[!all_quiet]),
				  .tracker_ns = median(tracker[!all_quiet], n[!all_quiet]),
				  .noisy = !all_quiet };
}

static struct measured case_run(const struct pipe_case *c)
{
	struct traffic_spec spec = c->traffic;
	struct traffic with, without;
	struct measured m;

	datapath_open(c);
	if (!c->one_way && c->next == NEXT_PIPELINE)
		flows_admit(c);
	spec.next = c->next == NEXT_PIPELINE ? bench.pipeline : -1;
	spec.tracker = c->next == NEXT_TRACKER;
	traffic_open(&with, &spec);
	spec.next = -1;
	spec.idle = true;
	traffic_open(&without, &spec);
	if (c->next == NEXT_TRACKER && !c->one_way)
		traffic_run(&with, 16 * (spec.flows ? spec.flows : 1), NULL);
	m = measure(c, &with, &without);
	traffic_close(&with);
	traffic_close(&without);
	datapath_close();
	return m;
}

static const struct pipe_case cases[] = {
	{ .name = "what an attachment adds to any program",
	  .next = NEXT_EMPTY,
	  .traffic = { UDP } },
	{ .name = "UDP received, within a burst", .budget_ns = 90, .traffic = { UDP } },
	{ .name = "UDP sent, within a burst", .budget_ns = 90, .traffic = { UDP_OUT } },
	{ .name = "UDP over IPv6, within a burst", .budget_ns = 90, .traffic = { UDP6 } },
	{ .name = "UDP in two VLANs, within a burst", .budget_ns = 90, .traffic = { VLANS } },
	{ .name = "UDP that is never answered", .one_way = true, .traffic = { UDP } },
	{ .name = "TCP data received, within a burst", .budget_ns = 90, .traffic = { TCP, STEP } },
	{ .name = "TCP data sent, within a burst", .budget_ns = 90, .traffic = { TCP_OUT, STEP } },
	{ .name = "TCP pure ACK", .budget_ns = 90, .traffic = { ACK } },
	{ .name = "neither IP nor ARP", .traffic = { OTHER } },
	{ .name = "between two nodes here, sent and received",
	  .budget_ns = 90,
	  .traffic = { TCP_OUT, STEP, PAIR } },
	{ .name = "UDP received, mark loaded and nothing marked",
	  .budget_ns = 90,
	  .parts = STAGES_LIVE_mark,
	  .traffic = { UDP } },
	{ .name = "UDP received, record loaded and nobody records",
	  .budget_ns = 90,
	  .parts = STAGES_LIVE_record,
	  .traffic = { UDP } },
	{ .name = "UDP received, peers loaded and no peer",
	  .budget_ns = 90,
	  .parts = PART_WIRE,
	  .traffic = { UDP } },
	{ .name = "UDP received, all of it loaded, nothing used",
	  .budget_ns = 90,
	  .parts = PARTS_ALL,
	  .traffic = { UDP } },
	{ .name = "TCP data sent, all of it loaded, nothing used",
	  .budget_ns = 90,
	  .parts = PARTS_ALL,
	  .traffic = { TCP_OUT, STEP } },
	{ .name = "received, each a burst, nobody reads", .traffic = { UDP, TWO } },
	{ .name = "received, each a burst, read", .reading = true, .traffic = { UDP, TWO } },
	{ .name = "sent, each a burst, nobody reads", .traffic = { TCP_OUT, STEP, TWO } },
	{ .name = "sent, each a burst, read", .reading = true, .traffic = { TCP_OUT, STEP, TWO } },
	{ .name = "received, --every-packet, read",
	  .reading = true,
	  .every_packet = true,
	  .traffic = { UDP } },
	{ .name = "between two nodes, each a burst, nobody reads",
	  .traffic = { TCP_OUT, STEP, PAIR, TWO } },
	{ .name = "between two nodes, each a burst, read",
	  .reading = true,
	  .traffic = { TCP_OUT, STEP, PAIR, TWO } },
	{ .name = "UDP received, recorded, beyond its cutoff",
	  .recorded = "all:cutoff=0",
	  .traffic = { UDP } },
	{ .name = "UDP received, recorded, kept", .recorded = "all:", .traffic = { UDP } },
	{ .name = "TCP data received, recorded, beyond its cutoff",
	  .recorded = "all:cutoff=0",
	  .traffic = { TCP, STEP } },
	{ .name = "TCP data received, recorded, kept",
	  .recorded = "all:",
	  .traffic = { TCP, STEP } },
	{ .name = "a flow never seen before, nobody reads",
	  .one_way = true,
	  .traffic = { UDP, .flows = FLOWS_NEVER_SEEN } },
	{ .name = "the minimal tracker, the same",
	  .one_way = true,
	  .next = NEXT_TRACKER,
	  .traffic = { UDP, .flows = FLOWS_NEVER_SEEN } },
};

/* The same at random over more and more flows. Columns: FLOWS. */
static const unsigned many[] = { 1, 1000, 100000, 1000000 };
#define MANY_NR (sizeof(many) / sizeof(many[0]))

static const struct pipe_case many_cases[] = {
	{ .name = "minimal flow tracker", .next = NEXT_TRACKER, .traffic = { UDP } },
	{ .name = "Tidemark, no message (TCP pure ACK)", .traffic = { ACK } },
	{ .name = "Tidemark, messages, nobody reads", .traffic = { UDP } },
	{ .name = "Tidemark, messages, read", .reading = true, .traffic = { UDP } },
};

static void cases_print(const char *only)
{
	double tracker_ns[sizeof(cases) / sizeof(cases[0])];
	struct measured m;
	size_t n = 0;

	puts("Pipeline: ns of CPU a packet, less the same traffic into an empty program\n"
	     "(BPF_PROG_TEST_RUN on one CPU; medians; ~: the CPU was never ours alone).\n"
	     "x tracker: times the least a flow tracker can do (parse, clock, LRU map), run in "
	     "turn with it.\n");
	printf("%-52s %9s %10s  %s\n", "", "ns/packet", "x tracker", "budget");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct pipe_case *c = &cases[i];

		if (only && !strstr(c->name, only))
			continue;
		m = case_run(c);
		tracker_ns[n++] = m.tracker_ns;
		printf("%-52s %s%8.1f %10.2f", c->name, m.noisy ? "~" : " ", m.ns,
		       m.ns / m.tracker_ns);
		if (c->budget_ns > 0)
			printf("  %.0f %s", c->budget_ns, m.ns <= c->budget_ns ? "ok" : "over");
		putchar('\n');
		fflush(stdout);
	}
	printf("\nThe tracker: %.1f ns. The loop, subtracted everywhere: %.1f ns.\n",
	       median(tracker_ns, n), bench.base_ns);
}

static void many_print(const char *only)
{
	struct pipe_case c;
	struct measured m;

	puts("\nThe same, packets at random over so many known flows (of many, each message is a "
	     "burst).\n");
	printf("%-40s", "");
	for (size_t k = 0; k < MANY_NR; k++)
		printf(" %10u", many[k]);
	putchar('\n');
	for (size_t i = 0; i < sizeof(many_cases) / sizeof(many_cases[0]); i++) {
		if (only && !strstr(many_cases[i].name, only))
			continue;
		printf("%-40s", many_cases[i].name);
		for (size_t k = 0; k < MANY_NR; k++) {
			c = many_cases[i];
			c.traffic.flows = many[k];
			c.traffic.at_random = many[k] > 1;
			m = case_run(&c);
			printf(" %s%9.1f", m.noisy ? "~" : " ", m.ns);
			fflush(stdout);
		}
		putchar('\n');
	}
	printf("%-40s %10s %10s %10s %10s\n", "netobserv, measured once on such a machine", "150",
	       "159", "252", "417");
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 ? argv[1] : NULL;

	bench_pin(CPU);
	tracker_open();
	bench.per_case = bench_seconds() / (sizeof(cases) / sizeof(cases[0]) +
					    MANY_NR * sizeof(many_cases) / sizeof(many_cases[0]));
	cases_print(only);
	many_print(only);
	return 0;
}
