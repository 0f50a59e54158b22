// SPDX-License-Identifier: GPL-2.0-only
/* Many logs in one order: events sorted by stamp, host and node, each after what caused it.
 *
 * First every log is read: what the order needs of each event is sorted by node and stamp, and
 * pairs.c finds what caused it. Then every node is a lane, and the heads of the lanes are taken in
 * turn, the lowest stamp first. A head waits while its cause has not been taken; when it has, and
 * the head's stamp is not above it, the head gets the next stamp above, and so do those after it in
 * its lane until their own are higher. So stamps are repaired along the graph and nowhere else, and
 * what is taken is in order: whoever waits will be above what it waits for, and that is not below
 * what is being taken.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "names.h"
#include "order.h"
#include "sorter.h"

#define MEMORY_USUAL (192ULL << 20)
#define LANES_MEMORY (16 << 20)
#define NOBODY UINT32_MAX

/* What the order needs of an event. */
struct item {
	struct pairs_place place;
	uint64_t hlc_last, cause, cause_last, wall_ns;
	uint64_t text_at;
	uint32_t text_len, line, bytes;
	uint16_t file;
	uint8_t type, flags;
};

/* A node's events, one by one. */
struct lane {
	struct sorter_cursor items, edges;
	uint64_t items_n, edges_n; /* in all */
	uint64_t items_left, edges_left;
	struct pairs_edge ahead; /* the next edge, if has_ahead */
	bool has_ahead;
	bool interleaved; /* bursts per flow */
	struct item head;
	struct pairs_edge first, last; /* causes of the head */
	bool has_first, has_last;
	struct order_event event; /* the head, when it is ready */
	struct pairs_place done;  /* the last one taken */
	bool any_done;
	uint64_t floor;				   /* stamp of the last one that was repaired */
	uint32_t rank;				   /* by host and node */
	uint32_t waits_for, next_waiting, waiting; /* lanes */
};

struct order {
	struct logs *logs;
	struct names nodes;
	struct sorter *items;
	struct pairs *pairs;
	struct lane *lanes;
	int64_t lanes_room;
	uint32_t *heap;		  /* lanes whose heads are ready */
	uint32_t heap_n, current; /* lane of the event given last */
	uint64_t now;		  /* its stamp */
	int repairs;		  /* file: by ord, the new stamp of a cause that was repaired */
	bool any_repairs;
	struct order_counts counts;
	int err;
};

static int item_compare(const void *left, const void *right)
{
	return pairs_place_compare(&((const struct item *)left)->place,
				   &((const struct item *)right)->place);
}

/* ---- reading --------------------------------------------------------------------------- */

static int64_t node_number(struct order *order, const char *host, const char *node)
{
	struct text key = {};
	int64_t id;

	text_add(&key, host, strlen(host) + 1);
	text_add_str(&key, node);
	id = key.err ? key.err : names_id(&order->nodes, key.at, key.len);
	text_free(&key);
	if (id >= order->lanes_room) {
		uint64_t room = 2 * (uint64_t)id + 64;
		struct lane *lanes = reallocarray(order->lanes, room, sizeof(*lanes));

		if (!lanes)
			return -ENOMEM;
		memset(lanes + order->lanes_room, 0,
		       (room - (uint64_t)order->lanes_room) * sizeof(*lanes));
		order->lanes = lanes;
		order->lanes_room = (int64_t)room;
	}
	return id;
}

static int event_add(const struct eventlog_line *line, void *ctx)
{
	struct order *order = ctx;
	struct causal_event event = line->event;
	int64_t node = node_number(order, line->host, line->node);
	struct item item = {
		.hlc_last = event.hlc_last,
		.cause = event.cause,
		.cause_last = event.cause_last,
		.wall_ns = event.wall_ns,
		.text_at = line->at,
		.text_len = (uint32_t)line->len,
		.line = event.line,
		.bytes = event.bytes,
		.file = event.file,
		.type = event.type,
		.flags = event.flags,
	};
	int err;

	if (node < 0)
		return (int)node;
	event.node = (uint32_t)node;
	item.place = (struct pairs_place){ event.hlc, order->counts.events, event.node };
	order->lanes[node].items_n++;
	if (event.flags & CAUSAL_BURST_FLOW)
		order->lanes[node].interleaved = true;
	order->counts.lost += line->lost;
	err = sorter_add(order->items, &item);
	if (!err && line->proto) {
		struct pairs_flow flow =
			pairs_flow(order->pairs, line->proto, line->src, line->dst);

		err = pairs_add(order->pairs, &event, order->counts.events, &flow);
	}
	order->counts.events++;
	return err;
}

