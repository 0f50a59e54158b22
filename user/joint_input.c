// SPDX-License-Identifier: GPL-2.0-only
/* What a joint index is made of, read: members and keys, in order. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "joint_input.h"
#include "secret.h"

struct joint_member joint_input_member(const struct joint_input *s, __u32 member)
{
	const struct catalog *about = &s->index.about;

	if (s->is_joint)
		return joint_member(&s->joint, member);
	return (struct joint_member){ .base = s->of->base,
				      .class_name = about->class_name,
				      .host = about->host,
				      .first_ns = about->first_ns,
				      .last_ns = about->last_ns,
				      .first_stamp = about->first_stamp,
				      .last_stamp = about->last_stamp,
				      .packets = s->index.packets };
}

__u32 joint_input_members(const struct joint_input *s)
{
	return s->is_joint ? s->joint.members : 1;
}

static void key_head(struct joint_input *s, unsigned bytes)
{
	__u64 head = 0;

	memcpy(&head, s->key, bytes < 8 ? bytes : 8);
	s->head = be64toh(head);
}

int joint_input_next(struct joint_input *s, unsigned kind)
{
	unsigned bytes = joint_key_bytes(kind);
	int got;

	if (s->is_joint) {
		got = joint_walk_next(&s->walk);
		s->key = got > 0 ? s->walk.key : NULL;
		if (got < 0)
			return got;
	} else if (s->next == s->n) {
		s->key = NULL;
	} else if (kind >= KEYS_NR) {
		s->key = s->names[kind - KEYS_NR][s->next++];
	} else {
		s->key = index_key(&s->index, kind, s->next++);
		if (!s->key)
			return -EBADMSG;
	}
	if (s->key)
		key_head(s, bytes);
	return 0;
}

int joint_input_first(struct joint_input *s, unsigned kind)
{
	int err = 0;

	s->next = 0;
	if (s->is_joint)
		err = joint_walk(&s->walk, &s->joint, kind, NULL);
	else
		s->n = kind < KEYS_NR ? s->index.parts[PART_KEYS + kind].count
				      : s->names_n[kind - KEYS_NR];
	return err ? err : joint_input_next(s, kind);
}

int joint_input_compare(const struct joint_input *a, const struct joint_input *b, unsigned bytes)
{
	if (a->head != b->head)
		return a->head < b->head ? -1 : 1;
	return bytes > 8 ? memcmp(a->key, b->key, bytes) : 0;
}

static int name_compare(const void *a, const void *b)
{
	return memcmp(a, b, CATALOG_NAME_MAX);
}

/* Each name once, in order. */
static int names_make(struct joint_input *s)
{
	const struct catalog *about = &s->index.about;

	for (int kind = 0; kind < 2; kind++) {
		unsigned char(*at)[CATALOG_NAME_MAX] =
			calloc(about->devices_n + 1ULL, CATALOG_NAME_MAX);
		__u32 n = 0;

		s->names[kind] = at;
		if (!at)
			return -ENOMEM;
		for (__u32 i = 0; i < about->devices_n; i++) {
			const struct catalog_device *d = &about->devices[i];
			const char *name = kind ? d->name : d->node_name;

			memcpy(at[i], name, strnlen(name, CATALOG_NAME_MAX - 1));
		}
		qsort(at, about->devices_n, CATALOG_NAME_MAX, name_compare);
		for (__u32 i = 0; i < about->devices_n; i++)
			if (!n || name_compare(at[n - 1], at[i]))
				memmove(at[n++], at[i], CATALOG_NAME_MAX);
		s->names_n[kind] = n;
	}
	return 0;
}

int joint_input_open(struct joint_input *s, int dir, unsigned level)
{
	const char *why;
	int err;

	s->is_joint = level > 1;
	err = s->is_joint ? joint_open(&s->joint, dir, s->of->base, level - 1, &why)
			  : index_open(&s->index, dir, s->of->base, &why);
	s->opened = !err;
	/* What was encrypted stays so: of that nothing is written in the clear. */
	if (!err && (s->is_joint ? s->joint.file.vault : s->index.file.vault) && !secret_writing())
		err = -ENOKEY;
	if (!err && !s->is_joint)
		err = names_make(s);
	if (!err) {
		s->map = malloc((joint_input_members(s) + 1ULL) * sizeof(*s->map));
		err = s->map ? 0 : -ENOMEM;
	}
	if (err)
		s->of->err = err;
	return err;
}

void joint_input_close(struct joint_input *s)
{
	if (s->opened && s->is_joint)
		joint_close(&s->joint);
	else if (s->opened)
		index_close(&s->index);
	free(s->names[0]);
	free(s->names[1]);
	free(s->map);
}
