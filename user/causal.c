// SPDX-License-Identifier: GPL-2.0-only
/* Which event caused which: the events of many logs, paired by carried stamp, and what is wrong
 * with their order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/clock.h"
#include "causal.h"
#include "pairs.h"
#include "sorter.h"

#define PAIRS_MEMORY (256ULL << 20)

/* Every message of a node, by its first stamp. */
struct stamps {
	struct stamp {
		uint64_t stamp;
		uint32_t event;
	} * at; /* of node i: at[start[i]] up to at[start[i + 1]] */
	size_t *start;
	uint32_t nodes;
};

static const struct {
	const char *name;
	bool message;
} types[] = {
#define X(name, text, message) { text, message },
	CAUSAL_TYPES(X)
#undef X
		{ "other", false },
};

enum causal_type causal_type_parse(const char *name)
{
	int type = 0;

	while (type < CAUSAL_OTHER && strcmp(types[type].name, name) != 0)
		type++;
	return (enum causal_type)type;
}

const char *causal_type_name(enum causal_type type)
{
	return types[type].name;
}

static int64_t causal_name(struct names *names, const char *const *parts, int n)
{
	struct text key = {};
	int64_t id;

	for (int i = 0; i < n; i++)
		text_add(&key, parts[i], strlen(parts[i]) + (i < n - 1));
	id = key.err ? key.err : names_id(names, key.at ? key.at : "", key.len);
	text_free(&key);
	return id;
}

bool causal_type_message(unsigned type)
{
	return types[type].message;
}

int64_t causal_node(struct causal *causal, const char *host, const char *node)
{
	return causal_name(&causal->nodes, (const char *[]){ host, node }, 2);
}

int64_t causal_flow(struct causal *causal, const char *proto, const char *src, const char *dst)
{
	return causal_name(&causal->flows, (const char *[]){ proto, src, dst }, 3);
}

static uint64_t add_saturated(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

int causal_add(struct causal *causal, const struct causal_event *event, uint64_t lost)
{
	if (causal->n == causal->size) {
		/* A quarter more, not twice: of ten million events half would be air. */
		uint64_t size = (uint64_t)causal->size + causal->size / 4 + 1024;
		struct causal_event *events;

		if (size >= CAUSAL_NONE)
			return -E2BIG;
		events = reallocarray(causal->events, size, sizeof(*events));
		if (!events)
			return -ENOMEM;
		causal->events = events;
		causal->size = (uint32_t)size;
	}
	causal->events[causal->n] = *event;
	causal->events[causal->n++].pair = CAUSAL_NONE;
	causal->counts.events++;
	causal->counts.gaps = add_saturated(causal->counts.gaps, lost);
	return 0;
}

static void causal_invert(struct causal *causal, enum causal_wrong wrong, uint32_t a, uint32_t b)
{
	causal->counts.inversions++;
	if (causal->first_n < CAUSAL_FIRST)
		causal->first[causal->first_n++] = (struct causal_inversion){ wrong, a, b };
}

static int stamp_compare(const void *left, const void *right)
{
	const struct stamp *a = left, *b = right;

	if (a->stamp != b->stamp)
		return a->stamp < b->stamp ? -1 : 1;
	return a->event < b->event ? -1 : a->event > b->event;
}

/* Logs are mostly sorted already, and then this is one look at each. */
static void stamps_sort(struct stamp *stamps, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if (stamp_compare(&stamps[i - 1], &stamps[i]) > 0) {
			qsort(stamps, n, sizeof(*stamps), stamp_compare);
			return;
		}
	}
}

static void stamps_free(struct stamps *stamps)
{
	free(stamps->at);
	free(stamps->start);
}