struct ranked {
	const struct order *order;
	uint32_t node;
};

static int rank_compare(const void *left, const void *right)
{
	const struct ranked *a = left, *b = right;
	int order = strcmp(order_host(a->order, a->node), order_host(b->order, b->node));

	return order ? order : strcmp(order_node(a->order, a->node), order_node(b->order, b->node));
}

static int lanes_rank(struct order *order)
{
	struct ranked *ranked = calloc((size_t)order->nodes.n + 1, sizeof(*ranked));

	if (!ranked)
		return -ENOMEM;
	for (uint32_t i = 0; i < order->nodes.n; i++)
		ranked[i] = (struct ranked){ order, i };
	qsort(ranked, order->nodes.n, sizeof(*ranked), rank_compare);
	for (uint32_t i = 0; i < order->nodes.n; i++)
		order->lanes[ranked[i].node].rank = i;
	free(ranked);
	return 0;
}

static int edges_count(struct order *order)
{
	struct sorter_cursor cursor;
	const struct pairs_edge *edge;
	int err = sorter_cursor_open(&cursor, pairs_edges(order->pairs), 0, 512);

	while (!err && (edge = sorter_cursor_next(&cursor, &err)))
		order->lanes[edge->effect.node].edges_n++;
	sorter_cursor_close(&cursor);
	return err;
}

static int order_prepare(struct order *order)
{
	int err = pairs_finish(order->pairs);

	if (!err)
		err = sorter_sort(order->items);
	if (!err)
		err = edges_count(order);
	if (!err)
		err = lanes_rank(order);
	if (!err) {
		order->heap = calloc((size_t)order->nodes.n + 1, sizeof(*order->heap));
		order->repairs = sorter_temporary();
		err = !order->heap ? -ENOMEM : order->repairs < 0 ? order->repairs : 0;
	}
	return err ? err : order_rewind(order);
}

struct order *order_open(struct logs *logs, uint64_t memory, int *status)
{
	struct order *order = calloc(1, sizeof(*order));
	int err = 0;

	memory = memory ? memory : MEMORY_USUAL;
	*status = 1;
	if (order) {
		order->logs = logs;
		order->repairs = -1;
		order->items = sorter_new(sizeof(struct item), item_compare, memory / 3);
		order->pairs = pairs_new(memory / 3 * 2);
	}
	if (!order || !order->items || !order->pairs) {
		log_error("%s", strerror(ENOMEM));
		order_free(order);
		return NULL;
	}
	*status = 2;
	for (unsigned i = 0; i < logs->n && !err; i++)
		err = logs_read_kept(logs, i, event_add, order);
	if (!err) {
		*status = 1;
		err = order_prepare(order);
		if (err)
			log_error("%llu events, sorted in %s (TMPDIR): %s",
				  (unsigned long long)order->counts.events, sorter_dir(),
				  strerror(-err));
	}
	if (!err)
		return order;
	order_free(order);
	return NULL;
}

void order_free(struct order *order)
{
	if (!order)
		return;
	for (uint32_t i = 0; i < order->nodes.n && order->lanes; i++) {
		sorter_cursor_close(&order->lanes[i].items);
		sorter_cursor_close(&order->lanes[i].edges);
	}
	if (order->repairs >= 0)
		close(order->repairs);
	sorter_free(order->items);
	pairs_free(order->pairs);
	names_free(&order->nodes);
	free(order->lanes);
	free(order->heap);
	free(order);
}

uint64_t order_count(const struct order *order)
{
	return order->counts.events;
}

const struct order_counts *order_counts(const struct order *order)
{
	return &order->counts;
}

uint32_t order_nodes(const struct order *order)
{
	return order->nodes.n;
}

const char *order_host(const struct order *order, uint32_t node)
{
	return names_get(&order->nodes, node);
}

const char *order_node(const struct order *order, uint32_t node)
{
	const char *host = order_host(order, node);

	return host + strlen(host) + 1;
}

/* ---- stamps ------------------------------------------------------------------------------ */

static uint64_t above(uint64_t stamp)
{
	return stamp == UINT64_MAX ? stamp : stamp + 1;
}

/* The last stamp of a burst that was first..last, now that its first one is moved. */
static uint64_t last_moved(uint64_t first, uint64_t last, uint64_t moved)
{
	uint64_t length = last > first ? last - first : 0;

	if (moved == first)
		return last;
	if (moved + length < moved)
		return UINT64_MAX;
	return last > moved + length ? last : moved + length;
}

