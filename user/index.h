/* SPDX-License-Identifier: GPL-2.0-only */
/* Indexes: sorted, immutable, one beside each sealed segment. docs/index-format.md has the bytes. */
#ifndef TIDEMARK_INDEX_H
#define TIDEMARK_INDEX_H

#include <stdbool.h>

#include "catalog.h"
#include "checked.h"
#include "expr.h"

#define INDEX_MAGIC "TMINDEX1"
#define INDEX_VERSION 2
#define INDEX_HEAD 1024
#define INDEX_PAGE 4096	  /* bytes of the index under one checksum */
#define INDEX_CHUNK 16384 /* bytes of the segment under one checksum */
#define INDEX_DEVICE_BYTES (12 + 2 * CATALOG_NAME_MAX)
#define INDEX_GAP_BYTES (40 + CATALOG_NAME_MAX)
#define INDEX_TIMES_BYTES 16
#define INDEX_LIST_LONG 64	 /* bytes of a list of postings that is worth compressing */
#define INDEX_SINGLE 0x80000000U /* a key's only posting, instead of where its list is */

/*
 * Keys, each with its length. They are stored with the highest byte first, so that they
 * sort as bytes. What a track has none of has no key.
 */
#define INDEX_KEYS(X)     \
	X(address4, 4)    \
	X(address6, 16)   \
	X(inner4, 4)      \
	X(inner6, 16)     \
	X(port, 2)        \
	X(inner_port, 2)  \
	X(proto, 1)       \
	X(inner_proto, 1) \
	X(ethertype, 2)   \
	X(vlan, 2)        \
	X(mpls, 4)        \
	X(vni, 4)         \
	X(node, 4)        \
	X(device, 4)      \
	X(mark, 4)        \
	X(pid, 4)         \
	X(comm, 16)

enum index_key {
#define X(name, bytes) KEY_##name,
	INDEX_KEYS(X)
#undef X
		KEYS_NR
};

extern const unsigned char index_key_bytes[KEYS_NR];

/* Sections, in the order they stand; the keys' follow. */
enum index_part {
	PART_DEVICES,
	PART_GAPS,
	PART_TIMES,
	PART_OFFSETS,  /* of blocks of tracks, in PART_TRACKS; one more than there are */
	PART_TRACKS,   /* index_tracks.h */
	PART_CHUNKS,   /* checksums of the segment */
	PART_POSTINGS, /* lists of ends: track * 2, + 1 for the remote one */
	PART_KEYS,
	PARTS_NR = PART_KEYS + KEYS_NR
};

/* A track's mask: what of it the columns have. */
#define RECORD_ENDS (1U << 0)
#define RECORD_INNER (1U << 1)
#define RECORD_VLAN (1U << 2)
#define RECORD_VLANS (1U << 3)
#define RECORD_MPLS (1U << 4)
#define RECORD_VNI (1U << 5)
#define RECORD_MARK (1U << 6)
#define RECORD_PID (1U << 7)
#define RECORD_COMM (1U << 8)
#define RECORD_BACK (1U << 9) /* packets from remote to local */
#define RECORD_FORTH (1U << 10)
#define RECORD_TYPE (1U << 11) /* another ethertype than the addresses' */
#define RECORD_CLASS (1U << 12)

/* Has it addresses? ARP has too. */
bool index_has_ends(const struct track *track);

/* The index of a catalog, as one buffer to be freed; `chunks` are checksums of the segment. */
int index_build(const struct catalog *c, const __u32 *chunks, __u32 chunks_n, void **at,
		size_t *size);

struct index_section {
	__u64 offset, bytes;
	__u32 count;
};

struct index {
	struct checked file;
	struct index_section parts[PARTS_NR];
	struct catalog about;	  /* without tracks and entries: devices, gaps, times, totals */
	__u64 segment_bytes, sum; /* of its checksums */
	__u32 packets, tracks;
	struct index_tracks *read; /* blocks that were asked for */
	__u32 *chunks;		   /* checksums of the segment */
	__u32 chunks_n;
};

/* -errno; -EBADMSG: damaged, and why says how. */
int index_open(struct index *index, int dir, const char *name, const char **why);
void index_close(struct index *index);

/* Before the checksums of the segment are used. */
int index_chunks(struct index *index);

/*
 * A track, and how many packets it has each way; times, stamps and bytes are with the packets
 * and in the flow records. With `refs`, the positions of the halves asked for are appended.
 * -EBADMSG, -ENOMEM.
 */
struct index_refs {
	__u64 *at; /* position << 32 | half */
	__u32 n, room;
};

int index_track(struct index *index, __u32 track, struct catalog_track *t, unsigned halves,
		struct index_refs *refs);

/* Gives back what tracks that were asked for took. */
void index_forget(struct index *index);

/* Bits of halves, as words of 64. Those that could match are set: all that do are. */
__u32 index_words(const struct index *index);
int index_match(struct index *index, const struct expr *expr, __u64 *halves);

/* What a test of an address asks of keys: of which kind, from `low` to `high`, as `mask` says. */
enum index_key index_address(const struct filter_op *op, bool inner, unsigned char low[16],
			     unsigned char high[16], unsigned char mask[16]);

/* The kind of key of a field that has only one: not of the protocol, and not of the class. */
enum index_key index_field(enum filter_field field);

/* The n-th key of a kind; NULL: damaged. */
const unsigned char *index_key(struct index *index, enum index_key key, __u32 n);

/* A number as a key has it. */
void index_number(unsigned char to[4], __u32 value, unsigned bytes);

#endif
