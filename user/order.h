/* SPDX-License-Identifier: GPL-2.0-only */
/* Many logs in one order: events sorted by stamp, host and node, each after what caused it, with
 * stamps repaired where messages had lost theirs. Larger than memory.
 */
#ifndef TIDEMARK_ORDER_H
#define TIDEMARK_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "causal.h"
#include "logs.h"
#include "pairs.h"
#include "text.h"

/* A cause of an event, as it stands in the order. */
struct order_cause {
	bool known;
	uint32_t node;
	uint64_t ord;
	uint64_t hlc, hlc_raw;
	uint64_t wall_ns;
	uint32_t bytes;
};

/* An event in its place. */
struct order_event {
	uint64_t ord; /* its number, as read: 0 up to order_count() - 1 */
	uint32_t node;
	uint32_t file, line; /* where it was read */
	enum causal_type type;
	enum pairs_label label; /* of effects */
	bool effect;		/* it is what a message did: recv, accept, or a close that came */
	bool has_cause;		/* stamps below are known, from the wire or from the other log */
	bool repaired;
	bool carried;				   /* the log has a cause */
	bool has_last;				   /* and an hlc_last */
	uint64_t hlc, hlc_last, cause, cause_last; /* as repaired */
	uint64_t hlc_raw, hlc_last_raw, cause_raw, cause_last_raw;
	uint64_t wall_ns;
	uint32_t bytes;
	struct order_cause first, last; /* of its first message and of its last */
	uint64_t text_at;
	uint32_t text_len;
};

struct order;

/* What was found on the way; complete when the last event has been given. */
struct order_counts {
	uint64_t events, repaired, labels[PAIRS_LABELS_NR];
	uint64_t circles; /* edges let go because they would be their own cause */
	uint64_t lost;	  /* by gaps */
	uint64_t topped;  /* events that should be above a stamp that has none above it */
};

/* Reads all logs. What is wrong has been said: NULL then, with *status for exit. memory: bytes, 0 for
 * as usual.
 */
struct order *order_open(struct logs *logs, uint64_t memory, int *status);

/* The next event: 1, 0 at the end, or -errno. After order_rewind() the first again. */
int order_next(struct order *order, struct order_event *event);
int order_rewind(struct order *order);

uint64_t order_count(const struct order *order);
const struct order_counts *order_counts(const struct order *order);

uint32_t order_nodes(const struct order *order);
const char *order_host(const struct order *order, uint32_t node); /* "" if the log has none */
const char *order_node(const struct order *order, uint32_t node);

/* The event's line as it was read, valid until the next call; NULL with errno. */
const char *order_line(struct order *order, const struct order_event *event);

/* Its line as it stands in the merged log, without a newline, added to text. 0 or -errno. */
int order_line_merged(struct order *order, const struct order_event *event, struct text *text);

void order_free(struct order *order);

#endif
