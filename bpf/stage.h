/* SPDX-License-Identifier: GPL-2.0-only */
/* The list of stages: order, numbers, counters and display all come from here. */
#ifndef TIDEMARK_STAGE_H
#define TIDEMARK_STAGE_H

/*
 * Every packet passes these in this order. Which of them exist is decided before load
 * (the `stages` mask is read-only data): the verifier removes the others' code, so a
 * stage that is off costs nothing. "live" says whether the stage has been built yet; "all"
 * that it sees also the packets with which an earlier stage was done (no IP, no flow).
 *
 *	X(name, live, all, what it does)
 */
#define STAGES(X)                                                         \
	X(parse, 1, 0, "headers into struct pkt")                         \
	X(node, 1, 0, "which namespace, which clock, which direction")    \
	X(guard, 0, 0, "may these two owners talk?")                      \
	X(flow, 1, 0, "find or create the flow, count, follow TCP")       \
	X(clock, 1, 0, "merge and tick the node's clock, note the event") \
	X(mark, 1, 0, "write the flow's SciTag, egress only")             \
	X(record, 1, 1, "keep the packet, perhaps")                       \
	X(fault, 0, 1, "play the wire: lose, corrupt, repeat")

enum stage {
#define X(name, live, all, what) STAGE_##name,
	STAGES(X)
#undef X
		STAGES_NR
};

enum {
#define X(name, live, all, what) STAGES_LIVE_##name = (live) << STAGE_##name,
	STAGES(X)
#undef X
#define X(name, live, all, what) | STAGES_LIVE_##name
		STAGES_LIVE = 0 STAGES(X)
#undef X
};

/*
 * What the datapath is loaded with, and what is put in its place when somebody first asks
 * for more: user/pipeline.h. PART_WIRE, clocks in packets, is in the clock stage, but half of
 * what there is to verify.
 */
#define PART_WIRE (1U << 16)
#define PART_BURSTS (1U << 17) /* per flow; decided when the datapath is made */

enum {
	PARTS_ALL = STAGES_LIVE | PART_WIRE | PART_BURSTS,
	PARTS_FIRST =
		PARTS_ALL & ~(PART_WIRE | PART_BURSTS | STAGES_LIVE_mark | STAGES_LIVE_record),
};

/* A packet's direction as its node sees it: out is what the node sends. */
enum dir { DIR_IN, DIR_OUT, DIRS_NR };

#endif
