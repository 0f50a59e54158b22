/* SPDX-License-Identifier: GPL-2.0-only */
/* The pipeline in force, and a larger one in its place when more is asked of it. */
#ifndef TIDEMARK_PIPELINE_H
#define TIDEMARK_PIPELINE_H

#include "../bpf/stage.h"
#include "tidemark.h"

/*
 * See that the pipeline of an open datapath has these parts (STAGES_LIVE_*, PART_*), before
 * anything makes it use them. 0, or -errno and said why; then everything is as it was.
 */
int pipeline_need(struct tidemark *t, __u32 parts);

/* Load one for these maps, attached to nothing: its descriptor, or -errno. */
int pipeline_load(const int map[MAPS_NR], __u32 parts);

#endif
