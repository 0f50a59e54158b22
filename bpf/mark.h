/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks: which experiment and activity a flow belongs to. Shared with userspace. */
#ifndef TIDEMARK_MARK_H
#define TIDEMARK_MARK_H

#include "types.h"

#define MARK_EXPERIMENT_MAX 511
#define MARK_ACTIVITY_MAX 63

/* How a flow's packets say it. */
enum mark_how {
	MARK_LABEL,	  /* IPv6 flow label */
	MARK_HOP_BY_HOP,  /* IPv6 Hop-by-Hop option */
	MARK_DESTINATION, /* IPv6 Destination option */
	MARK_BOTH,	  /* hop-by-hop+destination */
	MARK_HOWS_NR
};

/*
 * struct flow.mark: label 20 | how 3 | marked 1 | generation 8.
 *
 * The label is kept as it was drawn when the flow began, entropy included; experiment and
 * activity are read back from it. The generation is that of the rules the flow was asked
 * under (1 to 255); another one, or 0, means that it has to be asked again.
 *
 * The label's layout is that of the SciTags technical specification, "Flow label": from
 * the highest bit, 2 bits of entropy, the experiment's 9 bits lowest first, 1 of entropy,
 * the activity's 6 bits, 2 of entropy.
 */
#define MARK_LABEL_MASK 0xfffffU
#define MARK_ENTROPY_MASK 0xc0103U
#define MARK_HOW_SHIFT 20
#define MARK_MARKED (1U << 23)
#define MARK_GENERATION_SHIFT 24

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
	return mark >> MARK_HOW_SHIFT & 7;
}

#endif
