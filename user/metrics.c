// SPDX-License-Identifier: GPL-2.0-only
/* Metrics in Prometheus' text format. */
#define _GNU_SOURCE 1
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../bpf/flow.h"
#include "http.h"
#include "marking.h"
#include "metrics.h"
#include "node.h"
#include "physical.h"
#include "recmetrics.h"
#include "show.h"
#include "tracer.h"
#include "version.h"

void metric_family(struct text *text, const char *name, const char *type, const char *help)
{
	text_add_str(text, "# HELP ");
	text_add_str(text, name);
	text_add_char(text, ' ');
	for (const char *c = help; *c; c++) {
		if (*c == '\\' || *c == '\n')
			text_add_char(text, '\\');
		text_add_char(text, *c == '\n' ? 'n' : *c);
	}
	text_add_str(text, "\n# TYPE ");
	text_add_str(text, name);
	text_add_char(text, ' ');
	text_add_str(text, type);
	text_add_char(text, '\n');
}

void metric_name(struct text *text, const char *name)
{
	text_add_str(text, name);
}

/* Bytes that are not UTF-8 would make the reader refuse all of it. */
void metric_label(struct text *text, const char *label, const char *value)
{
	size_t len = strlen(value), step;
	uint32_t rune;

	if (text->len && text->at[text->len - 1] == '}')
		text->at[text->len - 1] = ',';
	else
		text_add_char(text, '{');
	text_add_str(text, label);
	text_add_str(text, "=\"");
	for (; len; value += step, len -= step) {
		step = text_decode(value, len, &rune);
		if (!step) {
			text_add_char(text, '?');
			step = 1;
		} else if (rune == '\n') {
			text_add_str(text, "\\n");
		} else {
			if (rune == '\\' || rune == '"')
				text_add_char(text, '\\');
			text_add(text, value, step);
		}
	}
	text_add_str(text, "\"}");
}

void metric_u64(struct text *text, __u64 value)
{
	text_add_char(text, ' ');
	text_add_u64(text, value);
	text_add_char(text, '\n');
}

void metric_seconds(struct text *text, __s64 ns)
{
	char number[40];
	__u64 n = ns < 0 ? -(__u64)ns : (__u64)ns;

	snprintf(number, sizeof(number), " %s%" PRIu64 ".%09" PRIu64 "\n", ns < 0 ? "-" : "",
		 (uint64_t)(n / 1000000000), (uint64_t)(n % 1000000000));
	text_add_str(text, number);
}

static void one(struct text *text, const char *name, const char *type, const char *help,
		__u64 value)
{
	metric_family(text, name, type, help);
	metric_name(text, name);
	metric_u64(text, value);
}

/* ---- the datapath ---------------------------------------------------------------------- */

static void staged(struct text *text, const char *name, const char *stage, __u32 dir, __u64 value)
{
	metric_name(text, name);
	metric_label(text, "stage", stage);
	metric_label(text, "dir", dir == DIR_IN ? "in" : "out");
	metric_u64(text, value);
}

