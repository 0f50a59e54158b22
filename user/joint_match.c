// SPDX-License-Identifier: GPL-2.0-only
/* Expressions over a joint index: which segments could match.
 *
 * A set is of segments, so what it says of a key is that some track of the segment has it, and of
 * two keys not that one track has both. Therefore the answer is "perhaps" or "no", and what is
 * negated is "perhaps" unless it is of the whole segment: its times, its class.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "joint.h"

static void set_fill(const struct joint *j, __u64 *set)
{
	memset(set, 0xff, j->words * sizeof(*set));
}

static void set_and(const struct joint *j, __u64 *to, const __u64 *with)
{
	for (__u32 i = 0; i < j->words; i++)
		to[i] &= with[i];
}

static void set_or(const struct joint *j, __u64 *to, const __u64 *with)
{
	for (__u32 i = 0; i < j->words; i++)
		to[i] |= with[i];
}

/* ---- keys ------------------------------------------------------------------------------------- */

static bool key_fits(const struct joint_walk *w, const unsigned char *low,
		     const unsigned char *mask)
{
	for (unsigned i = 0; mask && i < w->bytes; i++)
		if ((w->key[i] ^ low[i]) & mask[i])
			return false;
	return true;
}

/* Keys from low to high, of which those in the mask say what low says there; adds to the set. */
static int range_set(struct joint *j, unsigned kind, const unsigned char *low,
		     const unsigned char *high, const unsigned char *mask, __u64 *set)
{
	struct joint_walk w;
	int err = joint_walk(&w, j, kind, low), got;

	while (!err && (got = joint_walk_next(&w))) {
		bool wanted;

		if (got < 0)
			return got;
		if (memcmp(w.key, high, w.bytes) > 0)
			break;
		wanted = memcmp(w.key, low, w.bytes) >= 0 && key_fits(&w, low, mask);
		err = joint_walk_set(&w, NULL, wanted ? set : NULL);
	}
	return err;
}

static int numbers_set(struct joint *j, unsigned kind, __u32 low, __u32 high, __u64 *set)
{
	unsigned bytes = joint_key_bytes(kind);
	unsigned char from[4], to[4];

	if (bytes < 4 && low >> 8 * bytes)
		return 0;
	if (bytes < 4 && high >> 8 * bytes)
		high = (1U << 8 * bytes) - 1;
	index_number(from, low, bytes);
	index_number(to, high, bytes);
	return range_set(j, kind, from, to, NULL, set);
}

/* Where only some bits count, as of marks, keys that fit are anywhere: all are looked at. */
static int masked_set(struct joint *j, unsigned kind, const struct filter_op *op, __u64 *set)
{
	struct joint_walk w;
	int err = joint_walk(&w, j, kind, NULL), got;

	while (!err && (got = joint_walk_next(&w))) {
		__u32 value = 0;

		if (got < 0)
			return got;
		for (unsigned i = 0; i < w.bytes; i++)
			value = value << 8 | w.key[i];
		err = joint_walk_set(&w, NULL, filter_within(op, value) ? set : NULL);
	}
	return err;
}

/* ---- tests ------------------------------------------------------------------------------------ */

/* One layer: segments in which the address, the port and the protocol are, of one end or not. */
static int layer_set(struct joint *j, const struct filter_op *op, bool inner, __u64 *set,
		     __u64 *scratch)
{
	unsigned char low[16], high[16], mask[16];
	enum index_key key;
	int err = 0;

	set_fill(j, set);
	if (op->flags & FILTER_ADDRESS) {
		memset(set, 0, j->words * sizeof(*set));
		key = index_address(op, inner, low, high, mask);
		err = range_set(j, key, low, high, mask, set);
	}
	if (!err && op->flags & FILTER_PORT) {
		memset(scratch, 0, j->words * sizeof(*scratch));
		err = numbers_set(j, inner ? KEY_inner_port : KEY_port, op->low, op->high, scratch);
		set_and(j, set, scratch);
	}
	if (!err && op->proto) {
		memset(scratch, 0, j->words * sizeof(*scratch));
		err = numbers_set(j, inner ? KEY_inner_proto : KEY_proto, op->proto, op->proto,
				  scratch);
		set_and(j, set, scratch);
	}
	return err;
}

static int endpoint_set(struct joint *j, const struct filter_op *op, __u64 *set)
{
	__u64 *layer = calloc(j->words * 2ULL + 2, sizeof(*layer));
	int err = layer ? 0 : -ENOMEM;

	for (int inner = 0; inner < 2 && !err; inner++) {
		if (!(op->sides & (inner ? FILTER_INNER : FILTER_OUTER)))
			continue;
		err = layer_set(j, op, inner, layer, layer + j->words);
		set_or(j, set, layer);
	}
	free(layer);
	return err;
}

