// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark record`: keep packets, of nodes, interfaces or a file. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "assign.h"
#include "cmd.h"
#include "config_record.h"
#include "datapath.h"
#include "log.h"
#include "physical.h"
#include "promisc.h"
#include "record_config.h"
#include "recorder.h"
#include "replay.h"
#include "secret.h"
#include "segment.h"
#include "state.h"
#include "timemachine.h"
#include "units.h"

#define SECOND_NS 1000000000ULL
#define LOOK_NS (SECOND_NS / 10) /* is the datapath still there? */
#define ORDERS 64
#define CPUS_WOKEN 64 /* rings that may wake us; more are emptied by timer only */

enum order { ORDER_SUSPEND, ORDER_RESUME, ORDER_ASSIGN, ORDER_UNASSIGN };

struct record {
	struct tidemark t;
	struct datapath_options o;
	struct discover_choice choice;
	struct recorder_options to;
	struct class_list classes;
	__u64 cutoff, duration_ns;
	bool cutoff_given;
	const char *file;
	const char *class_text[CLASSES]; /* as given, to be given again */
	size_t class_texts;
	bool from;
	const char *from_file; /* Time Machine's configuration */
	struct timemachine said;
	const char *config_name; /* the daemon's configuration */
	struct record_config config;
	bool reindex;
	struct {
		enum order what;
		const char *text;
	} order[ORDERS];
	unsigned orders;

	struct recorder *recorder;
	struct discover *discover;
	int promisc; /* a socket, while it is open */
	bool open, gone, stop;
	__u64 end_ns, last_second_ns, last_look_ns;
	sigset_t signals;
};

enum { FD_SIGNAL = DISCOVER_FDS, FD_DRAIN, FD_CLOCK, FD_RINGS };

/* ---- while it runs -------------------------------------------------------------------- */

static void drain(struct record *r)
{
	__u64 now = physical_monotonic_ns();

	if (now >= r->last_look_ns + LOOK_NS) {
		r->last_look_ns = now;
		r->gone = faccessat(r->t.dir, "settings", F_OK, 0) != 0;
	}
	if (r->gone) {
		log_info("the datapath was taken down");
		r->stop = true;
		return;
	}
	discover_tick(r->discover);
	recorder_drain(r->recorder);
	if (now >= r->last_second_ns + SECOND_NS) {
		r->last_second_ns = now;
		physical_publish(&r->t);
		state_save(&r->t, STATE_AHEAD_NS);
		discover_names(r->discover);
	}
	if (r->end_ns && now >= r->end_ns)
		r->stop = true;
}

