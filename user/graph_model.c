// SPDX-License-Identifier: GPL-2.0-only
/* A space-time diagram before it is drawn: what is shown, what is folded, and where it stands. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/clock.h"
#include "graph.h"

#define PERIOD_MOST 48	/* events in one repetition */
#define REPEATS_LEAST 4 /* or there is nothing to fold */
#define FOLDED_LEAST 8	/* events; a fold must save room */
#define SILENCE_LEAST_NS 1000000ULL
#define SILENCE_TIMES 10 /* as long as what is usual here */

const char *const graph_colours[GRAPH_COLOURS] = {
	"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a",
};

const char *graph_word(const struct graph *graph, const struct graph_event *event, int word)
{
	const char *at = graph->words.at + event->text;

	for (; word; word--)
		at += strlen(at) + 1;
	return at;
}

void graph_time(struct text *text, uint64_t hlc)
{
	struct text wall = {};

	text_add_wall(&wall, hlc & ~CLOCK_COUNTER_MASK);
	if (!wall.err)
		text_add(text, wall.at + 11, 15); /* hours to microseconds */
	text_free(&wall);
}

static uint32_t colour_hash(const char *a, const char *b)
{
	uint32_t hash = 2166136261U;

	for (; *a; a++)
		hash = (hash ^ (unsigned char)*a) * 16777619U;
	/* The same for both directions of a connection. */
	for (uint32_t other = 2166136261U;; b++) {
		if (!*b)
			return hash ^ other;
		other = (other ^ (unsigned char)*b) * 16777619U;
	}
}

static void word_add(struct graph *graph, const json_t *object, const char *key)
{
	const char *str = json_string_value(json_object_get(object, key));

	text_add(&graph->words, str ? str : "", str ? strlen(str) + 1 : 1);
}

static void mark_add(struct graph *graph, const json_t *object)
{
	static const char *const keys[] = { "experiment", "activity" };

	for (int i = 0; i < 2; i++) {
		const json_t *value = json_object_get(object, keys[i]);

		if (i && value)
			text_add_char(&graph->words, '/');
		if (json_is_string(value))
			text_add_str(&graph->words, json_string_value(value));
		else if (json_is_integer(value))
			text_add_u64(&graph->words, (uint64_t)json_integer_value(value));
	}
	text_add_char(&graph->words, '\0');
}

static int words_add(struct graph *graph, struct graph_event *to, const struct order_event *from)
{
	const char *line = order_line(graph->order, from);
	json_t *object = line ? json_loadb(line, from->text_len, 0, NULL) : NULL;
	const char *src, *dst;

	if (!object)
		return -EIO;
	if (graph->words.len > UINT32_MAX - 2 * EVENTLOG_LINE_MOST) {
		json_decref(object);
		return -E2BIG;
	}
	to->text = (uint32_t)graph->words.len;
	word_add(graph, object, "type");
	word_add(graph, object, "proto");
	word_add(graph, object, "src");
	word_add(graph, object, "dst");
	word_add(graph, object, "comm");
	mark_add(graph, object);
	to->count = (uint64_t)json_integer_value(json_object_get(object, "count"));
	json_decref(object);
	if (graph->words.err)
		return graph->words.err;
	src = graph_word(graph, to, WORD_SRC);
	dst = graph_word(graph, to, WORD_DST);
	to->colour = graph->colour == GRAPH_BY_MARK
			     ? colour_hash(graph_word(graph, to, WORD_MARK), "")
			     : colour_hash(src, dst);
	return 0;
}

static int event_add(struct graph *graph, const struct order_event *from, uint32_t *by_ord)
{
	struct graph_event *to;
	int err;

	if (graph->n == graph->size) {
		uint32_t size = graph->size * 2 + 256;
		struct graph_event *events =
			reallocarray(graph->events, size, sizeof(*graph->events));

		if (!events)
			return -ENOMEM;
		graph->events = events;
		graph->size = size;
	}
	to = &graph->events[graph->n];
	*to = (struct graph_event){
		.hlc = from->hlc,
		.hlc_raw = from->hlc_raw,
		.wall_ns = from->wall_ns,
		.node = from->node,
		.bytes = from->bytes,
		.type = (uint8_t)from->type,
		.label = (uint8_t)from->label,
		.is_effect = from->effect,
		.repaired = from->repaired,
		.cause = from->first.known ? by_ord[from->first.ord] : GRAPH_NONE,
		.cause_last = from->last.known ? by_ord[from->last.ord] : GRAPH_NONE,
		.effect = GRAPH_NONE,
	};
	err = words_add(graph, to, from);
	if (err)
		return err;
	by_ord[from->ord] = graph->n;
	if (to->cause != GRAPH_NONE && graph->events[to->cause].effect == GRAPH_NONE)
		graph->events[to->cause].effect = graph->n;
	if (to->cause_last != GRAPH_NONE && graph->events[to->cause_last].effect == GRAPH_NONE)
		graph->events[to->cause_last].effect = graph->n;
	if (to->is_effect)
		graph->labels[to->label]++;
	graph->repaired += to->repaired;
	graph->lost += to->count;
	graph->n++;
	return 0;
}

