/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks of an open datapath: single flows and rules, in the kernel's maps. */
#ifndef TIDEMARK_MARKS_H
#define TIDEMARK_MARKS_H

#include "../bpf/mark.h"
#include "endpoint.h"
#include "tidemark.h"

/*
 * What is marked, and with what. As the node that sends sees it: its own end is the
 * source. Both ends given whole and nothing of the owner: a single flow; else a rule.
 */
struct mark {
	struct endpoint src, dst;
	__u8 proto;		  /* 0: any */
	char node[NODE_NAME_MAX]; /* "": any */
	bool by_uid;
	__u32 uid;
	char comm[16];	       /* "": any */
	__u64 cgroup;	       /* id; 0: any */
	unsigned cgroup_level; /* see struct rule */

	unsigned experiment, activity;
	enum mark_how how;
	bool inherit;
	__u64 for_ns; /* from now on; 0: no end */

	bool exclude;	 /* a rule: no mark instead, before all other rules */
	bool at_random;	 /* which of the ids */
	bool configured; /* by the daemon's configuration */
	unsigned ids_n;	 /* a rule with several, handed out; experiment and activity: the first */
	__u16 ids[RULE_IDS_MAX]; /* experiment << RULE_ID_SHIFT | activity */

	__u32 id;    /* given by marks_add() */
	__u64 flows; /* that have or had it */
};

/*
 * All of them or none. One that stands for the same is replaced, and keeps its id. The
 * datapath is locked by the caller. -errno: -ENOSPC, no room; -ENODEV, the node of a
 * single flow is not here (*bad says which; a rule waits for its node).
 */
int marks_add(struct tidemark *t, struct mark *marks, size_t n, size_t *bad);

/* Return non-zero to stop; marks_each() hands that value back. Ended ones are not shown. */
typedef int (*mark_fn)(const struct mark *mark, void *ctx);
int marks_each(const struct tidemark *t, mark_fn fn, void *ctx);

/* Removes those for which @fn returns true. How many, or -errno. Locked by the caller. */
typedef bool (*mark_choice)(const struct mark *mark, void *ctx);
int marks_remove(struct tidemark *t, mark_choice fn, void *ctx);

/* One single flow's, by its key as the map has it: found at once among any number. -ENOENT. */
int marks_forget(struct tidemark *t, const struct flow_key *key);

/* Do they stand for the same flows? */
bool mark_same(const struct mark *a, const struct mark *b);

/* A node has come: rules that name it are in force for it. */
void marks_node_new(struct tidemark *t, const char *name, __u32 id);

extern const char *const mark_hows[MARK_HOWS_NR];

#endif
