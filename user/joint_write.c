// SPDX-License-Identifier: GPL-2.0-only
/* Joint indexes written: sorted keys of several files merged into one, in memory that is bounded.
 *
 * What is merged is read where it is, in order; what comes of it is written as it comes. In memory
 * are a buffer, the checksums, and of one kind of key the first of each block.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "joint_input.h"
#include "text.h"

#define BUFFER (16U * JOINT_PAGE)

struct writer {
	struct store_out out;
	unsigned char buffer[BUFFER]; /* what follows */
	__u32 used;
	__u32 *sums, sums_n, sums_room;
	struct index_section parts[JOINT_PARTS_NR];

	struct joint_input *sources;
	unsigned sources_n, level;
	__u32 members, words;
	__u64 *set;
	unsigned char *packed; /* a set as it is written */

	/* of the kind that is merged */
	unsigned char last[JOINT_KEY_MOST];
	struct text directory;
	__u32 keys;
	int err;
};

/* ---- bytes ------------------------------------------------------------------------------------ */

static void buffer_flush(struct writer *w)
{
	__u32 pages = (w->used + JOINT_PAGE - 1) / JOINT_PAGE;

	if (w->err)
		return;
	if (array_grow((void **)&w->sums, &w->sums_room, w->sums_n + pages, sizeof(*w->sums))) {
		w->err = -ENOMEM;
		return;
	}
	checked_sums(w->buffer, w->used, JOINT_PAGE, w->sums + w->sums_n);
	w->sums_n += pages;
	w->err = store_more(&w->out, w->buffer, w->used);
	w->used = 0;
}

static void put(struct writer *w, const void *bytes, size_t size)
{
	const unsigned char *from = bytes;

	while (size && !w->err) {
		size_t now = size < BUFFER - w->used ? size : BUFFER - w->used;

		memcpy(w->buffer + w->used, from, now);
		w->used += (__u32)now;
		from += now;
		size -= now;
		if (w->used == BUFFER)
			buffer_flush(w);
	}
}

static void put_number(struct writer *w, __u64 value)
{
	unsigned char bytes[VARINT_MAX];

	put(w, bytes, (size_t)(put_varint(bytes, value) - bytes));
}

static void part_begin(struct writer *w, unsigned part)
{
	w->parts[part].offset = w->out.at + w->used;
	w->parts[part].count = 0;
}

static void part_end(struct writer *w, unsigned part)
{
	w->parts[part].bytes = w->out.at + w->used - w->parts[part].offset;
}

/* ---- members ---------------------------------------------------------------------------------- */

/* The number of a class and host, of which there are few. */
static __s64 origin_find(struct text *origins, const struct joint_member *m)
{
	char origin[JOINT_ORIGIN_BYTES] = "";
	__u32 n = (__u32)(origins->len / JOINT_ORIGIN_BYTES);

	memcpy(origin, m->class_name, strnlen(m->class_name, 31));
	memcpy(origin + 32, m->host, strnlen(m->host, CATALOG_NAME_MAX - 1));
	for (__u32 i = 0; i < n; i++)
		if (!memcmp(origins->at + i * (size_t)JOINT_ORIGIN_BYTES, origin, sizeof(origin)))
			return i;
	text_add(origins, origin, sizeof(origin));
	return origins->err ? -ENOMEM : (__s64)n;
}

static void member_put(struct writer *w, const struct joint_member *m, __u32 origin)
{
	unsigned char at[JOINT_MEMBER_BYTES] = {}, *numbers = at + STORE_NAME_MAX;

	memcpy(at, m->base, strnlen(m->base, STORE_NAME_MAX - 1));
	put_u64(numbers, m->first_ns);
	put_u64(numbers + 8, m->last_ns);
	put_u64(numbers + 16, m->first_stamp);
	put_u64(numbers + 24, m->last_stamp);
	put_u32(numbers + 32, m->packets);
	put_u32(numbers + 36, origin);
	put(w, at, sizeof(at));
	w->parts[JOINT_MEMBERS].count++;
}

static void members_put(struct writer *w)
{
	struct text origins = {};

	part_begin(w, JOINT_MEMBERS);
	for (unsigned i = 0; i < w->sources_n; i++)
		for (__u32 n = 0; n < joint_input_members(&w->sources[i]) && !w->err; n++) {
			struct joint_member m = joint_input_member(&w->sources[i], n);
			__s64 origin = 0;

			if (w->sources[i].map[n] >= 0)
				origin = origin_find(&origins, &m);
			if (origin < 0)
				w->err = (int)origin;
			else if (w->sources[i].map[n] >= 0)
				member_put(w, &m, (__u32)origin);
		}
	part_end(w, JOINT_MEMBERS);
	part_begin(w, JOINT_ORIGINS);
	w->parts[JOINT_ORIGINS].count = (__u32)(origins.len / JOINT_ORIGIN_BYTES);
	put(w, origins.at, origins.len);
	part_end(w, JOINT_ORIGINS);
	text_free(&origins);
}

