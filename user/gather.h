/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of many segments in one order, streamed: no more in memory than order asks for. */
#ifndef TIDEMARK_GATHER_H
#define TIDEMARK_GATHER_H

#include "segment_read.h"

#define GATHER_PAST (1U << 0)
#define GATHER_FUTURE (1U << 1)

/* A packet as it comes out. */
struct gathered {
	struct segment *segment;
	__u32 source; /* which of the directories */
	__u32 number; /* of the segment, counted over all */
	__u32 position, half;
	__u64 wall_ns, stamp;
};

struct gather_item {
	__u64 key, second;
	__u32 position, half;
	__u64 wall_ns, stamp;
};

/* One segment's packets: found by position, put in order as far as the segment is out of it. */
struct gather_cursor {
	struct segment segment;
	__u32 source, number;
	bool active, failed;
	struct index_refs refs;
	__u32 next;
	struct gather_item *heap;
	__u32 heap_n, heap_room;
	__u64 top, late;   /* latest key seen, and how far behind it another may come */
	__u64 key, second; /* of what it has to offer; before it is active, no packet is earlier */
};

/* A segment that was still written when it was looked at, and how far it went. */
struct gather_open {
	char path[4400];
	__u64 end;
};

/* Packets that were lost within the times asked for, whether any other of the segment matches. */
struct gather_gap {
	struct catalog_gap gap;
	char node[CATALOG_NAME_MAX], host[CATALOG_NAME_MAX];
};

struct gather {
	const struct expr *expr;
	__u64 from_ns, to_ns;
	bool by_stamp;
	bool of_packets;	    /* the expression asks what only packets tell */
	__u64 stamp_from, stamp_to; /* outside of these `causal` says no; 0 and 0: not known */
	struct gather_cursor **cursors;
	__u32 cursors_n, cursors_room;
	__u32 *heap; /* of cursors with something to offer */
	__u32 heap_n;
	struct gather_open *open;
	__u32 open_n, open_room;
	char newest[STORE_NAME_MAX]; /* of all segments there were */
	struct gather_gap *gaps;
	__u32 gaps_n, gaps_room;
	__u64 looked;			/* packets looked at */
	__u32 segments, opened, joints; /* that there are; that were looked at; asked which */
	const char *keyless;		/* said of one that no key fits, and of no other then */
	bool failed;			/* something could not be read, and was said */
	/* Is it in the past, or the future, that is asked for? GATHER_*. */
	unsigned (*causal)(void *ctx, struct segment *s, const struct track *t,
			   const struct gather_item *item);
	void *causal_ctx;
};

/* Adds every segment of a directory, and of those in it. -errno, and said. */
int gather_add(struct gather *m, const char *path, __u32 source);

/* Of the segments of one directory those that joint indexes leave out; to be freed, or NULL. */
int gather_spare(struct gather *m, int dir, const char *path, const struct store_names *names,
		 bool **spared);

int gather_begin(struct gather *m);

/* 1: a packet; 0: no more; -errno. */
int gather_next(struct gather *m, struct gathered *packet);

void gather_free(struct gather *m);

/* Does this packet match, whose place is known? Fills the item. 1, 0, -errno. */
int gather_look(const struct gather *m, struct segment *s, __u64 ref, struct gather_item *item);

/* Every directory below one that has segments: itself, and its classes. */
int gather_directories(const char *path, int (*each)(const char *path, int dir, void *ctx),
		       void *ctx);

void gather_wrong(struct gather *m, const struct segment *s);

#endif
