/* SPDX-License-Identifier: GPL-2.0-only */
/* The thread behind a class: seals, compresses, deletes, so that whoever records never waits. */
#ifndef TIDEMARK_SEGMENT_SEAL_H
#define TIDEMARK_SEGMENT_SEAL_H

#include "catalog.h"
#include "journal.h"
#include "pcapng.h"
#include "segment.h"
#include "store.h"

struct sealer;

/* Seals first what an earlier process left; `recovered` counts that. Errors have been said. */
int sealer_start(struct sealer **sealer, const struct segments_options *options, int dir,
		 const char *path, __u64 *recovered);

/* Other budgets and another age than it was started with. */
void sealer_limit(struct sealer *sealer, const struct segments_options *options);

/* Takes over the file and the catalog, which is then empty. */
int sealer_add(struct sealer *sealer, const char *base, int fd, struct catalog *c);

/* Deletes what is too old or too much, beside the bytes of the file being written. */
void sealer_expire(struct sealer *sealer, __u64 now_ns, __u64 open_bytes);

void sealer_stats(struct sealer *sealer, struct segments_stats *stats);

/* Waits for what was added. -errno: a file could not be sealed. */
int sealer_stop(struct sealer *sealer);

/*
 * Seals one segment: its index, made of the catalog and the checksums in it, then no journal.
 * -errno. The second one without a look at the packets, which are on disk.
 */
int segment_seal(int dir, const char *base, int fd, const struct catalog *c);
int segment_index(int dir, const char *base, const struct catalog *c);

#endif
