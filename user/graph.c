// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark graph`: a space-time diagram of logs. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "graph.h"
#include "log.h"
#include "merge.h"
#include "units.h"

enum format { SVG, HTML, DOT, SHIVIZ };

/* How many events without --limit: what a reader of each can still take in. */
static const uint32_t limits[] = {
	[SVG] = 1000,
	[HTML] = 200000,
	[DOT] = 2000,
	[SHIVIZ] = 20000,
};

struct options {
	enum format format;
	struct graph graph;
	struct graph_window window;
	struct logs logs;
	char **args;
	unsigned args_n;
};

enum {
	OPT_SVG = 0x200,
	OPT_HTML,
	OPT_DOT,
	OPT_SHIVIZ,
	OPT_COLOUR,
	OPT_FROM,
	OPT_TO,
	OPT_LIMIT,
	OPT_WHOLE,
	OPT_TITLE
};

static const struct argp_option options[] = {
	{ "svg", OPT_SVG, NULL, 0, "A picture (the default)", 0 },
	{ "html", OPT_HTML, NULL, 0,
	  "One file that needs no network: details, search, zoom, keyboard, past and future", 0 },
	{ "dot", OPT_DOT, NULL, 0, "For Graphviz", 0 },
	{ "shiviz", OPT_SHIVIZ, NULL, 0, "The log that ShiViz reads, with vector clocks", 0 },
	{ "colour", OPT_COLOUR, "edge|flow|mark", 0,
	  "What colours mean: how the cause is known (the default), connections, or marks", 0 },
	{ "from", OPT_FROM, "T", 0, "Begin at a stamp or a time", 0 },
	{ "to", OPT_TO, "T", 0, "End at a stamp or a time", 0 },
	{ "limit", OPT_LIMIT, "N", 0, "At most so many events", 0 },
	{ "whole", OPT_WHOLE, NULL, 0, "Fold nothing", 0 },
	{ "title", OPT_TITLE, "TEXT", 0, "What stands above it", 0 },
	{},
};

static const char doc[] =
	"A space-time diagram of event logs, on standard output.\v"
	"One vertical line a node, time goes down, an arrow is a message. Rows are evenly spaced; "
	"the times stand at the side, long silences are one row that says how long, and what repeats "
	"(requests and their answers, many times) is drawn once and then folded into one row that says "
	"how often. Whatever is left out is said in the picture. The logs are merged on the way, so "
	"messages that lost their stamps have arrows too.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark graph north.jsonl south.jsonl > talk.svg\n"
	"  tidemark graph --html --from 2026-11-20T22:31:05Z --colour flow /var/log/tidemark > talk.html\n";

static void moment_parse(struct argp_state *state, const char *name, const char *arg, bool last,
			 uint64_t *stamp)
{
	uint64_t exact;

	if (merge_cut_parse(arg, stamp))
		argp_error(state,
			   "%s %s: neither 16 hexadecimal digits nor a time like "
			   "2026-11-20T22:31:05Z",
			   name, arg);
	/* A time that begins something begins with its first stamp. */
	if (!last && text_parse_stamp(arg, &exact))
		*stamp &= ~0xffffULL;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	static const char *const colours[] = { "edge", "flow", "mark" };
	struct options *o = state->input;
	__u64 number;

	switch (key) {
	case OPT_SVG:
	case OPT_HTML:
	case OPT_DOT:
	case OPT_SHIVIZ:
		o->format = (enum format)(key - OPT_SVG);
		return 0;
	case OPT_COLOUR:
		for (int i = 0; i < 3; i++) {
			if (strcmp(arg, colours[i]))
				continue;
			o->graph.colour = (enum graph_colour)i;
			return 0;
		}
		argp_error(state, "--colour %s: not edge, flow or mark", arg);
		return EINVAL;
	case OPT_FROM:
		moment_parse(state, "--from", arg, false, &o->window.from);
		return 0;
	case OPT_TO:
		moment_parse(state, "--to", arg, true, &o->window.to);
		return 0;
	case OPT_LIMIT:
		if (number_parse(arg, 10000000, &number) || !number)
			argp_error(state, "--limit %s: not a number from 1 to 10000000", arg);
		o->window.limit = (uint32_t)number;
		return 0;
	case OPT_WHOLE:
		o->window.fold = false;
		return 0;
	case OPT_TITLE:
		o->graph.title = arg;
		return 0;
	case ARGP_KEY_ARGS:
		o->args = state->argv + state->next;
		o->args_n = (unsigned)(state->argc - state->next);
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no LOG given");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

const struct argp graph_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "LOG...",
	.doc = doc,
};

static int graph_print(struct options *o)
{
	struct text out = {};
	int err = 0;

	if (o->format == SVG)
		graph_svg(&o->graph, &out);
	else if (o->format == HTML)
		graph_html(&o->graph, &out);
	else if (o->format == DOT)
		graph_dot(&o->graph, &out);
	else
		err = graph_shiviz(&o->graph, &out);
	if (!err)
		err = out.err;
	signal(SIGPIPE, SIG_IGN);
	if (!err && (fwrite(out.at, 1, out.len, stdout) != out.len || fflush(stdout)))
		err = errno ? -errno : -EIO;
	if (err && err != -EPIPE)
		log_error("stdout: %s", strerror(-err));
	text_free(&out);
	return err;
}

int cmd_graph(int argc, char **argv)
{
	struct options o = { .window = { .to = UINT64_MAX, .fold = true } };
	int status = 2, err;

	argp_parse(&graph_argp, argc, argv, 0, NULL, &o);
	if (!o.window.limit)
		o.window.limit = limits[o.format];
	if (!o.graph.title)
		o.graph.title = o.args_n == 1 ? o.args[0] : "Messages in causal order";
	if (!logs_collect(&o.logs, o.args, o.args_n))
		o.graph.order = order_open(&o.logs, 0, &status);
	if (o.graph.order) {
		err = graph_make(&o.graph, &o.window);
		if (err)
			log_error("%s", strerror(-err));
		else
			err = graph_print(&o);
		status = err ? 1 : 0;
		if (!err && o.graph.after && o.graph.n >= o.window.limit)
			log_info(
				"%llu events after %016llx are not shown; --limit, --from and --to "
				"choose others",
				(unsigned long long)o.graph.after,
				(unsigned long long)o.graph.last_hlc);
	}
	graph_free(&o.graph);
	order_free(o.graph.order);
	logs_free(&o.logs);
	return status;
}
