/* SPDX-License-Identifier: GPL-2.0-only */
/* What must outlive a reboot: stamps that may not be given again, ids neither. */
#ifndef TIDEMARK_STATE_H
#define TIDEMARK_STATE_H

#include "tidemark.h"

/* The name under which the one clock of a host is kept (--clock host). No node has it. */
#define STATE_HOST "*"

/* How far ahead of use stamps are reserved. Renewed every second by whoever runs. */
#define STATE_AHEAD_NS (3ULL * 1000 * 1000 * 1000)

/*
 * Reads the state directory. No file is a first start. A damaged one is said and moved
 * aside, and then every clock starts above the largest stamp it could still read.
 */
int state_load(struct tidemark *t);

/* The stamp a node of this name must stay above. */
__u64 state_floor(const struct tidemark *t, const char *name);

/* A node goes: its last stamp. Written by the next state_save(). */
void state_note(struct tidemark *t, const char *name, __u64 stamp);

/*
 * Writes, ahead of use: `ahead_ns` beyond every clock's latest stamp. 0 when nothing will
 * be stamped any more (down). -errno, said once.
 */
int state_save(struct tidemark *t, __u64 ahead_ns);

#endif
