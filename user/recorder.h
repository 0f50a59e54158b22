/* SPDX-License-Identifier: GPL-2.0-only */
/* The engine of recording: from the kernel's rings of packets to the disk, and statistics. */
#ifndef TIDEMARK_RECORDER_H
#define TIDEMARK_RECORDER_H

#include "class.h"

/*
 * Each time costs two threads a wake-up. A ring that fills faster wakes its reader, and 100
 * ms after its arrival a packet can be found: this, what writing takes, the reader's own wait.
 */
#define RECORDER_DRAIN_NS (40ULL * 1000 * 1000)
#define RECORDER_RINGS_BYTES (128ULL << 20) /* of all CPUs, of each from 2m to 16m */
#define RECORDER_STATS_NS (10ULL * 1000 * 1000 * 1000)

struct recorder_options {
	const char *dir;
	const char *key_file;
	bool zstd;
	__u64 zstd_after_ns;
	size_t ring_bytes; /* a CPU; 0: by their number */
	__u64 stats_ns;	   /* a line per class in DIR/stats.jsonl; 0: the default */
};

struct recorder;

/* Does a process other than this one record from this datapath? Its pid, or 0. */
int recorder_other(const struct tidemark *t);

/*
 * Begins to record. What a recorder that was killed left in the rings is taken over. The
 * list stays the caller's. NULL: said why, and nothing has changed.
 */
struct recorder *recorder_open(struct tidemark *t, const struct class_list *classes,
			       const struct recorder_options *options);

/* Other classes from now on. -errno, said. */
int recorder_classes(struct recorder *r, const struct class_list *classes);

/* Empties the rings: at least every RECORDER_DRAIN_NS, and when a descriptor is ready. */
void recorder_drain(struct recorder *r);
unsigned recorder_fds(const struct recorder *r, int *fds, unsigned most);

/*
 * Ends: nothing is lost that the kernel had kept. With `leave`, the kernel goes on, for
 * another recorder to take over. -errno of the disk.
 */
int recorder_close(struct recorder *r, bool leave);

#endif
