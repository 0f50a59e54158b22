/* SPDX-License-Identifier: GPL-2.0-only */
/* Metrics in Prometheus' text format. */
#ifndef TIDEMARK_METRICS_H
#define TIDEMARK_METRICS_H

#include <linux/types.h>
#include <stdbool.h>

#include "text.h"

/*
 * A family: once, before its samples. `type` is counter, gauge, ... A sample is
 * metric_name(), any labels, and a value, which ends it.
 */
void metric_family(struct text *text, const char *name, const char *type, const char *help);
void metric_name(struct text *text, const char *name);
void metric_label(struct text *text, const char *label, const char *value);
void metric_u64(struct text *text, __u64 value);
void metric_seconds(struct text *text, __s64 ns);

struct http;
struct marking;
struct serve;
struct tidemark;
struct tracer;

/* What the daemon knows, for those who tell it. */
struct metrics_source {
	const struct tidemark *t;
	const struct tracer *tracer;
	const struct http *http;
	struct marking *marking;   /* NULL: none */
	const struct serve *serve; /* NULL: nothing is recorded */
	__u64 since_ns;		   /* wall clock */
	__u64 reloads, reloads_refused;
	bool per_node;
};

/* All families, in `text`. Others add theirs by a line in the table in metrics.c. */
typedef void (*metrics_fn)(struct text *text, const struct metrics_source *source);
void metrics_write(struct text *text, const struct metrics_source *source);

#endif
