// SPDX-License-Identifier: GPL-2.0-only
/* Finds containers by the names docker, podman, containerd, runc or crun gave them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container.h"
#include "containerd.h"
#include "foreign.h"
#include "netns.h"
#include "newborn.h"
#include "podman.h"
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
	struct podman podman;
	json_t *labels; /* of the containers in one directory of tasks, by id; */
	char labels_of[CONTAINER_PATH_MAX];
};

typedef int (*parse_fn)(const char *text, size_t len, struct container *out);

static int file_parse(const char *path, parse_fn parse, struct container *out)
{
	char *text;
	size_t len;
	int err;

	text = foreign_load(path, CONTAINER_FILE_MAX, &len);
	if (!text)
		return -errno;
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
	if (foreign_read(path, text, sizeof(text) - 1, &len))
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

	if (!container->pid)
		return;
	snprintf(path, sizeof(path), "/proc/%d/cgroup", container->pid);
	if (foreign_read(path, text, sizeof(text) - 1, &len)) {
		container->pid = 0;
		return;
	}
	text[len] = '\0';
	if (!strstr(text, container->id))
		container->pid = 0;
}

static int container_tell(struct container *container, container_fn fn, void *ctx)
{
	int err = fn(container, ctx);

	container_free(container);
	return err;
}

static int read_docker(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct container found;

	snprintf(path, sizeof(path), "%s/%s/config.v2.json", dir, id);
	if (file_parse(path, container_parse_docker, &found))
		return 0;
	container_check_cgroup(&found);
	return container_tell(&found, fn, ctx);
}

static int read_runc(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct container found;

	snprintf(path, sizeof(path), "%s/%s/state.json", dir, id);
	if (file_parse(path, container_parse_runc, &found))
		return 0;
	container_check_start(&found);
	return container_tell(&found, fn, ctx);
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
	return container_tell(&found, fn, ctx);
}

/* containerd keeps them in its database, and tells; asked once for each of its namespaces. */
static void labels_ask(struct walk *walk, const char *dir)
{
	char root[CONTAINER_PATH_MAX], socket[CONTAINER_PATH_MAX + 32];
	const char *space = strrchr(dir, '/');
	char *cut;

	if (!strcmp(walk->labels_of, dir))
		return;
	json_decref(walk->labels);
	walk->labels = NULL;
	snprintf(walk->labels_of, sizeof(walk->labels_of), "%s", dir);
	snprintf(root, sizeof(root), "%s", dir);
	cut = strstr(root, "/io.containerd.runtime.");
	/* Those of docker are in docker's own files. */
	if (!cut || !space || !strcmp(space, "/moby"))
		return;
	*cut = '\0';
	snprintf(socket, sizeof(socket), "%s/containerd.sock", root);
	walk->labels = containerd_labels(socket, space + 1);
}

static void labels_add(struct container *found, json_t *told)
{
	json_t *all;

	if (!told)
		return;
	all = found->labels ? json_copy(found->labels) : json_object();
	if (all && !json_object_update(all, told))
		container_label_all(found, all);
	json_decref(all);
}

