// SPDX-License-Identifier: GPL-2.0-only
/* Which event caused which: the events of many logs, paired by carried stamp, and what is wrong
 * with their order.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "causal.h"

/* A stamp that an event has, or names, on its way to be sorted with others of its group. */
struct ref {
	uint64_t stamp;
	uint32_t event;
	uint32_t role;
};

/* In this order at equal stamps: a cause must be there before it is looked for. */
enum {
	ROLE_OWN,	 /* the event's own first stamp */
	ROLE_CAUSE,	 /* the stamp it carries */
	ROLE_CAUSE_LAST, /* and the last one, where different */
};

#define REFS_MOST 2 /* per event and sort */

/* refs of group i: at[start[i]] up to at[start[i + 1]]. */
struct refs {
	struct ref *at;
	size_t *start;
	uint32_t groups;
};

typedef unsigned (*refs_fn)(const struct causal_event *event, uint32_t *group, struct ref *refs);

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

static int ref_compare(const void *left, const void *right)
{
	const struct ref *a = left, *b = right;

	if (a->stamp != b->stamp)
		return a->stamp < b->stamp ? -1 : 1;
	if (a->role != b->role)
		return a->role < b->role ? -1 : 1;
	return a->event < b->event ? -1 : a->event > b->event;
}

/* Logs are mostly sorted already, and then this is one look at each. */
static void refs_sort(struct ref *refs, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if (ref_compare(&refs[i - 1], &refs[i]) > 0) {
			qsort(refs, n, sizeof(*refs), ref_compare);
			return;
		}
	}
}

static void refs_free(struct refs *refs)
{
	free(refs->at);
	free(refs->start);
}

/* All that collect() gives, put together by group and sorted within each. */
static int refs_collect(struct refs *refs, const struct causal *causal, uint32_t groups,
			refs_fn collect)
{
	struct ref got[REFS_MOST];
	size_t total = 0;
	uint32_t group;

	*refs = (struct refs){ .groups = groups };
	/* One more in front: filling moves each start to its group's end, which is where the next
	 * group starts.
	 */
	refs->start = calloc((size_t)groups + 2, sizeof(*refs->start));
	if (!refs->start)
		return -ENOMEM;
	for (uint32_t i = 0; i < causal->n; i++) {
		unsigned n = collect(&causal->events[i], &group, got);

		if (n)
			refs->start[group + 2] += n;
		total += n;
	}
	refs->at = malloc((total + 1) * sizeof(*refs->at));
	if (!refs->at) {
		refs_free(refs);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < groups; i++)
		refs->start[i + 2] += refs->start[i + 1];
	for (uint32_t i = 0; i < causal->n; i++) {
		unsigned n = collect(&causal->events[i], &group, got);

		for (unsigned k = 0; k < n; k++) {
			got[k].event = i;
			refs->at[refs->start[group + 1]++] = got[k];
		}
	}
	for (uint32_t i = 0; i < groups; i++)
		refs_sort(refs->at + refs->start[i], refs->start[i + 1] - refs->start[i]);
	return 0;
}

static unsigned refs_of_node(const struct causal_event *event, uint32_t *group, struct ref *refs)
{
	if (!types[event->type].message)
		return 0;
	*group = event->node;
	refs[0] = (struct ref){ .stamp = event->hlc, .role = ROLE_OWN };
	return 1;
}

/* A clock issues each stamp once, so no two messages of a node may share one. Bursts per flow
 * interleave by design: of those only the first stamps can be compared.
 */
