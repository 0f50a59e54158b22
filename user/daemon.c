// SPDX-License-Identifier: GPL-2.0-only
/* What a running daemon says of itself: a file in the state directory, read by `show`. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "out.h"
#include "physical.h"
#include "recmetrics.h"
#include "text.h"

#define NAME "daemon.json"

static json_t *sinks_json(const struct tracer *tracer)
{
	json_t *sinks = json_array();

	for (const struct sink *sink = tracer_sinks(tracer); sink; sink = sink->next)
		json_array_append_new(sinks, json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "kind",
						       sink->kind, "where", sink->where, "events",
						       (json_int_t)sink->stats.events, "lost",
						       (json_int_t)sink->stats.lost, "queued",
						       (json_int_t)sink->stats.queued, "errors",
						       (json_int_t)sink->stats.errors, "readers",
						       (json_int_t)sink->stats.readers));
	return sinks;
}

json_t *daemon_json(const struct daemon *daemon)
{
	json_t *listen = json_array();
	struct text since = {};
	json_t *all;

	for (unsigned i = 0; i < daemon->listen_n; i++)
		json_array_append_new(listen, json_string(daemon->listen[i]));
	text_add_wall(&since, daemon->since_ns);
	all = json_pack("{s:i,s:s%,s:s,s:o,s:I,s:I,s:I,s:I,s:o}", "pid", (int)getpid(), "since",
			since.err ? "" : since.at, since.err ? (size_t)0 : since.len, "config",
			daemon->config, "listen", listen, "events",
			(json_int_t)tracer_events(daemon->tracer), "lost",
			(json_int_t)tracer_lost(daemon->tracer), "reloads",
			(json_int_t)daemon->reloads, "reloads_refused",
			(json_int_t)daemon->reloads_refused, "sinks", sinks_json(daemon->tracer));
	text_free(&since);
	if (daemon->serve && daemon->recording)
		json_object_set_new(all, "record",
				    recmetrics_json(daemon->t, daemon->serve, daemon->recording));
	return all;
}

static int name_of(const struct tidemark *t, char path[PATH_MAX], const char *suffix)
{
	int n = snprintf(path, PATH_MAX, "%s/" NAME "%s", t->state_dir, suffix);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

void daemon_save(struct daemon *daemon)
{
	json_t *all = daemon_json(daemon);
	char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	char path[PATH_MAX], fresh[PATH_MAX];
	FILE *file;

	json_decref(all);
	if (!text || name_of(daemon->t, path, "") || name_of(daemon->t, fresh, ".new") ||
	    (daemon->written && !strcmp(text, daemon->written))) {
		free(text);
		return;
	}
	/* Nothing depends on it, so a full disk is said by those to whom it matters. */
	file = fopen(fresh, "we");
	if (file) {
		bool whole = fputs(text, file) >= 0;

		if (!fclose(file) && whole)
			whole = !rename(fresh, path);
		if (!whole)
			unlink(fresh);
	}
	free(daemon->written);
	daemon->written = text;
}

void daemon_forget(struct daemon *daemon)
{
	char path[PATH_MAX];

	if (!name_of(daemon->t, path, ""))
		unlink(path);
	free(daemon->written);
	daemon->written = NULL;
}

enum { D_SHOW, D_PID, D_SINCE, D_UPTIME, D_EVENTS, D_LOST, D_RELOADS, D_LISTEN, D_CONFIG };

static const struct out_column daemon_columns[] = {
	[D_SHOW] = { .key = "show" },
	[D_PID] = { "pid", "PID", 7, 0, OUT_RIGHT },
	[D_SINCE] = { .key = "since" },
	[D_UPTIME] = { "uptime_ns", "UPTIME", 7, 0, OUT_RIGHT },
	[D_EVENTS] = { "events", "EVENTS", 12, 0, OUT_RIGHT },
	[D_LOST] = { "lost", "LOST", 8, 0, OUT_RIGHT },
	[D_RELOADS] = { "reloads", "RELOADS", 7, 0, OUT_RIGHT | OUT_OPTIONAL },
	[D_LISTEN] = { "listen", "LISTENS ON", 40, 10, OUT_OPTIONAL },
	[D_CONFIG] = { "config", "CONFIGURATION", 60, 13, 0 },
	{},
};

enum { W_SHOW, W_RUNNING, W_QUERIES, W_REFUSED, W_CANCELLED, W_DIR };

static const struct out_column record_columns[] = {
	[W_SHOW] = { .key = "show" },
	[W_RUNNING] = { "queries_running", "QUERIES NOW", 11, 0, OUT_RIGHT },
	[W_QUERIES] = { "queries", "ALL", 8, 0, OUT_RIGHT },
	[W_REFUSED] = { "queries_refused", "REFUSED", 8, 0, OUT_RIGHT },
	[W_CANCELLED] = { "queries_cancelled", "CANCELLED", 9, 0, OUT_RIGHT },
	[W_DIR] = { "dir", "RECORDS TO", 60, 10, 0 },
	{},
};

