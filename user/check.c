// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark check`: is any effect before its cause? */
#include <argp.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "causal.h"
#include "cmd.h"
#include "log.h"
#include "logs.h"
#include "out.h"

struct check {
	char **args;
	unsigned args_n;
	struct logs logs;
	bool json, verbose;
};

enum {
	EVENTS,
	PAIRS,
	INVERSIONS,
	WALL_INVERSIONS,
	UNMATCHED_SEND,
	UNMATCHED_RECV,
	GAPS,
	IN_BAND,
	MATCHED,
	UNKNOWN,
	AHEAD_P99,
	AHEAD_MAX,
};

static const struct out_column columns[] = {
	[EVENTS] = { .key = "events" },
	[PAIRS] = { .key = "pairs" },
	[INVERSIONS] = { .key = "inversions" },
	[WALL_INVERSIONS] = { .key = "wall_inversions" },
	[UNMATCHED_SEND] = { .key = "unmatched_send" },
	[UNMATCHED_RECV] = { .key = "unmatched_recv" },
	[GAPS] = { .key = "gaps" },
	[IN_BAND] = { .key = "in_band" },
	[MATCHED] = { .key = "matched" },
	[UNKNOWN] = { .key = "unknown" },
	[AHEAD_P99] = { .key = "ahead_p99_ns" },
	[AHEAD_MAX] = { .key = "ahead_max_ns" },
	{},
};

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "No words beside the JSON object, unless something is wrong", 0 },
	{ "verbose", 'v', NULL, 0, "Say in words what was found, even if nobody is at a terminal",
	  0 },
	{},
};

static const char doc[] =
	"Is any effect before its cause?\v"
	"Reads event logs of any nodes and hosts, in any order of files and lines, and prints one "
	"JSON object: how many events, how many pairs of a message's sending and receiving, how "
	"many inversions (a message received at or before the stamp it was sent with, or a stamp used "
	"twice by one node), how many pairs the wall clocks alone would have put in the wrong "
	"order, how many messages have only one end in the logs, and how many events were lost. Then, "
	"how the causes of receives are known: in_band, by the stamp that came with the message; "
	"matched, by TCP sequence or payload hash, as the stamp was stripped; or unknown. And how far "
	"clocks were ahead of their own node's wall clock, as 99 of 100 messages were at most, and at "
	"the very most.\n"
	"\n"
	"An inversion where stamps were stripped means that the logs were not merged yet: see "
	"`tidemark merge`.\n"
	"\n"
	"LOG is a file, a directory of *.jsonl and *.jsonl.zst, or - for standard input.\n"
	"\n"
	"Exit status: 0 no inversion, 1 an inversion, 2 a log cannot be read.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark trace --json --duration 10s > web.json\n"
	"  tidemark check web.json db.json | jq .inversions\n";

static error_t option_parse(int key, char *arg, struct argp_state *state)
{
	struct check *check = state->input;

	switch (key) {
	case 'j':
		check->json = true;
		return 0;
	case 'v':
		check->verbose = true;
		return 0;
	case ARGP_KEY_ARGS:
		check->args = state->argv + state->next;
		check->args_n = (unsigned)(state->argc - state->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no LOG given");
		return EINVAL;
	default:
		(void)arg;
		return ARGP_ERR_UNKNOWN;
	}
}

static void inversion_say(const struct check *check, const struct causal *causal,
			  const struct causal_inversion *found)
{
	static const char *const what[] = {
		[CAUSAL_EFFECT_FIRST] = "is not after its cause",
		[CAUSAL_STAMP_TWICE] = "shares a stamp of this node with",
		[CAUSAL_ENDS_FIRST] = "ends before it begins",
	};
	const struct causal_event *a = &causal->events[found->a], *b = &causal->events[found->b];
	const char *name = names_get(&causal->nodes, b->node);

	/* "host\0node" */
	name += strlen(name) + 1;
	if (found->wrong == CAUSAL_ENDS_FIRST)
		log_info("%s:%u: %s at %016llx of %s %s: hlc_last %016llx",
			 logs_name(&check->logs, b->file), b->line,
			 causal_type_name((enum causal_type)b->type), (unsigned long long)b->hlc,
			 name, what[found->wrong], (unsigned long long)b->hlc_last);
	else
		log_info("%s:%u: %s at %016llx of %s %s: %s:%u: %s at %016llx",
			 logs_name(&check->logs, b->file), b->line,
			 causal_type_name((enum causal_type)b->type), (unsigned long long)b->hlc,
			 name, what[found->wrong], logs_name(&check->logs, a->file), a->line,
			 causal_type_name((enum causal_type)a->type), (unsigned long long)a->hlc);
}

/* Words: always where something is wrong, otherwise for a person or on request. */
static void counts_say(const struct check *check, const struct causal *causal)
{
	const struct causal_counts *counts = &causal->counts;

	for (uint32_t i = 0; i < causal->first_n; i++)
		inversion_say(check, causal, &causal->first[i]);
	if (counts->inversions > causal->first_n)
		log_info("and %llu more inversions",
			 (unsigned long long)(counts->inversions - causal->first_n));
	if (!check->verbose && (check->json || !isatty(STDERR_FILENO)))
		return;
	log_info(
		"%llu inversions in %llu pairs; wall clocks alone would have put %llu pairs in the "
		"wrong order",
		(unsigned long long)counts->inversions, (unsigned long long)counts->pairs,
		(unsigned long long)counts->wall_inversions);
	if (counts->gaps)
		log_info("%llu events were lost, so this is not all that happened",
			 (unsigned long long)counts->gaps);
}

static int counts_print(const struct causal *causal, int status)
{
	const struct causal_counts *counts = &causal->counts;
	const struct causal_labels *labels = &causal->labels;
	struct out *out = out_open(stdout, columns, OUT_JSON);

	if (!out) {
		log_error("stdout: %s", strerror(ENOMEM));
		return 1;
	}
	out_u64(out, EVENTS, counts->events);
	out_u64(out, PAIRS, counts->pairs);
	out_u64(out, INVERSIONS, counts->inversions);
	out_u64(out, WALL_INVERSIONS, counts->wall_inversions);
	out_u64(out, UNMATCHED_SEND, counts->unmatched_send);
	out_u64(out, UNMATCHED_RECV, counts->unmatched_recv);
	out_u64(out, GAPS, counts->gaps);
	out_u64(out, IN_BAND, labels->in_band);
	out_u64(out, MATCHED, labels->matched);
	out_u64(out, UNKNOWN, labels->unknown);
	out_u64(out, AHEAD_P99, labels->ahead_p99_ns);
	out_u64(out, AHEAD_MAX, labels->ahead_max_ns);
	out_row(out);
	return out_finish(out, status);
}

const struct argp check_argp = {
	.options = options,
	.parser = option_parse,
	.args_doc = "LOG...",
	.doc = doc,
};

int cmd_check(int argc, char **argv)
{
	struct check check = {};
	struct causal causal = {};
	int status = 2;

	argp_parse(&check_argp, argc, argv, 0, NULL, &check);
	if (logs_collect(&check.logs, check.args, check.args_n))
		goto out;
	for (unsigned i = 0; i < check.logs.n; i++)
		if (logs_read(&check.logs, i, eventlog_add, &causal))
			goto out;
	status = 1;
	if (causal_finish(&causal)) {
		log_error("%u events: %s", causal.n, strerror(ENOMEM));
		goto out;
	}
	counts_say(&check, &causal);
	status = counts_print(&causal, causal.counts.inversions ? 1 : 0);
out:
	causal_free(&causal);
	logs_free(&check.logs);
	return status;
}