static int repair_note(struct order *order, uint64_t ord, uint64_t stamp)
{
	order->any_repairs = true;
	return pwrite(order->repairs, &stamp, sizeof(stamp), (off_t)(ord * sizeof(stamp))) ==
			       sizeof(stamp)
		       ? 0
		       : -EIO;
}

/* The cause's stamp as it is now. */
static uint64_t cause_moved(const struct order *order, const struct pairs_place *cause)
{
	uint64_t stamp = 0;

	if (order->any_repairs && pread(order->repairs, &stamp, sizeof(stamp),
					(off_t)(cause->ord * sizeof(stamp))) != sizeof(stamp))
		stamp = 0; /* nothing was written so far out */
	return stamp ? stamp : cause->hlc;
}

static struct order_cause cause_found(const struct order *order, const struct pairs_edge *edge)
{
	return (struct order_cause){
		.known = true,
		.node = edge->cause.node,
		.ord = edge->cause.ord,
		.hlc = cause_moved(order, &edge->cause),
		.hlc_raw = edge->cause.hlc,
		.wall_ns = edge->cause_wall_ns,
		.bytes = edge->cause_bytes,
	};
}

/* A stamp carried from within the burst of a cause that was moved. */
static uint64_t carried_moved(uint64_t carried, const struct pairs_edge *edge,
			      const struct order_cause *cause)
{
	uint64_t last = last_moved(cause->hlc_raw, edge->cause_end, cause->hlc), within;

	if (cause->hlc == cause->hlc_raw)
		return carried;
	within = carried > cause->hlc_raw ? carried - cause->hlc_raw : 0;
	return within > last - cause->hlc ? last : cause->hlc + within;
}

/* What the head's causes ask of its stamps. */
static void head_causes(const struct order *order, struct lane *lane, uint64_t *first_floor,
			uint64_t *last_floor)
{
	struct order_event *event = &lane->event;

	if (lane->has_first)
		event->first = cause_found(order, &lane->first);
	if (lane->has_last)
		event->last = cause_found(order, &lane->last);
	if (event->carried) {
		event->cause = event->first.known ? carried_moved(event->cause_raw, &lane->first,
								  &event->first)
						  : event->cause_raw;
		event->cause_last =
			event->last.known
				? carried_moved(event->cause_last_raw, &lane->last, &event->last)
			: event->cause_last_raw == event->cause_raw ? event->cause
								    : event->cause_last_raw;
	} else if (event->first.known) {
		event->cause = event->first.hlc;
		event->cause_last = event->last.known ? event->last.hlc : event->cause;
	}
	/* A stamp whose sender is not in the logs is nobody's word: the clock judged it already. */
	if (event->first.known)
		*first_floor = event->cause;
	if (event->first.known || event->last.known)
		*last_floor = event->cause_last;
	if (!event->carried && *last_floor > *first_floor)
		*first_floor = *last_floor;
}

/* The head is ready: give it its stamps. */
static int head_stamp(struct order *order, struct lane *lane, uint64_t least)
{
	const struct item *item = &lane->head;
	struct order_event *event = &lane->event;
	bool message = causal_type_message(item->type);
	uint64_t first_floor = 0, last_floor = 0, stamp = item->place.hlc;

	*event = (struct order_event){
		.ord = item->place.ord,
		.node = item->place.node,
		.file = item->file,
		.line = item->line,
		.type = (enum causal_type)item->type,
		.carried = item->flags & CAUSAL_HAS_CAUSE,
		.has_last = item->flags & CAUSAL_HAS_LAST,
		.hlc_raw = item->place.hlc,
		.hlc_last_raw = item->hlc_last,
		.cause_raw = item->cause,
		.cause_last_raw = item->cause_last,
		.wall_ns = item->wall_ns,
		.bytes = item->bytes,
		.text_at = item->text_at,
		.text_len = item->text_len,
	};
	head_causes(order, lane, &first_floor, &last_floor);
	event->has_cause = event->carried || event->first.known;
	event->effect =
		event->has_cause || item->type == CAUSAL_RECV || item->type == CAUSAL_ACCEPT;
	event->label = event->carried ? item->flags & CAUSAL_MATCHED ? PAIRS_MATCHED : PAIRS_IN_BAND
		       : event->first.known ? (enum pairs_label)lane->first.label
					    : PAIRS_UNKNOWN;
	if (lane->floor && stamp < lane->floor + message)
		stamp = lane->floor + (message && lane->floor < UINT64_MAX);
	if (first_floor && stamp <= first_floor)
		stamp = above(first_floor);
	if (stamp < least)
		stamp = least;
	order->counts.topped += first_floor == UINT64_MAX || last_floor == UINT64_MAX ||
				(message && lane->floor == UINT64_MAX);
	event->hlc = stamp;
	event->hlc_last = last_moved(item->place.hlc, item->hlc_last, stamp);
	if (last_floor && event->hlc_last <= last_floor)
		event->hlc_last = above(last_floor);
	event->repaired = event->hlc != event->hlc_raw || event->hlc_last != event->hlc_last_raw;
	if (!event->repaired || !message)
		return 0;
	/* A log may end bursts before they begin. */
	if (event->hlc > lane->floor)
		lane->floor = event->hlc;
	if (event->hlc_last > lane->floor && !lane->interleaved)
		lane->floor = event->hlc_last;
	return event->hlc == event->hlc_raw ? 0 : repair_note(order, event->ord, event->hlc);
}

