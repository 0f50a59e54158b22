// SPDX-License-Identifier: GPL-2.0-only
/* A process that just began, and the container it is the first of. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "foreign.h"
#include "netns.h"
#include "newborn.h"

/* Runtimes name containers by 64 hex digits; runc alone, by any word, and writes its file early. */
#define ID_LEAST 32

/* Is this in any container at all? Most programs that begin on a host are not. */
static bool cgroup_is_container(const char *cgroup)
{
	for (size_t run; *cgroup; cgroup += run ? run : 1) {
		run = strspn(cgroup, "0123456789abcdef");
		if (run >= ID_LEAST)
			return true;
	}
	return false;
}

int newborn_read(pid_t pid, struct newborn *out)
{
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	if (foreign_read(path, out->cgroup, sizeof(out->cgroup) - 1, &len))
		return -ENOENT;
	out->cgroup[len] = '\0';
	out->pid = pid;
	if (!cgroup_is_container(out->cgroup) || netns_inode_pid(pid, &out->inode))
		return -ENOENT;
	return 0;
}

pid_t newborn_process(const struct newborn *newborn, const struct container *container,
		      __u64 *inode)
{
	pid_t pid = container->pid;

	if (newborn->pid && strlen(container->id) >= ID_LEAST &&
	    strstr(newborn->cgroup, container->id))
		pid = newborn->pid;
	if (!pid || netns_inode_pid(pid, inode))
		return 0;
	return newborn->pid && *inode != newborn->inode ? 0 : pid;
}
