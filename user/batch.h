/* SPDX-License-Identifier: GPL-2.0-only */
/* Batches of packets on their way to disk, put in the order of time. */
#ifndef TIDEMARK_BATCH_H
#define TIDEMARK_BATCH_H

#include <linux/types.h>

#include "../bpf/record.h"
#include "catalog.h"

#define BATCH_BYTES (2 << 20)
#define BATCH_PACKETS 16384

struct device; /* of packets.c */

struct entry {
	__u64 wall_ns;
	__u32 at, size; /* in bytes */
	struct catalog_hash hash;
	__u32 class;
	struct device *device;
};

/* Of one class. */
struct amount {
	__u64 bytes, packets;
};

struct batch {
	struct batch *next;
	__u32 n, used;
	struct amount amounts[CLASSES]; /* counted when it is handed over */
	struct entry entry[BATCH_PACKETS];
	char bytes[BATCH_BYTES];
};

/* What a packet takes of `bytes`. */
__u32 batch_size(const struct packet *packet);

/* By time; `spare` is as long as a batch's entries. */
void batch_sort(struct batch *b, struct entry *spare);

/*
 * One ring is emptied after the other: what comes in meanwhile may be later than what still
 * stands in the next one. It waits for its turn, unless its node's clock is just set ahead. So many
 * are ripe, of a batch that is in order.
 */
__u32 batch_ripe(const struct batch *b, __u64 until_ns);

/* Those from `n` on, to another that is empty. */
void batch_part(struct batch *b, __u32 n, struct batch *rest);

/* What there is of each class: once a batch. */
void batch_count(struct batch *b);

#endif
