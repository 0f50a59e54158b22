// SPDX-License-Identifier: GPL-2.0-only
/* How fast events leave the kernel, and what is lost: raw records, then `trace --json`. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/counter.h"
#include "../bpf/event.h"
#include "bench.h"

#define PRODUCER_CPU 1
#define READER_CPU 0
#define BUDGET_PER_SECOND 10e6
#define FILE_BYTES (1 << 20)

static struct tidemark t;
static struct ring_buffer *ring;
static volatile bool stopped;

/* What a reader that keeps everything would do, short of the disk. */
static struct {
	char *file;
	size_t at;
	uint64_t records;
} kept;

static int keep(void *ctx, void *data, size_t size)
{
	(void)ctx;
	if (kept.at + size > FILE_BYTES)
		kept.at = 0;
	memcpy(kept.file + kept.at, data, size);
	kept.at += size;
	kept.records++;
	return 0;
}

static void ring_open(void)
{
	__u32 cpu = PRODUCER_CPU, id;
	int fd = -1;

	if (!bpf_map_lookup_elem(t.map[MAP_events], &cpu, &id))
		fd = bpf_map_get_fd_by_id(id);
	ring = fd < 0 ? NULL : ring_buffer__new(fd, keep, NULL, NULL);
	if (!ring)
		bench_die("no ring");
	close(fd);
}

static void every_packet(void)
{
	for (unsigned i = 0; i < t.clocks_n; i++)
		t.clocks[i].flags |= CLOCK_EVERY_PACKET;
}

static uint64_t lost_now(void)
{
	uint64_t lost = 0;

	for (unsigned i = 0; i < t.clocks_n; i++)
		lost += *(volatile __u64 *)&t.clocks[i].lost;
	return lost;
}

static void traffic_events(struct traffic *traffic, uint32_t clock)
{
	struct traffic_spec spec = {
		.frame = { .kind = FRAME_UDP, .payload = 64 },
		.how = clock,
	};

	spec.next = bpf_obj_get(BENCH_PINS "/pipeline");
	if (spec.next < 0)
		bench_die("no pipeline: %s", strerror(errno));
	traffic_open(traffic, &spec);
	close(spec.next);
}

/* A full ring, emptied: what a record costs a reader that is never waited for. */
static void drained_print(const struct traffic *traffic)
{
	unsigned fill = 200000;
	double end = bench_wall() + bench_seconds() / 8, cpu, ns[1000];
	uint64_t before;
	size_t n = 0;

	while (bench_wall() < end && n < 1000) {
		traffic_run(traffic, fill, NULL);
		before = kept.records;
		cpu = bench_cpu();
		ring_buffer__consume(ring);
		ns[n++] = (bench_cpu() - cpu) * 1e9 / (kept.records - before);
	}
	cpu = median(ns, n);
	printf("%-46s %7.1f ns/record = %.0f M records/s a core   10 %s\n", "a full ring, emptied",
	       cpu, 1e3 / cpu, 1e9 / cpu >= BUDGET_PER_SECOND ? "ok" : "over");
	fflush(stdout);
}

static void *produce(void *arg)
{
	bench_pin(PRODUCER_CPU);
	while (!stopped)
		traffic_run(arg, 20000, NULL);
	return NULL;
}

/* Both at once, the reader by timer: what a producer that does nothing else can deliver. */
static void through_print(struct traffic *traffic)
{
	const struct timespec timer = { .tv_nsec = 2000000 };
	double wall = bench_wall(), end = wall + bench_seconds() / 8, cpu = bench_cpu();
	uint64_t lost = lost_now(), records = kept.records;
	pthread_t producer;

	bench_pin(READER_CPU);
	if (pthread_create(&producer, NULL, produce, traffic))
		bench_die("no thread");
	while (bench_wall() < end) {
		nanosleep(&timer, NULL);
		ring_buffer__consume(ring);
	}
	stopped = true;
	pthread_join(producer, NULL);
	ring_buffer__consume(ring);
	wall = bench_wall() - wall;
	cpu = bench_cpu() - cpu;
	records = kept.records - records;
	printf("%-46s %7.1f ns/record, %.1f M records/s, %llu of %llu lost\n",
	       "one CPU producing, another reading", cpu * 1e9 / records, records / wall / 1e6,
	       (unsigned long long)(lost_now() - lost), (unsigned long long)records);
	fflush(stdout);
}

