// SPDX-License-Identifier: GPL-2.0-only
/* What a configuration makes of the daemon: nodes, sinks, API; again on SIGHUP. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config_api.h"
#include "config_trace.h"
#include "log.h"
#include "notify.h"
#include "run.h"
#include "sinks.h"

/* ---- the same or not ------------------------------------------------------------------------ */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_id(const unsigned *a, const unsigned *b)
{
	return a == b || (a && b && *a == *b);
}

static bool same_list(char *const *a, unsigned a_n, char *const *b, unsigned b_n)
{
	if (a_n != b_n)
		return false;
	for (unsigned i = 0; i < a_n; i++)
		if (strcmp(a[i], b[i]))
			return false;
	return true;
}

static bool same_write(const struct sink_write_options *a, const struct sink_write_options *b)
{
	return a == b || (a && b && same_text(a->dir, b->dir) && a->file_bytes == b->file_bytes &&
			  a->file_age_ns == b->file_age_ns && a->budget_bytes == b->budget_bytes);
}

static bool same_socket(const struct sink_socket_options *a, const struct sink_socket_options *b)
{
	return a == b || (a && b && same_text(a->path, b->path) && same_id(a->uid, b->uid) &&
			  same_id(a->gid, b->gid));
}

static bool same_otlp(const struct sink_otlp_options *a, const struct sink_otlp_options *b)
{
	return a == b || (a && b && same_text(a->url, b->url) && same_text(a->queue, b->queue) &&
			  same_text(a->ca, b->ca) && same_text(a->cert, b->cert) &&
			  same_text(a->key, b->key) && a->queue_bytes == b->queue_bytes &&
			  same_list(a->headers, a->headers_count, b->headers, b->headers_count));
}

static bool same_api(const struct config_api *a, const struct config_api *b)
{
	return a == b ||
	       (a && b && same_list(a->listen, a->listen_count, b->listen, b->listen_count) &&
		same_text(a->token, b->token) && same_id(a->uid, b->uid) &&
		same_id(a->gid, b->gid));
}

/* ---- sinks and API ---------------------------------------------------------------------------- */

/*
 * A sink that changes is closed before its successor is opened: both might want the same
 * path. What happens in between waits in the rings.
 */
static int sink_change(struct run *run, const char *kind, struct sink *opened, bool wanted)
{
	if (opened)
		tracer_add(run->tracer, opened);
	if (wanted && !opened)
		log_error("the sink %s could not be opened", kind);
	return wanted && !opened ? -EIO : 0;
}

int run_sinks(struct run *run, const struct config *before)
{
	static const struct config_trace none;
	const struct config_trace *now = run->file.config->trace ? run->file.config->trace : &none;
	const struct config_trace *was = before && before->trace ? before->trace : &none;
	struct lines *lines = tracer_lines(run->tracer);
	int err = 0;

	if (!same_write(was->write, now->write)) {
		tracer_drop(run->tracer, "write", 0);
		err = sink_change(run, "write",
				  now->write ? sink_write_open(now->write, lines) : NULL,
				  now->write);
	}
	if (!err && !same_socket(was->socket, now->socket)) {
		tracer_drop(run->tracer, "socket", 0);
		err = sink_change(run, "socket",
				  now->socket ? sink_socket_open(now->socket, run->base, lines)
					      : NULL,
				  now->socket);
	}
	if (!err && !same_otlp(was->otlp, now->otlp)) {
		tracer_drop(run->tracer, "otlp", 0);
		err = sink_change(run, "otlp",
				  now->otlp ? sink_otlp_open(now->otlp, run->base, run->t.state_dir)
					    : NULL,
				  now->otlp);
	}
	return err;
}

int run_mark(struct run *run)
{
	const struct config_mark *now = run->file.config->mark;
	bool was = run->marking;

	if (now && was)
		return marking_set(run->marking, now);
	if (now)
		run->marking = marking_open(&run->t, run->base, now);
	else
		marking_close(run->marking);
	if (!now)
		run->marking = NULL;
	return now && !run->marking ? -EIO : 0;
}