static int causal_check_nodes(struct causal *causal)
{
	bool *interleaved = calloc((size_t)causal->nodes.n + 1, sizeof(*interleaved));
	struct refs refs;
	int err;

	if (!interleaved)
		return -ENOMEM;
	for (uint32_t i = 0; i < causal->n; i++)
		if (causal->events[i].flags & CAUSAL_BURST_FLOW)
			interleaved[causal->events[i].node] = true;
	err = refs_collect(&refs, causal, causal->nodes.n, refs_of_node);
	if (err)
		goto out;
	for (uint32_t node = 0; node < refs.groups; node++) {
		uint32_t holder = CAUSAL_NONE; /* of the highest stamp so far */
		uint64_t highest = 0;

		for (size_t i = refs.start[node]; i < refs.start[node + 1]; i++) {
			uint32_t at = refs.at[i].event;
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
	refs_free(&refs);
out:
	free(interleaved);
	return err;
}

static unsigned refs_of_flow(const struct causal_event *event, uint32_t *group, struct ref *refs)
{
	if (!types[event->type].message || event->flow == CAUSAL_NONE)
		return 0;
	*group = event->flow;
	if (!(event->flags & CAUSAL_HAS_CAUSE)) {
		refs[0] = (struct ref){ .stamp = event->hlc, .role = ROLE_OWN };
		return event->type != CAUSAL_RECV;
	}
	refs[0] = (struct ref){ .stamp = event->cause, .role = ROLE_CAUSE };
	refs[1] = (struct ref){ .stamp = event->cause_last, .role = ROLE_CAUSE_LAST };
	return event->cause_last != event->cause ? 2 : 1;
}

static void causal_pair(struct causal *causal, uint32_t cause, uint32_t effect)
{
	struct causal_event *a = &causal->events[cause], *b = &causal->events[effect];

	b->pair = cause;
	causal->counts.pairs++;
	/* The carried stamps lie in a's burst, so a's own are not looked at: a later message of a
	 * burst may rightly come after the first effect.
	 */
	if (b->hlc <= b->cause || b->hlc_last <= b->cause_last)
		causal_invert(causal, CAUSAL_EFFECT_FIRST, cause, effect);
	if (b->wall_ns < a->wall_ns)
		causal->counts.wall_inversions++;
}

/* One flow's stamps, rising. A cause that ended below the stamp looked for can never be found
 * again, because what is looked for only rises: drop it. So every ref is pushed and dropped once at
 * most, whatever the log says, and the top of the stack is the nearest cause that reaches far
 * enough.
 */
static void causal_pair_flow(struct causal *causal, const struct ref *refs, size_t n,
			     uint32_t *stack)
{
	size_t depth = 0;

	for (size_t i = 0; i < n; i++) {
		if (refs[i].role == ROLE_OWN) {
			stack[depth++] = refs[i].event;
			continue;
		}
		while (depth && causal->events[stack[depth - 1]].hlc_last < refs[i].stamp &&
		       causal->events[stack[depth - 1]].hlc != refs[i].stamp)
			depth--;
		if (!depth)
			continue;
		causal->events[stack[depth - 1]].flags |= CAUSAL_NAMED;
		if (refs[i].role == ROLE_CAUSE)
			causal_pair(causal, stack[depth - 1], refs[i].event);
	}
}

static int causal_pair_flows(struct causal *causal)
{
	size_t deepest = 1;
	uint32_t *stack;
	struct refs refs;
	int err = refs_collect(&refs, causal, causal->flows.n, refs_of_flow);

	if (err)
		return err;
	for (uint32_t flow = 0; flow < refs.groups; flow++)
		if (refs.start[flow + 1] - refs.start[flow] > deepest)
			deepest = refs.start[flow + 1] - refs.start[flow];
	stack = calloc(deepest, sizeof(*stack));
	if (!stack)
		err = -ENOMEM;
	for (uint32_t flow = 0; stack && flow < refs.groups; flow++)
		causal_pair_flow(causal, refs.at + refs.start[flow],
				 refs.start[flow + 1] - refs.start[flow], stack);
	free(stack);
	refs_free(&refs);
	return err;
}

static void causal_count_unmatched(struct causal *causal)
{
	for (uint32_t i = 0; i < causal->n; i++) {
		const struct causal_event *event = &causal->events[i];
		bool alone = event->pair == CAUSAL_NONE && !(event->flags & CAUSAL_NAMED);

		if (!alone)
			continue;
		if (event->type == CAUSAL_RECV || event->type == CAUSAL_ACCEPT)
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
		err = causal_pair_flows(causal);
	if (!err)
		causal_count_unmatched(causal);
	return err;
}

void causal_free(struct causal *causal)
{
	names_free(&causal->nodes);
	names_free(&causal->flows);
	free(causal->events);
	*causal = (struct causal){};
}
