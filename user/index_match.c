// SPDX-License-Identifier: GPL-2.0-only
/* Expressions over an index: each test gives a set of bits, connectives join the sets. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "bytes.h"
#include "index.h"

/*
 * A set has two bits for each track. As ends: the local, the remote one. As halves: the
 * packets from remote to local, those from local to remote. So the destination of a half
 * has the same bit as the half, and the source the other of the two.
 */
#define LOCALS 0x5555555555555555ULL

__u32 index_words(const struct index *x)
{
	return (__u32)((x->tracks * 2ULL + 63) / 64);
}

static void bit_set(__u64 *set, __u32 bit)
{
	set[bit / 64] |= 1ULL << bit % 64;
}

/* ---- keys ------------------------------------------------------------------------------------- */

struct keys {
	struct index *x;
	__u64 offset;
	__u32 n, bytes;
};

static struct keys keys_of(struct index *x, enum index_key key)
{
	const struct index_section *s = &x->parts[PART_KEYS + key];

	return (struct keys){ x, s->offset, s->count, index_key_bytes[key] };
}

static const unsigned char *key_at(const struct keys *k, __u32 n)
{
	return checked_at(&k->x->file, k->offset + (__u64)n * k->bytes, k->bytes);
}

const unsigned char *index_key(struct index *x, enum index_key key, __u32 n)
{
	struct keys k = keys_of(x, key);

	return key_at(&k, n);
}