/* What has the value 0 has no key. */
static int value_set(struct joint *j, const struct filter_op *op, __u64 *set)
{
	int err = 0;

	if (op->field == FILTER_PROTO) {
		if (op->sides & FILTER_OUTER)
			err = numbers_set(j, KEY_proto, op->low, op->high, set);
		if (!err && op->sides & FILTER_INNER)
			err = numbers_set(j, KEY_inner_proto, op->low, op->high, set);
	} else if (op->field == FILTER_CLASS || filter_within(op, 0)) {
		set_fill(j, set);
	} else if (op->mask == ~0U) {
		err = numbers_set(j, index_field(op->field), op->low, op->high, set);
	} else {
		err = masked_set(j, index_field(op->field), op, set);
	}
	return err;
}

static int test_set(struct joint *j, const struct filter_op *op, __u64 *set)
{
	const unsigned char *comm = (const unsigned char *)op->bytes;

	if (op->code == FILTER_ENDPOINT)
		return endpoint_set(j, op, set);
	if (op->code == FILTER_VALUE)
		return value_set(j, op, set);
	if (*comm)
		return range_set(j, KEY_comm, comm, comm, NULL, set);
	set_fill(j, set);
	return 0;
}

static int name_set(struct joint *j, const struct expr *expr, __u64 *set)
{
	unsigned char name[CATALOG_NAME_MAX] = "";
	unsigned kind = expr->kind == EXPR_NODE_NAME ? JOINT_node_name : JOINT_device_name;

	memcpy(name, expr->name, strnlen(expr->name, sizeof(name) - 1));
	return range_set(j, kind, name, name, NULL, set);
}

/* ---- what is of a whole segment --------------------------------------------------------------- */

/* Is anything from `first` to `last` within the leaf's span, or outside of it? */
static bool span_could(const struct expr *expr, __u64 first, __u64 last, bool negated)
{
	return negated ? first < expr->from_ns || last > expr->to_ns
		       : first <= expr->to_ns && last >= expr->from_ns;
}

static bool member_could(const struct expr *expr, const struct joint_question *q,
			 const struct joint_member *m, bool negated)
{
	switch (expr->kind) {
	case EXPR_CLASS_NAME:
		return !strcmp(expr->name, m->class_name) != negated;
	case EXPR_TIME:
		return span_could(expr, m->first_ns, m->last_ns, negated);
	case EXPR_STAMP:
		return span_could(expr, m->first_stamp, m->last_stamp, negated);
	case EXPR_PAST:
	case EXPR_FUTURE:
		return negated || (m->first_stamp <= q->stamp_to && m->last_stamp >= q->stamp_from);
	default:
		return true;
	}
}

static int leaf_match(struct joint *j, const struct joint_question *q, const struct expr *expr,
		      bool negated, __u64 *set)
{
	bool of_keys = expr->kind == EXPR_TEST || expr->kind == EXPR_NODE_NAME ||
		       expr->kind == EXPR_DEVICE_NAME;

	memset(set, 0, j->words * sizeof(*set));
	if (of_keys && !negated)
		return expr->kind == EXPR_TEST ? test_set(j, &expr->op, set)
					       : name_set(j, expr, set);
	for (__u32 i = 0; i < j->members; i++) {
		struct joint_member m = joint_member(j, i);

		if (of_keys || member_could(expr, q, &m, negated))
			joint_set(set, i);
	}
	return 0;
}

static int match(struct joint *j, const struct joint_question *q, const struct expr *expr,
		 bool negated, __u64 *set)
{
	__u64 *right;
	int err;

	if (expr->kind == EXPR_NOT)
		return match(j, q, expr->left, !negated, set);
	if (expr->kind != EXPR_AND && expr->kind != EXPR_OR)
		return leaf_match(j, q, expr, negated, set);
	err = match(j, q, expr->left, negated, set);
	if (err)
		return err;
	right = malloc((j->words + 1ULL) * sizeof(*right));
	if (!right)
		return -ENOMEM;
	err = match(j, q, expr->right, negated, right);
	if (!err && (expr->kind == EXPR_AND) != negated) /* de Morgan */
		set_and(j, set, right);
	else if (!err)
		set_or(j, set, right);
	free(right);
	return err;
}

int joint_match(struct joint *j, const struct joint_question *q, __u64 *set)
{
	int err = 0;

	set_fill(j, set);
	if (q->expr)
		err = match(j, q, q->expr, false, set);
	for (__u32 i = 0; i < j->members && !err; i++) {
		struct joint_member m = joint_member(j, i);

		if (!m.packets || m.first_ns > q->to_ns || m.last_ns < q->from_ns)
			set[i / 64] &= ~(1ULL << i % 64);
	}
	return err;
}
