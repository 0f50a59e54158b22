// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark trace`: print events as they happen, in causal order. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd.h"
#include "datapath.h"
#include "event.h"
#include "live.h"
#include "log.h"
#include "loop.h"
#include "print.h"
#include "sinks.h"
#include "recorder.h"
#include "state.h"
#include "tracer.h"
#include "units.h"

struct trace {
	struct tidemark t;
	struct datapath_options o;
	struct sinks_options kept;
	struct discover_choice choice;
	bool json, schema;
	bool open;   /* the datapath: ours to tidy up */
	int live;    /* a daemon has it, and gives us its events here; or -1 */
	__u32 *only; /* ids of nodes to print, none: all */
	size_t only_n;
	__u64 duration_ns;
	const char *file_name; /* --log, or NULL */
	FILE *file;
	struct event_base *base;
	struct tracer *tracer;
};

static void trace_end(int fd, void *ctx)
{
	struct trace *trace = ctx;

	(void)fd;
	loop_break(trace->base);
}

/* Before the tracer: what it finds gone is forgotten then, and its end is to have its name. */
static int prints_open(struct trace *trace, struct sink *prints[2])
{
	prints[0] = print_open(&trace->t, stdout, "stdout", trace->json);
	if (prints[0] && trace->file)
		prints[1] = print_open(&trace->t, trace->file, trace->file_name, true);
	if (prints[0] && (prints[1] || !trace->file))
		return 0;
	log_error("cannot print events: %s", strerror(ENOMEM));
	return 1;
}

/* What prints has a tracer now, or goes. */
static void prints_add(struct trace *trace, struct sink *prints[2])
{
	for (int i = 0; i < 2 && prints[i]; i++)
		if (trace->tracer)
			tracer_add(trace->tracer, prints[i]);
		else
			prints[i]->close(prints[i], 1);
}

static int trace_run(struct trace *trace)
{
	struct waiter *signals = NULL, *end = NULL;
	struct sink *prints[2] = {};
	int status = 1;

	trace->base = loop_new();
	if (!trace->base) {
		log_error("cannot wait for events: %s", strerror(errno));
		return 1;
	}
	if (!prints_open(trace, prints))
		trace->tracer = tracer_open(&trace->t, trace->base, &trace->choice);
	prints_add(trace, prints);
	if (!trace->tracer ||
	    sinks_open(trace->tracer, &trace->kept, trace->base, trace->t.state_dir))
		return 1;
	tracer_only(trace->tracer, trace->only, trace->only_n);
	signals = loop_signals(trace->base, trace_end, trace);
	if (trace->duration_ns)
		end = loop_every(trace->base, trace->duration_ns, trace_end, trace);
	if (!signals || (trace->duration_ns && !end))
		log_error("cannot wait for events: %s", strerror(ENOMEM));
	else if (!tracer_start(trace->tracer) && !loop_run(trace->base)) {
		tracer_finish(trace->tracer);
		status = 0;
	}
	waiter_free(end);
	waiter_free(signals);
	return status;
}

/* The datapath is there: what was asked of it must go together with what it is. */
static int trace_adopt(struct trace *trace)
{
	struct tidemark *t = &trace->t;
	int status = 0;

	if (!t->settings->complete) {
		log_error(
			"%s: left by a start that was interrupted; `tidemark down` clears it away",
			t->pin_dir);
		return 1;
	}
	if (trace->o.interfaces_n) {
		log_error("%s: the datapath is up already, without -i %s; `tidemark down` first",
			  t->pin_dir, trace->o.interfaces[0]);
		return 1;
	}
	if (trace->o.burst_flow && !t->settings->burst_flow) {
		log_error("%s: the datapath is up already, without --burst flow; `tidemark down` "
			  "first",
			  t->pin_dir);
		return 1;
	}
	state_load(t);
	/* Left by a trace that was killed: whom it did not know can be added. */
	if (t->settings->temporary == DATAPATH_OF_TRACE && trace->o.selectors_n)
		status = discover_now(t, &trace->choice, false) ? 1 : 0;
	if (!status) /* only the nodes asked for are printed */
		status = datapath_only(t, &trace->o, &trace->only, &trace->only_n);
	if (!status)
		status = datapath_skew(t, &trace->o);
	if (!status && peers_apply(t, &trace->o.peers))
		status = 1;
	if (!status)
		peers_older(t);
	/* Nodes to come are those the datapath was brought up for. */
	trace->choice.all = t->settings->all;
	trace->choice.selectors_n = 0;
	return status;
}

