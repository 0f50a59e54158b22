// SPDX-License-Identifier: GPL-2.0-only
/* Expressions evaluated: against a packet, against a track, against time; and compiled. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expr.h"

/* Kleene's three: what a track alone may leave open. */
enum truth { NO, MAYBE, YES };

void expr_free(struct expr *expr)
{
	if (!expr)
		return;
	expr_free(expr->left);
	expr_free(expr->right);
	free(expr);
}

void expr_say(const char *text, const struct expr_error *error)
{
	fprintf(stderr, "  %s\n  %*s^\n", text, error->column - 1, "");
}

static bool kind_is_of_packets(enum expr_kind kind)
{
	return kind >= EXPR_TIME;
}

bool expr_is_of_packets(const struct expr *expr)
{
	return expr && (kind_is_of_packets(expr->kind) || expr_is_of_packets(expr->left) ||
			expr_is_of_packets(expr->right));
}

/* Which ends "source" and "destination" are, in this direction. */
static __u8 sides_of(const struct expr *expr, bool forward)
{
	const __u8 local = FILTER_LOCAL | FILTER_INNER_LOCAL;

	if (expr->end == EXPR_EITHER)
		return expr->op.sides;
	return expr->op.sides & ((expr->end == EXPR_SOURCE) == forward ? local : ~local);
}

static enum truth name_matches(const struct expr *expr, const char *name)
{
	return name && !strcmp(name, expr->name) ? YES : NO;
}

static bool within(const struct expr *expr, __u64 value)
{
	return value >= expr->from_ns && value <= expr->to_ns;
}

static enum truth leaf_match(const struct expr *expr, const struct expr_packet *packet, bool known)
{
	struct filter_op op;

	if (!known && kind_is_of_packets(expr->kind))
		return MAYBE;
	switch (expr->kind) {
	case EXPR_TEST:
		op = expr->op;
		op.sides = sides_of(expr, packet->forward);
		return filter_test(&op, packet->track) ? YES : NO;
	case EXPR_NODE_NAME:
		return name_matches(expr, packet->node);
	case EXPR_DEVICE_NAME:
		return name_matches(expr, packet->device);
	case EXPR_CLASS_NAME:
		return name_matches(expr, packet->class_name);
	case EXPR_TIME:
		return within(expr, packet->wall_ns) ? YES : NO;
	case EXPR_STAMP:
		return within(expr, packet->stamp) ? YES : NO;
	case EXPR_LENGTH:
		return within(expr, packet->wire) ? YES : NO;
	case EXPR_PAST:
	case EXPR_FUTURE:
		return packet->origins >> expr->origin & 1 ? YES : NO;
	default:
		return NO;
	}
}

static enum truth truth_of(const struct expr *expr, const struct expr_packet *packet, bool known)
{
	enum truth left, right;

	if (!expr)
		return YES;
	switch (expr->kind) {
	case EXPR_AND:
		left = truth_of(expr->left, packet, known);
		if (left == NO)
			return NO;
		right = truth_of(expr->right, packet, known);
		return left < right ? left : right;
	case EXPR_OR:
		left = truth_of(expr->left, packet, known);
		if (left == YES)
			return YES;
		right = truth_of(expr->right, packet, known);
		return left > right ? left : right;
	case EXPR_NOT:
		return YES - truth_of(expr->left, packet, known);
	default:
		return leaf_match(expr, packet, known);
	}
}

bool expr_match(const struct expr *expr, const struct expr_packet *packet)
{
	return truth_of(expr, packet, true) == YES;
}

bool expr_may_match(const struct expr *expr, const struct expr_packet *packet)
{
	return truth_of(expr, packet, false) != NO;
}

/* ---- time ---------------------------------------------------------------------------- */

static void everything(__u64 *from, __u64 *to)
{
	*from = 0;
	*to = ~0ULL;
}

/* A span whose one end is open has a complement that is one span; others have none we use. */
static void leaf_bounds(const struct expr *expr, bool not, __u64 *from, __u64 *to)
{
	everything(from, to);
	if (expr->kind != EXPR_TIME)
		return;
	if (!not ) {
		*from = expr->from_ns;
		*to = expr->to_ns;
	} else if (!expr->from_ns && expr->to_ns != ~0ULL) {
		*from = expr->to_ns + 1;
	} else if (expr->from_ns && expr->to_ns == ~0ULL) {
		*to = expr->from_ns - 1;
	}
}

