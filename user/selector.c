// SPDX-License-Identifier: GPL-2.0-only
/* The argument of -n: which namespaces are meant, and what each is called. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "group.h"
#include "runtime.h"
#include "selector.h"

#define KINDS                                                                             \
	"netns:NAME, pid:N, path:FILE, container:NAME-OR-ID, compose:PROJECT[/SERVICE], " \
	"label:KEY[=VALUE], pod:[NAMESPACE/]NAME, cgroup:PATH or host"

static const struct {
	const char *prefix;
	enum selector_kind kind;
} prefixes[] = {
	{ "netns", SELECTOR_NETNS },   { "pid", SELECTOR_PID },
	{ "path", SELECTOR_PATH },     { "container", SELECTOR_CONTAINER },
	{ "cgroup", SELECTOR_CGROUP }, { "compose", SELECTOR_COMPOSE },
	{ "label", SELECTOR_LABEL },   { "pod", SELECTOR_POD },
};

static const char *const prefix_of[] = {
	[SELECTOR_COMPOSE] = "compose",
	[SELECTOR_LABEL] = "label",
	[SELECTOR_POD] = "pod",
};

/* As which kind of group the runtimes know it, or -1. */
static int group_kind_of(const struct selector *selector)
{
	switch (selector->kind) {
	case SELECTOR_COMPOSE:
		return GROUP_COMPOSE;
	case SELECTOR_LABEL:
		return GROUP_LABEL;
	case SELECTOR_POD:
		return GROUP_POD;
	default:
		return -1;
	}
}

bool selector_is_container(const struct selector *selector)
{
	return selector->kind == SELECTOR_CONTAINER || group_kind_of(selector) >= 0;
}

/* Cuts "NAME=" off; a '=' after the first ':' is part of what is named. */
static int name_parse(const char **text, struct selector *out, char *words, size_t size)
{
	size_t len = strcspn(*text, "=:");
	char shown[NODE_NAME_MAX];

	if ((*text)[len] != '=')
		return 0;
	name_clean(*text, shown);
	if (!len || len >= NODE_NAME_MAX) {
		snprintf(words, size, "%s: a name has 1 to %d bytes", shown, NODE_NAME_MAX - 1);
		return -EINVAL;
	}
	memcpy(out->name, *text, len);
	out->name[len] = '\0';
	name_clean(out->name, shown);
	if (strcmp(shown, out->name)) {
		snprintf(words, size, "%s: a name is UTF-8 without control characters", shown);
		return -EINVAL;
	}
	*text += len + 1;
	return 0;
}

static int kind_parse(const char **text, struct selector *out)
{
	size_t len = strcspn(*text, ":");

	if (!(*text)[len]) {
		out->kind = strcmp(*text, "host") ? SELECTOR_WORD : SELECTOR_HOST;
		return 0;
	}
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
		if (strlen(prefixes[i].prefix) == len && !memcmp(prefixes[i].prefix, *text, len)) {
			out->kind = prefixes[i].kind;
			*text += len + 1;
			return 0;
		}
	}
	return -EINVAL;
}

