/* SPDX-License-Identifier: GPL-2.0-only */
/* Catalogs: what is known of the packets of one segment, in memory while it is written. */
#ifndef TIDEMARK_CATALOG_H
#define TIDEMARK_CATALOG_H

#include <stdbool.h>
#include <stddef.h>

#include "../bpf/track.h"
#include "checked.h"

#define CATALOG_NAME_MAX 64
#define CATALOG_UNIT 4		 /* positions count pcapng's unit of alignment */
#define CATALOG_CHUNK (1U << 16) /* units of the file for each entry of the table of times */

/* A track and a direction are a half: what `src` and `dst` tell apart. */
#define HALF(track, forward) ((track) << 1 | (forward))

/* What each packet changes comes first, as long as a line of the cache. */
struct catalog_track {
	__u64 first_ns, last_ns;
	__u64 first_stamp, last_stamp;
	__u64 wire[2]; /* bytes, by direction: [1] from local to remote */
	__u32 packets[2];
	__u32 flow; /* for the writer: its first track, which has the same but mark and process */
	__u32 interface : 31; /* for the writer: number + 1, 0 not asked yet */
	__u32 current : 1;    /* for the writer: this is what was said last */
	__u32 said; /* of a flow's first track: which mark and process the file said last; ~0: none */
	struct track track;
};

/*
 * 96 bits that stand for a track: two that agree in them are not compared, which would mean
 * to wait for more memory than anything else a packet needs. By chance it happens to one of
 * 10^19 tracks that a file may have; nobody can aim at it, for the process draws a seed.
 */
struct catalog_hash {
	__u64 at;
	__u32 check;
};

struct catalog_slot {
	__u64 at;
	__u32 check;
	__u32 track; /* and one more; 0: none */
};

struct catalog_slots {
	struct catalog_slot *at;
	__u32 n, used;
};

struct catalog_device {
	__u32 node, device;
	__u16 linktype;
	__u32 position; /* of the block that says so, in units; only a journal knows it */
	char node_name[CATALOG_NAME_MAX], name[CATALOG_NAME_MAX];
};

struct catalog_entry {
	__u32 position; /* in units of CATALOG_UNIT */
	__u32 half;
};

/* Of the packets before this place in the file the latest, of those from it on the earliest. */
struct catalog_times {
	__u64 before_ns, from_ns;
};

struct catalog_gap {
	__u32 node;
	__u64 from_ns, to_ns, packets, bytes;
	char reason[CATALOG_NAME_MAX];
};

struct catalog {
	struct catalog_track *tracks;
	struct catalog_device *devices; /* number = interface in the file */
	struct catalog_entry *entries;	/* in order of position */
	struct catalog_times *times;
	struct catalog_gap *gaps;
	struct catalog_slots slots; /* by hash */
	__u32 tracks_n, devices_n, entries_n, times_n, gaps_n;
	__u32 tracks_room, devices_room, entries_room, times_room, gaps_room;
	__u64 first_ns, last_ns; /* earliest and latest packet; 0 and 0: none */
	__u64 first_stamp, last_stamp;
	__u64 late_ns, late_stamp; /* most that a packet was behind one before it in the file */
	__u64 wire_bytes, kept_bytes;
	__u64 end;	  /* of the file, in bytes, as far as the catalog knows it, */
	struct sums sums; /* and of each INDEX_CHUNK of these bytes the checksum */
	char class_name[32];
	char host[CATALOG_NAME_MAX];
};

void catalog_free(struct catalog *c);

/* The number of a track, made if it is new. -ENOMEM. */
__s64 catalog_track(struct catalog *c, const struct track *track);

/*
 * Of many flows at once none is in the cache, so that whoever adds a packet mostly waits for
 * memory. Who knows which come next asks for them earlier: the slot, and later the track.
 */
struct catalog_hash catalog_hash(const struct track *track);
void catalog_await_slot(const struct catalog *c, struct catalog_hash hash);
void catalog_await_track(const struct catalog *c, struct catalog_hash hash);
__s64 catalog_track_hashed(struct catalog *c, const struct track *track, struct catalog_hash hash);

/* The track of this hash, -ENOENT; or the first one told of by it, which may be `track`; -ENOMEM. */
__s64 catalog_find(const struct catalog_slots *slots, struct catalog_hash hash);
__s64 catalog_first(struct catalog_slots *slots, struct catalog_hash hash, __u32 track);
void catalog_slots_free(struct catalog_slots *slots);

/* The number of an interface; -ENOENT. */
__s64 catalog_device_find(const struct catalog *c, __u32 node, __u32 device, __u16 linktype);
int catalog_device_add(struct catalog *c, const struct catalog_device *device);
/* What a node is called, of which a device is known; "" if none is. */
const char *catalog_node_name(const struct catalog *c, __u32 node);
int catalog_gap_add(struct catalog *c, const struct catalog_gap *gap);

struct catalog_packet {
	__u32 track;
	bool forward;
	__u32 position;
	__u64 wall_ns, stamp;
	__u32 wire, kept;
};

int catalog_add(struct catalog *c, const struct catalog_packet *packet);

/* Grows an array by doubling; `*at` may be NULL. -ENOMEM. */
int array_grow(void **at, __u32 *room, __u32 wanted, size_t size);

#endif
