// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark merge`: logs of many hosts into one order. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../bpf/clock.h"
#include "cmd.h"
#include "inflight.h"
#include "log.h"
#include "merge.h"
#include "order.h"
#include "out.h"
#include "units.h"

struct merge {
	char **args;
	unsigned args_n;
	const char *to;
	bool pairs, json, verbose, has_cut;
	uint64_t cut, memory;
	struct logs logs;
	struct order *order;
	FILE *out;
	char *partial; /* what becomes `to` when it is whole */
};

enum { OPT_CUT = 0x200, OPT_PAIRS, OPT_MEMORY };

static const struct argp_option options[] = {
	{ "output", 'o', "FILE", 0, "Write to FILE, which appears when it is whole", 0 },
	{ "cut", OPT_CUT, "T", 0,
	  "Only what had happened at T, a stamp (16 hexadecimal digits) or a time "
	  "(2026-11-20T22:31:05Z); what was in flight then is said on stderr",
	  0 },
	{ "pairs", OPT_PAIRS, NULL, 0,
	  "Instead of events, the messages that are in the logs of both ends: one line each", 0 },
	{ "json", 'j', NULL, 0, "With --pairs: one JSON object per line (events always are)", 0 },
	{ "memory", OPT_MEMORY, "SIZE", 0, "About how much to use (192m); the rest is in TMPDIR",
	  0 },
	{ "verbose", 'v', NULL, 0, "Say in words what was done, even if nobody is at a terminal",
	  0 },
	{},
};

static const char doc[] =
	"Logs of many hosts, merged into one order.\v"
	"Events come out sorted by stamp, host and node, an effect never before its cause. Lines are "
	"as they were, with what is added to them: every receive gets an `edge`, which is in-band if "
	"its cause came with the message, matched if the stamp was stripped and the logs of both ends "
	"show which message it is (TCP sequence numbers, which survive NAT, or the hash of a UDP "
	"payload), and unknown otherwise. Where a stamp was stripped, and the clocks had not agreed by "
	"other ways, stamps are repaired along the messages: an event that is moved keeps its own "
	"stamp as hlc_raw; wall clocks and all other stamps are left alone.\n"
	"\n"
	"LOG is a file, a directory of *.jsonl and *.jsonl.zst, or - for standard input. Logs may be "
	"larger than memory.\n"
	"\n"
	"--pairs has, for each message, its stamps at both ends, the difference of the two wall clocks "
	"(latency plus what the clocks differ by), and the most the latency can have been: that "
	"difference plus the least difference any message showed in the other direction, since no "
	"message arrives before it is sent. That holds if neither wall clock was set meanwhile.\n"
	"\n"
	"Exit status: 0 merged, 1 failed, 2 a log cannot be read.\n"
	"\n"
	"Examples:\n"
	"\n"
	"  tidemark merge north.jsonl south.jsonl -o all.jsonl && tidemark check all.jsonl\n"
	"  tidemark merge /var/log/tidemark --cut 2026-11-20T22:31:05Z | jq -r .node | sort | uniq -c\n"
	"  tidemark merge --pairs north.jsonl south.jsonl\n";

