/* SPDX-License-Identifier: GPL-2.0-only */
/* A directory of event files: names that sort by time, compressed once closed, within a budget. */
#ifndef TIDEMARK_SHELF_H
#define TIDEMARK_SHELF_H

#include <linux/types.h>

#define SHELF_NAME_MAX 64

struct shelf;

/*
 * Makes the directory if need be, and it is ours alone as long as we run. What one that was
 * killed left is put in order: a torn last line is cut off, files are compressed. NULL: said
 * why.
 */
struct shelf *shelf_open(const char *dir);

/* A new file, to be written; its name. A descriptor or -errno. */
int shelf_create(struct shelf *shelf, char name[SHELF_NAME_MAX]);

/* It is written to no more: it will be compressed, by a thread. */
void shelf_closed(struct shelf *shelf, const char *name);

/* Now and then: begins what is to be compressed, ends what is done. */
void shelf_tick(struct shelf *shelf);

/* Deletes the oldest closed files until all, `open` bytes of the open one included, fit. */
void shelf_budget(struct shelf *shelf, __u64 most, __u64 open);

/* Waits until everything is compressed. 0, or 1 when not everything was, said. */
int shelf_close(struct shelf *shelf);

#endif