/* What would have to be done by whoever reads the events, which is the daemon. */
static const char *not_ours(const struct trace *trace)
{
	const struct datapath_options *o = &trace->o;

	return o->interfaces_n ? "-i"
	       : o->peers.peers_n || o->peers.no_stamp_n || o->peers.max_ahead_given
		       ? "--peer and what goes with it"
	       : o->skews_n		 ? "--skew"
	       : o->every_packet	 ? "--every-packet"
	       : o->burst_flow		 ? "--burst"
	       : o->clock_per_host	 ? "--clock"
	       : trace->kept.write.dir	 ? "--write"
	       : trace->kept.socket.path ? "--socket"
	       : trace->kept.otlp.url	 ? "--otlp"
					 : NULL;
}

/* Somebody reads the events already. A daemon gives them to us too; another trace does not. */
static int trace_second(struct trace *trace)
{
	struct tidemark *t = &trace->t;
	const char *option = not_ours(trace);
	int status;

	trace->live = live_connect(t);
	if (trace->live < 0) {
		log_error("events are being read by process %d, and only one can; stop that first",
			  t->settings->reader);
		return 1;
	}
	if (option) {
		log_error("%s: is the daemon's to do, process %d, which reads the events; put it "
			  "into its configuration (`tidemark show daemon` says which file)",
			  option, t->settings->reader);
		return 2;
	}
	status = datapath_only(t, &trace->o, &trace->only, &trace->only_n);
	tidemark_unlock(t);
	return status;
}

static int trace_live(struct trace *trace)
{
	const struct live_options o = {
		.log = trace->file,
		.log_name = trace->file_name,
		.json = trace->json,
		.only = trace->only,
		.only_n = trace->only_n,
		.duration_ns = trace->duration_ns,
	};

	return live_print(&trace->t, trace->live, &o);
}

/* Find the datapath, or make one for as long as we run. */
static int trace_open(struct trace *trace)
{
	struct tidemark *t = &trace->t;
	int err, status;

	if (tidemark_lock(t))
		return 1;
	err = tidemark_open(t);
	if (err && err != -ENOENT)
		return 1;
	if (err) {
		status = datapath_up(t, &trace->o, true);
		if (status)
			return status;
	}
	if (tidemark_read_events(t))
		return trace_second(trace);
	status = err ? 0 : trace_adopt(trace);
	if (status)
		return status;
	trace->open = true;
	/* Set, not left: whoever traced before may have been killed before it took it back. */
	datapath_every_packet(t, trace->o.every_packet || t->settings->every_packet_up);
	tidemark_unlock(t);
	return 0;
}

static int trace_close(struct trace *trace, int status)
{
	struct tidemark *t = &trace->t;
	bool gone = trace->tracer && tracer_gone(trace->tracer);

	/* Before taking down, which waits until the kernel has let go of what we map here. */
	if (trace->tracer)
		tracer_stop(trace->tracer);
	if (trace->open && !gone) {
		datapath_every_packet(t, t->settings->every_packet_up);
		t->settings->reading = 0;
		/* A recorder that goes on takes it down when it ends. */
		if (t->settings->temporary != DATAPATH_OF_TRACE || recorder_other(t))
			state_save(t, STATE_AHEAD_NS);
		else if (tidemark_lock(t) || datapath_down(t))
			status = 1;
	}
	status = tracer_close(trace->tracer, status);
	loop_free(trace->base);
	if (trace->file)
		fclose(trace->file);
	free(trace->only);
	tidemark_close(t);
	return status;
}

/*
 * Opened before anything is attached: a name that cannot be written changes nothing. Lines
 * are added to what is there, because stamps do not repeat: two runs in one file are a log.
 */