static void stages_write(struct text *text, const struct metrics_source *source)
{
	struct counters sum[DIRS_NR] = {};

	for (__u32 dir = 0; dir < DIRS_NR; dir++)
		counters_read(source->t, dir, &sum[dir]);
	metric_family(text, "tidemark_stage_packets_total", "counter",
		      "Packets that reached a stage of the pipeline.");
#define X(name, live, all, what)                          \
	for (__u32 dir = 0; live && dir < DIRS_NR; dir++) \
		staged(text, "tidemark_stage_packets_total", #name, dir, sum[dir].stage.name.seen);
	STAGES(X)
#undef X
	metric_family(text, "tidemark_stage_done_total", "counter",
		      "Packets with which later stages had nothing to do.");
#define X(name, live, all, what)                          \
	for (__u32 dir = 0; live && dir < DIRS_NR; dir++) \
		staged(text, "tidemark_stage_done_total", #name, dir, sum[dir].stage.name.done);
	STAGES(X)
#undef X
	metric_family(text, "tidemark_stage_verdicts_total", "counter",
		      "Packets that a stage dropped or redirected.");
#define X(name, live, all, what)                                          \
	for (__u32 dir = 0; live && dir < DIRS_NR; dir++)                 \
		staged(text, "tidemark_stage_verdicts_total", #name, dir, \
		       sum[dir].stage.name.verdict);
	STAGES(X)
#undef X
	metric_family(
		text, "tidemark_reasons_total", "counter",
		"What went otherwise, or was not done, by reason: see `tidemark show counters`.");
#define X(name, at, meaning)                                             \
	for (__u32 dir = 0; dir < DIRS_NR; dir++) {                      \
		metric_name(text, "tidemark_reasons_total");             \
		metric_label(text, "reason", #name);                     \
		metric_label(text, "stage", #at);                        \
		metric_label(text, "dir", dir == DIR_IN ? "in" : "out"); \
		metric_u64(text, sum[dir].reason.name);                  \
	}
	REASONS(X)
#undef X
}

static void flows_write(struct text *text, const struct metrics_source *source)
{
	static const struct {
		enum map map;
		const char *name;
	} tables[] = { { MAP_flows, "flows" }, { MAP_embryonic, "embryonic" } };

	metric_family(text, "tidemark_flows", "gauge",
		      "Connections in the table, and those of which one side only has spoken.");
	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
		metric_name(text, "tidemark_flows");
		metric_label(text, "table", tables[i].name);
		metric_u64(text, map_entries(source->t->map[tables[i].map]));
	}
}

/* ---- nodes ------------------------------------------------------------------------------ */

struct per_node {
	struct text *text;
	const struct metrics_source *source;
	const char *name;
	void (*value)(struct text *text, const struct clock *clock);
};

static int node_write(__u32 id, const struct node *node, void *ctx)
{
	struct per_node *each = ctx;

	(void)id;
	metric_name(each->text, each->name);
	metric_label(each->text, "node", node->name);
	each->value(each->text, &each->source->t->clocks[node->clock]);
	return 0;
}

/* l - pt of the paper, 0 when the clock is not ahead: how far others have pulled it. */
static void ahead_write(struct text *text, const struct clock *clock)
{
	metric_seconds(text, clock_ahead_ns(clock->now, physical_now_ns() + clock->skew_ns));
}

static void node_lost_write(struct text *text, const struct clock *clock)
{
	metric_u64(text, clock->lost);
}

static void nodes_write(struct text *text, const struct metrics_source *source)
{
	struct per_node each = { .text = text, .source = source };

	one(text, "tidemark_nodes", "gauge", "Namespaces and interfaces that are watched.",
	    node_count(source->t));
	if (!source->per_node)
		return;
	each.name = "tidemark_clock_ahead_seconds";
	each.value = ahead_write;
	metric_family(text, each.name, "gauge",
		      "How far a node's logical clock is ahead of its physical one.");
	node_each(source->t, node_write, &each);
	each.name = "tidemark_node_events_lost_total";
	each.value = node_lost_write;
	metric_family(text, each.name, "counter", "Events of a node for which no ring had room.");
	node_each(source->t, node_write, &each);
}

/* ---- the daemon ------------------------------------------------------------------------- */

static void sinks_family(struct text *text, const struct metrics_source *source, const char *name,
			 const char *type, const char *help, size_t field)
{
	metric_family(text, name, type, help);
	for (struct sink *sink = tracer_sinks(source->tracer); sink; sink = sink->next) {
		metric_name(text, name);
		metric_label(text, "sink", sink->kind);
		metric_u64(text, *(const __u64 *)((const char *)&sink->stats + field));
	}
}

static void sinks_write(struct text *text, const struct metrics_source *source)
{
	one(text, "tidemark_events_total", "counter", "Events read, whole and in order.",
	    tracer_events(source->tracer));
	one(text, "tidemark_events_lost_total", "counter",
	    "Events for which no ring had room, told as gaps.", tracer_lost(source->tracer));
	if (!tracer_sinks(source->tracer))
		return;
	sinks_family(text, source, "tidemark_sink_events_total", "counter",
		     "Events that a sink has taken.", offsetof(struct sink_stats, events));
	sinks_family(text, source, "tidemark_sink_lost_total", "counter",
		     "Events that a sink had no room or no taker for.",
		     offsetof(struct sink_stats, lost));
	sinks_family(text, source, "tidemark_sink_errors_total", "counter",
		     "Writes and requests that failed, readers dropped.",
		     offsetof(struct sink_stats, errors));
	sinks_family(text, source, "tidemark_sink_queued_bytes", "gauge",
		     "Bytes that wait in a sink's queue.", offsetof(struct sink_stats, queued));
	sinks_family(text, source, "tidemark_sink_readers", "gauge", "Readers of a sink.",
		     offsetof(struct sink_stats, readers));
}

static void daemon_write(struct text *text, const struct metrics_source *source)
{
	unsigned long size, resident = 0;
	FILE *statm = fopen("/proc/self/statm", "re");

	metric_family(text, "tidemark_build_info", "gauge", "Which build this is; always 1.");
	metric_name(text, "tidemark_build_info");
	metric_label(text, "version", VERSION);
	metric_u64(text, 1);
	metric_family(text, "tidemark_start_time_seconds", "gauge",
		      "When the daemon started, since the Unix epoch.");
	metric_name(text, "tidemark_start_time_seconds");
	metric_seconds(text, source->since_ns);
	if (statm && fscanf(statm, "%lu %lu", &size, &resident) == 2)
		one(text, "tidemark_resident_memory_bytes", "gauge", "Memory of the daemon.",
		    resident * sysconf(_SC_PAGESIZE));
	if (statm)
		fclose(statm);
	one(text, "tidemark_reloads_total", "counter", "Configurations taken by SIGHUP.",
	    source->reloads);
	one(text, "tidemark_reloads_refused_total", "counter",
	    "Configurations refused; the one before stayed.", source->reloads_refused);
	one(text, "tidemark_clock_steps_back_total", "counter",
	    "Times the wall clock was set back by more than a millisecond.",
	    source->t->settings->steps_back);
	if (!source->http)
		return;
	one(text, "tidemark_http_requests_total", "counter", "Requests to the API.",
	    http_requests(source->http));
	one(text, "tidemark_http_refused_total", "counter",
	    "Requests answered with a status of 400 or more.", http_refused(source->http));
}

static void marks_write(struct text *text, const struct metrics_source *source)
{
	if (source->marking)
		marking_metrics(text, source->marking);
}

static void record_write(struct text *text, const struct metrics_source *source)
{
	if (source->serve)
		recmetrics_write(text, source->t, source->serve);
}

static const metrics_fn families[] = {
	daemon_write, nodes_write, flows_write,	 stages_write,
	sinks_write,  marks_write, record_write,
};

void metrics_write(struct text *text, const struct metrics_source *source)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		families[i](text, source);
}
