// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark past` and `tidemark future`: everything an event can have been caused by, or can have
 * caused.
 *
 * Two passes over the order. The first keeps, of each event, its node and its causes as places in
 * the order (17 bytes an event): all of them lead backwards, so one sweep down finds a past, one
 * sweep up a future. The second prints what was found.
 */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "log.h"
#include "order.h"
#include "out.h"

#define NOWHERE UINT32_MAX
#define CANDIDATES 10

struct link {
	uint32_t before, first, last; /* places in the order */
};

struct past {
	bool future, json;
	const char *wanted;
	uint64_t stamp;
	const char *node; /* behind the @, or NULL */
	char **args;
	unsigned args_n;
	struct logs logs;
	struct order *order;
	struct link *links;
	uint32_t *place; /* by ord */
	bool *inside;
	uint32_t found; /* place of the event, or NOWHERE */
	unsigned found_n;
	bool found_message;
	char candidates[CANDIDATES][160];
};

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "The events' lines, as `tidemark merge` would print them", 0 },
	{},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct past *past = state->input;
	char *at;

	switch (key) {
	case 'j':
		past->json = true;
		return 0;
	case ARGP_KEY_ARGS:
		past->wanted = state->argv[state->next];
		at = strchr(state->argv[state->next], '@');
		past->args = state->argv + state->next + 1;
		past->args_n = (unsigned)(state->argc - state->next - 1);
		if (at) {
			past->node = at + 1;
			*at = '\0';
		}
		if (text_parse_stamp(past->wanted, &past->stamp))
			argp_error(state,
				   "%s: not an event; write its stamp, 16 hexadecimal digits, and "
				   "@NODE if several nodes have that",
				   past->wanted);
		if (!past->args_n)
			argp_error(state, "no LOG given");
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no EVENT given");
		return EINVAL;
	default:
		(void)arg;
		return ARGP_ERR_UNKNOWN;
	}
}

#define DOC(what, example)                                                                            \
	what "\v"                                                                                     \
	     "EVENT is a stamp, as in hlc (or hlc_raw) of a log: 16 hexadecimal digits. If several "  \
	     "nodes have it, write STAMP@NODE, or STAMP@HOST/NODE.\n"                                 \
	     "\n"                                                                                     \
	     "One event comes before another if it is earlier at the same node, or sent what the "    \
	     "other received, or by any chain of these. That is what can have been a cause; whether " \
	     "it was one, only the programs know. The logs are merged on the way, so messages that "  \
	     "lost their stamps are found too.\n"                                                     \
	     "\n"                                                                                     \
	     "Exit status: 0 found, 1 failed, 2 no such event, several of them, or a log cannot be "  \
	     "read.\n"                                                                                \
	     "\n"                                                                                     \
	     "Example:\n"                                                                             \
	     "\n" example

const struct argp past_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "EVENT LOG...",
	.doc = DOC("Every event that can have led to this one, in order.",
		   "  tidemark past 18b2a2b4c5d90000@web north.jsonl south.jsonl\n"),
};

const struct argp future_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "EVENT LOG...",
	.doc = DOC("Every event that this one can have led to, in order.",
		   "  tidemark future 18b2a2b4c5d70000@web north.jsonl south.jsonl\n"),
};

/* node is "NODE" or "HOST/NODE". */
static bool node_is(const struct past *past, uint32_t node)
{
	const char *host = order_host(past->order, node), *name = order_node(past->order, node);
	size_t len = strlen(host);

	if (!past->node || strcmp(past->node, name) == 0)
		return true;
	return len && strncmp(past->node, host, len) == 0 && past->node[len] == '/' &&
	       strcmp(past->node + len + 1, name) == 0;
}

static void event_match(struct past *past, const struct order_event *event, uint32_t place,
			bool raw)
{
	const char *host = order_host(past->order, event->node);

	if ((raw ? event->hlc_raw : event->hlc) != past->stamp || !node_is(past, event->node))
		return;
	/* What was only noticed at a message's stamp is not meant when the message is there. */
	if (past->found_message && !causal_type_message(event->type))
		return;
	if (!past->found_message && causal_type_message(event->type))
		past->found_n = 0;
	past->found_message = causal_type_message(event->type);
	if (past->found_n < CANDIDATES)
		snprintf(past->candidates[past->found_n], sizeof(past->candidates[0]),
			 "%016llx@%s%s%s, %s at %s:%u", (unsigned long long)past->stamp, host,
			 *host ? "/" : "", order_node(past->order, event->node),
			 causal_type_name(event->type), logs_name(&past->logs, event->file),
			 event->line);
	past->found_n++;
	past->found = place;
}

static uint32_t cause_place(const struct past *past, const struct order_cause *cause)
{
	return cause->known ? past->place[cause->ord] : NOWHERE;
}

static int links_collect(struct past *past, bool raw)
{
	uint64_t count = order_count(past->order);
	uint32_t *last = malloc(sizeof(*last) * (order_nodes(past->order) + 1)), place = 0;
	struct order_event event;
	int got;

	if (!last || count >= NOWHERE) {
		free(last);
		return last ? -E2BIG : -ENOMEM;
	}
	for (uint32_t i = 0; i < order_nodes(past->order); i++)
		last[i] = NOWHERE;
	while ((got = order_next(past->order, &event)) > 0) {
		past->links[place] = (struct link){
			.before = last[event.node],
			.first = cause_place(past, &event.first),
			.last = cause_place(past, &event.last),
		};
		past->place[event.ord] = place;
		last[event.node] = place;
		event_match(past, &event, place, raw);
		place++;
	}
	free(last);
	return got;
}

