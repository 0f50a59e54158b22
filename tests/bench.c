// SPDX-License-Identifier: GPL-2.0-only
/* What the benchmarks share. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../user/log.h"
#include "../user/physical.h"
#include "bench.h"
#include "bench.skel.h"

/* A run counts if its thread had the CPU for all but this share of the time. */
#define QUIET_MOST 1.03

double bench_seconds(void)
{
	const char *given = getenv("BENCH_SECONDS");
	double seconds = given ? atof(given) : 0;

	return seconds > 0 ? seconds : 30;
}

static double clock_seconds(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

double bench_wall(void)
{
	return clock_seconds(CLOCK_MONOTONIC);
}

double bench_cpu(void)
{
	return clock_seconds(CLOCK_THREAD_CPUTIME_ID);
}

void bench_die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fputs("bench: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

const char *bench_binary(void)
{
	return getenv("TIDEMARK") ?: "./tidemark";
}

static char state_dir[] = "/tmp/bench-state-XXXXXX";

static void state_remove(void)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", state_dir);
	if (system(command))
		fprintf(stderr, "bench: %s stays\n", state_dir);
}

const char *bench_state_dir(void)
{
	static bool made;

	if (!made && (!mkdtemp(state_dir) || atexit(state_remove)))
		bench_die("%s: %s", state_dir, strerror(errno));
	made = true;
	return state_dir;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double median(double *values, size_t n)
{
	if (!n)
		return 0;
	qsort(values, n, sizeof(*values), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void bench_begin(struct tidemark *t, unsigned flows, size_t ring_bytes)
{
	const struct sizes sizes = { .flows = flows, .nodes = 64, .ring_bytes = ring_bytes };

	libbpf_set_print(log_libbpf);
	tidemark_init(t, BENCH_PINS, "/nonexistent");
	if (tidemark_create(t, &sizes, NULL))
		bench_die("no datapath");
	physical_publish(t);
}

void bench_end(struct tidemark *t)
{
	tidemark_destroy(t);
	tidemark_close(t);
}

static void put(struct frame *f, const void *bytes, size_t n)
{
	memcpy(f->bytes + f->length, bytes, n);
	f->length += n;
}

static void put16(struct frame *f, uint16_t value)
{
	value = htons(value);
	put(f, &value, sizeof(value));
}

static void put32(struct frame *f, uint32_t value)
{
	value = htonl(value);
	put(f, &value, sizeof(value));
}

static void put_l2(struct frame *f, const struct frame_spec *spec, uint16_t type)
{
	/* Zero is the address of lo, on which test runs are: to us. */
	static const unsigned char addresses[12];

	put(f, addresses, sizeof(addresses));
	for (unsigned i = 0; i < spec->vlans; i++) {
		put16(f, i + 1 < spec->vlans ? 0x88a8 : 0x8100);
		put16(f, 10 + i);
	}
	put16(f, type);
}

#define LOCAL 0xc0000201
#define REMOTE 0x0a000000

static void put_v6(struct frame *f, const struct frame_spec *spec, uint32_t address)
{
	static const unsigned char prefix[12] = { 0x20, 0x01, 0x0d, 0xb8 };

	(void)spec;
	put(f, prefix, sizeof(prefix));
	put32(f, address);
}

static void put_l3(struct frame *f, const struct frame_spec *spec, unsigned length)
{
	uint32_t src = spec->out ? LOCAL : REMOTE, dst = spec->out ? REMOTE : LOCAL;
	unsigned char proto = spec->kind == FRAME_TCP ? 6 : 17, hops = 64;

	if (spec->v6) {
		put32(f, 6U << 28);
		put16(f, length);
		put(f, &proto, 1);
		put(f, &hops, 1);
		put_v6(f, spec, src);
		put_v6(f, spec, dst);
	} else {
		put32(f, 0x45U << 24 | (length + 20));
		put32(f, 0x00014000);
		put(f, &hops, 1);
		put(f, &proto, 1);
		put16(f, 0);
		put32(f, src);
		put32(f, dst);
	}
	f->address_at = f->length - 4 - (spec->out ? 0 : spec->v6 ? 16 : 4);
}

void frame_make(struct frame *f, const struct frame_spec *spec)
{
	unsigned header = spec->kind == FRAME_TCP ? 20 : 8;
	uint16_t ports[] = { spec->out ? 80 : 40000, spec->out ? 40000 : 80 };

	memset(f, 0, sizeof(*f));
	if (spec->kind == FRAME_OTHER) {
		put_l2(f, spec, 0x88cc); /* LLDP */
		f->length += 46;
		return;
	}
	put_l2(f, spec, spec->v6 ? 0x86dd : 0x0800);
	put_l3(f, spec, header + spec->payload);
	put16(f, ports[0]);
	put16(f, ports[1]);
	if (spec->kind == FRAME_TCP) {
		f->seq_at = f->length;
		put32(f, 1000);
		put32(f, 1);
		put16(f, 0x5010); /* ACK */
		put16(f, 65535);
		put32(f, 0);
	} else {
		put16(f, header + spec->payload);
		put16(f, 0);
	}
	f->length += spec->payload;
}

void traffic_open(struct traffic *traffic, const struct traffic_spec *spec)
{
	struct bench_bpf *skel = bench_bpf_unpack();
	int fd, zero = 0;

	if (!skel)
		bench_die("no traffic program: %s", strerror(errno));
	frame_make(&traffic->frame, &spec->frame);
	skel->rodata->how = spec->how | ATTACH_LIVE | (spec->frame.out ? ATTACH_EGRESS : 0);
	skel->rodata->how_other = spec->how_other;
	skel->rodata->passes = !spec->idle;
	skel->rodata->flows = spec->flows ? spec->flows : 1;
	skel->rodata->at_random = spec->at_random;
	skel->rodata->address_at = traffic->frame.address_at;
	skel->rodata->seq_at = traffic->frame.seq_at;
	skel->rodata->seq_step = spec->seq_step;
	bpf_map__set_max_entries(skel->maps.tracked, spec->tracker ? 2 * skel->rodata->flows : 1);
	if (bench_bpf__load(skel))
		bench_die("traffic program does not load");
	fd = spec->next < 0 ? bpf_program__fd(skel->progs.empty) : spec->next;
	if (spec->tracker)
		fd = bpf_program__fd(skel->progs.tracker);
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.next), &zero, &fd, BPF_ANY))
		bench_die("no tail call: %s", strerror(errno));
	traffic->skel = skel;
	traffic->fd = bpf_program__fd(skel->progs.traffic);
}

void traffic_close(struct traffic *traffic)
{
	bench_bpf__destroy(traffic->skel);
	traffic->skel = NULL;
}

double traffic_run(const struct traffic *traffic, unsigned repeat, bool *quiet)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = traffic->frame.bytes,
		    .data_size_in = traffic->frame.length, .repeat = repeat);
	double wall = bench_wall(), cpu = bench_cpu();
	int err = bpf_prog_test_run_opts(traffic->fd, &opts);

	cpu = bench_cpu() - cpu;
	wall = bench_wall() - wall;
	if (err || opts.retval != (uint32_t)-1)
		bench_die("test run: %s, verdict %d", strerror(-err), (int)opts.retval);
	if (quiet)
		*quiet = wall < cpu * QUIET_MOST;
	return cpu / repeat;
}
