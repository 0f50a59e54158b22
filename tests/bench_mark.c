// SPDX-License-Identifier: GPL-2.0-only
/* What marking costs: packets through the pipeline with marks and without, side by side. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../user/marks.h"
#include "bench.h"

#define CPU 1
#define SAMPLES_MOST 61

struct mark_case {
	const char *name;
	int how;     /* -1: no mark that fits */
	bool tables; /* there are marks, of other flows */
	double budget_ns;
};

static const struct mark_case cases[] = {
	{ "no marks at all", -1, false, 10 },
	{ "miss: marks, none of this flow", -1, true, 10 },
	{ "hit: flow label", MARK_LABEL, true, 15 },
	{ "hit: hop-by-hop", MARK_HOP_BY_HOP, true, 140 },
	{ "hit: destination", MARK_DESTINATION, true, 140 },
	{ "hit: hop-by-hop+destination", MARK_BOTH, true, 140 },
};

#define CASES (sizeof(cases) / sizeof(cases[0]))

static const struct frame_spec udp6 = { .kind = FRAME_UDP, .payload = 64, .v6 = true, .out = true };

static struct mark mark_of(const char *dst, int how)
{
	struct mark m = { .experiment = 2, .activity = 9, .how = how };
	const char *words;

	if (dst && endpoint_parse(dst, &m.dst, &words))
		bench_die("%s: %s", dst, words);
	return m;
}

static void marks_set(struct tidemark *t, const struct mark_case *c)
{
	static struct mark marks[1001];
	char end[64];
	size_t bad, n = 0;

	for (; c->tables && n < 1000; n++) {
		snprintf(end, sizeof(end), "[2001:db8::1:%zx]:1094", n + 1);
		marks[n] = mark_of(end, MARK_LABEL);
		if (n >= 100) /* single flows, but for a hundred rules */
			endpoint_parse(":40000", &marks[n].src, (const char *[]){ "" }),
				endpoint_parse("2001:db8::1", &marks[n].src,
					       (const char *[]){ "" });
	}
	if (c->how >= 0)
		marks[n++] = mark_of(":40000", c->how);
	if (n && marks_add(t, marks, n, &bad))
		bench_die("no marks");
}

/*
 * A packet that grew would grow again, so every run is of one packet: what the test run
 * itself takes is in the empty program's too.
 */
static double once(int fd, const struct frame *f, unsigned runs)
{
	struct __sk_buff ctx = {};
	double sum = 0;
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->bytes, .data_size_in = f->length,
		    .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .repeat = 1);

	ctx.cb[ATTACH_CB_NODE] = 1;
	ctx.cb[ATTACH_CB_HOW] = ATTACH_LIVE | ATTACH_EGRESS;
	for (unsigned i = 0; i < runs; i++) {
		if (bpf_prog_test_run_opts(fd, &opts))
			bench_die("test run");
		sum += opts.duration;
	}
	return sum / runs;
}

struct side {
	struct tidemark t;
	struct traffic traffic;
	int pipeline;
	bool single;
	double ns[SAMPLES_MOST];
};

static void side_open(struct side *s, const struct mark_case *c, const char *pins)
{
	const struct sizes sizes = { .flows = 65536, .nodes = 64, .ring_bytes = 1 << 20 };
	struct traffic_spec spec = { .frame = udp6 };
	char path[128];

	tidemark_init(&s->t, pins, "/nonexistent");
	if (tidemark_create(&s->t, &sizes, NULL))
		bench_die("no datapath");
	marks_set(&s->t, c); /* which puts another pipeline in place */
	snprintf(path, sizeof(path), "%s/pipeline", pins);
	s->pipeline = bpf_obj_get(path);
	s->single = c->how > MARK_LABEL;
	spec.next = s->pipeline;
	traffic_open(&s->traffic, &spec);
}

static void side_close(struct side *s)
{
	traffic_close(&s->traffic);
	close(s->pipeline);
	tidemark_destroy(&s->t);
	tidemark_close(&s->t);
}

static double side_run(struct side *s, bool single)
{
	if (single)
		return once(s->pipeline, &s->traffic.frame, 4000);
	return traffic_run(&s->traffic, 50000, NULL) * 1e9;
}

int main(void)
{
	const struct mark_case none = { .how = -1 };
	static struct side with, without;
	double end, per_case = bench_seconds() / CASES, diff[SAMPLES_MOST];

	bench_pin(CPU);
	puts("Marks: ns a packet over the pipeline that has never been given one (UDP over IPv6,\n"
	     "sent; 100 rules and 900 single flows besides). Headers: one packet a run, for it "
	     "grows.\n");
	printf("%-40s %9s %10s  %s\n", "", "ns", "pipeline", "budget");
	for (size_t i = 0; i < CASES; i++) {
		size_t n = 0;

		side_open(&without, &none, BENCH_PINS "-without");
		side_open(&with, &cases[i], BENCH_PINS);
		side_run(&with, with.single);
		side_run(&without, with.single);
		end = bench_wall() + per_case;
		while (n < SAMPLES_MOST && (bench_wall() < end || n < 5)) {
			without.ns[n] = side_run(&without, with.single);
			diff[n] = side_run(&with, with.single) - without.ns[n];
			n++;
		}
		printf("%-40s %9.1f %10.1f  %.0f %s\n", cases[i].name, median(diff, n),
		       median(without.ns, n), cases[i].budget_ns,
		       median(diff, n) <= cases[i].budget_ns ? "ok" : "over");
		fflush(stdout);
		side_close(&with);
		side_close(&without);
	}
	return 0;
}
