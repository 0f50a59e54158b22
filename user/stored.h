/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of a record written: plain, or with a key encrypted, all alike. checked.h reads them. */
#ifndef TIDEMARK_STORED_H
#define TIDEMARK_STORED_H

#include "secret.h"

struct stored {
	int fd;
	bool secret;
	struct secret key;
	__u64 bytes; /* given to it, and on disk */
	__u64 size;  /* of the file */
	__u32 blocks;
	unsigned char *out; /* encrypted, and not taken by the disk yet */
	__u32 out_bytes, out_room;
	__u32 pending;		     /* how many bytes these were */
	size_t before;		     /* of what failed, so much is on disk already */
	unsigned char (*lengths)[4]; /* of the blocks */
	__u32 lengths_room;
};

/* At the beginning of an empty file. -EIO. */
int stored_begin(struct stored *stored, int fd);

/*
 * Appends; all of it is there, or -errno. After an error the same bytes are to be given
 * again, behind them what has come since: that no number is used for two blocks is what
 * keeps them secret.
 */
int stored_put(struct stored *stored, const void *at, size_t bytes);

/* It is complete. Readers do without what is written here, if the disk does not take it. */
int stored_end(struct stored *stored);

void stored_free(struct stored *stored);

#endif
