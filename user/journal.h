/* SPDX-License-Identifier: GPL-2.0-only */
/* Journals: what an index will say of a segment, while the segment is still written. */
#ifndef TIDEMARK_JOURNAL_H
#define TIDEMARK_JOURNAL_H

#include "catalog.h"
#include "text.h"

/*
 * A journal is batches, each with a checksum. A batch is written after the packets it
 * speaks of, so what it says is there; what comes after the last whole batch was never
 * promised to anybody.
 */
struct journal_writer {
	struct text batch; /* the body of the next */
	struct catalog_packet last;
};

/* Written before the first batch. */
void journal_head(struct text *text, const char *class_name, const char *host);

void journal_device(struct journal_writer *j, const struct catalog_device *device);
void journal_track(struct journal_writer *j, const struct track *track);
void journal_packet(struct journal_writer *j, const struct catalog_packet *packet);
void journal_gap(struct journal_writer *j, const struct catalog_gap *gap);

/* The batch as it goes to the file: says that the segment reaches `end`. Resets the body. */
void journal_batch(struct journal_writer *j, __u64 end, struct text *text);

struct journal_reader {
	__u64 offset; /* behind the last whole batch */
	struct catalog_packet last;
};

/*
 * Reads on from where it stopped, into the catalog. 0; -EBADMSG: no journal; other -errno.
 * What is not whole is left for the next time.
 */
int journal_read(int fd, struct journal_reader *r, struct catalog *c);

#endif
