/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Files mapped and believed only where a checksum agrees, which is asked once for each place.
 * Encrypted ones are seen as they were before.
 */
#ifndef TIDEMARK_CHECKED_H
#define TIDEMARK_CHECKED_H

#include <stddef.h>

#include <linux/types.h>

struct vault;

struct checked {
	const unsigned char *at; /* of an encrypted file only where checked_at() has been */
	__u64 size;
	__u64 from;	   /* checksums are of the file from here... */
	__u64 to;	   /* ...to here */
	__u32 unit;	   /* so many bytes each; 0: there are none */
	const __u32 *sums; /* in the machine's order */
	__u32 *tail;	   /* they, if they were in the file */
	unsigned char *seen;
	int fd;
	struct vault *vault;	  /* of an encrypted file, */
	const unsigned char *raw; /* and as it is */
	__u64 raw_size;
};

/* Maps a whole open file, which it takes over. -ENOKEY, -EKEYREJECTED: secret.h. */
int checked_open(struct checked *c, int fd);

/* The same file as it is by now: longer. What was got of it may be elsewhere. */
int checked_grow(struct checked *c);

/* Of an encrypted file no more than this is open at once; what checked_at() gave before is gone. */
void checked_bound(struct checked *c, __u64 bytes);

/* The mapping needs no descriptor, of which a process may have few. */
void checked_keep(struct checked *c);

/* From now on bytes `from` to `to` are checked; `sums` must outlive it. */
int checked_trust(struct checked *c, __u64 from, __u64 to, __u32 unit, const __u32 *sums);

/*
 * The same for a file that has its checksums behind what they are of: all of it from `from` to
 * `to`. `sum` is the checksum of the checksums. -EBADMSG.
 */
int checked_tail(struct checked *c, __u64 from, __u64 to, __u32 unit, __u64 sum);

/* NULL when it is not in the file, or not what it was. */
const unsigned char *checked_at(struct checked *c, __u64 offset, __u64 bytes);

/*
 * The same without checksums, and what of an encrypted file cannot be opened is zero: for who
 * looks for what is left. NULL: not in the file.
 */
const unsigned char *checked_remains(struct checked *c, __u64 offset, __u64 bytes);

/* Bytes that will be asked for: read from disk meanwhile, and nothing around them. */
void checked_expect(struct checked *c, __u64 offset, __u64 bytes);

/* Most of it will be asked for, in order: the disk reads far ahead. */
void checked_sweep(struct checked *c);

void checked_close(struct checked *c);

/* Checksums of a file that grows, made while its bytes go by; the last may be of part of a unit. */
struct sums {
	__u32 *at;
	__u32 n, room;
	__u64 bytes; /* that they are of */
	void *state; /* of the last */
};

/* -ENOMEM: then it is as if nothing had been added. */
int sums_add(struct sums *sums, const void *at, size_t bytes, __u32 unit);
void sums_free(struct sums *sums);

/* The checksums of `bytes`; there are (bytes + unit - 1) / unit of them. */
void checked_sums(const void *at, __u64 bytes, __u32 unit, __u32 *sums);

#endif