/* What `up` was told of peers stays; what a daemon before us was told does not. */
int run_peers(struct run *run, const struct peer_options *was)
{
	static const struct peer_options none;
	struct tidemark *t = &run->t;
	int err = peers_set(t, &run->file.options.peers,
			    was			     ? was
			    : t->settings->temporary ? NULL
						     : &none);

	if (!err)
		peers_older(t);
	return err;
}

int run_record(struct run *run)
{
	struct config_record *now = run->file.config->record;
	int err = 0;

	if (!now) {
		serve_close(run->serve);
		run->serve = NULL;
		recording_close(run->recording);
		run->recording = NULL;
	} else if (run->recording) {
		err = recording_set(run->recording, now);
	} else {
		run->recording = recording_open(&run->t, run->base, now);
		err = run->recording ? 0 : -EIO;
	}
	if (!err && now && run->serve) {
		err = serve_set(run->serve, &now->serve);
	} else if (!err && now) {
		run->serve = serve_open(run->base, &now->serve);
		err = run->serve ? 0 : -EIO;
	}
	run->queries = (struct queryapi){ run->base, run->serve };
	run->daemon.serve = run->metrics.serve = run->serve;
	run->daemon.recording = run->recording ? recording_dir(run->recording) : NULL;
	return err;
}

int run_api(struct run *run, const struct config *before)
{
	const struct config_api *now = run->file.config->api;
	const struct config_metrics *metrics = run->file.config->metrics;
	struct http_options o;

	/* Routes of marks and queries come and go with them. */
	if (!before || !same_api(before->api, now) || !before->mark != !run->file.config->mark ||
	    !before->record != !run->file.config->record) {
		http_close(run->http);
		run->http = NULL;
		if (now) {
			o = (struct http_options){ now->listen, now->listen_count, now->token,
						   now->uid, now->gid };
			run->http = http_open(run->base, &o);
			if (!run->http)
				return -EIO;
			http_routes(run->http, api_routes, &run->api);
			if (run->marking)
				http_routes(run->http, marking_routes, run->marking);
			if (run->serve)
				http_routes(run->http, queryapi_routes, &run->queries);
		}
	}
	run->daemon.listen = now ? now->listen : NULL;
	run->daemon.listen_n = now ? now->listen_count : 0;
	run->metrics.t = &run->t;
	run->metrics.tracer = run->tracer;
	run->metrics.http = run->http;
	run->metrics.marking = run->marking;
	run->metrics.since_ns = run->daemon.since_ns;
	run->metrics.per_node = !metrics || !metrics->summary;
	run->api.metrics = metrics && metrics->off ? NULL : &run->metrics;
	return 0;
}

/* ---- nodes -------------------------------------------------------------------------------------- */

struct wanted {
	struct tidemark *t;
	__u32 *ids;
	size_t n;
};

