/* SPDX-License-Identifier: GPL-2.0-only */
/* What the benchmarks share: quiet measurements, medians, test packets, the traffic program. */
#ifndef TIDEMARK_BENCH_H
#define TIDEMARK_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../user/tidemark.h"

#define BENCH_PINS "/sys/fs/bpf/bench"

/* BENCH_SECONDS: how long a program may take, about; 30 by default. */
double bench_seconds(void);

double bench_wall(void); /* seconds, MONOTONIC */
double bench_cpu(void);	 /* seconds of this thread; interrupts it served included */

/* Whole words, on stderr, and exit 1. */
__attribute__((format(printf, 1, 2), noreturn)) void bench_die(const char *format, ...);

/* The binary to measure, and a directory for what it remembers, removed at exit. */
const char *bench_binary(void);
const char *bench_state_dir(void);

/* Sorts what it is given. */
double median(double *values, size_t n);

/* Stay on one CPU, the last: interrupts like the first. */
void bench_pin(int cpu);

/* A fresh datapath in this world's bpf file system; bench_end() takes it down. */
void bench_begin(struct tidemark *t, unsigned flows, size_t ring_bytes);
void bench_end(struct tidemark *t);

/* A test packet, as the node whose end is `local` sends (out) or receives it. */
enum frame_kind { FRAME_UDP, FRAME_TCP, FRAME_OTHER };

struct frame {
	unsigned char bytes[256];
	unsigned length;
	unsigned address_at; /* low word of the remote address */
	unsigned seq_at;
};

struct frame_spec {
	enum frame_kind kind;
	bool v6, out;
	unsigned vlans, payload;
};

void frame_make(struct frame *f, const struct frame_spec *spec);

/* Traffic: see bench.bpf.c for the fields. */
struct traffic_spec {
	struct frame_spec frame;
	uint32_t how, how_other, flows, at_random, seq_step;
	bool idle;    /* does not pass packets on */
	bool tracker; /* passes them to the minimal tracker, whatever `next` says */
	int next;     /* program to pass them to, -1: the empty one */
};

struct traffic {
	struct bench_bpf *skel;
	struct frame frame;
	int fd;
};

void traffic_open(struct traffic *traffic, const struct traffic_spec *spec);
void traffic_close(struct traffic *traffic);

/* Runs it so often; CPU seconds a packet. *quiet: was the CPU ours all the time? */
double traffic_run(const struct traffic *traffic, unsigned repeat, bool *quiet);

#endif
