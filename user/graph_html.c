// SPDX-License-Identifier: GPL-2.0-only
/* A space-time diagram as one HTML file that needs nothing else: graph.html with graph.css, graph.js
 * and the events in it.
 */
#include <string.h>

#include "graph.h"

extern const char data_graph_html_start[], data_graph_css_start[], data_graph_js_start[];

/* In a script element nothing may look like its end. */
static void json_add(struct text *out, const char *str)
{
	struct text quoted = {};

	text_add_json(&quoted, str, strlen(str));
	for (size_t i = 0; i < quoted.len && !quoted.err; i++) {
		if (quoted.at[i] == '<')
			text_add_str(out, "\\u003c");
		else
			text_add_char(out, quoted.at[i]);
	}
	text_free(&quoted);
}

static void stamp_add(struct text *out, uint64_t stamp)
{
	text_add_char(out, '"');
	text_add_stamp(out, stamp);
	text_add_str(out, "\",");
}

static void place_add(struct text *out, uint32_t place)
{
	text_add_s64(out, place == GRAPH_NONE ? -1 : (int64_t)place);
	text_add_char(out, ',');
}

static void event_add(const struct graph *graph, const struct graph_event *event, struct text *out)
{
	text_add_char(out, '[');
	stamp_add(out, event->hlc);
	place_add(out, event->node);
	place_add(out, event->row);
	place_add(out, event->cause);
	place_add(out, event->cause_last);
	place_add(out, event->effect);
	place_add(out, event->is_effect ? event->label : GRAPH_NONE);
	place_add(out, event->is_effect ? graph_colour_of(graph, event) : 6);
	text_add_u64(out, event->bytes);
	text_add_str(out, causal_type_message(event->type) ? ",1," : ",0,");
	if (event->repaired)
		stamp_add(out, event->hlc_raw);
	else
		text_add_str(out, "0,");
	text_add_char(out, '"');
	text_add_wall(out, event->wall_ns);
	text_add_char(out, '"');
	for (int word = 0; word < WORDS; word++) {
		text_add_char(out, ',');
		json_add(out, graph_word(graph, event, word));
	}
	text_add_char(out, ',');
	text_add_u64(out, event->count);
	text_add_char(out, ']');
}

static void row_add(const struct graph *graph, const struct graph_row *row, struct text *out)
{
	struct text words = {};

	text_add_char(out, '[');
	text_add_u64(out, row->kind);
	text_add_char(out, ',');
	text_add_u64(out, row->event);
	text_add_char(out, ',');
	graph_time(&words, row->hlc);
	text_add_char(&words, '\0');
	json_add(out, words.err ? "" : words.at);
	words.len = 0;
	if (row->kind == GRAPH_FOLD) {
		text_add_str(&words, "the same ");
		text_add_u64(&words, row->times);
		text_add_str(&words, " times more: ");
		text_add_u64(&words, row->n);
		text_add_str(&words, " events in ");
		text_add_span(&words, row->span_ns);
	} else if (row->kind == GRAPH_SILENCE) {
		text_add_str(&words, "nothing for ");
		text_add_span(&words, row->span_ns);
	}
	text_add_char(&words, '\0');
	text_add_char(out, ',');
	json_add(out, words.err ? "" : words.at);
	text_add_char(out, ']');
	text_free(&words);
	(void)graph;
}

static void data_add(const struct graph *graph, struct text *out)
{
	struct text note = {};

	text_add_str(out, "{\"nodes\":[");
	for (uint32_t i = 0; i < graph->nodes_n; i++) {
		text_add_str(out, i ? ",[" : "[");
		json_add(out, graph->nodes[i].name);
		text_add_char(out, ',');
		json_add(out, graph->nodes[i].host);
		text_add_char(out, ']');
	}
	text_add_str(out, "],\n\"rows\":[");
	for (uint32_t i = 0; i < graph->rows_n; i++) {
		text_add_str(out, i ? ",\n" : "\n");
		row_add(graph, &graph->rows[i], out);
	}
	text_add_str(out, "],\n\"events\":[");
	for (uint32_t i = 0; i < graph->n; i++) {
		text_add_str(out, i ? ",\n" : "\n");
		event_add(graph, &graph->events[i], out);
	}
	text_add_str(out, "],\n\"labels\":[");
	for (int i = 0; i < PAIRS_LABELS_NR; i++) {
		text_add_str(out, i ? "," : "");
		text_add_u64(out, graph->labels[i]);
	}
	text_add_str(out, "],\"colours\":[");
	for (int i = 0; i < GRAPH_COLOURS; i++) {
		text_add_str(out, i ? "," : "");
		json_add(out, graph_colours[i]);
	}
	text_add_str(out, "],\"colour\":");
	text_add_u64(out, graph->colour);
	text_add_str(out, ",\"note\":");
	graph_omissions(graph, &note);
	text_add_char(&note, '\0');
	json_add(out, note.err ? "" : note.at);
	text_add_str(out, "}\n");
	text_free(&note);
}

void graph_html(const struct graph *graph, struct text *out)
{
	const char *at = data_graph_html_start, *slot;

	/* Slots are @TITLE@ and the like; the template has no other @. */
	for (; (slot = strchr(at, '@')); at = strchr(slot + 1, '@') + 1) {
		text_add(out, at, (size_t)(slot - at));
		if (strncmp(slot, "@TITLE@", 7) == 0)
			graph_escape(out, graph->title);
		else if (strncmp(slot, "@STYLE@", 7) == 0)
			text_add_str(out, data_graph_css_start);
		else if (strncmp(slot, "@SCRIPT@", 8) == 0)
			text_add_str(out, data_graph_js_start);
		else if (strncmp(slot, "@DATA@", 6) == 0)
			data_add(graph, out);
	}
	text_add_str(out, at);
}
