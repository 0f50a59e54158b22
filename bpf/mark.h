/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks: which experiment and activity a flow belongs to. Shared with userspace. */
#ifndef TIDEMARK_MARK_H
#define TIDEMARK_MARK_H

#include "flow.h"
#include "types.h"

#define MARK_EXPERIMENT_MAX 511
#define MARK_ACTIVITY_MAX 63

/* How a flow's packets say it. */
enum mark_how {
	MARK_LABEL,	  /* IPv6 flow label */
	MARK_HOP_BY_HOP,  /* IPv6 Hop-by-Hop option */
	MARK_DESTINATION, /* IPv6 Destination option */
	MARK_BOTH,	  /* hop-by-hop+destination: the two bits of the others */
	MARK_HOWS_NR
};

/*
 * struct flow.mark: label 20 | how 2 | timed 1 | marked 1 | generation 7 | inherit 1.
 *
 * The label is kept as it was drawn when the flow began, entropy included; experiment and
 * activity are read back from it. The generation says under which rules the flow was asked
 * (1 to 127); another one, or 0, means that it has to be asked again.
 *
 * The label's layout is that of the SciTags technical specification, "Flow label": from
 * the highest bit, 2 bits of entropy, the experiment's 9 bits lowest first, 1 of entropy,
 * the activity's 6 bits, 2 of entropy.
 */
#define MARK_LABEL_MASK 0xfffffU
#define MARK_ENTROPY_MASK 0xc0103U
#define MARK_HOW_SHIFT 20
#define MARK_TIMED (1U << 22) /* what gave it ends at a time: ask again and again */
#define MARK_MARKED (1U << 23)
#define MARK_GENERATION_SHIFT 24
#define MARK_GENERATION_MAX 127
#define MARK_INHERIT (1U << 31) /* what a process opens while it reads this flow gets it too */

/* What an entry or a rule gives: experiment, activity, how, MARK_TIMED, MARK_INHERIT. */
#define MARK_GIVEN \
	(~(MARK_ENTROPY_MASK | MARK_MARKED | MARK_GENERATION_MAX << MARK_GENERATION_SHIFT))

static inline __u32 mark_reverse9(__u32 bits)
{
	__u32 reversed = 0;

	for (int i = 0; i < 9; i++)
		reversed |= (bits >> i & 1) << (8 - i);
	return reversed;
}

static inline __u32 mark_label(__u32 experiment, __u32 activity, __u32 entropy)
{
	return (entropy & MARK_ENTROPY_MASK) | mark_reverse9(experiment) << 9 |
	       (activity & MARK_ACTIVITY_MAX) << 2;
}

static inline __u32 mark_experiment(__u32 mark)
{
	return mark_reverse9(mark >> 9 & MARK_EXPERIMENT_MAX);
}

static inline __u32 mark_activity(__u32 mark)
{
	return mark >> 2 & MARK_ACTIVITY_MAX;
}

static inline __u32 mark_how(__u32 mark)
{
	return mark >> MARK_HOW_SHIFT & 3;
}

/* The option, RFC 4727's first experimental type: skip if unknown, does not change. */
#define MARK_OPTION 0x1e
#define MARK_OPTION_DATA 3  /* experiment, 2 bytes; activity */
#define MARK_OPTION_BYTES 8 /* as a header of its own, padded */

/*
 * Map `marks`: single flows. The key is the flow's as the node that sends knows it (local
 * is the source), with node 0 for any and proto 0 for any. A full table refuses.
 *
 * An entry is for one connection. The first that is asked claims it; it goes when that one
 * ends, and a later one on the same ports finds it claimed, and does not take it.
 */
#define MARKS_DEFAULT 131072

struct mark_entry {
	__u32 given; /* MARK_GIVEN bits */
	__u32 id;
	__u64 until_ns;	 /* BOOTTIME; 0: no end */
	__u64 flow_ns;	 /* struct flow.first_ns of who claimed it, 0: nobody has */
	__u32 flow_node; /* and its node */
	__u32 used;	 /* jiffies when it was last asked for */
};

_Static_assert(sizeof(struct mark_entry) == 32, "no hidden padding");

/* A connectionless flow that said nothing for so long is over, and its entry with it. */
#define MARK_IDLE_NS 300000000000ULL

/*
 * Maps `rules` and `rules_spare`. One is in force, sorted by userspace so that the first
 * that matches is the most specific; changes are made in the other, and then one write
 * into the settings puts that in force.
 */
#define RULES_MAX 512

/* rule.flags */
#define RULE_UID (1U << 0)
#define RULE_COMM (1U << 1)
#define RULE_EXCLUDE (1U << 2)	  /* what it fits has no mark, whatever other rules say */
#define RULE_RANDOM (1U << 3)	  /* of several ids any; else one after the other */
#define RULE_CONFIGURED (1U << 4) /* the daemon's, by its configuration: it goes with that */

#define RULE_OWNER (RULE_UID | RULE_COMM) /* asks who sends */

/* How many ids a rule can hand out. */
#define RULE_IDS_MAX 32
#define RULE_ID_SHIFT 6 /* experiment << 6 | activity, as SciTags number them elsewhere */

#define RULE_NODE_NONE 0xffffffffU /* rule.node: the node it names is not here */

struct rule {
	__u64 src[2], src_mask[2]; /* as the bytes of an address are; IPv4 as ::ffff:a.b.c.d */
	__u64 dst[2], dst_mask[2];
	__u16 src_low, src_high; /* ports, both included */
	__u16 dst_low, dst_high;
	__u32 given; /* MARK_GIVEN bits */
	__u32 id;
	__u64 until_ns; /* BOOTTIME; 0: no end */
	__u64 cgroup;	/* id; 0: any. The processes in and below it */
	__u64 flows;	/* how many it was given to */
	__u32 node;	/* 0: any */
	__u32 uid;
	__u8 proto;	   /* 0: any */
	__u8 flags;	   /* RULE_* */
	__u8 cgroup_level; /* how deep that cgroup lies, the root being 0 */
	__u8 ids_n;	   /* 0: `given` has the one */
	__u8 _pad[4];
	__u16 ids[RULE_IDS_MAX];
	char comm[16];
	char node_name[64]; /* so that a node that comes again is known */
};

_Static_assert(sizeof(struct rule) == 264, "no hidden padding");

/* settings.marks_flags: what some rule in force asks of */
#define MARKS_HEADERS (1U << 0) /* and some entry: how a connection is set up matters */
#define MARKS_OWNERS (1U << 1)
#define MARKS_CGROUPS (1U << 2)
#define MARKS_INHERIT (1U << 3)
#define MARKS_UNWRITTEN (1U << 4) /* packets stay as they are: marks are for reports alone */

/* Context of the syscall program `mark_touch`: flows of this key are asked again. */
struct mark_call {
	__u32 key[sizeof(struct flow_key) / 4]; /* node 0: any; proto 0: TCP and UDP */
	__u32 told; /* not that: the one flow of this key has FLOW_TOLD from now on */
};

#endif
