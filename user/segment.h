/* SPDX-License-Identifier: GPL-2.0-only */
/* Segments: the files packets are kept in, one class's beside each other, oldest deleted first. */
#ifndef TIDEMARK_SEGMENT_H
#define TIDEMARK_SEGMENT_H

#include <stdbool.h>

#include "catalog.h"

#define SEGMENT_BYTES (64ULL << 20)	 /* default size of a file */
#define SEGMENT_FLOW_BYTES (64ULL << 20) /* default budget of flow records */
#define SEGMENT_CLASS_MAX 32

struct segments;

/* Zero is the default everywhere. Strings need not outlive segments_open(). */
struct segments_options {
	const char *dir;	/* made if it is not there; the class has a directory in it */
	const char *class_name; /* letters, digits, - and _; default "all" */
	const char *host;	/* name of this machine, as packets and files call it */
	__u64 file_bytes;	/* a file is closed when it reaches this */
	__u64 budget_bytes;	/* of packets and their indexes together; 0: no limit */
	__u64 age_ns;		/* files whose last packet is older are deleted; 0: never */
	__u64 flow_bytes;	/* of flow records, kept longer than packets */
	bool zstd;		/* sealed files are compressed, in the background, */
	__u64 zstd_after_ns;	/* once their last packet is so old */
	const char *key_file;	/* everything is encrypted with this key; NULL: nothing is */
};

/* What there is, for `show` and metrics. */
struct segments_stats {
	__u64 packets, bytes;	      /* written since open: frames as kept */
	__u64 gap_packets, gap_bytes; /* told to segments_gap() */
	__u64 disk_bytes;	      /* of this class now: packets and indexes */
	__u64 files;
	__u64 oldest_ns, newest_ns; /* wall clock of the packets on disk */
	__u64 deleted;		    /* files, for the budget or by age */
	__u64 recovered;	    /* files found unsealed at open, and sealed */
};

/*
 * Opens a class for writing, and puts what an earlier process left unsealed in order. One
 * writer per class: NULL and errno EBUSY for a second. Errors have been said.
 */
struct segments *segments_open(const struct segments_options *options);

/* From now on these file_bytes, budget_bytes, age_ns and flow_bytes; nothing else of it. */
void segments_limit(struct segments *s, const struct segments_options *options);

/*
 * What a (node, device) is called, and its link type (LINKTYPE_*: 1 Ethernet, 101 raw IP).
 * To be said before its first packet; without, it is named by its numbers.
 */
int segments_device(struct segments *s, __u32 node, __u32 device, const char *node_name,
		    const char *device_name, __u16 linktype);

/*
 * Keeps a packet; packet->kept bytes follow. Copies into a buffer; -errno once the disk did
 * not take one, and then of each packet not taken: nothing is torn, and writing is tried
 * again at the next tick. The caller counts what it loses and says so by segments_gap().
 */
int segments_write(struct segments *s, const struct packet *packet, const void *bytes);

/*
 * For who has many packets at hand: the hash taken while the packet is in the cache, and what
 * will be needed of a class's memory asked for when it is a few packets off, then `near`.
 */
struct catalog_hash segments_hash(const struct packet *packet);
void segments_await(const struct segments *s, struct catalog_hash hash, bool near);
int segments_write_hashed(struct segments *s, const struct packet *packet, const void *bytes,
			  struct catalog_hash hash);

/* So many packets of a node are not here, and why; a query tells whoever asks for the time. */
int segments_gap(struct segments *s, __u32 node, __u64 from_ns, __u64 to_ns, __u64 packets,
		 __u64 bytes, const char *reason);

/*
 * At least every 50 ms: what was written before is from now on visible to queries. Also
 * deletes what is too old or too much. `now_ns` is the wall clock. -errno as of writing.
 */
int segments_tick(struct segments *s, __u64 now_ns);

/* The file being written is sealed now, whatever its size. */
int segments_seal(struct segments *s);

void segments_stats(const struct segments *s, struct segments_stats *stats);

/* Packets written that no reader sees yet: the disk has not taken them. */
__u64 segments_unwritten(const struct segments *s);

/* Seals and frees; -errno if the last file could not be sealed (it will be at the next open). */
int segments_close(struct segments *s);

/* Rebuilds every index in a directory from the packets; -errno, and said which. */
int segments_reindex(const char *dir, const char *key_file);

#endif