static int read_task(const char *dir, const char *id, container_fn fn, void *ctx)
{
	char path[CONTAINER_PATH_MAX];
	struct walk *walk = ctx;
	struct container found;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s/init.pid", dir, id);
	if (strlen(id) >= sizeof(found.id) || foreign_pid(path, &pid))
		return 0;
	snprintf(path, sizeof(path), "%s/%s/config.json", dir, id);
	if (file_parse(path, container_parse_oci, &found))
		found = (struct container){};
	strcpy(found.id, id);
	found.pid = pid;
	if (walk->podman.ask) {
		labels_ask(walk, dir);
		labels_add(&found, json_object_get(walk->labels, id));
	}
	return container_tell(&found, fn, walk->ctx);
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
	if (foreign_read(path, status, sizeof(status) - 1, &len) && len < sizeof(status) - 1)
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
	if (foreign_read(path, cmdline, sizeof(cmdline), &len))
		return 0;
	return kind == DOCKERD ? dockerd_read(pid, cmdline, len, walk)
			       : podman_read(&walk->podman, cmdline, len, walk->fn, walk->ctx);
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

static int runtime_walk(container_fn fn, void *ctx, bool ask)
{
	static const char tasks[] = "/run/containerd/io.containerd.runtime.v2.task";
	struct walk walk = { .fn = fn, .ctx = ctx, .task_roots_n = 1, .podman.ask = ask };
	int err;

	strcpy(walk.task_roots[0], tasks);
	err = root_read("/var/lib/docker/containers", read_docker, fn, ctx);
	if (!err)
		err = daemons_read(&walk);
	for (int i = 0; !err && i < walk.task_roots_n; i++)
		err = root_read_deep(walk.task_roots[i], read_task, fn, &walk);
	if (!err)
		err = root_read("/run/runc", read_runc, fn, ctx);
	if (!err)
		err = root_read_deep("/run/containerd/runc", read_runc, fn, ctx);
	if (!err)
		err = root_read("/run/crun", read_crun, fn, ctx);
	podman_forget(&walk.podman);
	json_decref(walk.labels);
	return err;
}

int runtime_each(container_fn fn, void *ctx)
{
	return runtime_walk(fn, ctx, false);
}

int runtime_each_labelled(container_fn fn, void *ctx)
{
	return runtime_walk(fn, ctx, true);
}

void container_label(const struct container *container, char *out, size_t size)
{
	size_t len = strspn(container->id, "0123456789abcdef");

	if (container->pod[0])
		snprintf(out, size, "%s", container->pod);
	else if (container->name[0])
		snprintf(out, size, "%s", container->name);
	else if (len == 64 && !container->id[len])
		snprintf(out, size, "%.*s", ID_SHORT, container->id);
	else
		snprintf(out, size, "%s", container->id);
}

void container_copy(struct container *to, const struct container *from)
{
	*to = *from;
	to->labels = NULL;
}

/* How well it says whose network namespace this is: as a pod, as its owner, as anyone with a name. */
static int container_standing(const struct container *container)
{
	return container->pod[0] ? 3 : !container->name[0] ? 0 : container->guest ? 1 : 2;
}

bool container_speaks_before(const struct container *one, const struct container *other)
{
	int a = container_standing(one), b = container_standing(other);

	/* Where several share one namespace, it is the one that was there first. */
	return a != b ? a > b : one->pid < other->pid;
}

struct wanted {
	const char *text;
	__u64 inode; /* looked for, or of what was found */
	int rank;    /* of what was found; 0 nothing yet */
	int several;
	struct newborn newborn;
	struct container found;
};

/* How well it answers to @text: by its name best, by the beginning of its id least. */
static int container_rank(const struct container *container, const char *text)
{
	const char *slash = strrchr(container->pod, '/');

	if (!strcmp(container->name, text) || !strcmp(container->pod, text))
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
	struct container running = *container;
	__u64 inode;
	int rank;

	rank = container_rank(container, wanted->text);
	if (!rank || rank < wanted->rank)
		return 0;
	running.pid = newborn_process(&wanted->newborn, container, &inode);
	container = &running;
	if (!running.pid)
		return 0;
	if (rank > wanted->rank) {
		wanted->rank = rank;
		wanted->several = 0;
		wanted->inode = inode;
		container_copy(&wanted->found, container);
	} else if (inode != wanted->inode) {
		wanted->several = 1;
	} else if (container_speaks_before(container, &wanted->found)) {
		container_copy(&wanted->found, container);
	}
	return 0;
}

int runtime_find(const char *text, pid_t newborn, struct container *out)
{
	struct wanted wanted = { .text = text };
	int err;

	/* Not by its cgroup? Then by its file, as any other. */
	if (newborn && newborn_read(newborn, &wanted.newborn))
		wanted.newborn.pid = 0;
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
	__u64 inode;

	if (!container->pid ||
	    (wanted->rank && !container_speaks_before(container, &wanted->found)))
		return 0;
	if (netns_inode_pid(container->pid, &inode) || inode != wanted->inode)
		return 0;
	wanted->rank = 1;
	container_copy(&wanted->found, container);
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
