/* SPDX-License-Identifier: GPL-2.0-only */
/* Containers that belong together: a compose project, a pod, those with a label. */
#ifndef TIDEMARK_GROUP_H
#define TIDEMARK_GROUP_H

#include <linux/types.h>
#include <stddef.h>
#include <sys/types.h>

#include "container.h"

enum group_kind {
	GROUP_COMPOSE, /* PROJECT[/SERVICE] */
	GROUP_LABEL,   /* KEY[=VALUE] */
	GROUP_POD,     /* [NAMESPACE/]NAME */
};

/** Is @what a right way to name a group? If not, the remedy, in words without a newline. */
const char *group_refuse(enum group_kind kind, const char *what);

/** Is the container one of them? */
int group_has(enum group_kind kind, const char *what, const struct container *container);

/** Return non-zero to stop; group_each() hands that value back. */
typedef int (*group_fn)(__u64 inode, pid_t pid, const char *name, void *ctx);

/**
 * Calls @fn once for each network namespace that a running container of the group is in. Containers
 * that share one have one name between them: that of their pod, or of the one whose namespace it
 * is; of a compose project that is the service, with a number from the second container on.
 *
 * @pid is a process that just began, or 0: then only its namespace is told of, even if no runtime
 * has written down yet that its container runs.
 */
int group_each(enum group_kind kind, const char *what, pid_t pid, group_fn fn, void *ctx);

/** Which containers are where, for who asks about many namespaces. NULL: no memory. */
struct members;
struct members *members_read(void);
void members_free(struct members *members);

/**
 * The names of the containers in a network namespace, with commas between, in the order in which
 * they began; those that only hold a pod's namespaces are left out. Cut short where it ends with a
 * comma. Returns how many there are.
 */
size_t members_of(const struct members *members, __u64 inode, char *text, size_t size);

#endif
