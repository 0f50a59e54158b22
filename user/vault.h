/* SPDX-License-Identifier: GPL-2.0-only */
/* Encrypted files read: as if they were mapped, opened block by block where they are looked at. */
#ifndef TIDEMARK_VAULT_H
#define TIDEMARK_VAULT_H

#include "secret.h"

struct vault {
	struct secret secret;
	const unsigned char *raw; /* the file as it is */
	__u64 raw_size;
	unsigned char *plain; /* the file as it was; zero where nobody has looked */
	__u64 size, mapped;
	__u64 *ends; /* of blocks, in plain bytes */
	__u32 n, room;
	__u32 last;	     /* block that was looked at */
	unsigned char *seen; /* bits: blocks that are open */
	__u32 seen_room;     /* bytes of it */
	__u64 open, most;    /* plain bytes of these, and how many may be at once; 0: all */
	bool ended;	     /* the table was found: there will not be more */
};

/*
 * Of a mapped file, which must outlive it. -EBADMSG: not such a file; -ENOKEY, -EKEYREJECTED.
 * vault_close() is to be called after success only.
 */
int vault_open(struct vault **vault, const unsigned char *raw, __u64 raw_size);

/* The same file, longer by now and mapped elsewhere. What was at `plain` may be elsewhere too. */
int vault_grow(struct vault *vault, const unsigned char *raw, __u64 raw_size);

/*
 * These bytes can be read at vault->plain from now on: until the next call, if not all blocks
 * may be open at once. -EBADMSG: they are not what was written.
 */
int vault_look(struct vault *vault, __u64 offset, __u64 bytes);

/* As many of them as can be: the others are zero. */
void vault_remains(struct vault *vault, __u64 offset, __u64 bytes);

/* How long the file is up to this plain byte; 0: that is within a block. */
__u64 vault_end(const struct vault *vault, __u64 offset);

/* Where in the file they are. */
void vault_place(const struct vault *vault, __u64 offset, __u64 bytes, __u64 *raw_from,
		 __u64 *raw_bytes);

void vault_close(struct vault *vault);

#endif
