/* SPDX-License-Identifier: GPL-2.0-only */
/* Rules of a configuration: in force while the daemon has them, and nobody else's touched. */
#ifndef TIDEMARK_MARKRULES_H
#define TIDEMARK_MARKRULES_H

#include "marks.h"

/*
 * These rules of the configuration, and no others, are in force; one that was goes on as it
 * is, its flows counted. What `mark add` has said of the same ends is left to the user, and
 * said. Those of a daemon that was killed count as ours. -errno, said.
 */
int markrules_set(struct tidemark *t, const struct mark *rules, size_t n);

/* Packets stay as they are: marks are for reports alone. Or not. */
void markrules_unwritten(struct tidemark *t, bool unwritten);

#endif
