/* SPDX-License-Identifier: GPL-2.0-only */
/* What a joint index is made of: an index, or a joint of the level below, its keys in order. */
#ifndef TIDEMARK_JOINT_INPUT_H
#define TIDEMARK_JOINT_INPUT_H

#include "joint.h"

struct joint_input {
	struct joint_source *of;
	bool is_joint, opened;
	struct index index;
	struct joint joint;
	__s32 *map; /* new numbers of its members; -1: not alive */

	/* names of an index, as its devices have them, sorted; the other keys are as they should be */
	unsigned char (*names[2])[CATALOG_NAME_MAX];
	__u32 names_n[2];

	/* of the kind that is merged */
	const unsigned char *key; /* the next; NULL: no more */
	__u64 head; /* its first eight bytes, as a number: most comparisons end here */
	__u32 next, n;
	struct joint_walk walk;
};

/* joint_input_close() is to be called all the same. -errno, also in `of`. */
int joint_input_open(struct joint_input *s, int dir, unsigned level);
void joint_input_close(struct joint_input *s);

__u32 joint_input_members(const struct joint_input *s);
struct joint_member joint_input_member(const struct joint_input *s, __u32 member);

/* Its first key of a kind, then the next, to `key`. -EBADMSG: it has none that can be read. */
int joint_input_first(struct joint_input *s, unsigned kind);
int joint_input_next(struct joint_input *s, unsigned kind);

/* As memcmp(), of two that have a key. */
int joint_input_compare(const struct joint_input *a, const struct joint_input *b, unsigned bytes);

#endif