int merge_cut_parse(const char *text, uint64_t *stamp)
{
	uint64_t wall_ns;

	if (!text_parse_stamp(text, stamp))
		return 0;
	if (text_parse_wall(text, &wall_ns))
		return -EINVAL;
	/* All events of that moment: whatever they count. */
	*stamp = wall_ns | CLOCK_COUNTER_MASK;
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct merge *merge = state->input;
	__u64 size;

	switch (key) {
	case 'o':
		merge->to = arg;
		return 0;
	case OPT_CUT:
		if (merge_cut_parse(arg, &merge->cut))
			argp_error(state,
				   "--cut %s: neither 16 hexadecimal digits nor a time like "
				   "2026-11-20T22:31:05Z",
				   arg);
		merge->has_cut = true;
		return 0;
	case OPT_PAIRS:
		merge->pairs = true;
		return 0;
	case 'j':
		merge->json = true;
		return 0;
	case OPT_MEMORY:
		if (size_parse(arg, &size) || size < 1 << 20)
			argp_error(state, "--memory %s: not a size of at least 1m", arg);
		merge->memory = size;
		return 0;
	case 'v':
		merge->verbose = true;
		return 0;
	case ARGP_KEY_ARGS:
		merge->args = state->argv + state->next;
		merge->args_n = (unsigned)(state->argc - state->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no LOG given");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp merge_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "LOG...",
	.doc = doc,
};

/* ---- where it goes ------------------------------------------------------------------------ */

static int output_open(struct merge *merge)
{
	struct stat file;
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	merge->out = stdout;
	if (!merge->to)
		return 0;
	if (!stat(merge->to, &file) && !S_ISREG(file.st_mode)) {
		merge->out = fopen(merge->to, "we");
	} else if (asprintf(&merge->partial, "%s.XXXXXX", merge->to) < 0) {
		merge->partial = NULL;
		merge->out = NULL;
	} else {
		fd = mkostemp(merge->partial, O_CLOEXEC);
		if (fd >= 0)
			fchmod(fd, 0600 & ~mask);
		merge->out = fd < 0 ? NULL : fdopen(fd, "w");
		if (fd < 0) {
			free(merge->partial);
			merge->partial = NULL;
		}
	}
	if (merge->out)
		return 0;
	log_error("%s: %m", merge->to);
	return -errno;
}

static int output_close(struct merge *merge, int status)
{
	if (merge->partial && !status && rename(merge->partial, merge->to)) {
		log_error("%s: %m", merge->to);
		status = 1;
	} else if (merge->partial && status) {
		unlink(merge->partial);
	}
	free(merge->partial);
	return status;
}

/* ---- events -------------------------------------------------------------------------------- */

static int event_print(struct merge *merge, const struct order_event *event, struct text *text)
{
	int err;

	text->len = 0;
	err = order_line_merged(merge->order, event, text);
	if (err) {
		log_error("%s:%u: %s", logs_name(&merge->logs, event->file), event->line,
			  err == -ESTALE ? "the log was cut while it was read" : strerror(-err));
		return err;
	}
	text_add_char(text, '\n');
	if (text->err)
		return text->err;
	if (fwrite(text->at, 1, text->len, merge->out) == text->len)
		return 0;
	err = errno ? -errno : -EIO;
	if (err != -EPIPE)
		log_error("%s: %s", merge->to ? merge->to : "stdout", strerror(-err));
	return err;
}

static void progress_say(uint64_t done, uint64_t all)
{
	if (done % 8192 == 0)
		log_progress("%llu of %llu events", (unsigned long long)done,
			     (unsigned long long)all);
}

static int events_print(struct merge *merge)
{
	struct inflight *inflight = NULL;
	struct order_event event;
	struct text text = {};
	uint64_t done = 0;
	int got, inside = 1;

	signal(SIGPIPE, SIG_IGN);
	if (merge->has_cut) {
		inflight = inflight_new(merge->order, merge->cut);
		if (!inflight)
			return -ENOMEM;
	}
	while ((got = order_next(merge->order, &event)) > 0) {
		progress_say(++done, order_count(merge->order));
		if (inflight)
			inside = inflight_event(inflight, &event);
		got = inside > 0 ? event_print(merge, &event, &text) : inside;
		if (got)
			break;
	}
	log_progress_end();
	if (!got && inflight)
		inflight_say(inflight);
	if (fflush(merge->out) && !got) {
		got = -errno;
		if (got != -EPIPE)
			log_error("%s: %m", merge->to ? merge->to : "stdout");
	}
	inflight_free(inflight);
	text_free(&text);
	return got;
}

/* ---- messages ------------------------------------------------------------------------------- */

enum {
	SENT,
	RECEIVED,
	FROM,
	TO,
	FROM_HOST,
	TO_HOST,
	PROTO,
	SRC,
	DST,
	BYTES,
	WALL,
	MOST,
	EDGE,
};

static const struct out_column columns[] = {
	[SENT] = { "sent", "SENT", 16, 0, 0 },
	[RECEIVED] = { "received", "RECEIVED", 16, 0, 0 },
	[FROM] = { "from", "FROM", 16, 6, 0 },
	[TO] = { "to", "TO", 16, 6, 0 },
	[FROM_HOST] = { .key = "from_host" },
	[TO_HOST] = { .key = "to_host" },
	[PROTO] = { .key = "proto" },
	[SRC] = { .key = "src" },
	[DST] = { .key = "dst" },
	[BYTES] = { "bytes", "BYTES", 6, 0, OUT_RIGHT | OUT_OPTIONAL },
	[WALL] = { "wall_difference_ns", "BY WALL", 8, 0, OUT_RIGHT },
	[MOST] = { "latency_most_ns", "AT MOST", 8, 0, OUT_RIGHT },
	[EDGE] = { "edge", "EDGE", 7, 0, 0 },
	{},
};

/* The least that wall clocks differed by over any message of one node to another. */
struct least {
	struct names keys;
	int64_t *ns;
	size_t room;
};

static int64_t least_key(struct least *least, uint32_t from, uint32_t to)
{
	uint32_t key[2] = { from, to };
	int64_t id = names_id(&least->keys, (const char *)key, sizeof(key));

	if (id >= 0 && (size_t)id >= least->room) {
		size_t room = (size_t)id * 2 + 64;
		int64_t *ns = reallocarray(least->ns, room, sizeof(*ns));

		if (!ns)
			return -ENOMEM;
		for (size_t i = least->room; i < room; i++)
			ns[i] = INT64_MAX;
		least->ns = ns;
		least->room = room;
	}
	return id;
}

static int least_collect(struct merge *merge, struct least *least)
{
	struct order_event event;
	int got;

	while ((got = order_next(merge->order, &event)) > 0) {
		int64_t key, difference = (int64_t)(event.wall_ns - event.first.wall_ns);

		if (!event.first.known)
			continue;
		key = least_key(least, event.first.node, event.node);
		if (key < 0)
			return (int)key;
		if (difference < least->ns[key])
			least->ns[key] = difference;
	}
	return got ? got : order_rewind(merge->order);
}

static int pair_print(struct merge *merge, struct least *least, struct out *out,
		      const struct order_event *event)
{
	int64_t difference = (int64_t)(event->wall_ns - event->first.wall_ns);
	int64_t back = least_key(least, event->node, event->first.node);
	const char *host[2] = { order_host(merge->order, event->first.node),
				order_host(merge->order, event->node) };
	const char *line = order_line(merge->order, event);
	json_t *object = line ? json_loadb(line, event->text_len, 0, NULL) : NULL;
	int err;

	if (!object || back < 0) {
		json_decref(object);
		return back < 0 ? (int)back : -EIO;
	}
	out_stamp(out, SENT, event->first.hlc);
	out_stamp(out, RECEIVED, event->hlc);
	out_str(out, FROM, order_node(merge->order, event->first.node));
	out_str(out, TO, order_node(merge->order, event->node));
	out_str(out, FROM_HOST, *host[0] ? host[0] : NULL);
	out_str(out, TO_HOST, *host[1] ? host[1] : NULL);
	out_str(out, PROTO, json_string_value(json_object_get(object, "proto")));
	out_str(out, SRC, json_string_value(json_object_get(object, "src")));
	out_str(out, DST, json_string_value(json_object_get(object, "dst")));
	out_u64(out, BYTES, event->bytes);
	out_shift(out, WALL, difference);
	if (least->ns[back] != INT64_MAX && difference + least->ns[back] >= 0)
		out_span(out, MOST, (uint64_t)(difference + least->ns[back]));
	out_str(out, EDGE, pairs_labels[event->label]);
	err = out_row(out);
	json_decref(object);
	return err;
}

static int pairs_print(struct merge *merge)
{
	struct out *out = out_open(merge->out, columns, OUT_STREAM | (merge->json ? OUT_JSON : 0));
	struct order_event event;
	struct least least = {};
	int got = out ? least_collect(merge, &least) : -ENOMEM, err;

	while (!got && (got = order_next(merge->order, &event)) > 0) {
		got = 0;
		if (event.first.known && !(merge->has_cut && event.hlc > merge->cut))
			got = pair_print(merge, &least, out, &event);
	}
	err = out ? out_close(out) : 0;
	if ((err || got) && err != -EPIPE && got != -EPIPE)
		log_error("%s: %s", merge->to ? merge->to : "stdout", strerror(-(got ? got : err)));
	names_free(&least.keys);
	free(least.ns);
	return got ? got : err;
}

/* Returns whether there is an order at all: the last stamp has nothing above it. */
static int counts_judge(const struct merge *merge)
{
	const struct order_counts *counts = order_counts(merge->order);

	if (!counts->topped)
		return 0;
	log_error("%llu events belong above the stamp ffffffffffffffff, and there is none: they "
		  "stand at it, not in order; no clock gives that stamp, so look where it is from",
		  (unsigned long long)counts->topped);
	return 1;
}

static void counts_say(const struct merge *merge)
{
	const struct order_counts *counts = order_counts(merge->order);

	if (merge->verbose || isatty(STDERR_FILENO))
		log_info("%llu events of %u nodes; %llu receives in-band, %llu matched, %llu of "
			 "unknown cause",
			 (unsigned long long)counts->events, order_nodes(merge->order),
			 (unsigned long long)counts->labels[PAIRS_IN_BAND],
			 (unsigned long long)counts->labels[PAIRS_MATCHED],
			 (unsigned long long)counts->labels[PAIRS_UNKNOWN]);
	if (counts->repaired)
		log_info("%llu events have repaired stamps, and their own as hlc_raw",
			 (unsigned long long)counts->repaired);
	if (counts->circles)
		log_warn(
			"%llu times a message would have been its own cause, and was left out; are "
			"bursts per flow (--burst flow), was a datagram doubled on its way, or is a log "
			"not what it says?",
			(unsigned long long)counts->circles);
	if (counts->lost)
		log_info("%llu events were lost, so this is not all that happened",
			 (unsigned long long)counts->lost);
}

int cmd_merge(int argc, char **argv)
{
	struct merge merge = {};
	int status = 2, topped = 0;

	argp_parse(&merge_argp, argc, argv, 0, NULL, &merge);
	if (!logs_collect(&merge.logs, merge.args, merge.args_n))
		merge.order = order_open(&merge.logs, merge.memory, &status);
	if (merge.order && output_open(&merge)) {
		status = 1;
	} else if (merge.order) {
		status = (merge.pairs ? pairs_print(&merge) : events_print(&merge)) ? 1 : 0;
		if (!status)
			counts_say(&merge);
		topped = !status && counts_judge(&merge);
		if (merge.out != stdout && fclose(merge.out) && !status) {
			log_error("%s: %m", merge.to);
			status = 1;
		}
		status = output_close(&merge, status) || topped;
	}
	order_free(merge.order);
	logs_free(&merge.logs);
	return status;
}