enum { K_SHOW, K_SINK, K_EVENTS, K_LOST, K_QUEUED, K_ERRORS, K_READERS, K_WHERE };

static const struct out_column sink_columns[] = {
	[K_SHOW] = { .key = "show" },
	[K_SINK] = { "sink", "SINK", 8, 0, 0 },
	[K_EVENTS] = { "events", "EVENTS", 12, 0, OUT_RIGHT },
	[K_LOST] = { "lost", "LOST", 8, 0, OUT_RIGHT },
	[K_QUEUED] = { "queued_bytes", "QUEUED", 6, 0, OUT_RIGHT },
	[K_ERRORS] = { "errors", "ERRORS", 8, 0, OUT_RIGHT },
	[K_READERS] = { "readers", "READERS", 7, 0, OUT_RIGHT | OUT_OPTIONAL },
	[K_WHERE] = { "where", "WHERE", 60, 10, 0 },
	{},
};

static __u64 count(const json_t *of, const char *key)
{
	return json_integer_value(json_object_get(of, key));
}

static const char *word(const json_t *of, const char *key)
{
	return json_string_value(json_object_get(of, key));
}

static int daemon_row(const json_t *all, FILE *file, bool json)
{
	struct out *out = out_open(file, daemon_columns, json ? OUT_JSON : 0);
	struct text listen = {};
	const json_t *one;
	uint64_t since_ns;
	size_t i;

	if (!out)
		return 1;
	json_array_foreach(json_object_get(all, "listen"), i, one) {
		if (i)
			text_add_char(&listen, ' ');
		text_add_str(&listen, json_string_value(one) ? json_string_value(one) : "");
	}
	text_add_char(&listen, 0);
	out_str(out, D_SHOW, "daemon");
	out_u64(out, D_PID, count(all, "pid"));
	out_str(out, D_SINCE, word(all, "since"));
	if (word(all, "since") && !text_parse_wall(word(all, "since"), &since_ns))
		out_span(out, D_UPTIME, physical_now_ns() - since_ns);
	out_u64(out, D_EVENTS, count(all, "events"));
	out_u64(out, D_LOST, count(all, "lost"));
	out_u64(out, D_RELOADS, count(all, "reloads"));
	if (!listen.err && *listen.at)
		out_str(out, D_LISTEN, listen.at);
	out_str(out, D_CONFIG, word(all, "config"));
	out_row(out);
	text_free(&listen);
	return out_finish(out, 0);
}

static int sink_rows(const json_t *sinks, FILE *file, bool json)
{
	struct out *out = out_open(file, sink_columns, json ? OUT_JSON : 0);
	const json_t *one;
	size_t i;

	if (!out)
		return 1;
	json_array_foreach(sinks, i, one) {
		out_str(out, K_SHOW, "sink");
		out_str(out, K_SINK, word(one, "kind"));
		out_u64(out, K_EVENTS, count(one, "events"));
		out_u64(out, K_LOST, count(one, "lost"));
		out_bytes(out, K_QUEUED, count(one, "queued"));
		out_u64(out, K_ERRORS, count(one, "errors"));
		out_u64(out, K_READERS, count(one, "readers"));
		out_str(out, K_WHERE, word(one, "where"));
		out_row(out);
	}
	return out_finish(out, 0);
}

static int record_row(const json_t *record, FILE *file, bool json)
{
	struct out *out = out_open(file, record_columns, json ? OUT_JSON : 0);

	if (!out)
		return 1;
	out_str(out, W_SHOW, "recording");
	out_u64(out, W_RUNNING, count(record, "queries_running"));
	out_u64(out, W_QUERIES, count(record, "queries"));
	out_u64(out, W_REFUSED, count(record, "queries_refused"));
	out_u64(out, W_CANCELLED, count(record, "queries_cancelled"));
	out_str(out, W_DIR, word(record, "dir"));
	out_row(out);
	return out_finish(out, 0);
}

int daemon_show(const struct tidemark *t, FILE *file, bool json)
{
	char path[PATH_MAX];
	json_t *all;
	int status;

	if (name_of(t, path, ""))
		return -ENOENT;
	all = json_load_file(path, 0, NULL);
	/* A file left by one that was killed: somebody else reads now, or nobody. */
	if (!all || !t->settings->reading || (__u64)t->settings->reader != count(all, "pid") ||
	    (kill(t->settings->reader, 0) && errno == ESRCH)) {
		json_decref(all);
		return -ENOENT;
	}
	if (!json)
		fprintf(file, "DAEMON\n");
	status = daemon_row(all, file, json);
	if (!status && json_array_size(json_object_get(all, "sinks"))) {
		if (!json)
			fprintf(file, "\nSINKS\n");
		status = sink_rows(json_object_get(all, "sinks"), file, json);
	}
	if (!status && json_object_get(all, "record")) {
		if (!json)
			fprintf(file, "\nRECORD\n");
		status = record_row(json_object_get(all, "record"), file, json);
	}
	json_decref(all);
	return status;
}
