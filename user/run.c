// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark run`: the daemon. Brings the datapath up or adopts it, drains, serves. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api.h"
#include "cmd.h"
#include "config_api.h"
#include "config_trace.h"
#include "flowdgo.h"
#include "live.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "notify.h"
#include "physical.h"
#include "run.h"
#include "state.h"

#define SECOND_NS 1000000000ULL

/*
 * Rings are mapped, twice over, and so are most of what the daemon holds: 1 MiB a CPU keeps
 * it small, and has room for what comes in a hundredth of a second at 800 000 events.
 */
#define RING_DEFAULT (1 << 20)

/* ---- what the file and the command line come to ------------------------------------------ */

static int append(void *array, size_t *n, size_t size, const void *more, size_t more_n)
{
	void **at = array, *grown;

	if (!more_n)
		return 0;
	grown = realloc(*at, (*n + more_n) * size);
	if (!grown)
		return -ENOMEM;
	memcpy((char *)grown + *n * size, more, more_n * size);
	*at = grown;
	*n += more_n;
	return 0;
}

/* What the command line says of the datapath is added to what the file says. */
static int options_merge(struct datapath_options *to, const struct datapath_options *more)
{
	if (append(&to->selectors, &to->selectors_n, sizeof(*to->selectors), more->selectors,
		   more->selectors_n) ||
	    append(&to->skews, &to->skews_n, sizeof(*to->skews), more->skews, more->skews_n) ||
	    append(&to->peers.peers, &to->peers.peers_n, sizeof(*to->peers.peers),
		   more->peers.peers, more->peers.peers_n)) {
		log_error("out of memory");
		return 1;
	}
	for (size_t i = 0; i < more->interfaces_n; i++) {
		if (to->interfaces_n == DATAPATH_INTERFACES) {
			log_error("too many interfaces; a bridge brings its ports with it");
			return 2;
		}
		to->interfaces[to->interfaces_n++] = more->interfaces[i];
	}
	if (more->peers.max_ahead_given) {
		to->peers.max_ahead_given = true;
		to->peers.max_ahead_ns = more->peers.max_ahead_ns;
	}
	for (size_t i = 0; i < more->peers.no_stamp_n; i++) {
		if (to->peers.no_stamp_n == PEER_PORTS) {
			log_error("--no-stamp-port: more than %d with those of the file",
				  PEER_PORTS);
			return 2;
		}
		to->peers.no_stamp[to->peers.no_stamp_n++] = more->peers.no_stamp[i];
	}
	to->sizes.flows = more->sizes.flows ? more->sizes.flows : to->sizes.flows;
	to->sizes.nodes = more->sizes.nodes ? more->sizes.nodes : to->sizes.nodes;
	to->sizes.ring_bytes =
		more->sizes.ring_bytes ? more->sizes.ring_bytes : to->sizes.ring_bytes;
	if (!to->sizes.ring_bytes)
		to->sizes.ring_bytes = RING_DEFAULT;
	to->attach_how = more->attach_how ? more->attach_how : to->attach_how;
	to->clock_per_host |= more->clock_per_host;
	to->every_packet |= more->every_packet;
	to->burst_flow |= more->burst_flow;
	if (to->burst_flow && to->every_packet) {
		log_error(
			"--burst flow: with --every-packet, or every_packet in the file, there are "
			"no bursts; choose one");
		return 2;
	}
	to->wait = true;
	return 0;
}

static int from_flowdgo(const char *name, const char *text, size_t len, void *ctx, struct text *out)
{
	const struct run *run = ctx;

	return flowdgo_translate(name, text, len, run->token, out);
}

int run_load(struct run *run, struct config_file *file)
{
	int status = run->foreign ? config_load_foreign(file, run->config, from_flowdgo, run,
							run->show ? stdout : NULL)
				  : config_load(file, run->config);

	if (!status) {
		status = options_merge(&file->options, &run->o);
		if (status)
			config_free(file);
	}
	return status;
}

static bool keeps(const struct config_file *file)
{
	return file->config->trace && file->config->trace->keep;
}

/* ---- the datapath -------------------------------------------------------------------------- */

static int interfaces_have(struct tidemark *t, const struct datapath_options *o)
{
	const struct node_options options = { .skews = o->skews, .skews_n = o->skews_n };

	for (size_t i = 0; i < o->interfaces_n; i++) {
		int err = node_by_name(t, o->interfaces[i], NULL, NULL)
				  ? node_add_interface(t, o->interfaces[i], &options)
				  : 0;

		if (err) {
			log_error("%s: %s", o->interfaces[i],
				  err == -ENODEV ? "no such device" : strerror(-err));
			return 1;
		}
	}
	return 0;
}

