// SPDX-License-Identifier: GPL-2.0-only
/* Finds cgroups by path, in whatever hierarchies this machine has, and the processes in them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>

#include "cgroup.h"
#include "mounts.h"

struct cgroup_walk {
	const char *path;
	pid_fn fn;
	void *ctx;
	int found;
};

static int cgroup_is(const char *dir)
{
	struct statfs fs;

	return !statfs(dir, &fs) &&
	       (fs.f_type == CGROUP2_SUPER_MAGIC || fs.f_type == CGROUP_SUPER_MAGIC);
}

static int procs_read(const char *dir, struct cgroup_walk *walk)
{
	char path[4096];
	int err = 0, pid;
	FILE *file;

	snprintf(path, sizeof(path), "%s/cgroup.procs", dir);
	file = fopen(path, "re");
	if (!file)
		return 0; /* removed meanwhile */
	/* 0 is a process our pid namespace cannot see; a threaded cgroup refuses to be read. */
	while (!err && fscanf(file, "%d", &pid) == 1) {
		if (pid > 0)
			err = walk->fn(pid, walk->ctx);
	}
	fclose(file);
	return err;
}

static int tree_read(char *dir, struct cgroup_walk *walk)
{
	char *roots[] = { dir, NULL };
	FTSENT *entry;
	int err = 0;
	FTS *tree;

	tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	if (!tree)
		return -errno;
	while (!err && (entry = fts_read(tree))) {
		if (entry->fts_info == FTS_D)
			err = procs_read(entry->fts_path, walk);
	}
	fts_close(tree);
	return err;
}

static int mount_step(const struct mount *mount, void *ctx)
{
	struct cgroup_walk *walk = ctx;
	char dir[4096];

	if (snprintf(dir, sizeof(dir), "%s/%s", mount->point, walk->path) >= (int)sizeof(dir))
		return 0;
	if (!cgroup_is(dir))
		return 0;
	walk->found = 1;
	return tree_read(dir, walk);
}

int cgroup_each_pid(const char *path, pid_fn fn, void *ctx)
{
	struct cgroup_walk walk = { .path = path, .fn = fn, .ctx = ctx };
	char dir[4096];
	int err;

	if (path[0] == '/' && cgroup_is(path)) {
		if (snprintf(dir, sizeof(dir), "%s", path) >= (int)sizeof(dir))
			return -ENAMETOOLONG;
		return tree_read(dir, &walk);
	}
	err = mounts_each("cgroup2", mount_step, &walk);
	if (!err)
		err = mounts_each("cgroup", mount_step, &walk);
	return err ? err : walk.found ? 0 : -ENOENT;
}

static int root_open(const struct mount *mount, void *ctx)
{
	int *fd = ctx;

	if (strcmp(mount->root, "/")) /* the first whole one */
		return 0;
	*fd = open(mount->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*fd < 0)
		*fd = -errno;
	return 1;
}

int cgroup_root_open(void)
{
	int fd = -ENODEV, err = mounts_each("cgroup2", root_open, &fd);

	return err < 0 ? err : fd;
}
