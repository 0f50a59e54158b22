// SPDX-License-Identifier: GPL-2.0-only
/* A space-time diagram as SVG: one vertical line a node, time down, an arrow a message. */
#define _GNU_SOURCE 1
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

#define ROW 22
#define LEFT 132
#define RIGHT 40
#define HEAD 148
#define FOOT 28
#define COLUMN_MOST 230
#define COLUMN_LEAST 96
#define WIDTH_BEST 1100
#define CHAR_WIDTH 7 /* of 12 px text, about */

static const char style[] =
	"text{font:11px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#222}"
	".bg{fill:#fff}.h{font-size:19px;font-weight:600}.s{fill:#666}"
	".n{font-size:13px;font-weight:600;text-anchor:middle}.o{fill:#666;text-anchor:middle}"
	".t{fill:#666;text-anchor:end;font-family:ui-monospace,'DejaVu Sans Mono',monospace;"
	"font-size:10px}.l{stroke:#c9ced6;stroke-width:1.5}.g{stroke:#eef0f3}"
	".m{fill:none;stroke-width:1.6}.u{stroke-dasharray:3 3}.e{stroke:#fff;stroke-width:1.5}"
	".r{stroke:#222;stroke-width:1.5}.w{paint-order:stroke;stroke:#fff;stroke-width:3px;"
	"stroke-linejoin:round}.f{fill:#f3f5f8;stroke:#c9ced6}.q{text-anchor:middle;fill:#555;"
	"font-style:italic}.z{stroke:#9aa1ab;stroke-dasharray:1 4;fill:none}.x{fill:#c00000}"
	"@media(prefers-color-scheme:dark){text{fill:#e8eaed}.bg{fill:#14171c}.s,.o,.t{fill:#9aa3ae}"
	".l{stroke:#434a55}.g{stroke:#20252c}.e{stroke:#14171c}.r{stroke:#e8eaed}"
	".w{stroke:#14171c}.f{fill:#20252c;stroke:#434a55}.q{fill:#b4bac4}.x{fill:#ff7070}}";

struct drawing {
	const struct graph *graph;
	struct text *out;
	unsigned column, width, height;
};

__attribute__((format(printf, 2, 3))) static void add(struct drawing *d, const char *format, ...)
{
	char *line = NULL;
	va_list args;
	int len;

	va_start(args, format);
	len = vasprintf(&line, format, args);
	va_end(args);
	if (len >= 0)
		text_add(d->out, line, (size_t)len);
	else
		d->out->err = -12;
	free(line);
}

static unsigned x_of(const struct drawing *d, uint32_t node)
{
	return LEFT + d->column / 2 + node * d->column;
}

static unsigned y_of(uint32_t row)
{
	return HEAD + row * ROW + ROW / 2;
}

/* Cut to what a column holds; the whole is in the title. */
static void name_add(struct drawing *d, const char *name)
{
	size_t room = d->column / CHAR_WIDTH, at = 0, shown = 0;
	struct text cut = {};
	uint32_t rune;

	while (name[at] && shown < room) {
		size_t n = text_decode(name + at, strlen(name + at), &rune);

		at += n ? n : 1;
		shown++;
	}
	text_add(&cut, name, at);
	text_add_char(&cut, '\0');
	if (!cut.err)
		graph_escape(d->out, cut.at);
	if (name[at])
		text_add_str(d->out, "\xe2\x80\xa6");
	text_free(&cut);
}

