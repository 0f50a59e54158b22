// SPDX-License-Identifier: GPL-2.0-only
/* A space-time diagram for other programs to draw: Graphviz's DOT, and the log that ShiViz reads. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

/* ---- DOT ------------------------------------------------------------------------------------ */

/* A quoted string; the only characters with a meaning in one are these. */
static void dot_quote(struct text *out, const char *str)
{
	struct text clean = {};

	text_add_clean(&clean, str, strlen(str));
	text_add_char(out, '"');
	for (size_t i = 0; i < clean.len && !clean.err; i++) {
		if (clean.at[i] == '"' || clean.at[i] == '\\')
			text_add_char(out, '\\');
		text_add_char(out, clean.at[i]);
	}
	text_add_char(out, '"');
	text_free(&clean);
}

/* What an event is drawn as: itself, or its node's share of a fold. */
static void dot_name(const struct graph *graph, uint32_t i, struct text *out)
{
	const struct graph_event *event = &graph->events[i];

	text_add_char(out, event->folded ? 'f' : 'e');
	text_add_u64(out, event->folded ? event->row : i);
	if (event->folded) {
		text_add_char(out, '_');
		text_add_u64(out, event->node);
	}
}

static bool dot_same(const struct graph *graph, uint32_t a, uint32_t b)
{
	const struct graph_event *x = &graph->events[a], *y = &graph->events[b];

	return x->folded && y->folded && x->row == y->row && x->node == y->node;
}

static void dot_event(const struct graph *graph, uint32_t i, struct text *out)
{
	const struct graph_event *event = &graph->events[i];
	struct text label = {};

	if (event->folded) {
		text_add_str(&label, "the same ");
		text_add_u64(&label, graph->rows[event->row].times);
		text_add_str(&label, " times more");
	} else {
		text_add_str(&label, graph_word(graph, event, WORD_TYPE));
		text_add_char(&label, ' ');
		graph_time(&label, event->hlc);
	}
	text_add_char(&label, '\0');
	text_add_str(out, "    ");
	dot_name(graph, i, out);
	text_add_str(out, " [label=");
	dot_quote(out, label.err ? "" : label.at);
	text_add_str(out, event->folded ? ", shape=box, style=dashed];\n" : "];\n");
	text_free(&label);
}

static void dot_node(const struct graph *graph, uint32_t node, struct text *out)
{
	uint32_t before = GRAPH_NONE;

	text_add_str(out, "  subgraph cluster_");
	text_add_u64(out, node);
	text_add_str(out, " {\n    label=");
	dot_quote(out, graph->nodes[node].name);
	text_add_str(out, ";\n");
	for (uint32_t i = 0; i < graph->n; i++) {
		if (graph->events[i].node != node ||
		    (before != GRAPH_NONE && dot_same(graph, before, i)))
			continue;
		dot_event(graph, i, out);
		if (before != GRAPH_NONE) {
			text_add_str(out, "    ");
			dot_name(graph, before, out);
			text_add_str(out, " -> ");
			dot_name(graph, i, out);
			text_add_str(out, " [weight=8, arrowhead=none, color=\"#8a8a8a\"];\n");
		}
		before = i;
	}
	text_add_str(out, "  }\n");
}

static void dot_message(const struct graph *graph, uint32_t from, uint32_t to, struct text *out)
{
	if (graph->events[from].row == graph->events[to].row)
		return;
	text_add_str(out, "  ");
	dot_name(graph, from, out);
	text_add_str(out, " -> ");
	dot_name(graph, to, out);
	text_add_str(out, " [color=\"");
	text_add_str(out, graph_colours[graph_colour_of(graph, &graph->events[to])]);
	text_add_str(out, "\"];\n");
}

void graph_dot(const struct graph *graph, struct text *out)
{
	struct text note = {};

	graph_omissions(graph, &note);
	text_add_char(&note, '\0');
	text_add_str(out, "digraph tidemark {\n  node [shape=ellipse, fontsize=10];\n  label=");
	dot_quote(out, note.err ? "" : note.at);
	text_add_str(out, ";\n");
	for (uint32_t i = 0; i < graph->nodes_n; i++)
		dot_node(graph, i, out);
	for (uint32_t i = 0; i < graph->n; i++) {
		const struct graph_event *event = &graph->events[i];

		if (event->cause != GRAPH_NONE)
			dot_message(graph, event->cause, i, out);
		if (event->cause_last != GRAPH_NONE && event->cause_last != event->cause)
			dot_message(graph, event->cause_last, i, out);
	}
	text_add_str(out, "}\n");
	text_free(&note);
}

