// SPDX-License-Identifier: GPL-2.0-only
/* Joint indexes read: nothing in them is believed before its checksum and its bounds agree. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "joint.h"
#include "secret.h"

unsigned joint_key_bytes(unsigned kind)
{
	return kind < KEYS_NR ? index_key_bytes[kind] : CATALOG_NAME_MAX;
}

const char *joint_file(char text[STORE_NAME_MAX + 16], const char *base, unsigned level)
{
	snprintf(text, STORE_NAME_MAX + 16, "%s" STORE_JOINT "%u", base, level);
	return text;
}

/* At the end, for a file may be written only once, from its beginning on. */
static int foot_read(struct joint *j, const char **why)
{
	__u64 size = j->file.size;
	const unsigned char *foot =
		size < JOINT_FOOT ? NULL : checked_at(&j->file, size - JOINT_FOOT, JOINT_FOOT);

	*why = "damaged";
	if (!foot || memcmp(foot, JOINT_MAGIC, 8))
		return -EBADMSG;
	if (get_u32(foot + 8) != JOINT_VERSION) {
		*why = "of another version";
		return -EBADMSG;
	}
	if (XXH64(foot, JOINT_FOOT - 8, 0) != get_u64(foot + JOINT_FOOT - 8) ||
	    get_u32(foot + 12) != JOINT_PARTS_NR || get_u64(foot + 16) != size)
		return -EBADMSG;
	j->level = get_u32(foot + 32);
	j->members = get_u32(foot + 36);
	j->words = (j->members + 63) / 64;
	for (unsigned i = 0; i < JOINT_PARTS_NR; i++) {
		j->parts[i].offset = get_u64(foot + 40 + i * 20);
		j->parts[i].bytes = get_u64(foot + 40 + i * 20 + 8);
		j->parts[i].count = get_u32(foot + 40 + i * 20 + 16);
	}
	return checked_tail(&j->file, 0, size - JOINT_FOOT, JOINT_PAGE, get_u64(foot + 24));
}

/* A section of records of one size. */
static const unsigned char *part_at(struct joint *j, unsigned part, __u32 size)
{
	const struct index_section *s = &j->parts[part];

	return s->bytes == (__u64)s->count * size ? checked_at(&j->file, s->offset, s->bytes)
						  : NULL;
}

/* All are asked of in any case. Texts in them end, and numbers are of something. */
static int members_read(struct joint *j)
{
	__u32 origins = j->parts[JOINT_ORIGINS].count;

	j->origin_at = part_at(j, JOINT_ORIGINS, JOINT_ORIGIN_BYTES);
	j->member_at = part_at(j, JOINT_MEMBERS, JOINT_MEMBER_BYTES);
	if (!j->origin_at || !j->member_at || j->parts[JOINT_MEMBERS].count != j->members)
		return -EBADMSG;
	for (__u32 i = 0; i < origins; i++)
		if (j->origin_at[i * JOINT_ORIGIN_BYTES + 31] ||
		    j->origin_at[(i + 1) * JOINT_ORIGIN_BYTES - 1])
			return -EBADMSG;
	for (__u32 i = 0; i < j->members; i++) {
		const unsigned char *at = j->member_at + i * (size_t)JOINT_MEMBER_BYTES;

		if (at[STORE_NAME_MAX - 1] || get_u32(at + STORE_NAME_MAX + 36) >= origins)
			return -EBADMSG;
	}
	return 0;
}

int joint_open(struct joint *j, int dir, const char *base, unsigned level, const char **why)
{
	char name[STORE_NAME_MAX + 16];
	int fd, err;

	memset(j, 0, sizeof(*j));
	j->file.fd = -1;
	fd = openat(dir, joint_file(name, base, level), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		*why = strerror(errno);
		return -errno;
	}
	err = checked_open(&j->file, fd);
	*why = secret_error(err);
	if (!err)
		err = foot_read(j, why);
	if (!err)
		err = members_read(j);
	checked_keep(&j->file);
	if (err)
		joint_close(j);
	return err;
}

void joint_close(struct joint *j)
{
	checked_close(&j->file);
}

struct joint_member joint_member(const struct joint *j, __u32 member)
{
	const unsigned char *at = j->member_at + member * (size_t)JOINT_MEMBER_BYTES;
	const unsigned char *numbers = at + STORE_NAME_MAX;
	__u32 origin = get_u32(numbers + 36);
	const unsigned char *from = j->origin_at + origin * (size_t)JOINT_ORIGIN_BYTES;

	return (struct joint_member){ .base = (const char *)at,
				      .class_name = (const char *)from,
				      .host = (const char *)from + 32,
				      .first_ns = get_u64(numbers),
				      .last_ns = get_u64(numbers + 8),
				      .first_stamp = get_u64(numbers + 16),
				      .last_stamp = get_u64(numbers + 24),
				      .packets = get_u32(numbers + 32),
				      .origin = origin };
}

int joint_gap(struct joint *j, __u32 n, struct joint_gap *gap)
{
	const struct index_section *s = &j->parts[JOINT_GAPS];
	const unsigned char *at;

	if (n >= s->count || s->bytes != (__u64)s->count * JOINT_GAP_BYTES)
		return -EBADMSG;
	at = checked_at(&j->file, s->offset + (__u64)n * JOINT_GAP_BYTES, JOINT_GAP_BYTES);
	if (!at || get_u32(at) >= j->members)
		return -EBADMSG;
	memset(gap, 0, sizeof(*gap));
	gap->member = get_u32(at);
	gap->gap.node = get_u32(at + 4);
	gap->gap.from_ns = get_u64(at + 8);
	gap->gap.to_ns = get_u64(at + 16);
	gap->gap.packets = get_u64(at + 24);
	gap->gap.bytes = get_u64(at + 32);
	memcpy(gap->gap.reason, at + 40, CATALOG_NAME_MAX - 1);
	memcpy(gap->node, at + 40 + CATALOG_NAME_MAX, CATALOG_NAME_MAX - 1);
	return 0;
}

