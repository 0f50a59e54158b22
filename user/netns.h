/* SPDX-License-Identifier: GPL-2.0-only */
/* Network namespaces: find them, name their identity, work inside one for a moment. */
#ifndef TIDEMARK_NETNS_H
#define TIDEMARK_NETNS_H

#include <linux/types.h>
#include <sys/types.h>

/**
 * Which namespace this is. The cookie is the identity: the kernel never gives it out twice while
 * it is booted. The inode is what /proc and mountinfo show, and the kernel does reuse it.
 */
struct netns {
	__u64 cookie;
	__u64 inode;
};

#define NETNS_PATH_MAX 512

/**
 * A namespace as a walk finds it. @fd belongs to the walk and is closed after the call: whoever
 * kept it would keep the namespace alive after its container has gone.
 */
struct netns_seen {
	int fd;
	pid_t pid; /* lowest process inside; 0 if there is none */
	__u64 inode;
	char path[NETNS_PATH_MAX]; /* where it is mounted, /run/netns first; "" if nowhere */
};

/** Return non-zero to stop the walk; the walk hands that value back. */
typedef int (*netns_fn)(const struct netns_seen *seen, void *ctx);

/** Opens the namespace at @path. -EINVAL if what is there is not a network namespace. */
int netns_open(const char *path);

/** Opens the namespace that process @pid is in. -ENOENT if there is no such process. */
int netns_open_pid(pid_t pid);

/** The inode of @fd, or of the namespace process @pid is in (0 for our own). */
int netns_inode(int fd, __u64 *inode);
int netns_inode_pid(pid_t pid, __u64 *inode);

/** Asks the kernel for the identity of @fd: enters it, makes a socket, closes it, leaves. */
int netns_identify(int fd, struct netns *out);

/**
 * Moves the calling thread, and no other, into @fd. Returns a descriptor of the namespace it
 * came from, which netns_leave() goes back to and closes. May be nested. If netns_leave() fails
 * the thread is in a place its code does not expect: treat it as fatal.
 */
int netns_enter(int fd);
int netns_leave(int home);

/**
 * Calls @fn once for every network namespace that has a mount we can see or a process in it.
 * One that only a descriptor or a socket keeps alive has no place to be found at.
 */
int netns_each(netns_fn fn, void *ctx);

/**
 * Opens namespace @id again: at @path or by @pid if it is still there (either may be absent),
 * else wherever it is now. The cookie decides, so a reused path, pid or inode never deceives.
 */
int netns_find(const struct netns *id, const char *path, pid_t pid);

#endif
