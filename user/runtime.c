// SPDX-License-Identifier: GPL-2.0-only
/* Finds containers by the names docker, podman, containerd, runc or crun gave them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container.h"
#include "netns.h"
#include "runtime.h"

/* Shorter beginnings of an id are more likely a name that is not there yet. */
#define ID_PREFIX_MIN 4
#define ID_SHORT 12

typedef int (*reader_fn)(const char *dir, const char *id, container_fn fn, void *ctx);

struct walk {
	container_fn fn;
	void *ctx;
	char task_roots[8][CONTAINER_PATH_MAX]; /* told by shims, each once */
	int task_roots_n;
	__u64 pidns;
};

/* Regular files only, and never more than @size: they are somebody else's. */
static int file_read(const char *path, char *buf, size_t size, size_t *len)
{
	ssize_t got = 0;
	struct stat st;
	int fd, err = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		err = -EINVAL;
	for (*len = 0; !err && *len < size; *len += got) {
		got = read(fd, buf + *len, size - *len);
		if (got <= 0) {
			err = got < 0 ? -errno : 0;
			break;
		}
	}
	close(fd);
	return !err && *len == size ? -EFBIG : err;
}

static int file_pid(const char *path, pid_t *pid)
{
	char text[32];
	size_t len;
	int err;

	err = file_read(path, text, sizeof(text) - 1, &len);
	if (err)
		return err;
	text[len] = '\0';
	*pid = atoi(text);
	return *pid > 0 ? 0 : -EBADMSG;
}

typedef int (*parse_fn)(const char *text, size_t len, struct container *out);

static int file_parse(const char *path, parse_fn parse, struct container *out)
{
	char *text;
	size_t len;
	int err;

	text = malloc(CONTAINER_FILE_MAX);
	if (!text)
		return -ENOMEM;
	err = file_read(path, text, CONTAINER_FILE_MAX, &len);
	if (!err)
		err = parse(text, len, out);
	free(text);
	return err;
}

static unsigned long long process_started(pid_t pid)
{
	char path[64], text[1024], *rest;
	unsigned long long ticks;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (file_read(path, text, sizeof(text) - 1, &len))
		return 0;
	text[len] = '\0';
	/* The name, in brackets, may hold anything. The start is the 20th field after it. */
	rest = strrchr(text, ')');
	for (int i = 0; rest && i < 20; i++)
		rest = strchr(rest + 1, ' ');
	return rest && sscanf(rest, "%llu", &ticks) == 1 ? ticks : 0;
}

/* A file that outlived its container may name a pid that is somebody else's by now. */
static void container_check_start(struct container *container)
{
	if (container->started && process_started(container->pid) != container->started)
		container->pid = 0;
}

/* docker does not say when the process started; but its cgroup bears the container's id. */
static void container_check_cgroup(struct container *container)
{
	char path[64], text[8192];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", container->pid);
	if (file_read(path, text, sizeof(text) - 1, &len)) {
		container->pid = 0;
		return;
	}
	text[len] = '\0';
	if (!strstr(text, container->id))
		container->pid = 0;
}

static int read_docker(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct container found;

	snprintf(path, sizeof(path), "%s/%s/config.v2.json", dir, id);
	if (file_parse(path, container_parse_docker, &found))
		return 0;
	container_check_cgroup(&found);
	return fn(&found, ctx);
}

static int read_runc(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct container found;

	snprintf(path, sizeof(path), "%s/%s/state.json", dir, id);
	if (file_parse(path, container_parse_runc, &found))
		return 0;
	container_check_start(&found);
	return fn(&found, ctx);
}

static int read_crun(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct container found;

	snprintf(path, sizeof(path), "%s/%s/status", dir, id);
	if (strlen(id) >= sizeof(found.id) || file_parse(path, container_parse_crun, &found))
		return 0;
	strcpy(found.id, id);
	container_check_start(&found);
	return fn(&found, ctx);
}

static int read_task(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct container found;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s/init.pid", dir, id);
	if (strlen(id) >= sizeof(found.id) || file_pid(path, &pid))
		return 0;
	snprintf(path, sizeof(path), "%s/%s/config.json", dir, id);
	if (file_parse(path, container_parse_oci, &found))
		found = (struct container){};
	strcpy(found.id, id);
	found.pid = pid;
	return fn(&found, ctx);
}

