/* SPDX-License-Identifier: GPL-2.0-only */
/* A space-time diagram before it is drawn: nodes side by side, events in order, messages between. */
#ifndef TIDEMARK_GRAPH_H
#define TIDEMARK_GRAPH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "causal.h"
#include "order.h"
#include "text.h"

#define GRAPH_NONE UINT32_MAX

enum graph_colour { GRAPH_BY_EDGE, GRAPH_BY_FLOW, GRAPH_BY_MARK };

struct graph_node {
	const char *name, *host; /* of the order */
	uint32_t events;
};

struct graph_event {
	uint64_t hlc, hlc_raw, wall_ns;
	uint32_t node; /* column */
	uint32_t row;
	uint32_t cause, cause_last; /* events, or GRAPH_NONE */
	uint32_t effect;	    /* the first of them, or GRAPH_NONE */
	uint32_t bytes;
	uint32_t text;	 /* where its words begin in graph.words: see graph_words() */
	uint32_t colour; /* what its colour is drawn from */
	uint8_t type, label;
	bool is_effect, repaired, folded;
	uint64_t count; /* of a gap */
};

enum graph_row_kind { GRAPH_EVENT, GRAPH_FOLD, GRAPH_SILENCE };

struct graph_row {
	enum graph_row_kind kind;
	uint32_t event;	       /* or the first folded one */
	uint32_t n;	       /* folded: events */
	uint32_t times;	       /* folded: repetitions */
	uint64_t hlc, span_ns; /* of folded events, or of silence */
};

struct graph {
	struct order *order;
	struct graph_node *nodes;
	uint32_t nodes_n;
	struct graph_event *events;
	uint32_t n, size;
	struct graph_row *rows;
	uint32_t rows_n;
	struct text words;
	uint64_t first_hlc, last_hlc;
	uint64_t before, after; /* events left out */
	uint64_t folded;	/* events in folds */
	uint64_t labels[PAIRS_LABELS_NR], repaired, lost;
	enum graph_colour colour;
	const char *title;
};

/* What of the order to show. */
struct graph_window {
	uint64_t from, to; /* stamps */
	uint32_t limit;	   /* events */
	bool fold;
};

/* graph->order, colour and title are set. Returns 0 or -errno. */
int graph_make(struct graph *graph, const struct graph_window *window);
void graph_free(struct graph *graph);

/* An event's words, each terminated: type, proto, src, dst, comm, mark. "" where it has none. */
enum { WORD_TYPE, WORD_PROTO, WORD_SRC, WORD_DST, WORD_COMM, WORD_MARK, WORDS };
const char *graph_word(const struct graph *graph, const struct graph_event *event, int word);

/* `22:31:05.101500`, of the physical part of a stamp, and `+1.2ms` since another. */
void graph_time(struct text *text, uint64_t hlc);

/* What the picture does not show, as a sentence; nothing if it shows all. */
void graph_omissions(const struct graph *graph, struct text *text);

/* Colour-blind safe (after Okabe and Ito), for light and dark grounds alike. */
#define GRAPH_COLOURS 7
extern const char *const graph_colours[GRAPH_COLOURS];
unsigned graph_colour_of(const struct graph *graph, const struct graph_event *effect);

void graph_svg(const struct graph *graph, struct text *out);
void graph_html(const struct graph *graph, struct text *out);
void graph_dot(const struct graph *graph, struct text *out);
int graph_shiviz(const struct graph *graph, struct text *out);

/* Foreign bytes, for XML and HTML. */
void graph_escape(struct text *out, const char *str);

#endif