static void gap_put(struct writer *w, __s32 member, const struct catalog_gap *g, const char *node)
{
	unsigned char at[JOINT_GAP_BYTES] = {};

	if (member < 0)
		return;
	put_u32(at, (__u32)member);
	put_u32(at + 4, g->node);
	put_u64(at + 8, g->from_ns);
	put_u64(at + 16, g->to_ns);
	put_u64(at + 24, g->packets);
	put_u64(at + 32, g->bytes);
	memcpy(at + 40, g->reason, strnlen(g->reason, CATALOG_NAME_MAX - 1));
	memcpy(at + 40 + CATALOG_NAME_MAX, node, strnlen(node, CATALOG_NAME_MAX - 1));
	put(w, at, sizeof(at));
	w->parts[JOINT_GAPS].count++;
}

static int gaps_put_of(struct writer *w, struct joint_input *s)
{
	const struct catalog *about = &s->index.about;
	struct joint_gap gap;

	for (__u32 i = 0; s->is_joint && i < s->joint.parts[JOINT_GAPS].count; i++) {
		if (joint_gap(&s->joint, i, &gap))
			return -EBADMSG;
		gap_put(w, s->map[gap.member], &gap.gap, gap.node);
	}
	for (__u32 i = 0; !s->is_joint && i < about->gaps_n; i++)
		gap_put(w, s->map[0], &about->gaps[i],
			catalog_node_name(about, about->gaps[i].node));
	return 0;
}

/* ---- keys ------------------------------------------------------------------------------------- */

/* The least of all, which several may have; NULL: no more. */
static struct joint_input *key_least(struct writer *w, unsigned bytes)
{
	struct joint_input *least = NULL;

	for (unsigned i = 0; i < w->sources_n; i++) {
		struct joint_input *s = &w->sources[i];

		if (s->key && (!least || joint_input_compare(s, least, bytes) < 0))
			least = s;
	}
	return least;
}

/* As joint_walk_set() reads it: of three ways the shortest. */
static void set_put(struct writer *w)
{
	__u32 bytes = (w->members + 7) / 8, last = 0, n = 0;
	unsigned char *to = w->packed;

	for (__u32 i = 0; i < w->words; i++)
		n += (__u32)__builtin_popcountll(w->set[i]);
	for (__u32 i = 0; i < w->words && to - w->packed <= bytes; i++)
		for (__u64 bits = w->set[i]; bits; bits &= bits - 1) {
			__u32 member = i * 64 + (__u32)__builtin_ctzll(bits);

			to = put_varint(to, member - last);
			last = member;
		}
	if (n == 1) {
		put_number(w, (__u64)last << 1 | 1);
	} else if (to - w->packed <= bytes) {
		put_number(w, (__u64)n << 1);
		put(w, w->packed, (size_t)(to - w->packed));
	} else {
		put_number(w, 0);
		for (__u32 i = 0; i < bytes; i++)
			w->packed[i] = (unsigned char)(w->set[i / 8] >> i % 8 * 8);
		put(w, w->packed, bytes);
	}
}

static __u32 number_of(const unsigned char *key, unsigned bytes)
{
	__u32 value = 0;

	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | key[i];
	return value;
}

static void key_put(struct writer *w, unsigned part, const unsigned char *key, unsigned bytes)
{
	unsigned char place[4];
	unsigned shared = 0, end = bytes;
	__u64 offset = w->out.at + w->used - w->parts[part].offset;

	if (w->keys++ % JOINT_BLOCK == 0) {
		if (offset > ~0U)
			w->err = -EFBIG;
		put_u32(place, (__u32)offset);
		text_add(&w->directory, key, bytes);
		text_add(&w->directory, place, sizeof(place));
		memset(w->last, 0, sizeof(w->last));
	}
	if (bytes <= 4) {
		put_number(w, number_of(key, bytes) - number_of(w->last, bytes));
	} else {
		while (shared < bytes && key[shared] == w->last[shared])
			shared++;
		while (end > shared && !key[end - 1])
			end--;
		put_number(w, shared);
		put_number(w, end - shared);
		put(w, key + shared, end - shared);
	}
	memcpy(w->last, key, bytes);
}

/* Those who have the key give their members to the set, and go on to their next. */
static int key_take(struct writer *w, unsigned kind, const unsigned char *key, __u64 head)
{
	unsigned bytes = joint_key_bytes(kind);
	int err = 0;

	for (unsigned i = 0; i < w->sources_n && !err; i++) {
		struct joint_input *s = &w->sources[i];

		if (!s->key || s->head != head || (bytes > 8 && memcmp(s->key, key, bytes)))
			continue;
		if (s->is_joint)
			err = joint_walk_set(&s->walk, s->map, w->set);
		else
			joint_set(w->set, (__u32)s->map[0]);
		if (!err)
			err = joint_input_next(s, kind);
		/* What is not in order would not be found again. */
		if (!err && s->key && memcmp(s->key, key, bytes) <= 0)
			err = -EBADMSG;
		if (err == -EBADMSG)
			s->of->err = err;
	}
	return err;
}

static bool set_any(const struct writer *w)
{
	for (__u32 i = 0; i < w->words; i++)
		if (w->set[i])
			return true;
	return false;
}