static int stamps_collect(struct stamps *stamps, const struct causal *causal)
{
	uint32_t nodes = causal->nodes.n;
	size_t total = 0;

	*stamps = (struct stamps){ .nodes = nodes };
	/* One more in front: filling moves each start to its node's end, which is where the next
	 * node's are.
	 */
	stamps->start = calloc((size_t)nodes + 2, sizeof(*stamps->start));
	if (!stamps->start)
		return -ENOMEM;
	for (uint32_t i = 0; i < causal->n; i++) {
		if (!types[causal->events[i].type].message)
			continue;
		stamps->start[causal->events[i].node + 2]++;
		total++;
	}
	stamps->at = malloc((total + 1) * sizeof(*stamps->at));
	if (!stamps->at) {
		stamps_free(stamps);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < nodes; i++)
		stamps->start[i + 2] += stamps->start[i + 1];
	for (uint32_t i = 0; i < causal->n; i++) {
		const struct causal_event *event = &causal->events[i];

		if (types[event->type].message)
			stamps->at[stamps->start[event->node + 1]++] =
				(struct stamp){ event->hlc, i };
	}
	for (uint32_t i = 0; i < nodes; i++)
		stamps_sort(stamps->at + stamps->start[i], stamps->start[i + 1] - stamps->start[i]);
	return 0;
}

/* A clock issues each stamp once, so no two messages of a node may share one. Bursts per flow
 * interleave by design: of those only the first stamps can be compared.
 */
static int causal_check_nodes(struct causal *causal)
{
	bool *interleaved = calloc((size_t)causal->nodes.n + 1, sizeof(*interleaved));
	struct stamps stamps;
	int err;

	if (!interleaved)
		return -ENOMEM;
	for (uint32_t i = 0; i < causal->n; i++)
		if (causal->events[i].flags & CAUSAL_BURST_FLOW)
			interleaved[causal->events[i].node] = true;
	err = stamps_collect(&stamps, causal);
	if (err)
		goto out;
	for (uint32_t node = 0; node < stamps.nodes; node++) {
		uint32_t holder = CAUSAL_NONE; /* of the highest stamp so far */
		uint64_t highest = 0;

		for (size_t i = stamps.start[node]; i < stamps.start[node + 1]; i++) {
			uint32_t at = stamps.at[i].event;
			const struct causal_event *event = &causal->events[at];
			uint64_t last = interleaved[node] || event->hlc_last < event->hlc
						? event->hlc
						: event->hlc_last;

			if (event->hlc_last < event->hlc)
				causal_invert(causal, CAUSAL_ENDS_FIRST, at, at);
			if (holder != CAUSAL_NONE && event->hlc <= highest)
				causal_invert(causal, CAUSAL_STAMP_TWICE, holder, at);
			if (holder == CAUSAL_NONE || last >= highest) {
				holder = at;
				highest = last;
			}
		}
	}
	stamps_free(&stamps);
out:
	free(interleaved);
	return err;
}

static void causal_pair(struct causal *causal, const struct pairs_edge *edge)
{
	uint32_t cause = (uint32_t)edge->cause.ord, effect = (uint32_t)edge->effect.ord;
	struct causal_event *a = &causal->events[cause], *b = &causal->events[effect];
	bool carried = b->flags & CAUSAL_HAS_CAUSE, inverted;

	a->flags |= CAUSAL_NAMED;
	/* Carried stamps lie in a's burst, so a's own are not looked at: a later message of a burst
	 * may rightly come after the first effect. Without them the burst is all that is known.
	 */
	if (edge->last)
		inverted = !carried && b->hlc <= a->hlc && b->pair != cause;
	else
		inverted = carried ? b->hlc <= b->cause || b->hlc_last <= b->cause_last
				   : b->hlc <= a->hlc;
	if (inverted && (edge->last || b->pair == CAUSAL_NONE))
		causal_invert(causal, CAUSAL_EFFECT_FIRST, cause, effect);
	if (edge->last || b->pair != CAUSAL_NONE)
		return; /* found in two ways */
	b->pair = cause;
	causal->counts.pairs++;
	if (!carried && edge->label == PAIRS_IN_BAND)
		causal->labels.in_band++;
	else if (!carried || b->flags & CAUSAL_MATCHED)
		causal->labels.matched++;
	if (b->wall_ns < a->wall_ns)
		causal->counts.wall_inversions++;
}

