// SPDX-License-Identifier: GPL-2.0-only
/* Containers that belong together: a compose project, a pod, those with a label. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "group.h"
#include "netns.h"
#include "newborn.h"
#include "runtime.h"

const char *group_refuse(enum group_kind kind, const char *what)
{
	const char *cut = strchr(what, '/');

	switch (kind) {
	case GROUP_COMPOSE:
		if (cut && (cut == what || !cut[1] || strchr(cut + 1, '/')))
			return "say compose:PROJECT or compose:PROJECT/SERVICE";
		break;
	case GROUP_LABEL:
		if (*what == '=')
			return "say label:KEY or label:KEY=VALUE";
		break;
	case GROUP_POD:
		if (cut && (cut == what || !cut[1] || strchr(cut + 1, '/')))
			return "say pod:NAME or pod:NAMESPACE/NAME";
		break;
	}
	return NULL;
}

static bool compose_has(const char *what, const struct container *container)
{
	const char *slash = strchr(what, '/');
	size_t len = slash ? (size_t)(slash - what) : strlen(what);

	if (strlen(container->project) != len || memcmp(container->project, what, len))
		return false;
	return !slash || !strcmp(container->service, slash + 1);
}

static bool label_has(const char *what, const struct container *container)
{
	const char *equals = strchr(what, '='), *value;
	char *key;

	key = strndup(what, equals ? (size_t)(equals - what) : strlen(what));
	if (!key)
		return false;
	value = container_label_get(container, key);
	free(key);
	return value && (!equals || !strcmp(value, equals + 1));
}

static bool pod_has(const char *what, const struct container *container)
{
	const char *slash = strrchr(container->pod, '/');

	return !strcmp(container->pod, what) || (slash && !strcmp(slash + 1, what));
}

int group_has(enum group_kind kind, const char *what, const struct container *container)
{
	switch (kind) {
	case GROUP_COMPOSE:
		return compose_has(what, container);
	case GROUP_LABEL:
		return label_has(what, container);
	case GROUP_POD:
		return pod_has(what, container);
	}
	return 0;
}

/* A network namespace with containers in it. */
struct place {
	__u64 inode;
	bool has; /* one of the group */
	struct container best;
};

struct places {
	enum group_kind kind;
	const char *what;
	struct newborn newborn;
	struct place *all;
	size_t n;
};

static struct place *place_at(struct places *places, __u64 inode)
{
	struct place *more;

	for (size_t i = 0; i < places->n; i++)
		if (places->all[i].inode == inode)
			return &places->all[i];
	more = reallocarray(places->all, places->n + 1, sizeof(*more));
	if (!more)
		return NULL;
	places->all = more;
	more[places->n] = (struct place){ .inode = inode };
	return &more[places->n++];
}

static int place_take(const struct container *container, void *ctx)
{
	struct places *places = ctx;
	struct place *place;
	__u64 inode;
	pid_t pid = newborn_process(&places->newborn, container, &inode);

	if (!pid)
		return 0;
	place = place_at(places, inode);
	if (!place)
		return -ENOMEM;
	place->has |= group_has(places->kind, places->what, container);
	if (!place->best.pid || container_speaks_before(container, &place->best)) {
		container_copy(&place->best, container);
		place->best.pid = pid;
	}
	return 0;
}

static void place_name(const struct places *places, const struct place *place, char *name,
		       size_t size)
{
	const struct container *best = &place->best;
	__u64 own = 0;

	netns_inode_pid(0, &own);
	if (place->inode == own)
		snprintf(name, size, "host");
	else if (places->kind != GROUP_COMPOSE || !best->service[0] || !best->number)
		container_label(best, name, size);
	else if (best->number == 1)
		snprintf(name, size, "%s", best->service);
	else
		snprintf(name, size, "%.200s-%u", best->service, best->number);
}

int group_each(enum group_kind kind, const char *what, pid_t pid, group_fn fn, void *ctx)
{
	struct places places = { .kind = kind, .what = what };
	char name[CONTAINER_NAME_MAX];
	int err = pid ? newborn_read(pid, &places.newborn) : 0;

	if (!err)
		err = runtime_each_labelled(place_take, &places);
	for (size_t i = 0; i < places.n && !err; i++) {
		if (!places.all[i].has)
			continue;
		place_name(&places, &places.all[i], name, sizeof(name));
		err = fn(places.all[i].inode, places.all[i].best.pid, name, ctx);
	}
	free(places.all);
	return err;
}

struct member {
	__u64 inode;
	pid_t pid;
	bool named, pause;
	char name[CONTAINER_NAME_MAX];
};

struct members {
	struct member *all;
	size_t n;
};

static struct member *member_at(struct members *members, pid_t pid)
{
	struct member *more;

	for (size_t i = 0; i < members->n; i++)
		if (members->all[i].pid == pid)
			return &members->all[i];
	more = reallocarray(members->all, members->n + 1, sizeof(*more));
	if (!more)
		return NULL;
	members->all = more;
	more[members->n] = (struct member){ .pid = pid };
	return &more[members->n++];
}

/* Of the runtimes that know the same container, one knows its name. */
static int member_take(const struct container *container, void *ctx)
{
	struct container own = *container;
	struct member *member;
	__u64 inode;

	if (!container->pid || netns_inode_pid(container->pid, &inode))
		return 0;
	member = member_at(ctx, container->pid);
	if (!member)
		return -ENOMEM;
	member->inode = inode;
	member->pause |= container->pause;
	if (member->named)
		return 0;
	own.pod[0] = '\0';
	container_label(&own, member->name, sizeof(member->name));
	member->named = container->name[0];
	return 0;
}

static int member_order(const void *a, const void *b)
{
	const struct member *one = a, *other = b;

	return (one->pid > other->pid) - (one->pid < other->pid);
}

struct members *members_read(void)
{
	struct members *members = calloc(1, sizeof(*members));

	if (!members)
		return NULL;
	if (runtime_each(member_take, members)) {
		members_free(members);
		return NULL;
	}
	if (members->n)
		qsort(members->all, members->n, sizeof(*members->all), member_order);
	return members;
}

void members_free(struct members *members)
{
	if (!members)
		return;
	free(members->all);
	free(members);
}

size_t members_of(const struct members *members, __u64 inode, char *text, size_t size)
{
	size_t n = 0, used = 0;

	*text = '\0';
	for (size_t i = 0; i < members->n; i++) {
		const struct member *member = &members->all[i];
		size_t len = strlen(member->name);

		if (member->inode != inode || member->pause)
			continue;
		if (used + len + 2 < size)
			used += sprintf(text + used, "%s%s", n ? "," : "", member->name);
		else if (used + 1 < size && text[used - 1] != ',')
			strcpy(text + used++, ",");
		n++;
	}
	return n;
}