static int events_collect(struct graph *graph, const struct graph_window *window)
{
	uint64_t count = order_count(graph->order);
	uint32_t *by_ord = malloc((count + 1) * sizeof(*by_ord));
	struct order_event event;
	int got;

	if (!by_ord)
		return -ENOMEM;
	memset(by_ord, 0xff, (count + 1) * sizeof(*by_ord));
	while ((got = order_next(graph->order, &event)) > 0) {
		if (event.hlc < window->from) {
			graph->before++;
			continue;
		}
		if (event.hlc > window->to || graph->n >= window->limit) {
			graph->after++;
			continue;
		}
		got = event_add(graph, &event, by_ord);
		if (got)
			break;
	}
	free(by_ord);
	return got;
}

/* Columns in order of first appearance, so that what talks stands side by side; nodes of which
 * nothing is shown have none.
 */
static int nodes_collect(struct graph *graph)
{
	uint32_t all = order_nodes(graph->order);
	uint32_t *column = malloc(((size_t)all + 1) * sizeof(*column));

	graph->nodes = calloc((size_t)all + 1, sizeof(*graph->nodes));
	if (!column || !graph->nodes) {
		free(column);
		return -ENOMEM;
	}
	memset(column, 0xff, ((size_t)all + 1) * sizeof(*column));
	/* Nodes that come up all at once come in order of what they do then. */
	for (int round = 0; round < 2; round++) {
		for (uint32_t i = 0; i < graph->n; i++) {
			uint32_t node = graph->events[i].node;

			if (column[node] != GRAPH_NONE ||
			    (!round && !causal_type_message(graph->events[i].type)))
				continue;
			column[node] = graph->nodes_n;
			graph->nodes[graph->nodes_n++] = (struct graph_node){
				.name = order_node(graph->order, node),
				.host = order_host(graph->order, node),
			};
		}
	}
	for (uint32_t i = 0; i < graph->n; i++) {
		graph->events[i].node = column[graph->events[i].node];
		graph->nodes[graph->events[i].node].events++;
	}
	free(column);
	return 0;
}

/* What must be the same for two events to count as one done again. */
static uint64_t event_likeness(const struct graph *graph, const struct graph_event *event)
{
	uint32_t other = event->is_effect ? event->cause : event->effect;

	if (event->type == CAUSAL_GAP || event->type == CAUSAL_DROP)
		return 0; /* never folded: that is news */
	return 1 + event->type + 16ULL * event->label + 64ULL * event->node +
	       ((uint64_t)(other == GRAPH_NONE ? 0xfffff : graph->events[other].node) << 40);
}

/* How often what stands at `at` is repeated right there, in periods of `period`. */
static uint32_t repeats(const uint64_t *likeness, uint32_t n, uint32_t at, uint32_t period)
{
	uint32_t i = at + period;

	while (i < n && likeness[i] && likeness[i] == likeness[i - period])
		i++;
	return (i - at) / period;
}

static uint32_t *events_fold(struct graph *graph, uint32_t *folds)
{
	uint64_t *likeness = calloc((size_t)graph->n + 1, sizeof(*likeness));
	uint32_t *period_of = calloc((size_t)graph->n + 1, sizeof(*period_of));

	*folds = 0;
	for (uint32_t i = 0; likeness && i < graph->n; i++)
		likeness[i] = event_likeness(graph, &graph->events[i]);
	for (uint32_t i = 0; likeness && period_of && i < graph->n;) {
		uint32_t best = 0, best_n = 0;

		for (uint32_t period = 1; period <= PERIOD_MOST && likeness[i]; period++) {
			uint32_t times = repeats(likeness, graph->n, i, period);

			if (times >= REPEATS_LEAST && times * period >= FOLDED_LEAST &&
			    times * period > best_n) {
				best = period;
				best_n = times * period;
			}
		}
		if (best) {
			period_of[i] = best;
			period_of[i + 1] = best_n; /* periods of 1 have 8 events at least */
			(*folds)++;
		}
		i += best ? best_n : 1;
	}
	free(likeness);
	return period_of;
}

static int number_compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

/* What is not usual: of all steps from one event to the next, nine in ten are far shorter. */
static uint64_t silence_limit(const struct graph *graph)
{
	uint64_t *steps = calloc((size_t)graph->n + 1, sizeof(*steps)), usual;

	if (!steps || graph->n < 2) {
		free(steps);
		return UINT64_MAX;
	}
	for (uint32_t i = 1; i < graph->n; i++)
		steps[i - 1] = graph->events[i].hlc - graph->events[i - 1].hlc;
	qsort(steps, graph->n - 1, sizeof(*steps), number_compare);
	usual = steps[(uint64_t)(graph->n - 1) * 9 / 10] * SILENCE_TIMES;
	free(steps);
	return usual < SILENCE_LEAST_NS ? SILENCE_LEAST_NS : usual;
}