static int wanted_add(const struct netns_seen *seen, const char *name, void *ctx)
{
	struct wanted *wanted = ctx;
	struct netns ns;
	__u32 *grown, id;

	(void)name;
	if (netns_identify(seen->fd, &ns) || node_by_cookie(wanted->t, ns.cookie, &id))
		return 0;
	grown = realloc(wanted->ids, (wanted->n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	wanted->ids = grown;
	wanted->ids[wanted->n++] = id;
	return 0;
}

static int unwanted_remove(__u32 id, const struct node *node, void *ctx)
{
	const struct wanted *wanted = ctx;

	if (node->flags & NODE_INTERFACE)
		return 0;
	for (size_t i = 0; i < wanted->n; i++)
		if (wanted->ids[i] == id)
			return 0;
	log_info("%s: no longer among the nodes", node->name);
	node_remove(wanted->t, id);
	return 0;
}

int run_choose(struct run *run)
{
	const struct datapath_options *o = &run->file.options;
	struct wanted wanted = { .t = &run->t };
	char words[512];
	int err, ret;

	run->choice = datapath_choice(o);
	run->t.settings->all = run->choice.all;
	err = discover_now(&run->t, &run->choice, true);
	if (err)
		return err;
	for (size_t i = 0; i < o->selectors_n && !err; i++) {
		ret = selector_each(&o->selectors[i], wanted_add, &wanted, words, sizeof(words));
		err = ret == -ENOMEM ? ret : 0; /* others: it is waited for */
	}
	/* What `up` chose stays; it may be others' too. */
	if (!err && !run->choice.all && run->t.settings->temporary)
		node_each(&run->t, unwanted_remove, &wanted);
	free(wanted.ids);
	for (size_t i = 0; i < o->skews_n && !err; i++)
		node_skew(&run->t, o->skews[i].name, o->skews[i].ns);
	return err;
}

void run_every_packet(struct run *run)
{
	datapath_every_packet(&run->t,
			      run->file.options.every_packet || run->t.settings->every_packet_up);
}

/* ---- SIGHUP --------------------------------------------------------------------------------------- */

/* Shifts that are no longer there are taken back. */
static void skews_undo(struct run *run, const struct datapath_options *before)
{
	const struct datapath_options *now = &run->file.options;

	for (size_t i = 0; i < before->skews_n; i++) {
		bool still = false;

		for (size_t j = 0; j < now->skews_n && !still; j++)
			still = !strcmp(before->skews[i].name, now->skews[j].name);
		if (!still)
			node_skew(&run->t, before->skews[i].name, 0);
	}
}

/* What cannot change while clocks tick and flows are counted, as words, or NULL. */
static const char *must_restart(const struct run *run, const struct config_file *new)
{
	const struct datapath_options *was = &run->file.options, *now = &new->options;

	if (was->clock_per_host != now->clock_per_host)
		return "trace.clock";
	if (was->burst_flow != now->burst_flow)
		return "trace.burst";
	if (was->attach_how != now->attach_how)
		return "trace.attach";
	if (was->sizes.flows != now->sizes.flows || was->sizes.nodes != now->sizes.nodes ||
	    was->sizes.ring_bytes != now->sizes.ring_bytes)
		return "the size of a table";
	if (was->interfaces_n != now->interfaces_n)
		return "interfaces";
	for (size_t i = 0; i < was->interfaces_n; i++)
		if (strcmp(was->interfaces[i], now->interfaces[i]))
			return "interfaces";
	return NULL;
}

static int apply(struct run *run, const struct config_file *before)
{
	int err = run_sinks(run, before->config);

	if (!err)
		err = run_mark(run);
	if (!err)
		err = run_record(run);
	if (!err)
		err = run_api(run, before->config);
	if (!err)
		err = run_peers(run, &before->options.peers);
	if (err)
		return err;
	skews_undo(run, &before->options);
	err = run_choose(run);
	if (!err)
		err = tracer_follow(run->tracer, &run->choice);
	run_every_packet(run);
	if (run->t.settings->temporary && run->file.config->trace && run->file.config->trace->keep)
		run->t.settings->temporary = 0;
	return err;
}

static int reload(struct run *run)
{
	struct config_file new, old;
	const char *restart;
	int status = run_load(run, &new);

	if (status)
		return status;
	restart = must_restart(run, &new);
	if (restart) {
		log_error("%s: %s cannot change while the datapath works; stop and start",
			  run->config, restart);
		config_free(&new);
		return 2;
	}
	old = run->file;
	run->file = new;
	status = apply(run, &old);
	if (!status) {
		config_free(&old);
		return 0;
	}
	/* This machine would not have it: go back, each step as it was taken. */
	run->file = old;
	if (apply(run, &new))
		log_error("what was before could not be restored whole; `tidemark show daemon`");
	config_free(&new);
	return 1;
}

void run_reload(struct run *run)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	notify("RELOADING=1\nMONOTONIC_USEC=%llu", now.tv_sec * 1000000ULL + now.tv_nsec / 1000);
	if (reload(run)) {
		run->daemon.reloads_refused++;
		log_error("%s: refused; the configuration before stays", run->config);
	} else {
		run->daemon.reloads++;
		log_info("%s: reloaded, watching %u nodes", run->config, node_count(&run->t));
	}
	run->metrics.reloads = run->daemon.reloads;
	run->metrics.reloads_refused = run->daemon.reloads_refused;
	daemon_save(&run->daemon);
	notify("READY=1");
}