/* A line that was cut short (a full disk, a kill) must not swallow the next one. */
static int log_line_end(int fd)
{
	char last = '\n';
	struct stat file;

	if (fstat(fd, &file) || !S_ISREG(file.st_mode) || !file.st_size)
		return 0;
	if (pread(fd, &last, 1, file.st_size - 1) == 1 && last != '\n' && write(fd, "\n", 1) != 1)
		return -errno;
	return 0;
}

static int trace_log_open(struct trace *trace)
{
	int fd = open(trace->file_name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	trace->file = fd < 0 || log_line_end(fd) ? NULL : fdopen(fd, "a");
	if (trace->file)
		return 0;
	log_error("--log %s: %s", trace->file_name, strerror(errno));
	return 1;
}

enum { OPT_DURATION = 0x200, OPT_LOG, OPT_SCHEMA };

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "One JSON object per line", 0 },
	{ "log", OPT_LOG, "FILE", 0,
	  "Also add the events to FILE, one JSON object per line, whatever is printed", 0 },
	{ "duration", OPT_DURATION, "SPAN", 0, "Stop after 90s, 15m, 2h...", 0 },
	{ "schema", OPT_SCHEMA, NULL, 0, "Print the JSON Schema of the lines, and exit", 0 },
	{},
};

static const char doc[] =
	"Print the messages of nodes as they happen, in causal order.\v"
	"Every event is stamped by its node's hybrid logical clock. A message's receiving is "
	"never stamped before its sending, whatever the wall clocks say: sort the lines of any "
	"number of nodes by hlc and no effect stands before its cause. Live output is in that "
	"order too, but for events that arrive more than a quarter of a second late.\n"
	"\n"
	"By default an event is a burst: a run of messages of one node on one flow in one "
	"direction, with nothing else of that node in between.\n"
	"\n"
	"If the datapath is up (`tidemark up`), it is used and stays. If not, it is brought up for "
	"as long as this runs. If a daemon reads it (`tidemark run`), its events are printed, by any "
	"number of traces; what changes the datapath or where events go is then the daemon's: -i, "
	"--peer, --skew, --every-packet, --burst, --clock, --write, --socket and --otlp are refused.\n"
	"\n"
	"Examples:\n"
	"\n"
	"  tidemark trace -n netns:web -n db=container:postgres\n"
	"  tidemark trace --duration 10s --log web.json && tidemark check web.json\n";

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct trace *trace = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &trace->o;
		state->child_inputs[1] = &trace->kept;
		return 0;
	case 'j':
		trace->json = true;
		return 0;
	case OPT_DURATION:
		if (span_parse(arg, &trace->duration_ns) || !trace->duration_ns) {
			log_error("--duration %s: not a span of time; write 90s, 15m, 2h", arg);
			exit(2);
		}
		return 0;
	case OPT_LOG:
		trace->file_name = arg;
		return 0;
	case OPT_SCHEMA:
		trace->schema = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = { { &datapath_argp, 0, NULL, 5 },
					      { &sinks_argp, 0, NULL, 4 },
					      {} };
const struct argp trace_argp = {
	.options = options,
	.parser = parse,
	.doc = doc,
	.children = children,
};

int cmd_trace(int argc, char **argv)
{
	struct trace trace = { .live = -1 };
	int status;

	argp_parse(&trace_argp, argc, argv, 0, NULL, &trace);
	if (trace.schema) {
		size_t size = event_schema_end - event_schema_start;

		if (fwrite(event_schema_start, size, 1, stdout) == 1 && !fflush(stdout))
			return 0;
		log_error("stdout: %s", strerror(errno));
		return 1;
	}
	if (trace.file_name && trace_log_open(&trace))
		return 1;
	tidemark_init(&trace.t, trace.o.pin_dir, trace.o.state_dir);
	trace.choice = datapath_choice(&trace.o);
	status = trace_open(&trace);
	if (!status)
		status = trace.live < 0 ? trace_run(&trace) : trace_live(&trace);
	return trace_close(&trace, status);
}
