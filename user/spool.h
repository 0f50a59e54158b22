/* SPDX-License-Identifier: GPL-2.0-only */
/* A bounded queue of batches on disk, oldest first, that outlives the process. */
#ifndef TIDEMARK_SPOOL_H
#define TIDEMARK_SPOOL_H

#include <linux/types.h>
#include <stddef.h>

struct spool;

/* Makes the directory if need be; what is in it comes first. NULL: said why. */
struct spool *spool_open(const char *dir, __u64 most_bytes);
void spool_close(struct spool *spool);

/*
 * Adds a batch of so many records, whole or not at all. If there is no room the oldest go;
 * *lost is how many records that cost, this one's if it could not be written (-errno).
 */
int spool_put(struct spool *spool, const char *text, size_t len, __u64 records, __u64 *lost);

/*
 * The oldest, to be freed; NULL if there is none. It is held, and no room is made of it,
 * until spool_drop() takes it away or spool_keep() leaves it for another time.
 */
char *spool_first(struct spool *spool, size_t *len, __u64 *records);
void spool_drop(struct spool *spool);
void spool_keep(struct spool *spool);

__u64 spool_bytes(const struct spool *spool);

#endif
