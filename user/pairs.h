/* SPDX-License-Identifier: GPL-2.0-only */
/* Which message is which: the sending and the receiving of each, found in the logs of both ends, by
 * the stamp it carried or, where that was stripped, by what survives on the wire. In bounded
 * memory, but for connections that NAT rewrote (about 100 bytes each).
 */
#ifndef TIDEMARK_PAIRS_H
#define TIDEMARK_PAIRS_H

#include <stdbool.h>
#include <stdint.h>

#include "causal.h"

/* How it is known what an effect's cause is. */
enum pairs_label {
	PAIRS_UNKNOWN, /* it is not */
	PAIRS_IN_BAND, /* its stamp came with the message, on the wire or within the host */
	PAIRS_MATCHED, /* the logs of both ends: connection and TCP sequence, or payload hash */
	PAIRS_LABELS_NR,
};

extern const char *const pairs_labels[PAIRS_LABELS_NR]; /* "unknown", "in-band", "matched" */

/* A connection's one direction, as an end names it. */
struct pairs_flow {
	uint64_t flow;
	uint32_t src, dst;
	bool tcp;
};

/* An event's place: in its node's order, and among all events as they were added. */
struct pairs_place {
	uint64_t hlc, ord;
	uint32_t node;
};

/* An effect and a cause of it: of its first message, or, with `last`, of its last. */
struct pairs_edge {
	struct pairs_place effect, cause;
	uint64_t cause_end; /* the cause's hlc_last */
	uint64_t cause_wall_ns;
	uint32_t cause_bytes;
	uint8_t label; /* enum pairs_label */
	uint8_t last;
	uint8_t _pad[2];
};

struct pairs;

/* budget: bytes of memory it may take. NULL without memory. */
struct pairs *pairs_new(uint64_t budget);

struct pairs_flow pairs_flow(const struct pairs *pairs, const char *proto, const char *src,
			     const char *dst);

/* Every event that has a flow, in any order. Return 0 or -errno. */
int pairs_add(struct pairs *pairs, const struct causal_event *event, uint64_t ord,
	      const struct pairs_flow *flow);

/* Then, once: find the edges. */
int pairs_finish(struct pairs *pairs);

/* Struct pairs_edge, by effect (node, hlc, ord), first before last. At most one of each an effect.
 */
struct sorter *pairs_edges(struct pairs *pairs);

/* Before or after in (node, hlc, ord). */
int pairs_place_compare(const struct pairs_place *a, const struct pairs_place *b);

void pairs_free(struct pairs *pairs);

#endif
