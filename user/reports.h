/* SPDX-License-Identifier: GPL-2.0-only */
/* Flows that are told of: which live now, what became of each, start to end. */
#ifndef TIDEMARK_REPORTS_H
#define TIDEMARK_REPORTS_H

#include "../bpf/report.h"
#include "tidemark.h"

/* Beyond so many flows at once new ones are refused, and counted. */
#define REPORTS_FLOWS_MAX 65536

/* A flow that has been announced and has not ended. */
struct reported {
	struct report latest; /* .tcp: of the last report of its socket, if .has says so */
	__u32 hz;	      /* the ticks in it, a second */
	__u64 started_ns;     /* wall clock, as all here */
	__u64 ended_ns;	      /* once it has */
	__u64 now_ns;
	__u64 next_ns;	       /* the next ongoing */
	__u64 told[DIRS_NR];   /* wire bytes up to the call before, */
	__u64 more[DIRS_NR];   /* and since then */
	__u32 series;	       /* for who exports it: not touched here */
	__u8 missing;	       /* walks that did not find it in the connection table */
	struct reported *next; /* in its bucket */
};

enum reports_how {
	REPORTS_FULL,  /* sockets are read by the kernel's own types */
	REPORTS_PLAIN, /* no BTF: by what BPF guarantees */
};

struct reports_options {
	enum report_whose whose;
	__u64 period_ns;
	__u64 idle_ns;	   /* without a packet for so long a flow that is not TCP has ended */
	__u64 idle_tcp_ns; /* and one of TCP that has no socket here */
	__u16 ignore_port; /* of UDP, either end: our own fireflies */
	bool plain;	   /* even where there is BTF */
	bool later; /* sockets are asked from the first step on: loading that takes a while */
};

#define REPORTS_OPTIONS_DEFAULT                                                           \
	{                                                                                 \
		.whose = REPORTS_MARKED, .period_ns = 1000000000, .idle_ns = 60000000000, \
		.idle_tcp_ns = 3600000000000                                              \
	}

struct reports_counts {
	__u64 started, ongoing, ended;
	__u64 refused; /* more flows at once than REPORTS_FLOWS_MAX */
	__u64 lost;    /* records the ring had no room for */
};

/* Every start has an end, and between them nothing of another connection on the same ends. */
typedef void (*reports_fn)(enum report_type type, struct reported *flow, void *ctx);

struct reports;

/*
 * Let the kernel report, and adopt the flows that live already. NULL: said why. What is
 * attached stays when this is closed (down takes it off); it tells nothing to nobody.
 */
struct reports *reports_open(struct tidemark *t, const struct reports_options *o, reports_fn fn,
			     void *ctx);
void reports_close(struct reports *r);

/* Other periods, other flows: those that live stay as they are. */
void reports_set(struct reports *r, const struct reports_options *o);

/* A few times a second: what the kernel has told, ends it can not tell, periods that are over. */
void reports_step(struct reports *r);

enum reports_how reports_how(const struct reports *r);
const struct reports_counts *reports_counts(const struct reports *r);

/* All that live. */
void reports_each(const struct reports *r, void (*fn)(const struct reported *flow, void *ctx),
		  void *ctx);
unsigned reports_live(const struct reports *r);

#endif
