/* SPDX-License-Identifier: GPL-2.0-only */
/* Finds containers by the names docker, podman, containerd, runc or crun gave them. */
#ifndef TIDEMARK_RUNTIME_H
#define TIDEMARK_RUNTIME_H

#include <linux/types.h>
#include <sys/types.h>

#include "container.h"

/** Return non-zero to stop; runtime_each() hands that value back. */
typedef int (*container_fn)(const struct container *container, void *ctx);

/**
 * Calls @fn for every container found in the runtimes' own files, and in the command lines of
 * their daemons, which tell where those files are if not in the usual place. No runtime is asked,
 * none has to run, and one that is absent costs an access(). A container may come more than once,
 * since runtimes stand on each other's shoulders: docker, containerd and runc all know it.
 */
int runtime_each(container_fn fn, void *ctx);

/**
 * The same, with the labels of podman's containers, which only its service can tell: it is asked if
 * it listens, and where it does not they have none. @container->labels last as long as the call.
 */
int runtime_each_labelled(container_fn fn, void *ctx);

/**
 * The running container called @text: its name, its id, or the beginning of its id if no other
 * begins so. -ENOENT: none, or not running. -EEXIST: several, in different namespaces. @newborn is
 * a process that just began, or 0: its container runs even if no runtime has written that down.
 */
int runtime_find(const char *text, pid_t newborn, struct container *out);

/** The running container whose network namespace @inode is; -ENOENT if it is nobody's. */
int runtime_find_netns(__u64 inode, struct container *out);

/** What to call it: its pod, its name, or else its id, shortened as the runtimes do. */
void container_label(const struct container *container, char *out, size_t size);

/** Of two containers in one network namespace: is it @one by which to call it? */
bool container_speaks_before(const struct container *one, const struct container *other);

/** A copy to keep, without the labels. */
void container_copy(struct container *to, const struct container *from);

#endif
