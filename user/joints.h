/* SPDX-License-Identifier: GPL-2.0-only */
/* The joint indexes of a class, kept by whoever seals: made, merged, deleted. */
#ifndef TIDEMARK_JOINTS_H
#define TIDEMARK_JOINTS_H

#include <stdbool.h>

#include <linux/types.h>

struct joints;

/* Takes stock of what is there: what is damaged is deleted, to be made anew. NULL: no memory. */
struct joints *joints_open(int dir, const char *path);

/* A segment has been sealed, or deleted. */
int joints_add(struct joints *joints, const char *base);
void joints_drop(struct joints *joints, const char *base);

/* Is there something to merge? Then one step of it, which may take a second. Said if it fails. */
bool joints_due(const struct joints *joints);
void joints_step(struct joints *joints);

/* On disk, all of them. */
__u64 joints_bytes(const struct joints *joints);
void joints_close(struct joints *joints);

/* All joints of a directory deleted, before its indexes become others. */
void joints_forget(int dir);

#endif
