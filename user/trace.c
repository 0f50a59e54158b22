// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark trace`: print events as they happen, in causal order. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "cmd.h"
#include "datapath.h"
#include "event.h"
#include "log.h"
#include "physical.h"
#include "recorder.h"
#include "state.h"
#include "units.h"

/* How often the rings are emptied, and how old a burst may get before it is ended. */
#define DRAIN_NS (10 * 1000 * 1000)
#define BURST_MOST_NS (80ULL * 1000 * 1000)
#define SECOND_NS 1000000000ULL

struct trace {
	struct tidemark t;
	struct datapath_options o;
	struct discover_choice choice;
	bool json, schema;
	bool open, gone; /* the datapath: ours to tidy up; taken down by somebody else */
	__u32 *only;	 /* ids of nodes to print, none: all */
	size_t only_n;
	__u64 duration_ns;
	struct ring_buffer *rings;
	struct join *join;
	struct event_log *log;
	struct event_log *kept; /* --log, or NULL */
	const char *file_name;
	FILE *file;
	struct discover *discover;
	__u64 now_ns, last_second_ns, end_ns;
	int err;
	bool stop;
};

enum { FD_SIGNAL = DISCOVER_FDS, FD_DRAIN, FD_CLOCK };

static __u64 monotonic_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static int trace_print(const struct joined *joined, void *ctx)
{
	struct trace *trace = ctx;
	bool wanted = !trace->only_n;
	int err;

	for (size_t i = 0; i < trace->only_n && !wanted; i++)
		wanted = trace->only[i] == joined->event.node;
	if (!wanted)
		return 0;
	err = event_log_write(trace->log, joined);
	if (!err && trace->kept)
		err = event_log_write(trace->kept, joined);
	return err;
}

static int trace_record(void *ctx, void *data, size_t size)
{
	struct trace *trace = ctx;

	if (size >= sizeof(struct event) && !trace->err)
		trace->err = join_add(trace->join, data, trace->now_ns);
	return trace->err;
}

/* One consumer for all CPUs' rings. */
static int trace_rings(struct trace *trace)
{
	__u32 id;
	int fd;

	for (__u32 cpu = 0; cpu < trace->t.cpus; cpu++) {
		if (bpf_map_lookup_elem(trace->t.map[MAP_events], &cpu, &id))
			return -errno;
		fd = bpf_map_get_fd_by_id(id);
		if (fd < 0)
			return -errno;
		if (!trace->rings)
			trace->rings = ring_buffer__new(fd, trace_record, trace, NULL);
		else if (ring_buffer__add(trace->rings, fd, trace_record, trace))
			return -errno;
		close(fd); /* libbpf has mapped it */
		if (!trace->rings)
			return -errno;
	}
	return 0;
}

/* Ask the kernel to end bursts that were opened long ago; at the end, all of them. */
static void bursts_end(struct trace *trace, __u64 older_ns)
{
	struct event_call call = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));
	__u64 boot_ns = monotonic_ns(CLOCK_BOOTTIME);

	for (__u32 i = 0; i < trace->t.clocks_n; i++) {
		const struct clock *c = &trace->t.clocks[i];
		__u64 run = *(volatile __u64 *)&c->run;

		if (!run_packets(run) || *(volatile __u64 *)&c->opened_ns + older_ns > boot_ns)
			continue;
		call.clock = i;
		bpf_prog_test_run_opts(trace->t.event_end, &opts);
	}
}

static int gap_print(struct trace *trace, const struct clock *c, __u64 count)
{
	__u64 stamp = *(volatile __u64 *)&c->now, wall_ns = physical_now_ns() + c->skew_ns;
	int err = event_log_gap(trace->log, c->node, stamp, wall_ns, count);

	if (!err && trace->kept)
		err = event_log_gap(trace->kept, c->node, stamp, wall_ns, count);
	return err;
}

/* What no ring had room for. */
static void gaps_print(struct trace *trace)
{
	for (__u32 i = 0; i < trace->t.clocks_n && !trace->err; i++) {
		struct clock *c = &trace->t.clocks[i];
		__u32 lost = *(volatile __u64 *)&c->lost - c->told;

		if (!lost)
			continue;
		trace->err = gap_print(trace, c, lost);
		c->told += lost;
	}
}