static int timer_drain(void)
{
	const struct itimerspec every = { .it_interval.tv_nsec = RECORDER_DRAIN_NS,
					  .it_value.tv_nsec = RECORDER_DRAIN_NS };
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

/* All classes there are, into an empty list: those of the command line and of a file. -EINVAL. */
static int classes_read(struct record *r, const struct record_config *config,
			struct class_list *list)
{
	char words[256];

	for (size_t i = 0; i < r->class_texts; i++)
		if (class_parse(list, r->class_text[i], words, sizeof(words))) {
			log_error("--class %s: %s", r->class_text[i], words);
			return -EINVAL;
		}
	if (config && record_config_classes(config, list, r->class_texts))
		return -EINVAL;
	return r->from_file ? timemachine_read(r->from_file, &r->said, list) : 0;
}

/* Better go on as before than with half of what was wanted. */
static void reload(struct record *r)
{
	const char *name = r->config_name ? r->config_name : r->from_file;
	struct record_config config = {};
	static struct class_list now;
	bool wrong;

	memset(&now, 0, sizeof(now));
	now.only = r->classes.only;
	now.only_n = r->classes.only_n;
	wrong = r->config_name && record_config_read(&config, name);
	if (wrong || classes_read(r, r->config_name ? &config : NULL, &now) ||
	    class_finish(&now, r->cutoff, &r->t)) {
		log_error("%s: not reloaded; recording goes on as before", name);
		record_config_free(&config);
		class_free(&now);
		return;
	}
	record_config_free(&config);
	if (recorder_classes(r->recorder, &now)) {
		log_error("%s: not all of its classes can be kept", name);
	} else {
		log_info("%s: reloaded, %zu classes", name, now.n);
	}
	class_free(&r->classes);
	r->classes = now;
}

static void signal_take(struct record *r, int fd)
{
	struct signalfd_siginfo signal;

	if (read(fd, &signal, sizeof(signal)) != sizeof(signal))
		return;
	if (signal.ssi_signo == SIGHUP && (r->from_file || r->config_name))
		reload(r);
	else
		r->stop = true;
}

static void ready(struct record *r, int what, const int fds[])
{
	uint64_t ticks;

	switch (what) {
	case FD_SIGNAL:
		signal_take(r, fds[what]);
		break;
	case FD_DRAIN:
		if (read(fds[what], &ticks, sizeof(ticks)) == sizeof(ticks))
			drain(r);
		break;
	case FD_CLOCK:
		physical_rearm(fds[what]);
		physical_publish(&r->t);
		break;
	default:
		if (what >= FD_RINGS)
			recorder_drain(r->recorder);
		else
			discover_read(r->discover, what);
	}
}

static int watch_processes(struct record *r)
{
	struct tidemark *t = &r->t;
	int err = tidemark_lock(t);

	if (!err && !faccessat(t->dir, "settings", F_OK, 0))
		err = tidemark_watch_processes(t);
	tidemark_unlock(t);
	return err;
}

static int loop(struct record *r)
{
	struct epoll_event events[8];
	int fds[FD_RINGS + CPUS_WOKEN], epoll = epoll_create1(EPOLL_CLOEXEC), err = 0, n;
	unsigned rings;

	discover_fds(r->discover, fds);
	fds[FD_SIGNAL] = signalfd(-1, &r->signals, SFD_CLOEXEC | SFD_NONBLOCK);
	fds[FD_DRAIN] = timer_drain();
	fds[FD_CLOCK] = physical_timer();
	rings = recorder_fds(r->recorder, fds + FD_RINGS, CPUS_WOKEN);
	for (int i = 0; i < FD_RINGS && !err; i++)
		err = poll_add(epoll, fds[i], i < DISCOVER_FDS ? discover_events(i) : EPOLLIN, i);
	for (unsigned i = 0; i < rings && !err; i++)
		err = poll_add(epoll, fds[FD_RINGS + i], EPOLLIN | EPOLLET, FD_RINGS + i);
	if (err) {
		log_error("cannot wait for packets: %s", strerror(-err));
		return err;
	}
	log_info("recording %zu nodes",
		 r->classes.only_n ? r->classes.only_n : (size_t)node_count(&r->t));
	if (watch_processes(r))
		log_warn("processes are not watched: new namespaces are found when something in "
			 "them makes a socket; `tidemark doctor` says more");
	while (!r->stop) {
		n = epoll_wait(epoll, events, 8, -1);
		for (int i = 0; i < n; i++)
			ready(r, events[i].data.u32, fds);
	}
	for (int i = FD_SIGNAL; i < FD_RINGS; i++)
		close(fds[i]);
	close(epoll);
	return 0;
}

/* ---- the datapath --------------------------------------------------------------------- */

static int adopt(struct record *r)
{
	struct tidemark *t = &r->t;

	if (!t->settings->complete) {
		log_error(
			"%s: left by a start that was interrupted; `tidemark down` clears it away",
			t->pin_dir);
		return 1;
	}
	for (size_t i = 0; i < r->o.interfaces_n; i++)
		if (node_by_name(t, r->o.interfaces[i], NULL, NULL)) {
			log_error("%s: the datapath is up already, without -i %s; `tidemark down` "
				  "first",
				  t->pin_dir, r->o.interfaces[i]);
			return 1;
		}
	if (recorder_other(t)) {
		log_error("%s: process %d records from this datapath, and only one can; stop that "
			  "first",
			  t->pin_dir, recorder_other(t));
		return 1;
	}
	state_load(t);
	/* Left by one that was killed: whom it did not know can be added. */
	if (t->settings->temporary == DATAPATH_OF_TRACE && r->o.selectors_n &&
	    discover_now(t, &r->choice, false))
		return 1;
	if (datapath_only(t, &r->o, &r->classes.only, &r->classes.only_n))
		return 1;
	r->choice.all = t->settings->all;
	r->choice.selectors_n = 0;
	return datapath_skew(t, &r->o);
}

static int open_all(struct record *r)
{
	struct tidemark *t = &r->t;
	int err, status;

	if (tidemark_lock(t))
		return 1;
	err = tidemark_open(t);
	if (err && err != -ENOENT)
		return 1;
	status = err ? datapath_up(t, &r->o, true) : adopt(r);
	if (status)
		return status;
	r->open = true;
	if (err) /* nobody reads events of it yet */
		t->settings->reading = 0;
	if (class_finish(&r->classes, r->cutoff, t))
		return 2;
	r->promisc = promiscuous(r->o.interfaces, r->o.interfaces_n);
	if (r->promisc < 0 && r->o.interfaces_n)
		return 1;
	r->recorder = recorder_open(t, &r->classes, &r->to);
	tidemark_unlock(t);
	return r->recorder ? 0 : 1;
}

/* A trace that runs on this datapath takes it down when it ends. */
static bool traced(struct tidemark *t)
{
	return tidemark_read_events(t) == -EBUSY;
}

static int close_all(struct record *r, int status)
{
	struct tidemark *t = &r->t;
	int err;

	discover_close(r->discover);
	if (r->recorder) {
		err = recorder_close(r->recorder, false);
		if (err && !status) {
			log_error("%s: %s: not everything could be written; `tidemark show record` "
				  "and the gaps say what is missing",
				  r->to.dir, strerror(-err));
			status = 1;
		}
	}
	if (r->promisc >= 0)
		close(r->promisc);
	if (r->open && !r->gone) {
		if (t->settings->temporary != DATAPATH_OF_TRACE || traced(t))
			state_save(t, STATE_AHEAD_NS);
		else if ((t->lock < 0 && tidemark_lock(t)) || datapath_down(t))
			status = 1;
	}
	tidemark_close(t);
	return status;
}

static int record_live(struct record *r)
{
	int status;

	/* Before there are other threads, which would die of them. */
	sigemptyset(&r->signals);
	sigaddset(&r->signals, SIGINT);
	sigaddset(&r->signals, SIGTERM);
	sigaddset(&r->signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &r->signals, NULL);
	r->choice = datapath_choice(&r->o);
	r->promisc = -1;
	tidemark_init(&r->t, r->o.pin_dir, r->o.state_dir);
	status = open_all(r);
	if (!status) {
		r->last_second_ns = physical_monotonic_ns();
		r->end_ns = r->duration_ns ? r->last_second_ns + r->duration_ns : 0;
		r->discover = discover_open(&r->t, &r->choice);
		status = r->discover ? 0 : 1;
	}
	if (!status && loop(r))
		status = 1;
	return close_all(r, status);
}

/* ---- other things to do ---------------------------------------------------------------- */

static int orders_do(struct record *r)
{
	struct tidemark *t = &r->t;
	int status = 0, err;

	tidemark_init(t, r->o.pin_dir, r->o.state_dir);
	err = tidemark_open(t);
	if (err == -ENOENT)
		log_error("%s: no datapath is up there; `tidemark record` first", t->pin_dir);
	if (err)
		return 1;
	for (unsigned i = 0; i < r->orders && !status; i++)
		switch (r->order[i].what) {
		case ORDER_SUSPEND:
		case ORDER_RESUME:
			status = suspend(t, r->order[i].text, r->order[i].what == ORDER_SUSPEND);
			break;
		case ORDER_ASSIGN:
			status = assign_add(t, r->order[i].text);
			break;
		case ORDER_UNASSIGN:
			status = assign_remove(t, r->order[i].text);
			break;
		}
	tidemark_close(t);
	return status;
}

static int record_file(struct record *r)
{
	const struct replay_options o = { .file = r->file,
					  .dir = r->to.dir,
					  .key_file = r->to.key_file,
					  .zstd = r->to.zstd,
					  .flows = r->o.sizes.flows };

	return replay_file(&o, &r->classes, r->cutoff);
}

/* ---- the command ------------------------------------------------------------------------ */

enum {
	OPT_CUTOFF = 0x200,
	OPT_CLASS,
	OPT_SUSPEND,
	OPT_RESUME,
	OPT_ASSIGN,
	OPT_UNASSIGN,
	OPT_DURATION,
	OPT_STATS,
	OPT_ZSTD,
	OPT_REINDEX,
	OPT_FROM,
	OPT_KEY_FILE,
	OPT_CONFIG,
};

static const struct argp_option options[] = {
	{ "directory", 'd', "DIR", 0, "Where the record is kept", 0 },
	{ "read", 'r', "FILE", 0,
	  "Record the packets of this pcap or pcapng file, with its timestamps (-: standard input)",
	  0 },
	{ "cutoff", OPT_CUTOFF, "SIZE", 0,
	  "Keep so many bytes of each connection; SYN, FIN and RST always (default: all)", 0 },
	{ "class", OPT_CLASS, "NAME:KEY=VALUE,...", 0,
	  "A class of packets, and how it is kept: filter, cutoff, mem, disk, filesize, age, flows, "
	  "snap, sample, precedence; repeats",
	  0 },
	{ "zstd", OPT_ZSTD, "AFTER", OPTION_ARG_OPTIONAL,
	  "Compress files once they are full, or once their packets are so old: 90s, 2h, 7d", 0 },
	{ "stats", OPT_STATS, "SPAN", 0, "A line for each class in DIR/stats.jsonl (default 10s)",
	  0 },
	{ "duration", OPT_DURATION, "SPAN", 0, "Stop after 90s, 15m, 2h...", 0 },
	{ "from", OPT_FROM, "timemachine FILE", 0,
	  "Classes, device and directory as Time Machine's configuration has them; SIGHUP reads "
	  "it again",
	  0 },
	{ "key-file", OPT_KEY_FILE, "FILE", 0,
	  "Encrypt all that is written with the key in FILE: 32 bytes, or 64 hexadecimal digits; "
	  "repeats, for keys that what is there already was written with",
	  0 },
	{ "config", OPT_CONFIG, "FILE", 0,
	  "As the sections record and nodes of the daemon's configuration have it; SIGHUP reads its "
	  "classes again",
	  0 },
	{ "reindex", OPT_REINDEX, NULL, 0, "Make the indexes in DIR anew from its packets", 0 },
	{ "suspend", OPT_SUSPEND, "CONN", 0,
	  "Of this connection, keep everything from now on: 'conn ADDR:PORT ADDR:PORT'", 1 },
	{ "resume", OPT_RESUME, "CONN", 0, "Its cutoff is valid again", 1 },
	{ "assign", OPT_ASSIGN, "PREFIX:CLASS[:orig|resp|both][:SPAN]", 0,
	  "Connections that such hosts open (orig), answer (resp) or both have this class", 1 },
	{ "unassign", OPT_UNASSIGN, "PREFIX", 0, "And no more", 1 },
	{},
};

static const char doc[] =
	"Keep packets on disk, of each connection as much as is asked for.\v"
	"What is beyond a connection's cutoff never leaves the kernel. Without classes everything is "
	"kept whole; `tidemark query -d DIR` gets it back, while this runs and after.\n"
	"\n"
	"--suspend, --resume, --assign and --unassign tell a recorder that runs; they need no -d.\n"
	"\n"
	"Examples:\n"
	"\n"
	"  tidemark record -d /var/lib/packets --cutoff 15k\n"
	"  tidemark record -d DIR -i eth1 --class 'web:filter=port 80 or port 443,cutoff=64k,"
	"precedence=2' --class 'rest:cutoff=15k,disk=100g'\n"
	"  tidemark record -d DIR -r dump.pcap\n"
	"  tidemark record --from timemachine /usr/local/etc/timemachine.cfg -d DIR\n"
	"  tidemark record --config /etc/tidemark/tidemark.yaml -r dump.pcap -d DIR\n"
	"  tidemark record --assign 192.0.2.7:web:4h\n";

static void order_add(struct record *r, enum order what, const char *text)
{
	if (r->orders == ORDERS) {
		log_error("%s: more than %d of these at once", text, ORDERS);
		exit(2);
	}
	r->order[r->orders].what = what;
	r->order[r->orders++].text = text;
}

static void span_set(const char *option, const char *arg, __u64 *ns)
{
	if (!span_parse(arg, ns) && *ns)
		return;
	log_error("--%s %s: not a span of time; write 90s, 15m, 2h", option, arg);
	exit(2);
}

/* What the command line does not say. A file to read comes before a device, as there. */
static void from_apply(struct record *r)
{
	const struct timemachine *said = &r->said;
	bool source = r->file || r->o.selectors_n || r->o.interfaces_n;

	if (!r->to.dir && *said->workdir)
		r->to.dir = said->workdir;
	if (!r->to.stats_ns)
		r->to.stats_ns = said->stats_ns;
	if (!source && *said->read_tracefile)
		r->file = said->read_tracefile;
	else if (!source && *said->device)
		r->o.interfaces[r->o.interfaces_n++] = said->device;
}

static void from_read(struct record *r, struct argp_state *state)
{
	if (r->from && !r->from_file)
		argp_error(state, "--from timemachine: which FILE?");
	if (r->from && r->config_name)
		argp_error(state, "either --config or --from");
	if (r->config_name && !r->orders) {
		if (record_config_read(&r->config, r->config_name))
			exit(2);
		r->to.ring_bytes = r->o.sizes.ring_bytes;
		/* A file is read whole: nodes are of what is on the wire. */
		record_config_apply(&r->config, &r->to, r->file ? NULL : &r->o);
		if (!r->cutoff_given)
			r->cutoff = r->config.file.config->record->cutoff_bytes;
	}
	if (classes_read(r, r->config.file.config ? &r->config : NULL, &r->classes))
		exit(2);
	if (r->from)
		from_apply(r);
}

static void arguments_check(const struct record *r, struct argp_state *state)
{
	if (r->orders && (r->file || r->to.dir || r->reindex))
		argp_error(state, "--suspend, --resume, --assign and --unassign go without -d");
	if (!r->orders && !r->to.dir)
		argp_error(state, "where to? -d DIR");
	if (r->file && (r->o.selectors_n || r->o.interfaces_n))
		argp_error(state, "-r reads a file; -n and -i are for what is on the wire");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct record *r = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &r->o;
		return 0;
	case 'd':
		r->to.dir = arg;
		return 0;
	case 'r':
		if (r->file)
			argp_error(state, "-r %s: one file at a time; mergecap makes one of many",
				   arg);
		r->file = arg;
		return 0;
	case OPT_CUTOFF:
		r->cutoff_given = true;
		if (!strcmp(arg, "no")) {
			r->cutoff = CLASS_WHOLE;
		} else if (size_parse(arg, &r->cutoff)) {
			log_error("--cutoff %s: not a size; write 15k, 1m, or no", arg);
			exit(2);
		}
		return 0;
	case OPT_CLASS:
		if (r->class_texts == CLASSES) {
			log_error("--class %s: more than %d classes", arg, CLASSES);
			exit(2);
		}
		r->class_text[r->class_texts++] = arg;
		return 0;
	case OPT_ZSTD:
		r->to.zstd = true;
		if (arg)
			span_set("zstd", arg, &r->to.zstd_after_ns);
		return 0;
	case OPT_KEY_FILE:
		if (secret_read_with(arg))
			exit(2);
		r->to.key_file = r->to.key_file ? r->to.key_file : arg;
		return 0;
	case OPT_STATS:
		span_set("stats", arg, &r->to.stats_ns);
		return 0;
	case OPT_DURATION:
		span_set("duration", arg, &r->duration_ns);
		return 0;
	case OPT_REINDEX:
		r->reindex = true;
		return 0;
	case OPT_SUSPEND:
	case OPT_RESUME:
	case OPT_ASSIGN:
	case OPT_UNASSIGN:
		order_add(r, ORDER_SUSPEND + (key - OPT_SUSPEND), arg);
		return 0;
	case OPT_CONFIG:
		r->config_name = arg;
		return 0;
	case OPT_FROM:
		r->from = true;
		if (strcmp(arg, "timemachine"))
			argp_error(state, "--from %s: only timemachine is known", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (!r->from || r->from_file)
			return ARGP_ERR_UNKNOWN;
		r->from_file = arg;
		return 0;
	case ARGP_KEY_END:
		from_read(r, state);
		arguments_check(r, state);
		if (r->o.sizes.ring_bytes)
			r->to.ring_bytes = r->o.sizes.ring_bytes;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = { { &datapath_argp, 0, NULL, 5 }, {} };
const struct argp record_argp = {
	.options = options,
	.parser = parse,
	.doc = doc,
	.children = children,
};

int cmd_record(int argc, char **argv)
{
	static struct record r; /* filled in here: in the program it would take 67 kB */
	int status;

	r.cutoff = CLASS_WHOLE;
	argp_parse(&record_argp, argc, argv, 0, NULL, &r);
	if (r.orders)
		return orders_do(&r);
	if (r.reindex) /* of what is there already: a directory is not made */
		return segments_reindex(r.to.dir, r.to.key_file) ? 1 : 0;
	if (mkdir(r.to.dir, 0700) && errno != EEXIST) {
		log_error("%s: %s", r.to.dir, strerror(errno));
		return 1;
	}
	status = r.file ? record_file(&r) : record_live(&r);
	free(r.classes.only);
	class_free(&r.classes);
	record_config_free(&r.config);
	return status;
}
