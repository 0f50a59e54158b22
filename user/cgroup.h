/* SPDX-License-Identifier: GPL-2.0-only */
/* Finds cgroups by path, in whatever hierarchies this machine has, and the processes in them. */
#ifndef TIDEMARK_CGROUP_H
#define TIDEMARK_CGROUP_H

#include <linux/types.h>
#include <sys/types.h>

/** Return non-zero to stop; cgroup_each_pid() hands that value back. */
typedef int (*pid_fn)(pid_t pid, void *ctx);

/**
 * Calls @fn for every process in cgroup @path and below. @path is a cgroup directory, or relative
 * to the mounts of cgroups as /proc/PID/cgroup has it, then in each hierarchy that has it. -ENOENT
 * if none has.
 */
int cgroup_each_pid(const char *path, pid_fn fn, void *ctx);

/* The root of the cgroup2 hierarchy, opened, for programs that serve all sockets. -ENODEV: none. */
int cgroup_root_open(void);
/** The id of a cgroup of version 2, as BPF knows it, and how deep it lies (the root: 0). */
int cgroup_id(const char *path, __u64 *id, unsigned *level);

/** The reverse: its path as /proc/PID/cgroup has it, or -errno. */
int cgroup_path(__u64 id, char *path, size_t size);

#endif
