/* SPDX-License-Identifier: GPL-2.0-only */
/* A process that just began, and the container it is the first of. */
#ifndef TIDEMARK_NEWBORN_H
#define TIDEMARK_NEWBORN_H

#include <linux/types.h>
#include <stdbool.h>
#include <sys/types.h>

#include "container.h"

/**
 * docker writes down that a container runs only when it does: by then it may have talked. But its
 * file with name and labels is there before, and its id is in the cgroup of its processes.
 */
struct newborn {
	pid_t pid; /* 0: there is none; containers run if their files say so */
	__u64 inode;
	char cgroup[8192];
};

/** -ENOENT: it has gone, or is in no container. */
int newborn_read(pid_t pid, struct newborn *out);

/**
 * The process by which to find the container: the newborn if it belongs to it, else what its file
 * says; 0 if that is nobody, or somebody in another namespace than the newborn. @inode is of its
 * namespace.
 */
pid_t newborn_process(const struct newborn *newborn, const struct container *container,
		      __u64 *inode);

#endif
