/* SPDX-License-Identifier: GPL-2.0-only */
/* Segments read: sealed or still written, plain or packed, all alike. */
#ifndef TIDEMARK_SEGMENT_READ_H
#define TIDEMARK_SEGMENT_READ_H

#include "expr.h"
#include "index.h"
#include "journal.h"
#include "pcapng.h"
#include "segment_pack.h"
#include "store.h"

struct segment {
	char path[4400]; /* for messages: directory and name */
	char base[STORE_NAME_MAX];
	int dir;
	bool sealed;

	struct index index;	/* sealed */
	struct catalog catalog; /* not sealed */
	struct journal_reader reader;
	int journal;

	bool has_data, owned;
	struct checked data;   /* the plain file */
	struct packed *packed; /* or what unpacks it */

	__u64 *halves;		    /* what segment_match() found, as bits */
	struct catalog_track track; /* the last asked for */
	__s64 track_number;
	const char *why; /* after an error: what is wrong with it */
};

/*
 * Opens what says what is in it. -ENOENT: deleted meanwhile. Other errors leave `why` set;
 * segment_close() is to be called all the same.
 */
int segment_open(struct segment *s, int dir, const char *directory, const char *base);
void segment_close(struct segment *s);

/* Its packets too, which from now on can be read though they be deleted. */
int segment_open_data(struct segment *s);

/* What came since, if it is still written. */
int segment_refresh(struct segment *s);

/* Totals, devices, gaps, times; not tracks or entries, which may be in the index. */
const struct catalog *segment_about(const struct segment *s);
__u32 segment_packets(const struct segment *s);
__u32 segment_tracks(const struct segment *s);

/*
 * What may match: an answer for each track and direction, kept in `s`, and whether any did.
 * Nothing is asked of packets yet. Then how many packets that is, and where they are, in
 * order of position: those that may be within the times, from the entry `from` on if the
 * segment is still written.
 */
int segment_match(struct segment *s, const struct expr *expr, bool *any);
int segment_count(struct segment *s, __u64 *packets);
int segment_find(struct segment *s, __u64 from_ns, __u64 to_ns, __u32 from,
		 struct index_refs *refs);

/* Those packets will be read next: of a few, on a disk, all are fetched at once. */
void segment_expect(struct segment *s, const struct index_refs *refs);

/* NULL: damaged. Good until the next call. */
const struct catalog_track *segment_track(struct segment *s, __u32 track);
const struct catalog_device *segment_device(const struct segment *s, const struct track *track);

/* The packet at a position. Good until the next call. */
int segment_packet(struct segment *s, __u32 position, struct pcapng_packet *packet, __u64 *stamp);

/* What an expression is asked of. */
void segment_question(const struct segment *s, const struct catalog_track *t, bool forward,
		      struct expr_packet *q);

#endif