static void drain(struct trace *trace)
{
	trace->now_ns = monotonic_ns(CLOCK_MONOTONIC);
	if (faccessat(trace->t.dir, "settings", F_OK, 0)) {
		log_info("the datapath was taken down");
		trace->gone = trace->stop = true;
		return;
	}
	discover_tick(trace->discover);
	bursts_end(trace, BURST_MOST_NS);
	ring_buffer__consume(trace->rings);
	if (!trace->err)
		trace->err = join_give(trace->join, trace->now_ns);
	gaps_print(trace);
	if (trace->now_ns >= trace->last_second_ns + SECOND_NS) {
		trace->last_second_ns = trace->now_ns;
		physical_publish(&trace->t);
		state_save(&trace->t, STATE_AHEAD_NS);
		discover_names(trace->discover);
		event_log_rename(trace->log);
		if (trace->kept)
			event_log_rename(trace->kept);
	}
	if (trace->end_ns && trace->now_ns >= trace->end_ns)
		trace->stop = true;
}

static int timer_drain(void)
{
	const struct itimerspec every = { .it_interval.tv_nsec = DRAIN_NS,
					  .it_value.tv_nsec = DRAIN_NS };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (fd >= 0 && timerfd_settime(fd, 0, &every, NULL)) {
		close(fd);
		return -errno;
	}
	return fd < 0 ? -errno : fd;
}

static int poll_add(int epoll, int fd, __u32 events, __u32 what)
{
	struct epoll_event event = { .events = events, .data.u32 = what };

	if (fd < 0)
		return fd;
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static void trace_ready(struct trace *trace, int what, int fds[])
{
	struct signalfd_siginfo signal;
	uint64_t ticks;

	switch (what) {
	case FD_SIGNAL:
		if (read(fds[what], &signal, sizeof(signal)) == sizeof(signal))
			trace->stop = true;
		break;
	case FD_DRAIN:
		if (read(fds[what], &ticks, sizeof(ticks)) == sizeof(ticks))
			drain(trace);
		break;
	case FD_CLOCK:
		physical_rearm(fds[what]);
		physical_publish(&trace->t);
		break;
	default:
		discover_read(trace->discover, what);
	}
}

/* Not while somebody takes the datapath down: what is pinned after that would be left. */
static int trace_watch_processes(struct trace *trace)
{
	struct tidemark *t = &trace->t;
	int err = tidemark_lock(t);

	if (!err && !faccessat(t->dir, "settings", F_OK, 0))
		err = tidemark_watch_processes(t);
	tidemark_unlock(t);
	return err;
}

static int trace_loop(struct trace *trace)
{
	struct epoll_event ready[8];
	int fds[FD_CLOCK + 1], epoll = epoll_create1(EPOLL_CLOEXEC), err = 0, n;
	sigset_t stop;

	sigemptyset(&stop);
	sigaddset(&stop, SIGINT);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGHUP);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	discover_fds(trace->discover, fds);
	fds[FD_SIGNAL] = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	fds[FD_DRAIN] = timer_drain();
	fds[FD_CLOCK] = physical_timer();
	for (int i = 0; i <= FD_CLOCK && !err; i++)
		err = poll_add(epoll, fds[i], i < DISCOVER_FDS ? discover_events(i) : EPOLLIN, i);
	if (err) {
		log_error("cannot wait for events: %s", strerror(-err));
		return err;
	}
	log_info("watching %u nodes", node_count(&trace->t));
	/* Only now: it takes as long as all the rest, and the packets do not wait for it. */
	err = trace_watch_processes(trace);
	if (err)
		log_warn("processes are not watched (%s): new namespaces are found when something "
			 "in them makes a socket; `tidemark doctor` says more",
			 strerror(-err));
	while (!trace->stop && !trace->err) {
		n = epoll_wait(epoll, ready, 8, -1);
		for (int i = 0; i < n; i++)
			trace_ready(trace, ready[i].data.u32, fds);
	}
	for (int i = FD_SIGNAL; i <= FD_CLOCK; i++)
		close(fds[i]);
	close(epoll);
	return 0;
}

/* What is left, bursts that are open included. */
static void trace_finish(struct trace *trace)
{
	trace->t.settings->reading = 0;
	bursts_end(trace, 0);
	trace->now_ns = monotonic_ns(CLOCK_MONOTONIC);
	ring_buffer__consume(trace->rings);
	if (!trace->err)
		trace->err = join_drain(trace->join);
	gaps_print(trace);
}

