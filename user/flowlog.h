/* SPDX-License-Identifier: GPL-2.0-only */
/* Flow records: who, when, how much, mark, kept longer than the packets were. */
#ifndef TIDEMARK_FLOWLOG_H
#define TIDEMARK_FLOWLOG_H

#include "catalog.h"

/* One file for each segment. */
int flowlog_write(int dir, const char *base, const struct catalog *c);

/* The catalog it was written from, without entries. -EBADMSG. */
int flowlog_read(int dir, const char *base, struct catalog *c);

/*
 * Deletes the oldest until they fit, but none whose packets are still there; how many bytes are
 * left. It looks at each there is.
 */
__u64 flowlog_expire(int dir, __u64 most_bytes);
__u64 flowlog_bytes(int dir, const char *base);

#endif
