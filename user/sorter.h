/* SPDX-License-Identifier: GPL-2.0-only */
/* Sorts any number of records of one size in bounded memory: what does not fit goes to disk. */
#ifndef TIDEMARK_SORTER_H
#define TIDEMARK_SORTER_H

#include <stddef.h>
#include <stdint.h>

struct sorter;

typedef int (*sorter_fn)(const void *a, const void *b);

/* budget: bytes of memory it may take. NULL without memory. */
struct sorter *sorter_new(size_t record_size, sorter_fn compare, size_t budget);

/* All of them first, then sorter_sort() once. Return 0 or -errno (of the temporary file too). */
int sorter_add(struct sorter *sorter, const void *record);
int sorter_sort(struct sorter *sorter);

/* Afterwards: records from place `at` on, in order, as many as there are up to n. How many were
 * read, or -errno.
 */
int64_t sorter_read(struct sorter *sorter, uint64_t at, void *records, size_t n);

uint64_t sorter_count(const struct sorter *sorter);

void sorter_free(struct sorter *sorter);

/* A record at a time, from anywhere on, through a small buffer of its own. */
struct sorter_cursor {
	struct sorter *sorter;
	uint64_t at; /* of the next record */
	char *buffer;
	size_t room, have, used; /* records */
};

/* room: records in the buffer. Returns 0 or -ENOMEM. */
int sorter_cursor_open(struct sorter_cursor *cursor, struct sorter *sorter, uint64_t at,
		       size_t room);

/* The next record, valid until the next call; NULL at the end, or with *err set. */
const void *sorter_cursor_next(struct sorter_cursor *cursor, int *err);
void sorter_cursor_close(struct sorter_cursor *cursor);

/* What TMPDIR says, or /tmp. */
const char *sorter_dir(void);

/* A file there that is gone when it is closed: an fd or -errno. */
int sorter_temporary(void);

#endif