/* ---- keys ------------------------------------------------------------------------------------- */

/* Behind the blocks: the first key of each, and where it begins. NULL: not there, or damaged. */
static const unsigned char *block_head(const struct joint_walk *w, __u32 block)
{
	const struct index_section *s = &w->joint->parts[JOINT_KEYS + w->kind];
	__u64 blocks = (w->n + JOINT_BLOCK - 1) / JOINT_BLOCK, size = w->bytes + 4;

	if (block >= blocks || s->bytes < blocks * size)
		return NULL;
	return checked_at(&w->joint->file, s->offset + s->bytes - (blocks - block) * size, size);
}

static int block_enter(struct joint_walk *w, __u32 block)
{
	const struct index_section *s = &w->joint->parts[JOINT_KEYS + w->kind];
	__u64 blocks = (w->n + JOINT_BLOCK - 1) / JOINT_BLOCK;
	const unsigned char *head = block_head(w, block), *next = block_head(w, block + 1);
	__u64 from, to;

	if (!head || (!next && block + 1 < blocks))
		return -EBADMSG;
	from = get_u32(head + w->bytes);
	to = next ? get_u32(next + w->bytes) : s->bytes - blocks * (w->bytes + 4);
	if (from > to || to > s->bytes)
		return -EBADMSG;
	w->at.at = checked_at(&w->joint->file, s->offset + from, to - from);
	if (!w->at.at)
		return -EBADMSG;
	w->at.end = w->at.at + (to - from);
	w->at.bad = false;
	w->next = block * JOINT_BLOCK;
	memset(w->key, 0, sizeof(w->key));
	return 0;
}

int joint_walk(struct joint_walk *w, struct joint *j, unsigned kind, const unsigned char *low)
{
	__u32 from = 0, to;

	*w = (struct joint_walk){ .joint = j,
				  .kind = kind,
				  .bytes = joint_key_bytes(kind),
				  .n = j->parts[JOINT_KEYS + kind].count };
	/* The last block that does not begin behind `low`. */
	to = low ? (w->n + JOINT_BLOCK - 1) / JOINT_BLOCK : 0;
	while (from + 1 < to) {
		__u32 middle = from + (to - from) / 2;
		const unsigned char *head = block_head(w, middle);

		if (!head)
			return -EBADMSG;
		if (memcmp(head, low, w->bytes) <= 0)
			from = middle;
		else
			to = middle;
	}
	return w->n ? block_enter(w, from) : 0;
}

/* Numbers by how much they are more than the last, texts by what they share with it. */
int joint_walk_next(struct joint_walk *w)
{
	if (w->next == w->n)
		return 0;
	if (w->next && w->next % JOINT_BLOCK == 0 && w->at.at == w->at.end &&
	    block_enter(w, w->next / JOINT_BLOCK))
		return -EBADMSG;
	w->next++;
	if (w->bytes <= 4) {
		__u32 value = 0;

		for (unsigned i = 0; i < w->bytes; i++)
			value = value << 8 | w->key[i];
		value += (__u32)bytes_varint(&w->at);
		for (unsigned i = w->bytes; i-- > 0; value >>= 8)
			w->key[i] = (unsigned char)value;
	} else {
		__u64 shared = bytes_varint(&w->at), more = bytes_varint(&w->at);

		if (shared > w->bytes || more > w->bytes - shared)
			return -EBADMSG;
		bytes_copy(&w->at, w->key + shared, more);
		memset(w->key + shared + more, 0, w->bytes - shared - more);
	}
	return w->at.bad ? -EBADMSG : 1;
}

static int member_add(const struct joint_walk *w, __u64 member, const __s32 *map, __u64 *set)
{
	if (member >= w->joint->members)
		return -EBADMSG;
	if (set && map && map[member] >= 0)
		joint_set(set, (__u32)map[member]);
	else if (set && !map)
		joint_set(set, (__u32)member);
	return 0;
}

static int bits_add(struct joint_walk *w, const __s32 *map, __u64 *set)
{
	__u32 bytes = (w->joint->members + 7) / 8;
	int err = 0;

	if (bytes > (size_t)(w->at.end - w->at.at))
		return -EBADMSG;
	for (__u32 i = 0; i < bytes && set && !err; i++)
		for (unsigned bits = w->at.at[i]; bits && !err; bits &= bits - 1)
			err = member_add(w, i * 8 + (unsigned)__builtin_ctz(bits), map, set);
	w->at.at += bytes;
	return err;
}

/* The only one; or how many there are, and each by how much it is more; or one bit for each. */
int joint_walk_set(struct joint_walk *w, const __s32 *map, __u64 *set)
{
	__u64 head = bytes_varint(&w->at), member = 0;
	int err = 0;

	if (w->at.bad)
		return -EBADMSG;
	if (head & 1)
		return member_add(w, head >> 1, map, set);
	if (!head)
		return bits_add(w, map, set);
	for (head >>= 1; head && !err && !w->at.bad; head--) {
		member += bytes_varint(&w->at);
		err = member_add(w, member, map, set);
	}
	return w->at.bad ? -EBADMSG : err;
}