static bool name_is_file(const char *name)
{
	return !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static int pid_parse(const char *text, pid_t *pid)
{
	long value;
	char *end;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9' || value <= 0 || value > INT_MAX)
		return -EINVAL;
	*pid = value;
	return 0;
}

int selector_parse(const char *text, struct selector *out, char *words, size_t size)
{
	char shown[NODE_NAME_MAX];
	const char *what = text;

	*out = (struct selector){};
	if (name_parse(&what, out, words, size))
		return -EINVAL;
	name_clean(text, shown);
	if (kind_parse(&what, out)) {
		snprintf(words, size, "%s: no such kind of node; say " KINDS, shown);
		return -EINVAL;
	}
	if (!*what) {
		snprintf(words, size, "%s: no node named; say " KINDS, *text ? shown : "''");
		return -EINVAL;
	}
	if (strlen(what) >= sizeof(out->what)) {
		snprintf(words, size, "%s: longer than %d bytes", shown, SELECTOR_WHAT_MAX - 1);
		return -EINVAL;
	}
	strcpy(out->what, what);
	if (out->kind == SELECTOR_PID && pid_parse(what, &out->pid)) {
		snprintf(words, size, "%s: not a process id; say pid:NUMBER", shown);
		return -EINVAL;
	}
	if (out->kind == SELECTOR_NETNS && !name_is_file(what)) {
		snprintf(words, size, "%s: a name, not a path; say path:FILE", shown);
		return -EINVAL;
	}
	if (group_kind_of(out) >= 0) {
		const char *remedy = group_refuse(group_kind_of(out), what);

		if (!remedy)
			return 0;
		snprintf(words, size, "%s: %s", shown, remedy);
		return -EINVAL;
	}
	return 0;
}

/* One resolution under way. */
struct resolve {
	const struct selector *selector;
	selector_fn fn;
	void *ctx;
	char *words;
	size_t size;
	__u64 *seen; /* inodes told of, for a cgroup */
	size_t n;
	pid_t newborn; /* a process that just began, 0 none: only its namespace is of interest */
};

/* Takes @fd. @name is what to call it unless the user said otherwise. */
static int resolve_tell(struct resolve *resolve, int fd, const char *path, pid_t pid,
			const char *name)
{
	struct netns_seen seen = { .fd = fd, .pid = pid };
	char clean[NODE_NAME_MAX];
	int err;

	err = netns_inode(fd, &seen.inode);
	if (!err) {
		/* Only a hint: cut short it would lead elsewhere, so rather none. */
		if (path && strlen(path) < sizeof(seen.path))
			strcpy(seen.path, path);
		name_clean(resolve->selector->name[0] ? resolve->selector->name : name, clean);
		err = resolve->fn(&seen, clean, resolve->ctx);
	}
	close(fd);
	return err;
}

static int resolve_say(struct resolve *resolve, int err, const char *remedy)
{
	snprintf(resolve->words, resolve->size, "%s: %s", resolve->selector->what, remedy);
	return err;
}

static int resolve_path(struct resolve *resolve, const char *path, const char *name)
{
	int fd = netns_open(path);

	if (fd == -EINVAL)
		return resolve_say(resolve, fd, "there, but not a network namespace");
	if (fd == -ENOENT)
		return resolve_say(resolve, fd, "no such network namespace; see ip netns list");
	if (fd < 0)
		return resolve_say(resolve, fd, strerror(-fd));
	return resolve_tell(resolve, fd, path, 0, name);
}

static int resolve_netns(struct resolve *resolve)
{
	const char *name = resolve->selector->what;
	char path[SELECTOR_WHAT_MAX + 16];

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	return resolve_path(resolve, path, name);
}

static int netns_with_inode(const struct netns_seen *seen, void *ctx)
{
	struct netns_seen *wanted = ctx;

	if (seen->inode != wanted->inode)
		return 0;
	*wanted = *seen;
	return 1;
}

/* The name its namespace is known by, unless that is only what netns_name() falls back to. */
static void pid_name(pid_t pid, int fd, char name[NODE_NAME_MAX])
{
	struct netns_seen seen = {};
	struct container container;
	__u64 host;

	snprintf(name, NODE_NAME_MAX, "pid-%d", pid);
	if (netns_inode(fd, &seen.inode))
		return;
	if (!netns_inode_pid(0, &host) && host == seen.inode)
		snprintf(name, NODE_NAME_MAX, "host");
	else if (netns_each(netns_with_inode, &seen) == 1 && !strncmp(seen.path, "/run/netns/", 11))
		netns_name(&seen, name);
	else if (!runtime_find_netns(seen.inode, &container)) {
		char label[CONTAINER_NAME_MAX];

		container_label(&container, label, sizeof(label));
		name_clean(label, name);
	}
}

static int resolve_pid(struct resolve *resolve)
{
	pid_t pid = resolve->selector->pid;
	char name[NODE_NAME_MAX];
	int fd = netns_open_pid(pid);

	if (fd == -ENOENT || fd == -ESRCH)
		return resolve_say(resolve, -ENOENT, "no such process");
	if (fd < 0)
		return resolve_say(resolve, fd, strerror(-fd));
	pid_name(pid, fd, name);
	return resolve_tell(resolve, fd, NULL, pid, name);
}

static int resolve_container(struct resolve *resolve)
{
	struct container container;
	char label[CONTAINER_NAME_MAX];
	int fd, err;

	err = runtime_find(resolve->selector->what, resolve->newborn, &container);
	if (err == -EEXIST)
		return resolve_say(resolve, err,
				   "more than one container is called so; say its id");
	if (err == -ENOENT)
		return resolve_say(resolve, err, "no running container of that name or id");
	if (err)
		return resolve_say(resolve, err, strerror(-err));
	fd = netns_open_pid(container.pid);
	if (fd < 0)
		return resolve_say(resolve, -ENOENT, "the container has just ended");
	container_label(&container, label, sizeof(label));
	return resolve_tell(resolve, fd, NULL, container.pid, label);
}

static int resolve_word(struct resolve *resolve)
{
	int err = -ENOENT;

	if (name_is_file(resolve->selector->what))
		err = resolve_netns(resolve);
	if (err != -ENOENT)
		return err;
	err = resolve_container(resolve);
	if (err != -ENOENT)
		return err;
	return resolve_say(resolve, err, "no network namespace or running container of that name");
}

static int cgroup_step(pid_t pid, void *ctx)
{
	struct resolve *resolve = ctx;
	const char *leaf = resolve->selector->what;
	size_t len = strlen(leaf);
	char name[NODE_NAME_MAX];
	__u64 inode, *more;
	int fd;

	if (netns_inode_pid(pid, &inode))
		return 0;
	for (size_t i = 0; i < resolve->n; i++) {
		if (resolve->seen[i] == inode)
			return 0;
	}
	fd = netns_open_pid(pid);
	if (fd < 0)
		return 0;
	more = reallocarray(resolve->seen, resolve->n + 1, sizeof(*more));
	if (!more) {
		close(fd);
		return -ENOMEM;
	}
	resolve->seen = more;
	resolve->seen[resolve->n++] = inode;
	while (len > 1 && leaf[len - 1] == '/')
		len--;
	for (size_t i = 0; i + 1 < len; i++) {
		if (resolve->selector->what[i] == '/')
			leaf = resolve->selector->what + i + 1;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(resolve->selector->what + len - leaf), leaf);
	return resolve_tell(resolve, fd, NULL, pid, name);
}

static int resolve_cgroup(struct resolve *resolve)
{
	int err = cgroup_each_pid(resolve->selector->what, cgroup_step, resolve);

	free(resolve->seen);
	if (err == -ENOENT)
		return resolve_say(resolve, err, "no such cgroup in any hierarchy");
	if (!err && !resolve->n)
		return resolve_say(resolve, -ENOENT, "no process in this cgroup or below");
	return err;
}

static int group_step(__u64 inode, pid_t pid, const char *name, void *ctx)
{
	struct resolve *resolve = ctx;
	int fd = netns_open_pid(pid);

	if (fd < 0) /* it has just ended */
		return 0;
	(void)inode;
	resolve->n++;
	return resolve_tell(resolve, fd, NULL, pid, name);
}

static int resolve_group(struct resolve *resolve)
{
	const struct selector *selector = resolve->selector;
	int err = group_each(group_kind_of(selector), selector->what, resolve->newborn, group_step,
			     resolve);

	if (err && err != -ENOENT)
		return err;
	if (resolve->n)
		return 0;
	snprintf(resolve->words, resolve->size, "%s:%s: no such container is running",
		 prefix_of[selector->kind], selector->what);
	return -ENOENT;
}

static int resolve_host(struct resolve *resolve)
{
	int fd = netns_open("/proc/self/ns/net");

	if (fd < 0)
		return resolve_say(resolve, fd, strerror(-fd));
	return resolve_tell(resolve, fd, NULL, getpid(), "host");
}

static int resolve_all(struct resolve *resolve)
{
	switch (resolve->selector->kind) {
	case SELECTOR_WORD:
		return resolve_word(resolve);
	case SELECTOR_NETNS:
		return resolve_netns(resolve);
	case SELECTOR_PID:
		return resolve_pid(resolve);
	case SELECTOR_PATH:
		return resolve_path(resolve, resolve->selector->what,
				    basename(resolve->selector->what));
	case SELECTOR_CONTAINER:
		return resolve_container(resolve);
	case SELECTOR_CGROUP:
		return resolve_cgroup(resolve);
	case SELECTOR_HOST:
		return resolve_host(resolve);
	case SELECTOR_COMPOSE:
	case SELECTOR_LABEL:
	case SELECTOR_POD:
		return resolve_group(resolve);
	}
	return -EINVAL;
}

int selector_each(const struct selector *selector, selector_fn fn, void *ctx, char *words,
		  size_t size)
{
	struct resolve resolve = {
		.selector = selector, .fn = fn, .ctx = ctx, .words = words, .size = size
	};

	return resolve_all(&resolve);
}

struct open_one {
	int fd;
	char *name;
};

static int open_step(const struct netns_seen *seen, const char *name, void *ctx)
{
	struct open_one *one = ctx;

	one->fd = fcntl(seen->fd, F_DUPFD_CLOEXEC, 0);
	if (one->fd < 0)
		return -errno;
	strcpy(one->name, name);
	return 1;
}

int selector_open(const struct selector *selector, int *fd, char name[NODE_NAME_MAX], char *words,
		  size_t size)
{
	struct open_one one = { .fd = -1, .name = name };
	int err;

	err = selector_each(selector, open_step, &one, words, size);
	*fd = one.fd;
	return err > 0 ? 0 : err;
}

struct match {
	__u64 inode;
	char *name;
};

static int match_step(const struct netns_seen *seen, const char *name, void *ctx)
{
	struct match *match = ctx;

	if (seen->inode != match->inode)
		return 0;
	strcpy(match->name, name);
	return 1;
}

bool selector_matches(const struct selector *selector, const struct netns_seen *seen,
		      char name[NODE_NAME_MAX])
{
	struct match match = { .inode = seen->inode, .name = name };
	char words[256];
	struct resolve resolve = { .selector = selector,
				   .fn = match_step,
				   .ctx = &match,
				   .words = words,
				   .size = sizeof(words),
				   .newborn = seen->pid };

	return resolve_all(&resolve) == 1;
}
