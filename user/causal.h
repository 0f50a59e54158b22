/* SPDX-License-Identifier: GPL-2.0-only */
/* Which event caused which: the events of many logs, paired by carried stamp, and what is wrong
 * with their order.
 */
#ifndef TIDEMARK_CAUSAL_H
#define TIDEMARK_CAUSAL_H

#include <stdbool.h>
#include <stdint.h>

#include "names.h"

#define CAUSAL_NONE UINT32_MAX
#define CAUSAL_FIRST 10 /* inversions kept for people to look at */

/* The types of the event log. message: it is one, so its stamp was issued for it alone; the others
 * say where in the order something was noticed, and may repeat a message's stamp.
 */
#define CAUSAL_TYPES(X)                    \
	X(NODE_UP, "node-up", false)       \
	X(NODE_DOWN, "node-down", false)   \
	X(CONNECT, "connect", true)        \
	X(ACCEPT, "accept", true)          \
	X(SEND, "send", true)              \
	X(RECV, "recv", true)              \
	X(CLOSE, "close", true)            \
	X(RETRANSMIT, "retransmit", false) \
	X(DROP, "drop", false)             \
	X(GAP, "gap", false)

enum causal_type {
#define X(name, text, message) CAUSAL_##name,
	CAUSAL_TYPES(X)
#undef X
		CAUSAL_OTHER, /* from a newer Tidemark */
};

#define CAUSAL_HAS_CAUSE (1U << 0) /* an effect: it carries its cause's stamp */
#define CAUSAL_NAMED (1U << 1)	   /* some effect names it (set by causal_finish()) */
#define CAUSAL_HAS_SEQ (1U << 2)
#define CAUSAL_BURST_FLOW (1U << 3) /* this node's bursts are per flow */
#define CAUSAL_HAS_HASH (1U << 4)   /* seq is a hash of the payload instead */
#define CAUSAL_MATCHED (1U << 5)    /* the log says so: an earlier merge found the cause */
#define CAUSAL_HAS_LAST (1U << 6)   /* the log has an hlc_last, not only hlc */
#define CAUSAL_REJECTED (1U << 7)   /* instead of HAS_CAUSE: cause came, and was not merged */

/* One line of a log. Ten million of them fit in 720 MB, which is why this is not larger. */
struct causal_event {
	uint64_t hlc;
	uint64_t hlc_last;   /* the line is a burst, from hlc to here */
	uint64_t cause;	     /* carried stamp of its first message */
	uint64_t cause_last; /* and of its last */
	uint64_t wall_ns;
	uint32_t node; /* number in causal.nodes */
	uint32_t flow; /* number in causal.flows, or CAUSAL_NONE */
	uint32_t line;
	uint32_t seq;
	uint32_t pair; /* index of the event that caused this, or CAUSAL_NONE */
	uint32_t bytes;
	uint16_t file; /* the caller's */
	uint8_t type;
	uint8_t flags;
};
_Static_assert(sizeof(struct causal_event) == 72, "as small as can be");

enum causal_wrong {
	CAUSAL_EFFECT_FIRST, /* b is stamped at or before its cause a */
	CAUSAL_STAMP_TWICE,  /* a and b, of one node, share a stamp */
	CAUSAL_ENDS_FIRST,   /* b's last stamp is before its first; a is b */
};

struct causal_inversion {
	enum causal_wrong wrong;
	uint32_t a, b; /* indexes of events */
};

/* What causal_finish() found. */
struct causal_counts {
	uint64_t events;
	uint64_t pairs; /* effects whose cause is in the logs */
	uint64_t inversions;
	uint64_t wall_inversions; /* pairs that wall clocks alone would order wrongly */
	uint64_t unmatched_send;  /* sends and connects that no effect names */
	uint64_t unmatched_recv;  /* recvs and accepts without a pair */
	uint64_t gaps;		  /* events known to be lost */
};

/* And how it is known. */
struct causal_labels {
	uint64_t in_band; /* effects whose message carried its stamp */
	uint64_t matched; /* effects without, found by what else survives on the wire */
	uint64_t unknown; /* recvs and accepts without either */
	uint64_t ahead_p99_ns, ahead_max_ns; /* of messages: stamp minus own wall clock */
};

/* Starts as {}. Add every event, finish once, then read. */
struct causal {
	struct names nodes; /* "host\0node" */
	struct names flows; /* "proto\0src\0dst" */
	struct causal_event *events;
	uint32_t n, size;
	struct causal_counts counts;
	struct causal_labels labels;
	struct causal_inversion first[CAUSAL_FIRST];
	uint32_t first_n;
};

/* Numbers for struct causal_event; or -ENOMEM, -E2BIG. host may be "". */
int64_t causal_node(struct causal *causal, const char *host, const char *node);
int64_t causal_flow(struct causal *causal, const char *proto, const char *src, const char *dst);

/* Events of any nodes in any order. lost: what a gap counts. Returns 0, -ENOMEM or -E2BIG. */
int causal_add(struct causal *causal, const struct causal_event *event, uint64_t lost);

/* Pair, and look for inversions. Returns 0 or -ENOMEM. */
int causal_finish(struct causal *causal);

/* A type by its name in the log; CAUSAL_OTHER if it has none here. */
enum causal_type causal_type_parse(const char *name);
const char *causal_type_name(enum causal_type type);
bool causal_type_message(unsigned type);

void causal_free(struct causal *causal);

#endif