static void bounds_of(const struct expr *expr, bool not, __u64 *from, __u64 *to)
{
	__u64 left[2], right[2];
	bool both;

	if (!expr) {
		everything(from, to);
		return;
	}
	if (expr->kind == EXPR_NOT) {
		bounds_of(expr->left, !not, from, to);
		return;
	}
	if (expr->kind != EXPR_AND && expr->kind != EXPR_OR) {
		leaf_bounds(expr, not, from, to);
		return;
	}
	bounds_of(expr->left, not, &left[0], &left[1]);
	bounds_of(expr->right, not, &right[0], &right[1]);
	both = (expr->kind == EXPR_AND) != not ; /* de Morgan */
	if (both) {
		*from = left[0] > right[0] ? left[0] : right[0];
		*to = left[1] < right[1] ? left[1] : right[1];
	} else {
		*from = left[0] < right[0] ? left[0] : right[0];
		*to = left[1] > right[1] ? left[1] : right[1];
	}
}

void expr_bounds(const struct expr *expr, __u64 *from_ns, __u64 *to_ns)
{
	bounds_of(expr, false, from_ns, to_ns);
}

unsigned expr_origins(const struct expr *expr, const struct expr *origins[EXPR_ORIGINS_MAX])
{
	if (!expr)
		return 0;
	if (expr->kind == EXPR_PAST || expr->kind == EXPR_FUTURE) {
		origins[expr->origin] = expr;
		return 1;
	}
	return expr_origins(expr->left, origins) + expr_origins(expr->right, origins);
}

/* ---- compiled ------------------------------------------------------------------------ */

struct compiler {
	struct filter_op *ops;
	__u32 n;
	__u32 (*node_id)(const char *name, void *ctx);
	void *ctx;
	struct expr_error *error;
};

static int refuse(struct compiler *c, const struct expr *expr, int err, const char *why)
{
	c->error->column = expr->column;
	snprintf(c->error->why, sizeof(c->error->why), "%s", why);
	return err;
}

static int compile_leaf(struct compiler *c, const struct expr *expr, struct filter_op *op)
{
	switch (expr->kind) {
	case EXPR_TEST:
		if (expr->end != EXPR_EITHER)
			return refuse(c, expr, -EINVAL,
				      "a class is of whole flows, which have no source: leave out "
				      "src and dst");
		*op = expr->op;
		return 0;
	case EXPR_NODE_NAME:
		op->code = FILTER_VALUE;
		op->field = FILTER_NODE;
		op->mask = ~0U;
		op->low = op->high = c->node_id ? c->node_id(expr->name, c->ctx) : 0;
		if (!op->low)
			return refuse(c, expr, -EINVAL, "no such node");
		return 0;
	default:
		return refuse(c, expr, -EINVAL, "a class is of whole flows, and cannot ask this");
	}
}

static int compile(struct compiler *c, const struct expr *expr)
{
	struct filter_op op = {};
	int err = 0;

	switch (expr->kind) {
	case EXPR_AND:
	case EXPR_OR:
		op.code = expr->kind == EXPR_AND ? FILTER_AND : FILTER_OR;
		err = compile(c, expr->left);
		if (!err)
			err = compile(c, expr->right);
		break;
	case EXPR_NOT:
		op.code = FILTER_NOT;
		err = compile(c, expr->left);
		break;
	default:
		err = compile_leaf(c, expr, &op);
	}
	if (err)
		return err;
	if (c->n == FILTER_OPS_MAX)
		return refuse(c, expr, -E2BIG, "too long for a class; divide it into two");
	c->ops[c->n++] = op;
	return 0;
}

int expr_compile(const struct expr *expr, __u32 (*node_id)(const char *name, void *ctx), void *ctx,
		 struct filter_op ops[FILTER_OPS_MAX], __u32 *n, struct expr_error *error)
{
	struct compiler c = { .ops = ops, .node_id = node_id, .ctx = ctx, .error = error };
	int err = expr ? compile(&c, expr) : 0;

	*n = err ? 0 : c.n;
	return err;
}
