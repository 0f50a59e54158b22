/* SPDX-License-Identifier: GPL-2.0-only */
/* The pipeline in force, and a larger one in its place when more is asked of it. */
#ifndef TIDEMARK_PIPELINE_H
#define TIDEMARK_PIPELINE_H

#include "../bpf/stage.h"
#include "aside.h"
#include "tidemark.h"

/*
 * See that the pipeline of an open datapath has these parts (STAGES_LIVE_*, PART_*), before
 * anything makes it use them. 0, or -errno and said why; then everything is as it was.
 */
int pipeline_need(struct tidemark *t, __u32 parts);

/* The programs of a datapath that is being made. */
struct pipeline_making {
	int map[MAPS_NR]; /* -1: there is none yet */
	__u32 parts;
	struct tidemark_bpf *skel; /* the pipeline's; the other programs have one of their own */
	struct aside aside;
};

/* Opens the pipeline's object, by a thread. */
void pipeline_begin(struct pipeline_making *m);

/*
 * Makes the maps, loads the programs of `skel` and, by another thread, the pipeline: the kernel
 * follows every way through it before it takes it, which is half of a start. The descriptor of
 * the pipeline, or -errno.
 */
int programs_load(struct tidemark_bpf *skel, struct pipeline_making *m,
		  const struct meanwhile *meanwhile);

/* After pipeline_begin(), whatever became of it. */
void pipeline_end(struct pipeline_making *m);

#endif
