/* SPDX-License-Identifier: GPL-2.0-only */
/* Journals: what an index will say of a segment, while the segment is still written. */
#ifndef TIDEMARK_JOURNAL_H
#define TIDEMARK_JOURNAL_H

#include "catalog.h"
#include "text.h"

/*
 * A journal is batches, each with a checksum. A batch is written after the packets it speaks
 * of and has the checksums of these bytes, so what it says is there, or is known not to be;
 * what comes after the last whole batch was never promised to anybody. Each can be read
 * without the others but for the tracks they name, so that one that is damaged takes no
 * more with it than it has to.
 */
struct journal_writer {
	struct text batch;	    /* the body of the next */
	struct catalog_packet last; /* of it */
	struct track last_track;
	__u64 end;		       /* of the segment, as the last batch had it */
	__u64 packets, packets_before; /* of the segment; those of earlier batches */
};

/* Another segment. */
void journal_begin(struct journal_writer *j);

/* Written before the first batch. */
void journal_head(struct text *text, const char *class_name, const char *host);

/* With their numbers, which are those of the catalog. */
void journal_device(struct journal_writer *j, __u32 number, const struct catalog_device *device);
void journal_track(struct journal_writer *j, __u32 number, const struct track *track);
void journal_packet(struct journal_writer *j, const struct catalog_packet *packet);
void journal_gap(struct journal_writer *j, const struct catalog_gap *gap);

/*
 * The batch as it goes to the file: says that the segment reaches `end`, and those checksums
 * that are new since the last one. Resets the body.
 */
void journal_batch(struct journal_writer *j, __u64 end, const struct sums *sums, struct text *text);

#define JOURNAL_DAMAGED "journal damaged" /* the reason of a gap */

/* Begins as {}. */
struct journal_reader {
	struct checked file;
	bool open;	/* the file is */
	__u64 offset;	/* behind the last whole batch */
	__u64 packets;	/* told of so far, lost ones too */
	__u64 lost;	/* of these, those that a damaged batch took with it */
	bool damaged;	/* what is between two batches is none */
	__u32 *numbers; /* of tracks: in the catalog; ~0: lost */
	__u32 numbers_n, numbers_room;
	__u32 gap;	 /* the lost ones' in the catalog, and one more; 0: there is none */
	__u64 latest_ns; /* of all packets so far */
};

/*
 * Reads on from where it stopped, into the catalog. 0; -EBADMSG: no journal; -EPROTONOSUPPORT:
 * one of another version; other -errno. What is not whole at the end is left for the next
 * time; what is not whole before that is lost: `damaged` is set, and there is a gap.
 */
int journal_read(int fd, struct journal_reader *r, struct catalog *c);
void journal_close(struct journal_reader *r);

#endif
