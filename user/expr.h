/* SPDX-License-Identifier: GPL-2.0-only */
/* Expressions: what is asked of packets, in the words of tcpdump. */
#ifndef TIDEMARK_EXPR_H
#define TIDEMARK_EXPR_H

#include <stdbool.h>
#include <stddef.h>

#include "../bpf/filter.h"

#define EXPR_NAME_MAX 64
#define EXPR_ORIGINS_MAX 64

/* What a leaf asks. Only EXPR_TEST is something a track knows. */
enum expr_kind {
	EXPR_AND,
	EXPR_OR,
	EXPR_NOT,
	EXPR_TEST,	/* a filter_op */
	EXPR_NODE_NAME, /* node by name, which the files resolve */
	EXPR_DEVICE_NAME,
	EXPR_CLASS_NAME,
	EXPR_TIME,   /* from_ns <= time <= to_ns */
	EXPR_STAMP,  /* from_ns <= stamp <= to_ns */
	EXPR_LENGTH, /* from_ns <= length on the wire <= to_ns */
	EXPR_PAST,   /* of `from_ns`, a stamp, and the node `name`; number `origin` of these */
	EXPR_FUTURE, /* the same; both are decided packet by packet */
};

/* EXPR_TEST with an endpoint: which end, in terms of the packet's direction. */
enum expr_end {
	EXPR_EITHER,
	EXPR_SOURCE,
	EXPR_DESTINATION,
};

struct expr {
	enum expr_kind kind;
	int column; /* of its first word, from 1 */
	struct expr *left, *right;
	struct filter_op op;
	enum expr_end end;
	unsigned origin;
	__u64 from_ns, to_ns;
	char name[EXPR_NAME_MAX];
};

struct expr_error {
	int column; /* from 1 */
	char why[160];
};

/* `now_ns` is what `5m ago` is before. An empty text is everything: *expr is NULL. -EINVAL. */
int expr_parse(const char *text, __u64 now_ns, struct expr **expr, struct expr_error *error);
void expr_free(struct expr *expr);

/* The text, and under it where it went wrong, on stderr. */
void expr_say(const char *text, const struct expr_error *error);

/* RFC 3339, a date, seconds since 1970, `5m ago` or just `5m`. -EINVAL. */
int expr_time(const char *text, __u64 now_ns, __u64 *ns);

/*
 * For a class: only what a track knows, no direction. Names of nodes are resolved by
 * `node_id` (0: no such node). -EINVAL, -E2BIG when it needs more than FILTER_OPS_MAX.
 */
int expr_compile(const struct expr *expr, __u32 (*node_id)(const char *name, void *ctx), void *ctx,
		 struct filter_op ops[FILTER_OPS_MAX], __u32 *n, struct expr_error *error);

/* What is asked of one packet. */
struct expr_packet {
	const struct track *track;
	const char *node, *device, *class_name; /* names; NULL: unknown */
	bool forward;				/* from flow.local to flow.remote */
	__u64 wall_ns, stamp;
	__u32 wire;
	__u64 origins; /* bits: which `past of` and `future of` hold, by expr.origin */
};

bool expr_match(const struct expr *expr, const struct expr_packet *packet);

/* Does it ask anything that packets of one track and direction may differ in? */
bool expr_is_of_packets(const struct expr *expr);

/* Could any packet of this track and direction match? Exact if !expr_is_of_packets(). */
bool expr_may_match(const struct expr *expr, const struct expr_packet *packet);

/* No packet outside of these matches. */
void expr_bounds(const struct expr *expr, __u64 *from_ns, __u64 *to_ns);

/* Its `past of` and `future of`, which are numbered: puts them at their numbers; how many. */
unsigned expr_origins(const struct expr *expr, const struct expr *origins[EXPR_ORIGINS_MAX]);

#endif