/* What is pinned goes on: with its clocks and flows, and the nodes the file names. */
static int datapath_adopt(struct run *run)
{
	struct tidemark *t = &run->t;
	const struct datapath_options *o = &run->file.options;
	const char *differs = datapath_differs(t, o);

	if (differs) {
		log_error("%s: already up, without %s; `tidemark down` first", t->pin_dir, differs);
		return 1;
	}
	state_load(t);
	if (run_peers(run, NULL) || interfaces_have(t, o))
		return 1;
	if (t->settings->temporary) /* what a trace or a run made for itself is ours now */
		t->settings->temporary = keeps(&run->file) ? 0 : DATAPATH_OF_RUN;
	log_info("%s: going on with the datapath that is up", t->pin_dir);
	return run_choose(run) ? 1 : 0;
}

/* Known now, so loaded at once and not one pipeline after the other. */
static unsigned parts_wanted(const struct config *config)
{
	return (config->mark ? STAGES_LIVE_mark : 0) | (config->record ? STAGES_LIVE_record : 0);
}

static int datapath_open(struct run *run)
{
	struct tidemark *t = &run->t;
	int err, status;

	if (tidemark_lock(t))
		return 1;
	err = tidemark_open(t);
	if (!err && !t->settings->complete) {
		log_info("%s: taking down what an interrupted start has left", t->pin_dir);
		state_load(t);
		if (datapath_down(t))
			return 1;
		err = -ENOENT;
	}
	if (err && err != -ENOENT)
		return 1;
	if (err) {
		run->file.options.sizes.parts |= parts_wanted(run->file.config);
		status = datapath_up(t, &run->file.options, true);
		if (status)
			return status;
		t->settings->temporary = keeps(&run->file) ? 0 : DATAPATH_OF_RUN;
	}
	run->open = true;
	if (tidemark_read_events(t)) {
		log_error("events are being read by process %d, and only one can; stop that first",
			  t->settings->reader);
		run->open = false;
		return 1;
	}
	status = err ? 0 : datapath_adopt(run);
	if (!status)
		run_every_packet(run);
	tidemark_unlock(t);
	return status;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static void second(int fd, void *ctx)
{
	struct run *run = ctx;

	(void)fd;
	daemon_save(&run->daemon);
	notify("STATUS=%u nodes, %llu events, %llu lost", node_count(&run->t),
	       (unsigned long long)tracer_events(run->tracer),
	       (unsigned long long)tracer_lost(run->tracer));
}

static void watchdog(int fd, void *ctx)
{
	(void)fd, (void)ctx;
	notify("WATCHDOG=1");
}

static void signalled(int signal, void *ctx)
{
	struct run *run = ctx;

	if (signal == SIGHUP) {
		run_reload(run);
		return;
	}
	log_info("stopping");
	notify("STOPPING=1");
	loop_break(run->base);
}

static int serve(struct run *run)
{
	__u64 watchdog_ns = notify_watchdog_ns();
	struct waiter *signals = loop_signals(run->base, signalled, run);
	struct waiter *seconds = loop_every(run->base, SECOND_NS, second, run);
	struct waiter *watched =
		watchdog_ns ? loop_every(run->base, watchdog_ns, watchdog, run) : NULL;
	int status = 1;

	if (!signals || !seconds || (watchdog_ns && !watched)) {
		log_error("cannot wait for events: %s", strerror(ENOMEM));
	} else if (!tracer_start(run->tracer)) {
		memory_give_back();
		daemon_save(&run->daemon);
		notify("READY=1\nSTATUS=watching %u nodes", node_count(&run->t));
		if (!loop_run(run->base)) {
			tracer_finish(run->tracer);
			status = tracer_error(run->tracer) || tracer_gone(run->tracer);
		}
	}
	waiter_free(watched);
	waiter_free(seconds);
	waiter_free(signals);
	return status;
}

static int start(struct run *run)
{
	int status = datapath_open(run);
	struct sink *live;

	if (status)
		return status;
	mkdir(run->t.state_dir, 0700); /* sinks may use it too; opening theirs says what is wrong */
	run->base = loop_new();
	if (!run->base) {
		log_error("cannot wait for events: %s", strerror(errno));
		return 1;
	}
	run->tracer = tracer_open(&run->t, run->base, &run->choice);
	if (!run->tracer)
		return 1;
	run->daemon.t = &run->t;
	run->daemon.tracer = run->tracer;
	run->daemon.config = run->config_path;
	run->daemon.since_ns = physical_now_ns();
	run->api.daemon = &run->daemon;
	live = live_open(&run->t, run->base, tracer_lines(run->tracer));
	if (!live)
		return 1;
	tracer_add(run->tracer, live);
	if (run_sinks(run, NULL) || run_mark(run) || run_record(run) || run_api(run, NULL))
		return 1;
	return serve(run);
}

static int stop(struct run *run, int status)
{
	struct tidemark *t = &run->t;
	bool gone = run->tracer && tracer_gone(run->tracer);

	http_close(run->http);
	serve_close(run->serve);
	if (recording_close(run->recording))
		status = status ? status : 1;
	marking_close(run->marking);
	if (run->daemon.t)
		daemon_forget(&run->daemon);
	if (run->tracer)
		tracer_stop(run->tracer);
	if (run->open && !gone) {
		t->settings->reading = 0;
		if (t->settings->temporary != DATAPATH_OF_RUN)
			state_save(t, STATE_AHEAD_NS);
		else if (tidemark_lock(t) || datapath_down(t))
			status = 1;
	}
	status = tracer_close(run->tracer, status);
	loop_free(run->base);
	config_free(&run->file);
	tidemark_close(t);
	return status;
}

/* ---- the command ------------------------------------------------------------------------------ */

enum { OPT_CHECK = 0x200, OPT_FROM, OPT_PRINT, OPT_TOKEN };

static const struct argp_option options[] = {
	{ "config", 'c', "FILE", 0, "The configuration (default " CONFIG_FILE ")", 0 },
	{ "check-config", OPT_CHECK, NULL, 0, "Say whether the configuration is right, and exit",
	  0 },
	{ "from", OPT_FROM, "flowd-go", 0,
	  "The configuration is that program's (default " FLOWDGO_FILE ")", 1 },
	{ "print-config", OPT_PRINT, NULL, 0, "With --from: print what it comes to, and exit", 1 },
	{ "token", OPT_TOKEN, "FILE", 0,
	  "With --from: what its addresses ask for that others can reach", 1 },
	{},
};

static const char doc[] =
	"The daemon: brings the datapath up or goes on with the one that is up, follows nodes that "
	"come and go, writes events where the configuration says, answers over HTTP.\v"
	"Options that say something of the datapath are added to the configuration.\n"
	"\n"
	"SIGHUP reads the configuration again: nodes, sinks, API and metrics change, flows and "
	"clocks do not; a file with an error is refused and changes nothing. SIGTERM hands on what "
	"is left and takes the datapath down, unless `trace: {keep: true}` or `tidemark up` made it "
	"stay. A daemon that is killed leaves the datapath working; the next one goes on with it.\n"
	"\n"
	"Exit status: 0 stopped, 1 failed, 2 usage or configuration, 77 this kernel cannot.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark run -c tidemark.yaml --check-config && tidemark run -c tidemark.yaml\n"
	"  tidemark run --from flowd-go /etc/flowd-go/conf.yaml --print-config\n";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct run *run = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &run->o;
		return 0;
	case 'c':
		run->config = arg;
		return 0;
	case OPT_CHECK:
		run->check = true;
		return 0;
	case OPT_FROM:
		if (strcmp(arg, "flowd-go")) {
			log_error("--from %s: only flowd-go's configuration is known", arg);
			exit(2);
		}
		run->foreign = true;
		return 0;
	case OPT_PRINT:
		run->show = true;
		return 0;
	case OPT_TOKEN:
		run->token = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (run->config)
			return ARGP_ERR_UNKNOWN;
		run->config = arg;
		return 0;
	case ARGP_KEY_END:
		if (!run->foreign && (run->show || run->token)) {
			log_error("--print-config and --token go with --from flowd-go");
			exit(2);
		}
		if (!run->config)
			run->config = run->foreign ? FLOWDGO_FILE : CONFIG_FILE;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = { { &datapath_argp, 0, NULL, 5 }, {} };
const struct argp run_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[FILE]",
	.doc = doc,
	.children = children,
};

int cmd_run(int argc, char **argv)
{
	struct run run = {};
	int status;

	memory_begin();
	argp_parse(&run_argp, argc, argv, 0, NULL, &run);
	status = run_load(&run, &run.file);
	if (status)
		return status;
	if (run.check || run.show) {
		if (run.check)
			log_info("%s: right", run.config);
		config_free(&run.file);
		return 0;
	}
	if (!realpath(run.config, run.config_path))
		snprintf(run.config_path, sizeof(run.config_path), "%s", run.config);
	run.config = run.config_path;
	signal(SIGPIPE, SIG_IGN);
	tidemark_init(&run.t, run.o.pin_dir, run.o.state_dir);
	run.choice = datapath_choice(&run.file.options);
	return stop(&run, start(&run));
}
