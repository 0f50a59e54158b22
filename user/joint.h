/* SPDX-License-Identifier: GPL-2.0-only */
/* Joint indexes: which of many sealed segments have a key, so that a query opens few files. */
#ifndef TIDEMARK_JOINT_H
#define TIDEMARK_JOINT_H

#include "bytes.h"
#include "index.h"
#include "store.h"

#define JOINT_MAGIC "TMJOINT1"
#define JOINT_VERSION 1
#define JOINT_FOOT 1024
#define JOINT_PAGE 4096 /* bytes under one checksum */
#define JOINT_MERGE 10	/* indexes in a joint of level 1, joints in one of the next */
#define JOINT_LEVELS 3 /* a thousand segments: what is merged, and what outlives them, is bounded */
#define JOINT_BLOCK 128U   /* keys that are found together */
#define JOINT_KEY_MOST 64U /* bytes of the longest key */
#define JOINT_ORIGIN_BYTES (32 + CATALOG_NAME_MAX)
#define JOINT_MEMBER_BYTES (STORE_NAME_MAX + 40)
#define JOINT_GAP_BYTES (40 + 2 * CATALOG_NAME_MAX)

/* Keys are those of indexes, and names, which stand for other numbers in each segment. */
enum joint_key { JOINT_node_name = KEYS_NR, JOINT_device_name, JOINT_KEYS_NR };

enum joint_part {
	JOINT_ORIGINS, /* class and host, which members share */
	JOINT_MEMBERS,
	JOINT_GAPS,
	JOINT_KEYS, /* blocks of keys, then where each begins */
	JOINT_PARTS_NR = JOINT_KEYS + JOINT_KEYS_NR
};

unsigned joint_key_bytes(unsigned kind);

struct joint {
	struct checked file;
	struct index_section parts[JOINT_PARTS_NR];
	__u32 level, members, words; /* words of 64 bits that a set of members takes */
	const unsigned char *member_at, *origin_at;
};

/* One sealed segment, as far as one must know it to leave it alone. */
struct joint_member {
	const char *base, *class_name, *host;
	__u64 first_ns, last_ns, first_stamp, last_stamp;
	__u32 packets, origin;
};

/* `base` with the ending of a level. */
const char *joint_file(char text[STORE_NAME_MAX + 16], const char *base, unsigned level);

/* -errno; -EBADMSG: damaged, and why says how. joint_close() only after success. */
int joint_open(struct joint *joint, int dir, const char *base, unsigned level, const char **why);
void joint_close(struct joint *joint);

struct joint_member joint_member(const struct joint *joint, __u32 member);

struct joint_gap {
	struct catalog_gap gap;
	__u32 member;
	char node[CATALOG_NAME_MAX];
};

/* -EBADMSG */
int joint_gap(struct joint *joint, __u32 n, struct joint_gap *gap);

/* Keys of one kind in order. After each key its set is to be taken, or passed with NULL. */
struct joint_walk {
	struct joint *joint;
	unsigned kind, bytes;
	__u32 next, n;
	struct bytes at;
	unsigned char key[JOINT_KEY_MOST];
};

/* From the block on in which `low` would be; NULL: all. -EBADMSG. */
int joint_walk(struct joint_walk *walk, struct joint *joint, unsigned kind,
	       const unsigned char *low);
int joint_walk_next(struct joint_walk *walk); /* 1, 0: no more, -EBADMSG */

/* Adds the key's members to a set, each by the number it has in `map`, if it has one there. */
int joint_walk_set(struct joint_walk *walk, const __s32 *map, __u64 *set);

static inline void joint_set(__u64 *set, __u32 member)
{
	set[member / 64] |= 1ULL << member % 64;
}

static inline bool joint_has(const __u64 *set, __u32 member)
{
	return set[member / 64] >> member % 64 & 1;
}

/* ---- asked --------------------------------------------------------------------------------- */

struct joint_question {
	const struct expr *expr;
	__u64 from_ns, to_ns;
	__u64 stamp_from,
		stamp_to; /* outside of these nothing is in the past, or the future, asked for */
};

/* Members that could match: of all that do, none is missing. */
int joint_match(struct joint *joint, const struct joint_question *question, __u64 *set);

struct joint_hearer {
	int (*gap)(void *ctx, const struct joint_gap *gap, const char *host);
	void *ctx;
	__u32 joints; /* that were asked */
};

/*
 * For each segment of a directory, whether it need not be looked at; its gaps are told then.
 * A joint that is damaged is said, and what it would have spoken of is to be looked at.
 */
int joints_ask(int dir, const char *path, const struct store_names *names,
	       const struct joint_question *question, struct joint_hearer *hearer, bool **spared);

/* ---- written ------------------------------------------------------------------------------- */

/* An index or a joint of which a joint is made; in order of the segments. */
struct joint_source {
	char base[STORE_NAME_MAX];
	int err; /* after -EBADMSG: this one is it */
};

/*
 * Of indexes (level 1) or of joints of the level below, without the members that are not
 * `alive`. Says what it is called and how large it is. -ENOENT: nobody is alive.
 */
int joint_write(int dir, unsigned level, struct joint_source *sources, unsigned n,
		bool (*alive)(void *ctx, const char *base), void *ctx, char base[STORE_NAME_MAX],
		__u64 *bytes);

#endif