static int kind_put(struct writer *w, unsigned kind)
{
	unsigned part = JOINT_KEYS + kind, bytes = joint_key_bytes(kind);
	unsigned char key[JOINT_KEY_MOST];
	const struct joint_input *least;
	int err = 0;

	part_begin(w, part);
	w->keys = 0;
	w->directory.len = 0;
	for (unsigned i = 0; i < w->sources_n && !err; i++) {
		err = joint_input_first(&w->sources[i], kind);
		if (err == -EBADMSG)
			w->sources[i].of->err = err;
	}
	while (!err && !w->err && (least = key_least(w, bytes))) {
		memcpy(key, least->key, bytes);
		memset(w->set, 0, w->words * sizeof(*w->set));
		err = key_take(w, kind, key, least->head);
		if (err || !set_any(w)) /* only of those that are deleted */
			continue;
		key_put(w, part, key, bytes);
		set_put(w);
	}
	put(w, w->directory.at, w->directory.len);
	w->parts[part].count = w->keys;
	part_end(w, part);
	return err ? err : w->directory.err;
}

/* ---- the file --------------------------------------------------------------------------------- */

/* Behind everything, the checksums of it, and then what says where everything is. */
static void foot_put(struct writer *w)
{
	unsigned char foot[JOINT_FOOT] = {}, *at = foot + 40;

	buffer_flush(w);
	for (__u32 i = 0; i < w->sums_n; i++)
		put_u32(&w->sums[i], w->sums[i]);
	if (!w->err)
		w->err = store_more(&w->out, w->sums, w->sums_n * 4ULL);
	memcpy(foot, JOINT_MAGIC, 8);
	put_u32(foot + 8, JOINT_VERSION);
	put_u32(foot + 12, JOINT_PARTS_NR);
	put_u64(foot + 16, w->out.at + sizeof(foot));
	put_u64(foot + 24, XXH64(w->sums, w->sums_n * 4ULL, 0));
	put_u32(foot + 32, w->level);
	put_u32(foot + 36, w->members);
	for (unsigned i = 0; i < JOINT_PARTS_NR; i++, at += 20) {
		put_u64(at, w->parts[i].offset);
		put_u64(at + 8, w->parts[i].bytes);
		put_u32(at + 16, w->parts[i].count);
	}
	put_u64(foot + JOINT_FOOT - 8, XXH64(foot, JOINT_FOOT - 8, 0));
	if (!w->err)
		w->err = store_more(&w->out, foot, sizeof(foot));
}

_Static_assert(40 + 20 * JOINT_PARTS_NR <= JOINT_FOOT - 8, "the foot has room for its sections");

static int file_put(struct writer *w)
{
	int err = 0;

	members_put(w);
	part_begin(w, JOINT_GAPS);
	for (unsigned i = 0; i < w->sources_n && !err; i++) {
		err = gaps_put_of(w, &w->sources[i]);
		if (err)
			w->sources[i].of->err = err;
	}
	part_end(w, JOINT_GAPS);
	for (unsigned kind = 0; kind < JOINT_KEYS_NR && !err && !w->err; kind++)
		err = kind_put(w, kind);
	if (!err)
		foot_put(w);
	return err ? err : w->err;
}

static int write_whole(struct writer *w, int dir, const char *name)
{
	int err;

	w->words = (w->members + 63) / 64;
	w->set = calloc(w->words, sizeof(*w->set));
	/* A list is given up when it is longer than the bits, at the end of a word of them. */
	w->packed = malloc(w->members / 8 + 64 * VARINT_MAX + 8);
	err = store_begin(&w->out, dir, name);
	if (err)
		return err;
	err = w->set && w->packed ? file_put(w) : -ENOMEM;
	return store_end(&w->out, dir, name, err);
}

int joint_write(int dir, unsigned level, struct joint_source *sources, unsigned n,
		bool (*alive)(void *ctx, const char *base), void *ctx, char base[STORE_NAME_MAX],
		__u64 *bytes)
{
	struct writer *w = calloc(1, sizeof(*w));
	char name[STORE_NAME_MAX + 16];
	int err;

	if (!w)
		return -ENOMEM;
	w->level = level;
	w->sources = calloc(n, sizeof(*w->sources));
	err = w->sources ? 0 : -ENOMEM;
	for (; !err && w->sources_n < n; w->sources_n++) {
		struct joint_input *s = &w->sources[w->sources_n];

		s->of = &sources[w->sources_n];
		err = joint_input_open(s, dir, level);
		for (__u32 i = 0; !err && i < joint_input_members(s); i++) {
			const char *member = joint_input_member(s, i).base;
			bool is = alive(ctx, member);

			if (is && !w->members)
				strcpy(base, member);
			s->map[i] = is ? (__s32)w->members++ : -1;
		}
	}
	if (!err && !w->members)
		err = -ENOENT;
	if (!err)
		err = write_whole(w, dir, joint_file(name, base, level));
	*bytes = w->out.at;
	for (unsigned i = 0; w->sources && i < n; i++)
		joint_input_close(&w->sources[i]);
	text_free(&w->directory);
	free(w->sources);
	free(w->sums);
	free(w->set);
	free(w->packed);
	free(w);
	return err;
}