static int trace_run(struct trace *trace)
{
	int err = trace_rings(trace);

	trace->join = join_new(trace_print, trace);
	trace->log = event_log_open(&trace->t, stdout, "stdout", trace->json);
	if (trace->file)
		trace->kept = event_log_open(&trace->t, trace->file, trace->file_name, true);
	if (err || !trace->join || !trace->log || (trace->file && !trace->kept)) {
		log_error("cannot read events: %s", strerror(err ? -err : ENOMEM));
		return 1;
	}
	trace->now_ns = trace->last_second_ns = monotonic_ns(CLOCK_MONOTONIC);
	if (trace->duration_ns)
		trace->end_ns = trace->now_ns + trace->duration_ns;
	trace->discover = discover_open(&trace->t, &trace->choice);
	if (!trace->discover)
		return 1;
	if (trace_loop(trace))
		return 1;
	trace_finish(trace);
	return 0;
}

/* Of a datapath that is up: only the nodes asked for are printed. */
static int selected_add(const struct netns_seen *seen, const char *name, void *ctx)
{
	struct trace *trace = ctx;
	struct netns ns;
	__u32 id = 0, *grown;

	if (netns_identify(seen->fd, &ns) || node_by_cookie(&trace->t, ns.cookie, &id)) {
		log_error("%s: not a node of the datapath that is up; `tidemark show nodes` lists "
			  "them, `tidemark down` first to choose others",
			  name);
		return 1;
	}
	grown = realloc(trace->only, (trace->only_n + 1) * sizeof(*grown));
	if (!grown)
		return 1;
	trace->only = grown;
	trace->only[trace->only_n++] = id;
	return 0;
}

static void every_packet_set(struct trace *trace, bool every)
{
	struct tidemark *t = &trace->t;

	t->settings->every_packet = every;
	for (__u32 i = 0; i < t->clocks_n; i++) {
		__u32 *flags = &t->clocks[i].flags;

		*flags = every ? *flags | CLOCK_EVERY_PACKET : *flags & ~CLOCK_EVERY_PACKET;
	}
}

/* The datapath is there: what was asked of it must go together with what it is. */
static int trace_adopt(struct trace *trace)
{
	struct tidemark *t = &trace->t;
	char words[512];
	int status = 0, ret;

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
	state_load(t);
	/* Left by a trace that was killed: whom it did not know can be added. */
	if (t->settings->temporary && trace->o.selectors_n)
		status = discover_now(t, &trace->choice, false) ? 1 : 0;
	for (size_t i = 0; i < trace->o.selectors_n && !status; i++) {
		ret = selector_each(&trace->o.selectors[i], selected_add, trace, words,
				    sizeof(words));
		if (ret < 0)
			log_error("%s", words);
		status = ret ? 1 : 0;
	}
	if (!status)
		status = datapath_skew(t, &trace->o);
	/* Nodes to come are those the datapath was brought up for. */
	trace->choice.all = t->settings->all;
	trace->choice.selectors_n = 0;
	return status;
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
	if (tidemark_read_events(t)) {
		log_error("events are being read by process %d, and only one can; stop that first",
			  t->settings->reader);
		return 1;
	}
	status = err ? 0 : trace_adopt(trace);
	if (status)
		return status;
	trace->open = true;
	/* Set, not left: whoever traced before may have been killed before it took it back. */
	every_packet_set(trace, trace->o.every_packet || t->settings->every_packet_up);
	tidemark_unlock(t);
	return 0;
}

static int trace_close(struct trace *trace, int status)
{
	struct tidemark *t = &trace->t;

	/* Before taking down, which waits until the kernel has let go of what we map here. */
	discover_close(trace->discover);
	ring_buffer__free(trace->rings);
	join_free(trace->join);
	if (trace->open && !trace->gone) {
		every_packet_set(trace, t->settings->every_packet_up);
		t->settings->reading = 0;
		if (!t->settings->temporary || recorder_other(t)) /* who takes it down */
			state_save(t, STATE_AHEAD_NS);
		else if (tidemark_lock(t) || datapath_down(t))
			status = 1;
	}
	if (trace->log)
		status = event_log_close(trace->log, status);
	if (trace->kept)
		status = event_log_close(trace->kept, status);
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
	"as long as this runs.\n"
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

static const struct argp_child children[] = { { &datapath_argp, 0, NULL, 5 }, {} };
const struct argp trace_argp = {
	.options = options,
	.parser = parse,
	.doc = doc,
	.children = children,
};

int cmd_trace(int argc, char **argv)
{
	struct trace trace = {};
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
		status = trace_run(&trace);
	return trace_close(&trace, status);
}
