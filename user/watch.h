/* SPDX-License-Identifier: GPL-2.0-only */
/* Hears from the kernel which devices and namespaces come and go. */
#ifndef TIDEMARK_WATCH_H
#define TIDEMARK_WATCH_H

#include <linux/types.h>
#include <poll.h>

#include "link.h"

enum watch_type {
	WATCH_LINK_NEW,	  /* a device is there, or something about it changed: name, flags... */
	WATCH_LINK_GONE,  /* deleted, or moved to another namespace */
	WATCH_NETNS_GONE, /* the namespace is no more; @key is free again */
	WATCH_MOUNTS,	  /* a namespace was mounted or unmounted: walk netns_each() again */
	WATCH_RESYNC,	  /* events were lost: list the devices of every namespace again */
};

struct watch_event {
	enum watch_type type;
	__u64 key;	  /* as given to watch_add(); 0 for MOUNTS and RESYNC */
	struct link link; /* for LINK_NEW and LINK_GONE */
};

/** Return a negative number to stop reading; watch_read() hands it back. */
typedef int (*watch_fn)(const struct watch_event *event, void *ctx);

/**
 * One socket hears all namespaces. It lives in a private namespace of its own, where each watched
 * one gets an id: ids hold no reference, so a watched namespace dies exactly when it would have
 * died without us, and the end of its id tells us so.
 */
struct watch;

struct watch *watch_open(int *err);
void watch_close(struct watch *watch);

/**
 * Begins to report on namespace @nsfd under @key. List its devices after this, not before: what
 * comes in between is then heard twice rather than never. -EEXIST if it is watched already.
 */
int watch_add(struct watch *watch, int nsfd, __u64 key);

enum { WATCH_FD_LINKS, WATCH_FD_MOUNTS, WATCH_FDS };

/**
 * What to wait for: descriptors and events. The second is ready once per change, and whoever polls
 * it takes the change: it must sit in the caller's own poll or epoll, not in a nested one.
 */
void watch_fds(const struct watch *watch, struct pollfd fds[WATCH_FDS]);

/**
 * Delivers what @which has to say, without waiting; call it when that descriptor is ready.
 * @fn may call watch_add().
 */
int watch_read(struct watch *watch, int which, watch_fn fn, void *ctx);

#endif