/* ---- lanes ------------------------------------------------------------------------------- */

static bool ready_before(const struct order *order, uint32_t a, uint32_t b)
{
	const struct lane *x = &order->lanes[a], *y = &order->lanes[b];

	if (x->event.hlc != y->event.hlc)
		return x->event.hlc < y->event.hlc;
	return x->rank < y->rank;
}

static void ready_add(struct order *order, uint32_t lane)
{
	uint32_t at = order->heap_n++;

	for (; at && ready_before(order, lane, order->heap[(at - 1) / 2]); at = (at - 1) / 2)
		order->heap[at] = order->heap[(at - 1) / 2];
	order->heap[at] = lane;
}

static uint32_t ready_take(struct order *order)
{
	uint32_t first = order->heap[0], held = order->heap[--order->heap_n], at = 0, child;

	while ((child = 2 * at + 1) < order->heap_n) {
		if (child + 1 < order->heap_n &&
		    ready_before(order, order->heap[child + 1], order->heap[child]))
			child++;
		if (!ready_before(order, order->heap[child], held))
			break;
		order->heap[at] = order->heap[child];
		at = child;
	}
	order->heap[at] = held;
	return first;
}

static int edge_next(struct lane *lane)
{
	const struct pairs_edge *edge;
	int err = 0;

	lane->has_ahead = false;
	if (!lane->edges_left)
		return 0;
	edge = sorter_cursor_next(&lane->edges, &err);
	if (!edge)
		return err ? err : -EIO;
	lane->edges_left--;
	lane->ahead = *edge;
	lane->has_ahead = true;
	return 0;
}

/* 1 with a new head, 0 at the end, or -errno. */
static int head_next(struct lane *lane)
{
	const struct item *item;
	int err = 0;

	if (!lane->items_left)
		return 0;
	item = sorter_cursor_next(&lane->items, &err);
	if (!item)
		return err ? err : -EIO;
	lane->items_left--;
	lane->head = *item;
	lane->has_first = lane->has_last = false;
	while (lane->has_ahead && !err && lane->ahead.effect.ord == item->place.ord) {
		if (lane->ahead.last && !lane->has_last) {
			lane->last = lane->ahead;
			lane->has_last = true;
		} else if (!lane->ahead.last && !lane->has_first) {
			lane->first = lane->ahead;
			lane->has_first = true;
		}
		err = edge_next(lane);
	}
	return err ? err : 1;
}

static bool place_taken(const struct order *order, const struct pairs_place *place)
{
	const struct lane *of = &order->lanes[place->node];

	return of->any_done && pairs_place_compare(place, &of->done) <= 0;
}

/* Has this cause been taken? If not, the lane joins those who wait for it. */
static bool cause_taken(struct order *order, uint32_t lane, const struct pairs_place *cause)
{
	struct lane *of = &order->lanes[cause->node];

	if (place_taken(order, cause))
		return true;
	order->lanes[lane].waits_for = cause->node;
	order->lanes[lane].next_waiting = of->waiting;
	of->waiting = lane;
	return false;
}

/* The lane has a head: is it ready, or does it wait? */
static int head_ready(struct order *order, uint32_t i)
{
	struct lane *lane = &order->lanes[i];
	int err;

	lane->waits_for = NOBODY;
	/* Where stamps were carried, a burst may begin before the last of it was sent, and stand
	 * there in the order: it must not wait for what stands behind it. The kernel ends bursts
	 * where the cause changes, so this is for logs of others.
	 */
	if (lane->has_last && lane->head.flags & CAUSAL_HAS_CAUSE &&
	    !place_taken(order, &lane->last.cause))
		lane->has_last = false;
	if ((lane->has_first && !cause_taken(order, i, &lane->first.cause)) ||
	    (lane->has_last && !cause_taken(order, i, &lane->last.cause)))
		return 0;
	err = head_stamp(order, lane, 0);
	if (!err)
		ready_add(order, i);
	return err;
}

