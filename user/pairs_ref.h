/* SPDX-License-Identifier: GPL-2.0-only */
/* What an event can be found by, or looks for: what pairs.c sorts, and nat.c renames. */
#ifndef TIDEMARK_PAIRS_REF_H
#define TIDEMARK_PAIRS_REF_H

#include "pairs.h"

/* By what. JOIN_CLOSE last: it asks what the others learned of the connection's ends. */
enum {
	JOIN_STAMP,
	JOIN_OPEN,     /* the handshake's sequence number */
	JOIN_SEQUENCE, /* TCP payload */
	JOIN_HASH,     /* UDP payload */
	JOIN_CLOSE,
};

/* In this order at equal keys: a cause must be there before it is looked for. */
enum {
	ROLE_AGAIN, /* a retransmission: it went on the wire with a stamp of its own */
	ROLE_OWN,
	ROLE_FIRST, /* an effect, by its first message */
	ROLE_LAST,  /* and by its last */
};

struct ref {
	uint64_t flow;
	uint64_t key;
	uint64_t end; /* own: last stamp, or the byte after the last; carried: the stamp */
	struct pairs_place place;
	uint64_t stamp_end; /* the event's hlc_last */
	uint64_t wall_ns;
	uint32_t bytes;
	uint32_t src, dst; /* ends of the connection, hashed */
	uint8_t join, role;
	bool closes;  /* either end may write that it did: this says nothing of who sends */
	bool carried; /* JOIN_HASH: an effect that has its cause, and takes that send from others */
};

/* By flow, join, key, role, place. */
int ref_compare(const void *left, const void *right);

#endif
