/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets on their way to disk: in memory until a thread of its own has written them. */
#ifndef TIDEMARK_PACKETS_H
#define TIDEMARK_PACKETS_H

#include "class.h"
#include "segment.h"

/*
 * Whoever empties the rings never waits for a disk: he puts packets into batches, and the
 * writer takes them from there. What waits is limited by class; beyond that packets are
 * lost, counted, and told as gaps.
 */
struct packets;

/* What a device is called. `device` empty: by its number. */
typedef void (*packets_name_fn)(__u32 node, __u32 device, char node_name[64], char device_name[64],
				void *ctx);

struct packets_options {
	const char *dir;
	const char *key_file;
	bool zstd;
	__u64 zstd_after_ns;
	bool patient;	/* wait for the disk rather than lose: what is read can wait */
	__u16 linktype; /* 0: what the packet says */
	packets_name_fn name;
	void *ctx;
};

/* NULL: said why. */
struct packets *packets_open(const struct packets_options *options);

/* From here on packets may be of this class; again: with other limits. -errno, said. */
int packets_class(struct packets *p, __u32 slot, const struct class_spec *spec);

/*
 * No packet is of this class any more: its file is sealed, once all of it that waits has been
 * written. False: not yet.
 */
bool packets_class_end(struct packets *p, __u32 slot);

/* Copies. */
void packets_put(struct packets *p, const struct packet *packet, const void *bytes);

/*
 * Hands what was put to the writer, in the order of time. At least every few milliseconds.
 * With a wall clock: what is later than that is kept for the next time.
 */
void packets_flush(struct packets *p);
void packets_flush_until(struct packets *p, __u64 until_ns);

/* And waits until all of it has been written, for counts that say so. */
void packets_settle(struct packets *p);

/* So many found no room in their ring. Does not wait: it is told when the disk takes it. */
void packets_gap(struct packets *p, __u32 slot, __u32 node, __u64 from_ns, __u64 to_ns,
		 __u64 packets, __u64 bytes);

struct packets_stats {
	bool known;	     /* there is such a class */
	__u64 waiting_bytes; /* in memory now */
	__u64 waiting_packets;
	__u64 waiting_since_ns;		/* wall clock of the oldest of them, 0: none waits */
	__u64 lost_packets, lost_bytes; /* for want of memory, or of disk */
	bool stuck;			/* the disk does not take anything */
	struct segments_stats disk;	/* as of the last tick */
};

void packets_stats(struct packets *p, __u32 slot, struct packets_stats *stats);

/* Writes everything that waits, closes the files. -errno of the first that could not. */
int packets_close(struct packets *p);

/* And how many of those that were put are not on disk: said by class, and here in all. */
int packets_close_lost(struct packets *p, __u64 *lost);

#endif