static int lane_advance(struct order *order, uint32_t i)
{
	int got = head_next(&order->lanes[i]);

	return got > 0 ? head_ready(order, i) : got;
}

/* The lane has given an event: those who waited for it may go. */
static int lane_wake(struct order *order, uint32_t i)
{
	uint32_t waiting = order->lanes[i].waiting, next;
	int err = 0;

	order->lanes[i].waiting = NOBODY;
	for (; waiting != NOBODY && !err; waiting = next) {
		next = order->lanes[waiting].next_waiting;
		err = head_ready(order, waiting);
	}
	return err;
}

static void lane_unwait(struct order *order, uint32_t i)
{
	uint32_t *at = &order->lanes[order->lanes[i].waits_for].waiting;

	while (*at != i)
		at = &order->lanes[*at].next_waiting;
	*at = order->lanes[i].next_waiting;
	order->lanes[i].waits_for = NOBODY;
}

/* All wait for each other, which no true log can make them: let the lowest stamp go. */
static int circle_break(struct order *order, bool *found)
{
	uint32_t lowest = NOBODY;
	struct lane *lane;
	int err;

	*found = false;
	for (uint32_t i = 0; i < order->nodes.n; i++) {
		if (order->lanes[i].waits_for == NOBODY)
			continue;
		if (lowest == NOBODY ||
		    order->lanes[i].head.place.hlc < order->lanes[lowest].head.place.hlc ||
		    (order->lanes[i].head.place.hlc == order->lanes[lowest].head.place.hlc &&
		     order->lanes[i].rank < order->lanes[lowest].rank))
			lowest = i;
	}
	if (lowest == NOBODY)
		return 0;
	*found = true;
	order->counts.circles++;
	lane_unwait(order, lowest);
	lane = &order->lanes[lowest];
	lane->has_first = lane->has_last = false;
	err = head_stamp(order, lane, order->now);
	if (!err)
		ready_add(order, lowest);
	return err;
}

int order_rewind(struct order *order)
{
	uint64_t items_at = 0, edges_at = 0;
	size_t room = LANES_MEMORY / (order->nodes.n + 1) / (sizeof(struct item) * 2);
	int err = 0;

	room = room < 4 ? 4 : room > 256 ? 256 : room;
	order->heap_n = 0;
	order->current = NOBODY;
	order->now = 0;
	order->counts =
		(struct order_counts){ .events = order->counts.events, .lost = order->counts.lost };
	for (uint32_t i = 0; i < order->nodes.n && !err; i++) {
		struct lane *lane = &order->lanes[i], fresh = {
			.items_n = lane->items_n,
			.edges_n = lane->edges_n,
			.items_left = lane->items_n,
			.edges_left = lane->edges_n,
			.interleaved = lane->interleaved,
			.rank = lane->rank,
			.waits_for = NOBODY,
			.waiting = NOBODY,
		};

		sorter_cursor_close(&lane->items);
		sorter_cursor_close(&lane->edges);
		*lane = fresh;
		err = sorter_cursor_open(&lane->items, order->items, items_at, room);
		if (!err)
			err = sorter_cursor_open(&lane->edges, pairs_edges(order->pairs), edges_at,
						 room);
		if (!err)
			err = edge_next(lane);
		items_at += lane->items_n;
		edges_at += lane->edges_n;
	}
	for (uint32_t i = 0; i < order->nodes.n && !err; i++)
		err = lane_advance(order, i);
	return err;
}

int order_next(struct order *order, struct order_event *event)
{
	uint32_t i = order->current;
	bool found;
	int err = 0;

	if (i != NOBODY) {
		order->current = NOBODY;
		err = lane_advance(order, i);
		if (!err)
			err = lane_wake(order, i);
	}
	if (!err && !order->heap_n)
		err = circle_break(order, &found);
	if (err || !order->heap_n)
		return err;
	i = order->current = ready_take(order);
	*event = order->lanes[i].event;
	order->lanes[i].done = order->lanes[i].head.place;
	order->lanes[i].any_done = true;
	order->now = event->hlc;
	order->counts.repaired += event->repaired;
	if (event->effect)
		order->counts.labels[event->label]++;
	return 1;
}

/* ---- lines ------------------------------------------------------------------------------- */

const char *order_line(struct order *order, const struct order_event *event)
{
	return logs_line(order->logs, event->file, event->text_at, event->text_len);
}