/* Calls @reader for what is in @dir; a directory that is not there has nothing in it. */
static int root_read(const char *dir, reader_fn reader, container_fn fn, void *ctx)
{
	struct dirent *entry;
	int err = 0;
	DIR *stream;

	stream = opendir(dir);
	if (!stream)
		return 0;
	while (!err && (entry = readdir(stream))) {
		if (entry->d_name[0] != '.')
			err = reader(dir, entry->d_name, fn, ctx);
	}
	closedir(stream);
	return err;
}

/* The same, one directory further down: containerd sorts by its own namespaces. */
static int root_read_deep(const char *dir, reader_fn reader, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct dirent *entry;
	int err = 0;
	DIR *stream;

	stream = opendir(dir);
	if (!stream)
		return 0;
	while (!err && (entry = readdir(stream))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		err = root_read(path, reader, fn, ctx);
	}
	closedir(stream);
	return err;
}

/* Where dockerd keeps its containers: its option, its configuration file, or the usual place. */
static int dockerd_read(pid_t pid, const char *cmdline, size_t len, struct walk *walk)
{
	char data[512], path[CONTAINER_PATH_MAX], config[512];

	if (cmdline_option(cmdline, len, "--data-root", data, sizeof(data)) &&
	    cmdline_option(cmdline, len, "-g", data, sizeof(data))) {
		struct container found;

		if (cmdline_option(cmdline, len, "--config-file", config, sizeof(config)))
			strcpy(config, "/etc/docker/daemon.json");
		snprintf(path, sizeof(path), "/proc/%d/root%s", pid, config);
		if (file_parse(path, container_parse_data_root, &found) || !found.name[0])
			return 0; /* the usual place is read anyway */
		strcpy(data, found.name);
	}
	/* The daemon may have a mount namespace of its own. */
	snprintf(path, sizeof(path), "/proc/%d/root%s/containers", pid, data);
	return root_read(path, read_docker, walk->fn, walk->ctx);
}

static int conmon_read(const char *cmdline, size_t len, struct walk *walk)
{
	char pidfile[CONTAINER_PATH_MAX];
	struct container found;

	if (container_parse_conmon(cmdline, len, &found, pidfile))
		return 0;
	if (file_pid(pidfile, &found.pid))
		found.pid = 0;
	return walk->fn(&found, walk->ctx);
}

/* A shim stands in the bundle of its task, ROOT/NAMESPACE/ID. */
static void shim_note(pid_t pid, struct walk *walk)
{
	char path[CONTAINER_PATH_MAX], link[64], *cut;
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/%d/cwd", pid);
	len = readlink(link, path, sizeof(path) - 1);
	if (len <= 0 || walk->task_roots_n == 8)
		return;
	path[len] = '\0';
	for (int i = 0; i < 2; i++) {
		cut = strrchr(path, '/');
		if (!cut || cut == path)
			return;
		*cut = '\0';
	}
	for (int i = 0; i < walk->task_roots_n; i++) {
		if (!strcmp(walk->task_roots[i], path))
			return;
	}
	strcpy(walk->task_roots[walk->task_roots_n++], path);
}

/*
 * Anybody may call a process "dockerd" and have it claim names for others. The ones believed are
 * root's, in our own pid namespace: not those inside a container.
 */
static int daemon_is_trusted(pid_t pid, const char *status, const struct walk *walk)
{
	const char *line = strstr(status, "\nUid:\t");
	struct stat st;
	char path[64];

	if (!line || strncmp(line, "\nUid:\t0\t0\t0\t0\n", 14))
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	return !stat(path, &st) && st.st_ino == walk->pidns;
}