static void head_draw(struct drawing *d)
{
	const struct graph *graph = d->graph;
	struct text words = {};

	text_add_u64(&words, graph->n);
	text_add_str(&words, graph->n == 1 ? " event of " : " events of ");
	text_add_u64(&words, graph->nodes_n);
	text_add_str(&words, graph->nodes_n == 1 ? " node" : " nodes");
	if (graph->n) {
		text_add_str(&words, ", ");
		graph_time(&words, graph->first_hlc);
		text_add_str(&words, " to ");
		graph_time(&words, graph->last_hlc);
		text_add_str(&words, " UTC");
	}
	if (graph->repaired) {
		text_add_str(&words, "; ");
		text_add_u64(&words, graph->repaired);
		text_add_str(&words, " stamps repaired (ringed)");
	}
	text_add_str(&words, ". ");
	add(d,
	    "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%u\" height=\"%u\" "
	    "viewBox=\"0 0 %u %u\" role=\"img\" aria-labelledby=\"title desc\">\n<title id=\"title\">",
	    d->width, d->height, d->width, d->height);
	graph_escape(d->out, graph->title);
	text_add_str(d->out, "</title>\n<desc id=\"desc\">Space-time diagram: one vertical line a "
			     "node, time goes down, an arrow is a message. ");
	text_add(d->out, words.at, words.len);
	graph_omissions(graph, d->out);
	add(d, "</desc>\n<style>%s</style>\n<defs>", style);
	for (int i = 0; i < GRAPH_COLOURS; i++)
		add(d,
		    "<marker id=\"a%d\" viewBox=\"0 0 8 8\" refX=\"11\" refY=\"4\" "
		    "markerWidth=\"6\" markerHeight=\"6\" orient=\"auto\"><path "
		    "d=\"M0 0L8 4L0 8z\" fill=\"%s\"/></marker>",
		    i, graph_colours[i]);
	add(d,
	    "</defs>\n<rect class=\"bg\" width=\"%u\" height=\"%u\"/>\n"
	    "<text class=\"h\" x=\"20\" y=\"32\">",
	    d->width, d->height);
	graph_escape(d->out, graph->title);
	text_add_str(d->out, "</text>\n<text class=\"s\" x=\"20\" y=\"52\">");
	text_add(d->out, words.at, words.len);
	text_add_str(d->out, "</text>\n<text class=\"s\" x=\"20\" y=\"68\">");
	graph_omissions(graph, d->out);
	text_add_str(d->out, "</text>\n");
	text_free(&words);
}

static void legend_draw(struct drawing *d)
{
	static const struct {
		int colour;
		const char *name;
		enum pairs_label label;
	} edges[] = {
		{ 0, "in-band", PAIRS_IN_BAND },
		{ 1, "matched", PAIRS_MATCHED },
		{ 6, "unknown cause", PAIRS_UNKNOWN },
	};
	unsigned x = 20;

	for (int i = 0; i < 3; i++) {
		if (d->graph->colour != GRAPH_BY_EDGE && i == 0) {
			add(d, "<text class=\"s\" x=\"%u\" y=\"90\">colour: %s</text>\n", x,
			    d->graph->colour == GRAPH_BY_FLOW ? "connection" : "mark");
			return;
		}
		add(d,
		    "<path class=\"m%s\" stroke=\"%s\" d=\"M%u 86h26\" "
		    "marker-end=\"url(#a%d)\"/><text class=\"s\" x=\"%u\" y=\"90\">%s %llu</text>\n",
		    i == 2 ? " u" : "", graph_colours[edges[i].colour], x, edges[i].colour, x + 32,
		    edges[i].name, (unsigned long long)d->graph->labels[edges[i].label]);
		x += 150;
	}
}

static void nodes_draw(struct drawing *d)
{
	for (uint32_t i = 0; i < d->graph->nodes_n; i++) {
		const struct graph_node *node = &d->graph->nodes[i];

		add(d, "<line class=\"l\" x1=\"%u\" y1=\"%u\" x2=\"%u\" y2=\"%u\"/>\n", x_of(d, i),
		    HEAD - 4, x_of(d, i), d->height - FOOT + 4);
		add(d, "<g><title>");
		graph_escape(d->out, node->host);
		text_add_str(d->out, *node->host ? ": " : "");
		graph_escape(d->out, node->name);
		add(d, ", %u events</title><text class=\"n\" x=\"%u\" y=\"%u\">", node->events,
		    x_of(d, i), HEAD - 24);
		name_add(d, node->name);
		add(d, "</text><text class=\"o\" x=\"%u\" y=\"%u\">", x_of(d, i), HEAD - 9);
		name_add(d, node->host);
		text_add_str(d->out, "</text></g>\n");
	}
}