/* The first key that is not before `low`. -EBADMSG. */
static __s64 key_find(const struct keys *k, const unsigned char *low)
{
	__u32 from = 0, to = k->n;

	while (from < to) {
		__u32 middle = from + (to - from) / 2;
		const unsigned char *at = key_at(k, middle);

		if (!at)
			return -EBADMSG;
		if (memcmp(at, low, k->bytes) < 0)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static int steps_set(struct bytes *b, __u64 count, __u32 bits, __u64 *set)
{
	__u32 bit = 0;

	while (count--) {
		__u64 step = bytes_varint(b);

		if (step >= bits - bit)
			return -EBADMSG;
		bit += (__u32)step;
		bit_set(set, bit);
	}
	return b->bad ? -EBADMSG : 0;
}

static int packed_set(struct bytes *b, __u64 count, __u32 bits, __u64 *set)
{
	size_t size = (size_t)(b->end - b->at), got;
	unsigned long long wanted = ZSTD_getFrameContentSize(b->at, size);
	struct bytes steps = {};
	unsigned char *plain;
	int err;

	if (wanted > count * VARINT_MAX) /* errors are the largest numbers */
		return -EBADMSG;
	plain = malloc(wanted + 1);
	if (!plain)
		return -ENOMEM;
	got = ZSTD_decompress(plain, wanted, b->at, size);
	err = ZSTD_isError(got) || got != wanted ? -EBADMSG : 0;
	steps = (struct bytes){ plain, plain + wanted, false };
	if (!err)
		err = steps_set(&steps, count, bits, set);
	free(plain);
	return err;
}

/* A list: how many, in how many bytes, then each by how much it is more than the last. */
static int list_set(const struct keys *k, __u32 place, __u64 *set)
{
	const struct index_section *lists = &k->x->parts[PART_POSTINGS];
	__u32 bits = k->x->tracks * 2;
	struct bytes b = {};
	__u64 count, bytes, head;
	bool packed;

	if (place >= lists->bytes)
		return -EBADMSG;
	head = lists->bytes - place < 2 * VARINT_MAX ? lists->bytes - place : 2 * VARINT_MAX;
	b.at = checked_at(&k->x->file, lists->offset + place, head);
	if (!b.at)
		return -EBADMSG;
	b.end = b.at + head;
	count = bytes_varint(&b);
	bytes = bytes_varint(&b);
	packed = bytes & 1;
	bytes >>= 1;
	place += (__u32)(head - (__u64)(b.end - b.at));
	if (b.bad || count > bits || bytes > lists->bytes - place)
		return -EBADMSG;
	b.at = checked_at(&k->x->file, lists->offset + place, bytes);
	if (!b.at)
		return -EBADMSG;
	b.end = b.at + bytes;
	return packed ? packed_set(&b, count, bits, set) : steps_set(&b, count, bits, set);
}

static int postings_set(const struct keys *k, __u32 n, __u64 *set)
{
	const unsigned char *at =
		checked_at(&k->x->file, k->offset + (__u64)k->n * k->bytes + n * 4ULL, 4);
	__u32 place;

	if (!at)
		return -EBADMSG;
	place = get_u32(at);
	if (!(place & INDEX_SINGLE))
		return list_set(k, place, set);
	if ((place & ~INDEX_SINGLE) >= k->x->tracks * 2)
		return -EBADMSG;
	bit_set(set, place & ~INDEX_SINGLE);
	return 0;
}

/* Keys from low to high, of which those in the mask say what low says there; adds to the set. */
static int range_set(struct index *x, enum index_key key, const unsigned char *low,
		     const unsigned char *high, const unsigned char *mask, __u64 *set)
{
	struct keys k = keys_of(x, key);
	__s64 n = key_find(&k, low);
	int err = n < 0 ? (int)n : 0;

	for (; !err && n < k.n; n++) {
		const unsigned char *at = key_at(&k, (__u32)n);
		bool fits = true;

		if (!at)
			return -EBADMSG;
		if (memcmp(at, high, k.bytes) > 0)
			break;
		for (__u32 i = 0; mask && i < k.bytes; i++)
			fits &= !((at[i] ^ low[i]) & mask[i]);
		if (fits)
			err = postings_set(&k, (__u32)n, set);
	}
	return err;
}

void index_number(unsigned char to[4], __u32 value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (unsigned char)(value >> 8 * (bytes - 1 - i));
}

static int numbers_set(struct index *x, enum index_key key, __u32 low, __u32 high, __u64 *set)
{
	unsigned bytes = index_key_bytes[key];
	unsigned char from[4], to[4];

	if (bytes < 4 && low >> 8 * bytes)
		return 0;
	if (bytes < 4 && high >> 8 * bytes)
		high = (1U << 8 * bytes) - 1;
	index_number(from, low, bytes);
	index_number(to, high, bytes);
	return range_set(x, key, from, to, NULL, set);
}

/* ---- tests ------------------------------------------------------------------------------------ */

/* Both bits of each track of which one is set. */
static void both_ends(__u64 *set, __u32 words)
{
	for (__u32 i = 0; i < words; i++)
		set[i] = ((set[i] | set[i] >> 1) & LOCALS) * 3;
}

static void set_and(__u64 *to, const __u64 *with, __u32 words)
{
	for (__u32 i = 0; i < words; i++)
		to[i] &= with[i];
}

static void set_or(__u64 *to, const __u64 *with, __u32 words)
{
	for (__u32 i = 0; i < words; i++)
		to[i] |= with[i];
}

enum index_key index_address(const struct filter_op *op, bool inner, unsigned char low[16],
			     unsigned char high[16], unsigned char mask[16])
{
	bool v6 = op->flags & FILTER_V6;
	unsigned skip = v6 ? 0 : 12;
	const unsigned char *value = (const unsigned char *)op->bytes + skip,
			    *counts = (const unsigned char *)op->bytes_mask + skip;

	for (unsigned i = 0; i < 16 - skip; i++) {
		mask[i] = counts[i];
		low[i] = value[i] & mask[i];
		high[i] = low[i] | (unsigned char)~mask[i];
	}
	if (inner)
		return v6 ? KEY_inner6 : KEY_inner4;
	return v6 ? KEY_address6 : KEY_address4;
}

static int addresses_set(struct index *x, const struct filter_op *op, bool inner, __u64 *set)
{
	unsigned char low[16], high[16], mask[16];
	enum index_key key = index_address(op, inner, low, high, mask);

	return range_set(x, key, low, high, mask, set);
}

/* The ends of one layer at which everything that is asked of an end holds. */
static int layer_ends(struct index *x, const struct filter_op *op, bool inner, __u64 *ends,
		      __u64 *scratch)
{
	__u32 words = index_words(x);
	int err = 0;

	memset(ends, op->flags & FILTER_ADDRESS ? 0 : 0xff, words * sizeof(*ends));
	if (op->flags & FILTER_ADDRESS)
		err = addresses_set(x, op, inner, ends);
	if (!err && op->flags & FILTER_PORT) {
		memset(scratch, 0, words * sizeof(*scratch));
		err = numbers_set(x, inner ? KEY_inner_port : KEY_port, op->low, op->high, scratch);
		set_and(ends, scratch, words);
	}
	if (!err && op->proto) {
		memset(scratch, 0, words * sizeof(*scratch));
		err = numbers_set(x, inner ? KEY_inner_proto : KEY_proto, op->proto, op->proto,
				  scratch);
		both_ends(scratch, words);
		set_and(ends, scratch, words);
	}
	return err;
}

/* From ends to halves, in the words of the packet's direction. */
static void ends_to_halves(const struct expr *expr, bool inner, __u64 *set, __u32 words)
{
	unsigned sides = inner ? expr->op.sides >> 2 : expr->op.sides;
	__u64 wanted =
		(sides & FILTER_LOCAL ? LOCALS : 0) | (sides & FILTER_REMOTE ? LOCALS << 1 : 0);

	for (__u32 i = 0; i < words; i++) {
		set[i] &= wanted;
		if (expr->end == EXPR_SOURCE)
			set[i] = (set[i] & LOCALS) << 1 | (set[i] >> 1 & LOCALS);
	}
	if (expr->end == EXPR_EITHER)
		both_ends(set, words);
}

static int endpoint_set(struct index *x, const struct expr *expr, __u64 *set)
{
	__u32 words = index_words(x);
	__u64 *ends = calloc(words * 2ULL + 2, sizeof(*ends));
	int err = ends ? 0 : -ENOMEM;

	for (int inner = 0; inner < 2 && !err; inner++) {
		if (!(expr->op.sides & (inner ? FILTER_INNER : FILTER_OUTER)))
			continue;
		err = layer_ends(x, &expr->op, inner, ends, ends + words);
		ends_to_halves(expr, inner, ends, words);
		set_or(set, ends, words);
	}
	free(ends);
	return err;
}

/* Track by track: for the few questions that no list of keys answers. */
static int scan_set(struct index *x, const struct filter_op *op, __u64 *set)
{
	struct catalog_track t;
	int err = 0;

	for (__u32 n = 0; n < x->tracks && !err; n++) {
		err = index_track(x, n, &t, 0, NULL);
		if (!err && filter_test(op, &t.track))
			bit_set(set, n << 1);
	}
	index_forget(x); /* many segments may be open, of which most are not read */
	return err;
}

enum index_key index_field(enum filter_field field)
{
	static const enum index_key keys[FILTER_FIELDS_NR] = {
		[FILTER_ETHERTYPE] = KEY_ethertype,
		[FILTER_VLAN] = KEY_vlan,
		[FILTER_MPLS] = KEY_mpls,
		[FILTER_VNI] = KEY_vni,
		[FILTER_NODE] = KEY_node,
		[FILTER_DEVICE] = KEY_device,
		[FILTER_PID] = KEY_pid,
		[FILTER_MARK] = KEY_mark,
	};

	return keys[field];
}

static int value_set(struct index *x, const struct filter_op *op, __u64 *set)
{
	int err = 0;

	if (op->field == FILTER_PROTO) {
		if (op->sides & FILTER_OUTER)
			err = numbers_set(x, KEY_proto, op->low, op->high, set);
		if (!err && op->sides & FILTER_INNER)
			err = numbers_set(x, KEY_inner_proto, op->low, op->high, set);
	} else if (op->field != FILTER_CLASS && op->mask == ~0U && op->low) {
		err = numbers_set(x, index_field(op->field), op->low, op->high, set);
	} else {
		err = scan_set(x, op, set);
	}
	return err;
}

static int comm_set(struct index *x, const struct filter_op *op, __u64 *set)
{
	const unsigned char *comm = (const unsigned char *)op->bytes;

	return *comm ? range_set(x, KEY_comm, comm, comm, NULL, set) : scan_set(x, op, set);
}

/* Names stand for the numbers that they had in this segment. */
static int named_set(struct index *x, const struct expr *expr, __u64 *set)
{
	bool node = expr->kind == EXPR_NODE_NAME;
	__u32 words = index_words(x);
	__u64 *one = calloc(words * 2ULL + 2, sizeof(*one));
	int err = one ? 0 : -ENOMEM;

	for (__u32 i = 0; i < x->about.devices_n && !err; i++) {
		const struct catalog_device *d = &x->about.devices[i];

		if (strcmp(node ? d->node_name : d->name, expr->name))
			continue;
		memset(one, 0, words * 2 * sizeof(*one));
		err = numbers_set(x, KEY_node, d->node, d->node, one);
		if (!err && !node) {
			err = numbers_set(x, KEY_device, d->device, d->device, one + words);
			set_and(one, one + words, words);
		}
		set_or(set, one, words);
	}
	free(one);
	return err;
}

static void set_fill(__u64 *set, __u32 words)
{
	memset(set, 0xff, words * sizeof(*set));
}

/* `not` is brought down to the tests, so that what only packets can tell stays "perhaps". */
static int leaf_match(struct index *x, const struct expr *expr, bool negated, __u64 *set)
{
	__u32 words = index_words(x);
	int err = 0;

	if (expr->kind >= EXPR_TIME) {
		set_fill(set, words);
		return 0;
	}
	memset(set, 0, words * sizeof(*set));
	if (expr->kind == EXPR_CLASS_NAME) {
		if (!strcmp(expr->name, x->about.class_name))
			set_fill(set, words);
	} else if (expr->kind != EXPR_TEST) {
		err = named_set(x, expr, set);
	} else if (expr->op.code == FILTER_ENDPOINT) {
		err = endpoint_set(x, expr, set);
	} else if (expr->op.code == FILTER_VALUE) {
		err = value_set(x, &expr->op, set);
	} else {
		err = comm_set(x, &expr->op, set);
	}
	/* What is not about an end is about both directions. */
	if (expr->kind != EXPR_TEST || expr->op.code != FILTER_ENDPOINT)
		both_ends(set, words);
	for (__u32 i = 0; i < words && negated; i++)
		set[i] = ~set[i];
	return err;
}

static int match(struct index *x, const struct expr *expr, bool negated, __u64 *set)
{
	__u32 words = index_words(x);
	__u64 *right;
	int err;

	if (expr->kind == EXPR_NOT)
		return match(x, expr->left, !negated, set);
	if (expr->kind != EXPR_AND && expr->kind != EXPR_OR)
		return leaf_match(x, expr, negated, set);
	err = match(x, expr->left, negated, set);
	if (err)
		return err;
	right = malloc((words + 1ULL) * sizeof(*right));
	if (!right)
		return -ENOMEM;
	err = match(x, expr->right, negated, right);
	if (!err && (expr->kind == EXPR_AND) != negated) /* de Morgan */
		set_and(set, right, words);
	else if (!err)
		set_or(set, right, words);
	free(right);
	return err;
}

int index_match(struct index *x, const struct expr *expr, __u64 *halves)
{
	__u32 words = index_words(x), used = x->tracks * 2 % 64;
	int err = 0;

	if (expr)
		err = match(x, expr, false, halves);
	else
		set_fill(halves, words);
	if (words && used) /* behind the last track there is nothing */
		halves[words - 1] &= (1ULL << used) - 1;
	return err;
}