static int causal_find_pairs(struct causal *causal, struct pairs *pairs)
{
	struct pairs_flow *flows = calloc((size_t)causal->flows.n + 1, sizeof(*flows));
	int err = flows ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < causal->flows.n && !err; i++) {
		const char *proto = names_get(&causal->flows, i);
		const char *src = proto + strlen(proto) + 1;

		flows[i] = pairs_flow(pairs, proto, src, src + strlen(src) + 1);
	}
	for (uint32_t i = 0; i < causal->n && !err; i++)
		if (causal->events[i].flow != CAUSAL_NONE)
			err = pairs_add(pairs, &causal->events[i], i,
					&flows[causal->events[i].flow]);
	free(flows);
	return err ? err : pairs_finish(pairs);
}

static int causal_pair_all(struct causal *causal)
{
	struct pairs *pairs = pairs_new(PAIRS_MEMORY);
	struct sorter_cursor edges = {};
	const struct pairs_edge *edge;
	int err = pairs ? causal_find_pairs(causal, pairs) : -ENOMEM;

	if (!err)
		err = sorter_cursor_open(&edges, pairs_edges(pairs), 0, 1024);
	while (!err && (edge = sorter_cursor_next(&edges, &err)))
		causal_pair(causal, edge);
	sorter_cursor_close(&edges);
	pairs_free(pairs);
	return err;
}

static int ahead_compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

/* How far clocks were ahead of their own node's wall clock. */
static int causal_ahead(struct causal *causal)
{
	uint64_t *ahead = calloc((size_t)causal->n + 1, sizeof(*ahead));
	size_t n = 0;

	if (!ahead)
		return -ENOMEM;
	for (uint32_t i = 0; i < causal->n; i++) {
		const struct causal_event *event = &causal->events[i];

		if (types[event->type].message)
			ahead[n++] =
				clock_ahead_ns(event->hlc & ~CLOCK_COUNTER_MASK, event->wall_ns);
	}
	qsort(ahead, n, sizeof(*ahead), ahead_compare);
	if (n) {
		causal->labels.ahead_p99_ns = ahead[(n - 1) * 99 / 100];
		causal->labels.ahead_max_ns = ahead[n - 1];
	}
	free(ahead);
	return 0;
}

static void causal_count_unmatched(struct causal *causal)
{
	for (uint32_t i = 0; i < causal->n; i++) {
		const struct causal_event *event = &causal->events[i];
		bool alone = event->pair == CAUSAL_NONE && !(event->flags & CAUSAL_NAMED);
		bool effect = event->type == CAUSAL_RECV || event->type == CAUSAL_ACCEPT;

		if (event->flags & CAUSAL_HAS_CAUSE)
			causal->labels.in_band += !(event->flags & CAUSAL_MATCHED);
		else if (effect && event->pair == CAUSAL_NONE)
			causal->labels.unknown++;
		if (!alone)
			continue;
		if (effect)
			causal->counts.unmatched_recv++;
		else if ((event->type == CAUSAL_SEND || event->type == CAUSAL_CONNECT) &&
			 !(event->flags & CAUSAL_HAS_CAUSE))
			causal->counts.unmatched_send++;
	}
}

int causal_finish(struct causal *causal)
{
	int err = causal_check_nodes(causal);

	if (!err)
		err = causal_pair_all(causal);
	if (err)
		return err;
	causal_count_unmatched(causal);
	return causal_ahead(causal);
}

void causal_free(struct causal *causal)
{
	names_free(&causal->nodes);
	names_free(&causal->flows);
	free(causal->events);
	*causal = (struct causal){};
}