/* ---- ShiViz --------------------------------------------------------------------------------- */

/* Its hosts have no spaces, and differ. */
static void shiviz_host(const struct graph *graph, uint32_t node, struct text *out)
{
	const struct graph_node *it = &graph->nodes[node];
	struct text name = {};
	bool alone = true;

	for (uint32_t i = 0; i < graph->nodes_n; i++)
		alone &= i == node || strcmp(graph->nodes[i].name, it->name) != 0;
	if (!alone)
		text_add_str(&name, it->host);
	if (!alone)
		text_add_char(&name, '/');
	text_add_str(&name, it->name);
	for (size_t i = 0; i < name.len && !name.err; i++) {
		unsigned char c = (unsigned char)name.at[i];

		text_add_char(out, c <= ' ' || c == '"' || c == '\\' || c == 0x7f ? '_' : (char)c);
	}
	text_free(&name);
}

static void shiviz_event(const struct graph *graph, uint32_t i, const uint32_t *clock,
			 struct text *out)
{
	const struct graph_event *event = &graph->events[i];
	bool first = true;
	struct text words = {};

	shiviz_host(graph, event->node, out);
	text_add_str(out, " {");
	for (uint32_t node = 0; node < graph->nodes_n; node++) {
		if (!clock[node])
			continue;
		text_add_str(out, first ? "\"" : ", \"");
		shiviz_host(graph, node, out);
		text_add_str(out, "\": ");
		text_add_u64(out, clock[node]);
		first = false;
	}
	text_add_str(&words, graph_word(graph, event, WORD_TYPE));
	if (event->bytes) {
		text_add_char(&words, ' ');
		text_add_u64(&words, event->bytes);
		text_add_str(&words, " bytes");
	}
	if (*graph_word(graph, event, WORD_SRC)) {
		text_add_str(&words, ", ");
		text_add_str(&words, graph_word(graph, event, WORD_SRC));
		text_add_str(&words, " to ");
		text_add_str(&words, graph_word(graph, event, WORD_DST));
	}
	text_add_str(&words, ", ");
	text_add_stamp(&words, event->hlc);
	if (event->is_effect) {
		text_add_str(&words, ", ");
		text_add_str(&words, pairs_labels[event->label]);
	}
	text_add_str(out, "}\n");
	text_add_clean(out, words.at, words.err ? 0 : words.len);
	text_add_char(out, '\n');
	text_free(&words);
}

static void clock_merge(uint32_t *clock, const uint32_t *other, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (other[i] > clock[i])
			clock[i] = other[i];
}

/* The first line is the expression by which ShiViz reads the rest, the second would divide several
 * executions. A clock is kept for each event, because any may be the cause of a later one.
 */
int graph_shiviz(const struct graph *graph, struct text *out)
{
	uint32_t *clocks = calloc((size_t)graph->n + graph->nodes_n + 1,
				  sizeof(*clocks) * (graph->nodes_n + 1));
	uint32_t *last;

	if (!clocks)
		return -ENOMEM;
	last = clocks + (size_t)graph->n * graph->nodes_n;
	text_add_str(out, "(?<host>\\S*) (?<clock>{.*})\\n(?<event>.*)\n\n");
	for (uint32_t i = 0; i < graph->n; i++) {
		const struct graph_event *event = &graph->events[i];
		uint32_t *clock = clocks + (size_t)i * graph->nodes_n;
		uint32_t *own = last + (size_t)event->node * graph->nodes_n;
		const uint32_t causes[] = { event->cause, event->cause_last };

		for (int k = 0; k < 2; k++)
			if (causes[k] != GRAPH_NONE)
				clock_merge(own, clocks + (size_t)causes[k] * graph->nodes_n,
					    graph->nodes_n);
		own[event->node]++;
		memcpy(clock, own, graph->nodes_n * sizeof(*clock));
		shiviz_event(graph, i, clock, out);
	}
	free(clocks);
	return out->err;
}
