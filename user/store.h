/* SPDX-License-Identifier: GPL-2.0-only */
/* A directory of segments: names of files, and what is in it. */
#ifndef TIDEMARK_STORE_H
#define TIDEMARK_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "stored.h"

#define STORE_NAME_MAX 64 /* of a segment, without its ending */

#define STORE_PLAIN ".pcapng"
#define STORE_ZSTD ".pcapng.zst"
#define STORE_SECRET ".pcapng.enc" /* and encrypted, as all else of such a segment */
#define STORE_SECRET_ZSTD ".pcapng.zst.enc"
#define STORE_INDEX ".index"
#define STORE_JOURNAL ".journal"
#define STORE_FLOWS ".flows"
#define STORE_NEW ".new"     /* what is not whole yet */
#define STORE_JOINT ".joint" /* and the level */

#define STORE_BOUND (4U << 20) /* bytes of encrypted packets that are open at once */

struct store_name {
	char base[STORE_NAME_MAX];
	bool plain, zstd, secret, secret_zstd, index, journal;
	__u16 joints; /* bits: of which levels one is called like it, */
	bool alone;   /* and there is nothing else: the segment is deleted */
};

struct store_names {
	struct store_name *at;
	__u32 n, room;
};

/* Endings of a segment's packets: as they were written, then packed. */
#define STORE_DATA 4
extern const char *const store_data[STORE_DATA];

/* Opens a segment's packets, whatever they are called by now. The ending, NULL: -errno in `fd`. */
const char *store_open(int dir, const char *base, int flags, int *fd);
bool store_packed(const char *ending);
bool store_has_data(const struct store_name *name);

/*
 * Packets of ours, and nothing that says where they are. No recorder leaves that: an index is
 * there before its journal goes, and is deleted last.
 */
bool store_bare(int dir, const char *base);

/* Every segment in a directory, oldest first. -errno. */
int store_list(int dir, struct store_names *names);

/* `base` with an ending. */
const char *store_file(char text[STORE_NAME_MAX + 16], const char *base, const char *ending);

/*
 * A whole file, written beside its name and moved there when it is on disk; encrypted if this
 * process writes with a key. -errno.
 */
int store_write(int dir, const char *name, const void *at, size_t size);

/* The same in parts, one behind the other; it takes its name at the end, unless `err`. -errno. */
struct store_out {
	struct stored to;
	__u64 at; /* how much there is, as it was given */
};

int store_begin(struct store_out *out, int dir, const char *name);
int store_more(struct store_out *out, const void *at, size_t size);
int store_end(struct store_out *out, int dir, const char *name, int err);

/* What a process that died was writing; nobody may be writing now. -errno. */
int store_tidy(int dir);

/* Writes all of it at an offset. -errno. */
int store_put(int fd, const void *at, size_t size, __u64 offset);

#endif