/* A label where the time differs from the one above: the full time first, then what was added. */
static void times_draw(struct drawing *d)
{
	uint64_t before = 0;

	for (uint32_t i = 0; i < d->graph->rows_n; i++) {
		const struct graph_row *row = &d->graph->rows[i];

		if (row->kind == GRAPH_SILENCE || (i && row->hlc >> 16 == before >> 16))
			continue;
		add(d,
		    "<line class=\"g\" x1=\"%u\" y1=\"%u\" x2=\"%u\" y2=\"%u\"/>"
		    "<text class=\"t\" x=\"%u\" y=\"%u\">",
		    LEFT - 8, y_of(i), d->width - RIGHT / 2, y_of(i), LEFT - 14, y_of(i) + 4);
		if (!before) {
			graph_time(d->out, row->hlc);
		} else {
			text_add_char(d->out, '+');
			text_add_span(d->out, (row->hlc >> 16 << 16) - (before >> 16 << 16));
		}
		text_add_str(d->out, "</text>\n");
		before = row->hlc;
	}
}

static void rows_draw(struct drawing *d, enum graph_row_kind kind)
{
	unsigned from = LEFT, wide = d->width - LEFT - RIGHT, middle = from + wide / 2;

	for (uint32_t i = 0; i < d->graph->rows_n; i++) {
		const struct graph_row *row = &d->graph->rows[i];

		if (row->kind != kind)
			continue;
		if (kind == GRAPH_FOLD)
			add(d,
			    "<rect class=\"f\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\" "
			    "rx=\"5\"/><text class=\"q\" x=\"%u\" y=\"%u\">the same %u times more: "
			    "%u events in ",
			    from, y_of(i) - ROW / 2 + 2, wide, ROW - 4, middle, y_of(i) + 4,
			    row->times, row->n);
		else
			add(d,
			    "<path class=\"z\" d=\"M%u %uh%u\"/>"
			    "<text class=\"q w\" x=\"%u\" y=\"%u\">nothing for ",
			    from, y_of(i), wide, middle, y_of(i) + 4);
		text_add_span(d->out, row->span_ns);
		text_add_str(d->out, "</text>\n");
	}
}

static void message_draw(struct drawing *d, const struct graph_event *effect, uint32_t from)
{
	const struct graph_event *cause = &d->graph->events[from];
	unsigned colour = graph_colour_of(d->graph, effect);
	unsigned x1 = x_of(d, cause->node), x2 = x_of(d, effect->node);
	unsigned y1 = y_of(cause->row), y2 = y_of(effect->row);

	if (cause->row == effect->row)
		return; /* both folded */
	if (x1 == x2)
		add(d,
		    "<path class=\"m\" stroke=\"%s\" d=\"M%u %uC%u %u %u %u %u %u\" "
		    "marker-end=\"url(#a%u)\"/>\n",
		    graph_colours[colour], x1, y1, x1 + 34, y1, x1 + 34, y2, x2, y2, colour);
	else
		add(d,
		    "<path class=\"m%s\" stroke=\"%s\" d=\"M%u %uL%u %u\" "
		    "marker-end=\"url(#a%u)\"/>\n",
		    effect->label == PAIRS_UNKNOWN ? " u" : "", graph_colours[colour], x1, y1, x2,
		    y2, colour);
}

/* Which way an event's arrow goes, so that its words stand on the other side: -1 left, 1 right. */
static int arrow_side(const struct graph *graph, const struct graph_event *event)
{
	uint32_t other = event->is_effect ? event->cause : event->effect;

	if (other == GRAPH_NONE)
		return event->is_effect ? -1 : 1;
	return graph->events[other].node < event->node ? -1 : 1;
}

static void stub_draw(struct drawing *d, const struct graph_event *event)
{
	unsigned x = x_of(d, event->node), y = y_of(event->row);

	if (event->is_effect && event->cause == GRAPH_NONE)
		add(d,
		    "<path class=\"m u\" stroke=\"%s\" d=\"M%u %uL%u %u\" "
		    "marker-end=\"url(#a6)\"/>\n",
		    graph_colours[6], x - 30, y - 8, x, y);
	else if (event->type == CAUSAL_SEND && event->effect == GRAPH_NONE)
		add(d, "<path class=\"m u\" stroke=\"%s\" d=\"M%u %ul26 7m-3 -5l3 5l-5 3\"/>\n",
		    graph_colours[6], x, y);
}