static int process_read(pid_t pid, struct walk *walk)
{
	char path[64], status[2048], cmdline[8192];
	size_t len;
	enum { DOCKERD, CONMON, SHIM } kind;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (file_read(path, status, sizeof(status) - 1, &len) && len < sizeof(status) - 1)
		return 0;
	status[len] = '\0';
	if (!strncmp(status, "Name:\tdockerd\n", 14))
		kind = DOCKERD;
	else if (!strncmp(status, "Name:\tconmon\n", 13))
		kind = CONMON;
	else if (!strncmp(status, "Name:\tcontainerd-shim", 21))
		kind = SHIM;
	else
		return 0;
	if (!daemon_is_trusted(pid, status, walk))
		return 0;
	if (kind == SHIM) {
		shim_note(pid, walk);
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	if (file_read(path, cmdline, sizeof(cmdline), &len))
		return 0;
	return kind == DOCKERD ? dockerd_read(pid, cmdline, len, walk)
			       : conmon_read(cmdline, len, walk);
}

static int daemons_read(struct walk *walk)
{
	struct dirent *entry;
	struct stat st;
	int err = 0;
	DIR *proc;

	if (stat("/proc/self/ns/pid", &st))
		return -errno;
	walk->pidns = st.st_ino;
	proc = opendir("/proc");
	if (!proc)
		return -errno;
	while (!err && (entry = readdir(proc))) {
		pid_t pid = atoi(entry->d_name);

		if (pid > 0)
			err = process_read(pid, walk);
	}
	closedir(proc);
	return err;
}

int runtime_each(container_fn fn, void *ctx)
{
	static const char tasks[] = "/run/containerd/io.containerd.runtime.v2.task";
	struct walk walk = { .fn = fn, .ctx = ctx, .task_roots_n = 1 };
	int err;

	strcpy(walk.task_roots[0], tasks);
	err = root_read("/var/lib/docker/containers", read_docker, fn, ctx);
	if (!err)
		err = daemons_read(&walk);
	for (int i = 0; !err && i < walk.task_roots_n; i++)
		err = root_read_deep(walk.task_roots[i], read_task, fn, ctx);
	if (!err)
		err = root_read("/run/runc", read_runc, fn, ctx);
	if (!err)
		err = root_read_deep("/run/containerd/runc", read_runc, fn, ctx);
	if (!err)
		err = root_read("/run/crun", read_crun, fn, ctx);
	return err;
}

void container_label(const struct container *container, char *out, size_t size)
{
	size_t len = strspn(container->id, "0123456789abcdef");

	if (container->name[0])
		snprintf(out, size, "%s", container->name);
	else if (len == 64 && !container->id[len])
		snprintf(out, size, "%.*s", ID_SHORT, container->id);
	else
		snprintf(out, size, "%s", container->id);
}

struct wanted {
	const char *text;
	__u64 inode; /* looked for, or of what was found */
	int rank;    /* of what was found; 0 nothing yet */
	int several;
	struct container found;
};

/* How well it answers to @text: by its name best, by the beginning of its id least. */
static int container_rank(const struct container *container, const char *text)
{
	const char *slash = strrchr(container->name, '/');

	if (!strcmp(container->name, text))
		return 4;
	if (!strcmp(container->id, text))
		return 3;
	if (slash && !strcmp(slash + 1, text))
		return 2;
	if (strlen(text) >= ID_PREFIX_MIN && !strncmp(container->id, text, strlen(text)))
		return 1;
	return 0;
}

static int wanted_by_text(const struct container *container, void *ctx)
{
	struct wanted *wanted = ctx;
	__u64 inode;
	int rank;

	rank = container_rank(container, wanted->text);
	if (!rank || rank < wanted->rank || !container->pid)
		return 0;
	if (netns_inode_pid(container->pid, &inode))
		return 0;
	if (rank > wanted->rank) {
		wanted->rank = rank;
		wanted->several = 0;
		wanted->inode = inode;
		wanted->found = *container;
	} else if (inode != wanted->inode) {
		wanted->several = 1;
	} else if (!wanted->found.name[0]) {
		wanted->found = *container;
	}
	return 0;
}

int runtime_find(const char *text, struct container *out)
{
	struct wanted wanted = { .text = text };
	int err;

	err = runtime_each(wanted_by_text, &wanted);
	if (err)
		return err;
	if (!wanted.rank)
		return -ENOENT;
	*out = wanted.found;
	return wanted.several ? -EEXIST : 0;
}

static int wanted_by_netns(const struct container *container, void *ctx)
{
	struct wanted *wanted = ctx;
	int rank = container->name[0] ? 2 : 1;
	__u64 inode;

	if (!container->pid || rank < wanted->rank)
		return 0;
	/* Where several share one namespace, it is the one that was there first. */
	if (rank == wanted->rank && container->pid >= wanted->found.pid)
		return 0;
	if (netns_inode_pid(container->pid, &inode) || inode != wanted->inode)
		return 0;
	wanted->rank = rank;
	wanted->found = *container;
	return 0;
}

int runtime_find_netns(__u64 inode, struct container *out)
{
	struct wanted wanted = { .inode = inode };
	int err;

	err = runtime_each(wanted_by_netns, &wanted);
	if (err)
		return err;
	*out = wanted.found;
	return wanted.rank ? 0 : -ENOENT;
}
