// SPDX-License-Identifier: GPL-2.0-only
/* Finds cgroups by path, in whatever hierarchies this machine has, and the processes in them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

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

/* A cgroup's file handle is its id. */
struct cgroup_handle {
	struct file_handle handle;
	__u64 id;
};

#define KERNFS_HANDLE 0xfe

struct cgroup_search {
	const char *path;
	__u64 *id;
	unsigned *level;
	char *found;
	size_t size;
};

static unsigned depth(const char *path)
{
	unsigned n = 0;

	for (; *path; path++)
		n += *path != '/' && (path[1] == '/' || !path[1]);
	return n;
}

static int cgroup_id_step(const struct mount *mount, void *ctx)
{
	struct cgroup_handle h = { .handle.handle_bytes = sizeof(h.id) };
	struct cgroup_search *search = ctx;
	size_t point = strlen(mount->point);
	const char *below = search->path;
	char dir[4096];
	int mount_id;

	if (!strncmp(below, mount->point, point) && (below[point] == '/' || !below[point]))
		below += point;
	if (snprintf(dir, sizeof(dir), "%s/%s", mount->point, below) >= (int)sizeof(dir))
		return 0;
	if (!cgroup_is(dir) || name_to_handle_at(AT_FDCWD, dir, &h.handle, &mount_id, 0))
		return 0;
	memcpy(search->id, h.handle.f_handle, sizeof(*search->id));
	*search->level = depth(mount->root) + depth(below);
	return 1;
}

int cgroup_id(const char *path, __u64 *id, unsigned *level)
{
	struct cgroup_search search = { .path = path, .id = id, .level = level };
	int err = mounts_each("cgroup2", cgroup_id_step, &search);

	return err < 0 ? err : err ? 0 : -ENOENT;
}

static int cgroup_path_step(const struct mount *mount, void *ctx)
{
	struct cgroup_handle h = { .handle.handle_bytes = sizeof(h.id),
				   .handle.handle_type = KERNFS_HANDLE };
	struct cgroup_search *search = ctx;
	size_t point = strlen(mount->point);
	char link[64], path[4096];
	int at = open(mount->point, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
	ssize_t n;

	memcpy(h.handle.f_handle, search->id, sizeof(*search->id));
	fd = at < 0 ? -1 : open_by_handle_at(at, &h.handle, O_PATH | O_CLOEXEC);
	if (at >= 0)
		close(at);
	if (fd < 0)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	close(fd);
	if (n < (ssize_t)point)
		return 0;
	path[n] = 0;
	snprintf(search->found, search->size, "%s", path[point] ? path + point : "/");
	return 1;
}

int cgroup_path(__u64 id, char *path, size_t size)
{
	struct cgroup_search search = { .id = &id, .found = path, .size = size };
	int err = mounts_each("cgroup2", cgroup_path_step, &search);

	return err < 0 ? err : err ? 0 : -ENOENT;
}