static void row_add(struct graph *graph, struct graph_row row)
{
	graph->rows[graph->rows_n++] = row;
}

static void fold_add(struct graph *graph, uint32_t from, uint32_t period, uint32_t n)
{
	for (uint32_t i = from + period; i < from + n; i++) {
		graph->events[i].row = graph->rows_n;
		graph->events[i].folded = true;
	}
	row_add(graph, (struct graph_row){
			       .kind = GRAPH_FOLD,
			       .event = from + period,
			       .n = n - period,
			       .times = n / period - 1,
			       .hlc = graph->events[from + period].hlc,
			       .span_ns = graph->events[from + n - 1].hlc -
					  graph->events[from + period].hlc,
		       });
	graph->folded += n - period;
}

/* One row an event; the first of what repeats, then one row for the rest; one for a long silence. */
static int rows_make(struct graph *graph, bool fold)
{
	uint32_t folds, *period_of = events_fold(graph, &folds), period = 0, n = 0, first = 0;
	uint64_t limit = silence_limit(graph);

	graph->rows = calloc(2 * (size_t)graph->n + 1, sizeof(*graph->rows));
	if (!graph->rows || !period_of) {
		free(period_of);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < graph->n; i++) {
		uint64_t step = i ? graph->events[i].hlc - graph->events[i - 1].hlc : 0;

		if (fold && !period && period_of[i]) {
			period = period_of[i];
			n = period_of[i + 1];
			first = i;
		}
		if (fold && step > limit && (!period || i == first))
			row_add(graph, (struct graph_row){ .kind = GRAPH_SILENCE,
							   .event = i,
							   .hlc = graph->events[i - 1].hlc,
							   .span_ns = step });
		graph->events[i].row = graph->rows_n;
		row_add(graph, (struct graph_row){ .kind = GRAPH_EVENT,
						   .event = i,
						   .hlc = graph->events[i].hlc });
		if (period && i == first + period - 1) {
			fold_add(graph, first, period, n);
			i = first + n - 1;
			period = 0;
		}
	}
	free(period_of);
	return 0;
}

int graph_make(struct graph *graph, const struct graph_window *window)
{
	int err = events_collect(graph, window);

	if (!err)
		err = nodes_collect(graph);
	if (!err)
		err = rows_make(graph, window->fold);
	if (!err && graph->n) {
		graph->first_hlc = graph->events[0].hlc;
		graph->last_hlc = graph->events[graph->n - 1].hlc;
	}
	return err;
}

void graph_free(struct graph *graph)
{
	free(graph->nodes);
	free(graph->events);
	free(graph->rows);
	text_free(&graph->words);
}

void graph_omissions(const struct graph *graph, struct text *text)
{
	if (graph->before || graph->after) {
		text_add_str(text, "Not shown: ");
		if (graph->before) {
			text_add_u64(text, graph->before);
			text_add_str(text, " events before");
		}
		text_add_str(text, graph->before && graph->after ? ", " : "");
		if (graph->after) {
			text_add_u64(text, graph->after);
			text_add_str(text, " after");
		}
		text_add_str(text, ". ");
	}
	if (graph->folded) {
		text_add_str(text, "Folded: ");
		text_add_u64(text, graph->folded);
		text_add_str(text, " events that repeat what stands above them. ");
	}
	if (graph->lost) {
		text_add_str(text, "Lost: ");
		text_add_u64(text, graph->lost);
		text_add_str(text, " events (gaps). ");
	}
}

unsigned graph_colour_of(const struct graph *graph, const struct graph_event *effect)
{
	if (graph->colour == GRAPH_BY_EDGE)
		return effect->label == PAIRS_IN_BAND ? 0 : effect->label == PAIRS_MATCHED ? 1 : 6;
	/* A message has the mark its sender gave it, where only that host has the rule. */
	if (graph->colour == GRAPH_BY_MARK && !*graph_word(graph, effect, WORD_MARK)) {
		if (effect->cause == GRAPH_NONE ||
		    !*graph_word(graph, &graph->events[effect->cause], WORD_MARK))
			return 6;
		effect = &graph->events[effect->cause];
	}
	return effect->colour % (GRAPH_COLOURS - 1);
}

void graph_escape(struct text *out, const char *str)
{
	struct text clean = {};

	/* What a terminal or a reader could take for something else is spelled out. */
	text_add_clean(&clean, str, strlen(str));
	for (size_t i = 0; i < clean.len && !clean.err; i++) {
		switch (clean.at[i]) {
		case '<':
			text_add_str(out, "&lt;");
			break;
		case '>':
			text_add_str(out, "&gt;");
			break;
		case '&':
			text_add_str(out, "&amp;");
			break;
		case '"':
			text_add_str(out, "&quot;");
			break;
		case '\'':
			text_add_str(out, "&#39;");
			break;
		default:
			text_add_char(out, clean.at[i]);
		}
	}
	text_free(&clean);
}
