/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracks in an index: blocks of them, column by column, compressed. */
#ifndef TIDEMARK_INDEX_TRACKS_H
#define TIDEMARK_INDEX_TRACKS_H

#include "index.h"
#include "text.h"

#define BLOCK_TRACKS 256U

/* What each column holds, for every track that has it; a track's mask says what it has. */
enum tracks_column {
	COLUMN_MASK,
	COLUMN_LOCAL, /* numbers of addresses: of IPv4 keys, then of IPv6 keys */
	COLUMN_REMOTE,
	COLUMN_LOCAL_PORT,
	COLUMN_REMOTE_PORT,
	COLUMN_PROTO,
	COLUMN_NODE,
	COLUMN_DEVICE,
	COLUMN_TAGS,  /* ethertype, class, VLANs, MPLS, VNI */
	COLUMN_INNER, /* the inner flow, addresses by number too */
	COLUMN_OWNER, /* mark, process */
	COLUMN_PACKETS,
	COLUMN_FIRST, /* position of the first packet of each half */
	COLUMN_NEXT,  /* how much further each other one is */
	COLUMNS_NR
};

/* A track without what only its packets know. */
struct index_known {
	struct track track;
	__u32 packets[2];
};

/* Blocks that were asked for, and the positions of one of them. */
struct index_tracks {
	struct index_known **blocks;
	__u32 *positions;
	__u32 starts[2 * BLOCK_TRACKS + 1]; /* in positions, by half within the block */
	__s64 positions_of;		    /* block + 1; 0: none */
};

/*
 * Where each block begins goes to `offsets`, one more than there are. `numbers` are of the
 * addresses, outer and inner, by posting. -errno.
 */
int tracks_build(const struct catalog *c, const __u32 *order, const __u32 *starts,
		 __u32 *const numbers[2], struct text *offsets, struct text *blocks);

#endif
