/* SPDX-License-Identifier: GPL-2.0-only */
/* Files of a record written: plain, or with a key encrypted, all alike. checked.h reads them. */
#ifndef TIDEMARK_STORED_H
#define TIDEMARK_STORED_H

#include "secret.h"

struct stored {
	int fd;
	bool secret;
	struct secret key;
	__u64 bytes; /* as they were given, and on disk */
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
 * Bytes at this place of the file as it would be plain: its end, or, after an error, where the
 * same were given before, perhaps with more behind them. That no number is used for two
 * blocks is what keeps them secret, so what was encrypted once is what is written. -errno.
 */
int stored_put(struct stored *stored, const void *at, size_t bytes, __u64 offset);

/* It is complete. Readers do without what is written here, if the disk does not take it. */
int stored_end(struct stored *stored);

void stored_free(struct stored *stored);

#endif