static void past_mark(struct past *past)
{
	past->inside[past->found] = true;
	for (uint64_t i = (uint64_t)past->found + 1; i-- > 0;) {
		const uint32_t to[] = { past->links[i].before, past->links[i].first,
					past->links[i].last };

		for (int k = 0; past->inside[i] && k < 3; k++)
			if (to[k] != NOWHERE)
				past->inside[to[k]] = true;
	}
}

static void future_mark(struct past *past)
{
	uint64_t count = order_count(past->order);

	past->inside[past->found] = true;
	for (uint64_t i = (uint64_t)past->found + 1; i < count; i++) {
		const struct link *link = &past->links[i];

		past->inside[i] = (link->before != NOWHERE && past->inside[link->before]) ||
				  (link->first != NOWHERE && past->inside[link->first]) ||
				  (link->last != NOWHERE && past->inside[link->last]);
	}
}

/* ---- printing ---------------------------------------------------------------------------- */

enum { HLC, NODE, TYPE, FROM, TO, BYTES, EDGE };

static const struct out_column columns[] = {
	[HLC] = { "hlc", "HLC", 16, 0, 0 },
	[NODE] = { "node", "NODE", 14, 6, 0 },
	[TYPE] = { "type", "EVENT", 10, 0, 0 },
	[FROM] = { "src", "FROM", 21, 15, 0 },
	[TO] = { "dst", "TO", 21, 15, 0 },
	[BYTES] = { "bytes", "BYTES", 6, 0, OUT_RIGHT },
	[EDGE] = { "edge", "EDGE", 8, 0, OUT_OPTIONAL },
	{},
};

static int row_print(struct past *past, struct out *out, const struct order_event *event)
{
	const char *line = order_line(past->order, event);
	json_t *object = line ? json_loadb(line, event->text_len, 0, NULL) : NULL;
	int err;

	if (!object)
		return -EIO;
	out_colour(out, event->effect			   ? OUT_GREEN
			: causal_type_message(event->type) ? OUT_CYAN
							   : OUT_DIM);
	out_stamp(out, HLC, event->hlc);
	out_str(out, NODE, order_node(past->order, event->node));
	out_str(out, TYPE, json_string_value(json_object_get(object, "type")));
	out_str(out, FROM, json_string_value(json_object_get(object, "src")));
	out_str(out, TO, json_string_value(json_object_get(object, "dst")));
	if (json_object_get(object, "bytes"))
		out_u64(out, BYTES, event->bytes);
	if (event->effect)
		out_str(out, EDGE, pairs_labels[event->label]);
	err = out_row(out);
	json_decref(object);
	return err;
}

static int line_print(struct past *past, const struct order_event *event, struct text *text)
{
	int err;

	text->len = 0;
	err = order_line_merged(past->order, event, text);
	text_add_char(text, '\n');
	if (!err)
		err = text->err;
	if (!err && fwrite(text->at, 1, text->len, stdout) != text->len)
		err = errno ? -errno : -EIO;
	return err;
}

static int past_print(struct past *past)
{
	struct out *out = past->json ? NULL : out_open(stdout, columns, OUT_STREAM);
	struct order_event event;
	struct text text = {};
	uint32_t place = 0;
	int err = order_rewind(past->order), got;

	if (!out && !past->json)
		err = -ENOMEM;
	signal(SIGPIPE, SIG_IGN);
	while (!err && (got = order_next(past->order, &event)) != 0) {
		if (got < 0)
			err = got;
		else if (past->inside[place++])
			err = out ? row_print(past, out, &event) : line_print(past, &event, &text);
	}
	text_free(&text);
	if (out)
		return out_finish(out, err ? 1 : 0);
	if (!err && fflush(stdout))
		err = -errno;
	if (err && err != -EPIPE)
		log_error("stdout: %s", strerror(-err));
	return err ? 1 : 0;
}

static int past_find(struct past *past)
{
	uint64_t count = order_count(past->order);
	int err;

	past->links = calloc(count + 1, sizeof(*past->links));
	past->place = calloc(count + 1, sizeof(*past->place));
	past->inside = calloc(count + 1, sizeof(*past->inside));
	err = past->links && past->place && past->inside ? links_collect(past, false) : -ENOMEM;
	/* A stamp from the log of before it was repaired is as good. */
	if (!err && !past->found_n && order_counts(past->order)->repaired) {
		err = order_rewind(past->order);
		if (!err)
			err = links_collect(past, true);
	}
	if (err) {
		log_error("%llu events: %s", (unsigned long long)count, strerror(-err));
		return 1;
	}
	if (past->found_n == 1)
		return 0;
	if (!past->found_n)
		log_error("%s%s%s: no such event in these logs", past->wanted,
			  past->node ? "@" : "", past->node ? past->node : "");
	else
		log_error("%s: %u events have it; write one of these:", past->wanted,
			  past->found_n);
	for (unsigned i = 0; i < past->found_n && i < CANDIDATES; i++)
		log_info("  %s", past->candidates[i]);
	return 2;
}

static int past_run(int argc, char **argv, bool future)
{
	struct past past = { .future = future, .found = NOWHERE };
	int status = 2;

	argp_parse(future ? &future_argp : &past_argp, argc, argv, 0, NULL, &past);
	if (!logs_collect(&past.logs, past.args, past.args_n))
		past.order = order_open(&past.logs, 0, &status);
	if (past.order)
		status = past_find(&past);
	if (past.order && !status) {
		if (future)
			future_mark(&past);
		else
			past_mark(&past);
		status = past_print(&past);
	}
	free(past.links);
	free(past.place);
	free(past.inside);
	order_free(past.order);
	logs_free(&past.logs);
	return status;
}

int cmd_past(int argc, char **argv)
{
	return past_run(argc, argv, false);
}

int cmd_future(int argc, char **argv)
{
	return past_run(argc, argv, true);
}