static void raw_print(void)
{
	struct traffic traffic;

	bench_pin(PRODUCER_CPU);
	bench_begin(&t, 0, 64 << 20);
	ring_open();
	kept.file = malloc(FILE_BYTES);
	t.settings->reading = 1;
	every_packet();
	traffic_events(&traffic, 0);
	drained_print(&traffic);
	through_print(&traffic);
	traffic_close(&traffic);
	ring_buffer__free(ring);
	bench_end(&t);
}

/* As fast as asked, in steps of a millisecond. */
static double offer(const struct traffic *traffic, double per_second, double seconds)
{
	double began = bench_wall(), now = began;
	uint64_t sent = 0, due;

	while ((now = bench_wall()) < began + seconds) {
		due = (now - began) * per_second;
		if (due - sent >= per_second / 1000) {
			traffic_run(traffic, due - sent, NULL);
			sent = due;
		}
	}
	return sent;
}

static double cpu_of(pid_t pid)
{
	struct timespec used = {};
	clockid_t clock;

	if (!clock_getcpuclockid(pid, &clock))
		clock_gettime(clock, &used);
	return used.tv_sec + used.tv_nsec * 1e-9;
}

static void trace_steps(pid_t pid)
{
	static const double rates[] = { 50e3, 100e3, 200e3, 400e3, 800e3, 1600e3, 3200e3 };
	double seconds = bench_seconds() / 30, sent, got, cpu;
	struct traffic traffic;
	uint64_t lost;

	tidemark_init(&t, BENCH_PINS, "/nonexistent");
	if (tidemark_open(&t))
		bench_die("no datapath of trace");
	every_packet();
	traffic_events(&traffic, 0);
	bench_pin(PRODUCER_CPU);
	printf("\ntrace --json --every-packet >/dev/null, with its own rings\n\n");
	printf("%12s %12s %10s %14s %16s\n", "offered/s", "events", "lost", "ns CPU/event",
	       "events/s a core");
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		lost = lost_now();
		cpu = cpu_of(pid);
		sent = offer(&traffic, rates[i], seconds);
		cpu = cpu_of(pid) - cpu;
		lost = lost_now() - lost;
		got = sent - lost;
		printf("%12.0f %12.0f %10llu", sent / seconds, sent, (unsigned long long)lost);
		if (got > 0)
			printf(" %14.0f %16.0f", cpu * 1e9 / got, got / cpu);
		putchar('\n');
		fflush(stdout);
	}
	traffic_close(&traffic);
	tidemark_close(&t);
}

static void trace_print(void)
{
	const char *binary = bench_binary();
	char words[512] = "", *const argv[] = { "tidemark",    "trace",
						"--json",      "-n",
						"netns:a",     "--every-packet",
						"--pin-dir",   BENCH_PINS,
						"--state-dir", (char *)bench_state_dir(),
						NULL };
	int pipe_fds[2], status;
	ssize_t n;
	pid_t pid;

	if (system("ip netns add a && ip -n a link set lo up") || pipe(pipe_fds))
		bench_die("no namespace");
	pid = fork();
	if (!pid) {
		bench_pin(READER_CPU);
		if (!freopen("/dev/null", "w", stdout))
			_exit(1);
		dup2(pipe_fds[1], 2);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
		execv(binary, argv);
		_exit(1);
	}
	close(pipe_fds[1]);
	while (!strstr(words, "watching")) {
		n = read(pipe_fds[0], words, sizeof(words) - 1);
		if (n <= 0)
			bench_die("trace does not start: %s", words);
		words[n] = 0;
	}
	trace_steps(pid);
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	if (status)
		bench_die("trace ends with status %#x", status);
}

int main(void)
{
	puts("\nEvents out of the kernel: one for each packet (BPF_PROG_TEST_RUN), read and copied.\n");
	raw_print();
	trace_print();
	return 0;
}
