/* SPDX-License-Identifier: GPL-2.0-only */
/* Files that only who has the key can read: keys, and bytes sealed block by block. */
#ifndef TIDEMARK_SECRET_H
#define TIDEMARK_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

/* docs/encryption.md has the bytes. */
#define SECRET_MAGIC "TMSECRT1"
#define SECRET_KEY 32
#define SECRET_HEAD 40 /* magic, salt of the file, name of the key */
#define SECRET_SALT 16
#define SECRET_NAME 16
#define SECRET_BLOCK 4096 /* most plain bytes of a block, and at multiples of it one begins */
#define SECRET_LENGTH 4	  /* before each block; with SECRET_TABLE it is the table of all others */
#define SECRET_MORE 20	  /* bytes that a block is longer than what it says: length and tag */
#define SECRET_TABLE 0x80000000U
#define SECRET_TAIL 8 /* behind the table: how many blocks, and a magic number */
#define SECRET_TAIL_MAGIC "TMST"

/*
 * The keys of this process, as its credentials are: named by whoever started it, asked for
 * wherever a file turns out to need one. None is ever forgotten, so that a daemon which is
 * given another goes on reading what it wrote before. Both are -errno, said.
 */
int secret_read_with(const char *file);
int secret_write_with(const char *file); /* what is written from now on; NULL: nothing is sealed */
bool secret_writing(void);

/* In words, also what other errors mean. */
const char *secret_error(int err);

/* What seals one file. */
struct secret {
	unsigned char head[SECRET_HEAD];
	unsigned char key[SECRET_KEY];
};

/* For a new file. -EIO: no key to write with. */
int secret_make(struct secret *secret);

/*
 * For one that begins so; -EBADMSG: it is no such file; -EPROTONOSUPPORT: of another version.
 * -ENOKEY, -EKEYREJECTED.
 */
int secret_find(struct secret *secret, const void *head, size_t size);
bool secret_is(const void *head, size_t size);

/* `length` is that of the block, with SECRET_TABLE or without; `to` takes SECRET_MORE more. */
void secret_seal(const struct secret *secret, __u64 number, __u32 length, const void *plain,
		 unsigned char *to);
int secret_unseal(const struct secret *secret, __u64 number, const unsigned char *from,
		  void *plain);

void secret_wipe(struct secret *secret);

#endif