static void title_add(struct drawing *d, const struct graph_event *event)
{
	const struct graph *graph = d->graph;

	add(d, "<title>%016llx ", (unsigned long long)event->hlc);
	graph_escape(d->out, graph_word(graph, event, WORD_TYPE));
	text_add_str(d->out, " at ");
	graph_escape(d->out, graph->nodes[event->node].name);
	if (*graph_word(graph, event, WORD_SRC)) {
		text_add_str(d->out, "\n");
		graph_escape(d->out, graph_word(graph, event, WORD_PROTO));
		text_add_char(d->out, ' ');
		graph_escape(d->out, graph_word(graph, event, WORD_SRC));
		text_add_str(d->out, " to ");
		graph_escape(d->out, graph_word(graph, event, WORD_DST));
		add(d, ", %u bytes", event->bytes);
	}
	text_add_str(d->out, "\nwall clock ");
	text_add_wall(d->out, event->wall_ns);
	if (event->repaired)
		add(d, "\nstamped %016llx before repair", (unsigned long long)event->hlc_raw);
	if (event->is_effect)
		add(d, "\nedge: %s", pairs_labels[event->label]);
	text_add_str(d->out, "</title>");
}

static void event_draw(struct drawing *d, const struct graph_event *event)
{
	const struct graph *graph = d->graph;
	unsigned x = x_of(d, event->node), y = y_of(event->row);
	bool left = arrow_side(graph, event) > 0;

	text_add_str(d->out, "<g>");
	title_add(d, event);
	if (event->type == CAUSAL_GAP || event->type == CAUSAL_DROP)
		add(d, "<path class=\"x\" d=\"M%u %ul6 11h-12z\"/>", x, y - 6);
	else if (causal_type_message(event->type))
		add(d, "<circle class=\"%s\" cx=\"%u\" cy=\"%u\" r=\"4.5\" fill=\"%s\"/>",
		    event->repaired ? "r" : "e", x, y,
		    graph_colours[event->is_effect ? graph_colour_of(graph, event)
				  : event->effect == GRAPH_NONE
					  ? 6
					  : graph_colour_of(graph, &graph->events[event->effect])]);
	else
		add(d, "<rect class=\"e\" x=\"%u\" y=\"%u\" width=\"7\" height=\"7\" fill=\"%s\"/>",
		    x - 3, y - 3, graph_colours[6]);
	add(d, "<text class=\"w%s\" x=\"%u\" y=\"%u\"%s>",
	    event->type == CAUSAL_GAP || event->type == CAUSAL_DROP ? " x" : "",
	    left ? x - 9 : x + 9, y + 4, left ? " text-anchor=\"end\"" : "");
	graph_escape(d->out, graph_word(graph, event, WORD_TYPE));
	if (event->type == CAUSAL_GAP)
		add(d, ": %llu lost", (unsigned long long)event->count);
	else if (event->bytes) {
		text_add_char(d->out, ' ');
		text_add_bytes(d->out, event->bytes);
	}
	text_add_str(d->out, "</text></g>\n");
}

void graph_svg(const struct graph *graph, struct text *out)
{
	struct drawing d = { .graph = graph, .out = out };

	d.column = (WIDTH_BEST - LEFT - RIGHT) / (graph->nodes_n ? graph->nodes_n : 1);
	d.column = d.column > COLUMN_MOST ? COLUMN_MOST : d.column;
	d.column = d.column < COLUMN_LEAST ? COLUMN_LEAST : d.column;
	d.width = LEFT + RIGHT + d.column * (graph->nodes_n ? graph->nodes_n : 1);
	d.width = d.width < 640 ? 640 : d.width;
	d.height = HEAD + FOOT + ROW * graph->rows_n;
	head_draw(&d);
	legend_draw(&d);
	times_draw(&d);
	nodes_draw(&d);
	rows_draw(&d, GRAPH_FOLD); /* arrows end there */
	for (uint32_t i = 0; i < graph->n; i++) {
		const struct graph_event *event = &graph->events[i];

		if (event->cause != GRAPH_NONE)
			message_draw(&d, event, event->cause);
		if (event->cause_last != GRAPH_NONE && event->cause_last != event->cause)
			message_draw(&d, event, event->cause_last);
		if (!event->folded)
			stub_draw(&d, event);
	}
	rows_draw(&d, GRAPH_SILENCE);
	for (uint32_t i = 0; i < graph->n; i++)
		if (!graph->events[i].folded)
			event_draw(&d, &graph->events[i]);
	text_add_str(out, "</svg>\n");
}
