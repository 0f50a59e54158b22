// SPDX-License-Identifier: GPL-2.0-only
/* Network namespaces: find them, name their identity, work inside one for a moment. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mounts.h"
#include "netns.h"

int netns_open(const char *path)
{
	int fd, err;

	/* Not to hang if what is there is a FIFO. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	err = ioctl(fd, NS_GET_NSTYPE);
	if (err == CLONE_NEWNET)
		return fd;
	close(fd);
	return -EINVAL;
}

int netns_open_pid(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	return netns_open(path);
}

int netns_inode(int fd, __u64 *inode)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*inode = st.st_ino;
	return 0;
}

int netns_inode_pid(pid_t pid, __u64 *inode)
{
	unsigned long long found;
	char path[64], text[64];
	ssize_t len;

	if (pid)
		snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	else
		snprintf(path, sizeof(path), "/proc/self/ns/net");
	len = readlink(path, text, sizeof(text) - 1);
	if (len < 0)
		return -errno;
	text[len] = '\0';
	if (sscanf(text, "net:[%llu]", &found) != 1)
		return -EBADMSG;
	*inode = found;
	return 0;
}

int netns_enter(int fd)
{
	int home, err;

	home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return -errno;
	if (!setns(fd, CLONE_NEWNET))
		return home;
	err = -errno;
	close(home);
	return err;
}

int netns_leave(int home)
{
	int err = 0;

	if (setns(home, CLONE_NEWNET))
		err = -errno;
	close(home);
	return err;
}

int netns_identify(int fd, struct netns *out)
{
	socklen_t len = sizeof(out->cookie);
	int home, sock, err, left;

	err = netns_inode(fd, &out->inode);
	if (err)
		return err;
	home = netns_enter(fd);
	if (home < 0)
		return home;
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0) {
		err = -errno;
	} else {
		if (getsockopt(sock, SOL_SOCKET, SO_NETNS_COOKIE, &out->cookie, &len))
			err = -errno;
		close(sock);
	}
	left = netns_leave(home);
	return left ? left : err;
}

/* Somewhere a namespace can be opened: a mount if @path, else a process. */
struct place {
	__u64 inode;
	char *path;
	pid_t pid;
};

struct places {
	struct place *all;
	size_t n, room;
};

static int place_add(struct places *places, __u64 inode, const char *path, pid_t pid)
{
	struct place *place;

	if (places->n == places->room) {
		size_t room = places->room ? 2 * places->room : 256;

		place = reallocarray(places->all, room, sizeof(*place));
		if (!place)
			return -ENOMEM;
		places->all = place;
		places->room = room;
	}
	place = &places->all[places->n];
	place->inode = inode;
	place->pid = pid;
	place->path = NULL;
	if (path) {
		place->path = strdup(path);
		if (!place->path)
			return -ENOMEM;
	}
	places->n++;
	return 0;
}

static void places_free(struct places *places)
{
	for (size_t i = 0; i < places->n; i++)
		free(places->all[i].path);
	free(places->all);
}

static int place_add_mount(const struct mount *mount, void *ctx)
{
	unsigned long long inode;

	if (sscanf(mount->root, "net:[%llu]", &inode) != 1)
		return 0;
	return place_add(ctx, inode, mount->point, 0);
}

static int place_add_processes(struct places *places)
{
	struct dirent *entry;
	int err = 0;
	DIR *dir;

	dir = opendir("/proc");
	if (!dir)
		return -errno;
	while (!err && (entry = readdir(dir))) {
		pid_t pid = atoi(entry->d_name);
		__u64 inode;

		/* A process that has gone meanwhile is no error. */
		if (pid > 0 && !netns_inode_pid(pid, &inode))
			err = place_add(places, inode, NULL, pid);
	}
	closedir(dir);
	return err;
}

static int path_is_named(const char *path)
{
	return !strncmp(path, "/run/netns/", 11) || !strncmp(path, "/var/run/netns/", 15);
}

/* By inode; there the paths people gave a name first, then other paths, then the lowest pid. */
static int place_compare(const void *left, const void *right)
{
	const struct place *a = left, *b = right;
	int named;

	if (a->inode != b->inode)
		return a->inode < b->inode ? -1 : 1;
	if (!a->path || !b->path)
		return a->path ? -1 : b->path ? 1 : a->pid - b->pid;
	named = path_is_named(b->path) - path_is_named(a->path);
	return named ? named : strcmp(a->path, b->path);
}

static int place_open(const struct place *place)
{
	__u64 inode = 0;
	int fd;

	if (place->path && strlen(place->path) >= NETNS_PATH_MAX)
		return -ENAMETOOLONG;
	fd = place->path ? netns_open(place->path) : netns_open_pid(place->pid);
	if (fd < 0)
		return fd;
	/* The mount may be covered by another, the pid may be somebody else's by now. */
	if (!netns_inode(fd, &inode) && inode == place->inode)
		return fd;
	close(fd);
	return -ESTALE;
}

/* @place to @end are all the places of one namespace. */
static int places_deliver(const struct place *place, const struct place *end, netns_fn fn,
			  void *ctx)
{
	struct netns_seen seen = { .fd = -1, .inode = place->inode };
	int err;

	for (; place < end; place++) {
		if (seen.fd < 0) {
			seen.fd = place_open(place);
			if (seen.fd >= 0 && place->path)
				strcpy(seen.path, place->path);
		}
		if (!place->path) {
			seen.pid = place->pid;
			if (seen.fd >= 0)
				break;
		}
	}
	if (seen.fd < 0)
		return 0; /* it has gone since we looked */
	err = fn(&seen, ctx);
	close(seen.fd);
	return err;
}

int netns_each(netns_fn fn, void *ctx)
{
	struct places places = {};
	size_t from, to;
	int err;

	err = mounts_each("nsfs", place_add_mount, &places);
	if (!err)
		err = place_add_processes(&places);
	if (!err)
		qsort(places.all, places.n, sizeof(*places.all), place_compare);
	for (from = 0; !err && from < places.n; from = to) {
		for (to = from + 1; to < places.n; to++) {
			if (places.all[to].inode != places.all[from].inode)
				break;
		}
		err = places_deliver(places.all + from, places.all + to, fn, ctx);
	}
	places_free(&places);
	return err;
}

static int netns_is(int fd, const struct netns *id)
{
	struct netns found;

	return !netns_inode(fd, &found.inode) && found.inode == id->inode &&
	       !netns_identify(fd, &found) && found.cookie == id->cookie;
}

/* Takes ownership of @fd: gives it back if it is namespace @id, closes it if not. */
static int netns_check(int fd, const struct netns *id)
{
	if (fd < 0 || netns_is(fd, id))
		return fd;
	close(fd);
	return -ESTALE;
}

struct search {
	const struct netns *id;
	int fd;
};

static int search_step(const struct netns_seen *seen, void *ctx)
{
	struct search *search = ctx;

	if (!netns_is(seen->fd, search->id))
		return 0;
	search->fd = fcntl(seen->fd, F_DUPFD_CLOEXEC, 0);
	return search->fd < 0 ? -errno : 1;
}

int netns_find(const struct netns *id, const char *path, pid_t pid)
{
	struct search search = { .id = id };
	int fd, err;

	if (path && *path) {
		fd = netns_check(netns_open(path), id);
		if (fd >= 0)
			return fd;
	}
	if (pid > 0) {
		fd = netns_check(netns_open_pid(pid), id);
		if (fd >= 0)
			return fd;
	}
	err = netns_each(search_step, &search);
	if (err > 0)
		return search.fd;
	return err ? err : -ENOENT;
}
