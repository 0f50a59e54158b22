// SPDX-License-Identifier: GPL-2.0-only
/* Nodes that come and go: newcomers rung by BPF, devices and ends told by rtnetlink, mounts. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/owner.h"
#include "discover.h"
#include "log.h"
#include "physical.h"
#include "watch.h"

/* A node this young may still be given its right name. */
#define NAME_SETTLES_NS (15ULL * 1000 * 1000 * 1000)

struct discover {
	struct tidemark *t;
	const struct discover_choice *choice;
	struct watch *watch;
	struct ring_buffer *newcomers;
};

struct walk {
	struct tidemark *t;
	const struct discover_choice *choice;
	struct discover *follow; /* NULL: nobody follows yet */
};

/* Report on a node's devices; and list them once more, for what came in between. */
static void follow_node(struct discover *d, __u32 id, int nsfd)
{
	int err = watch_add(d->watch, nsfd, id);

	if (err && err != -EEXIST) {
		log_warn("node %u: cannot follow its devices: %s", id, strerror(-err));
		return;
	}
	node_link_new(d->t, id, 0);
}

static int node_found(struct walk *walk, const struct netns_seen *seen, const char *name,
		      __u32 flags)
{
	__u32 id;
	int err = node_add(walk->t, seen, name, flags, &walk->choice->options, &id);

	if (err == -EEXIST)
		return 0;
	if (err == -ENOENT || err == -ESRCH) /* it was just going */
		return 0;
	if (err) {
		log_warn("%s: cannot attach: %s", name, strerror(-err));
		return err;
	}
	log_debug("%s: node %u", name, id);
	if (walk->follow)
		follow_node(walk->follow, id, seen->fd);
	return 0;
}

static int namespace_seen(const struct netns_seen *seen, void *ctx)
{
	struct walk *walk = ctx;
	const struct discover_choice *choice = walk->choice;
	char name[NODE_NAME_MAX];
	__u64 own = 0;

	netns_inode_pid(0, &own);
	if (choice->all) {
		netns_name(seen, name);
		node_found(walk, seen, name, seen->inode == own ? NODE_HOST : 0);
		return 0;
	}
	for (size_t i = 0; i < choice->selectors_n; i++)
		if (selector_matches(&choice->selectors[i], seen, name)) {
			node_found(walk, seen, name, seen->inode == own ? NODE_HOST : 0);
			break;
		}
	return 0;
}

static int selector_found(const struct netns_seen *seen, const char *name, void *ctx)
{
	__u64 own = 0;

	netns_inode_pid(0, &own);
	return node_found(ctx, seen, name, seen->inode == own ? NODE_HOST : 0);
}

int discover_now(struct tidemark *t, const struct discover_choice *choice, bool wait)
{
	struct walk walk = { .t = t, .choice = choice };
	char words[512];
	int err = 0;

	if (choice->all)
		return netns_each(namespace_seen, &walk);
	for (size_t i = 0; i < choice->selectors_n && !err; i++) {
		err = selector_each(&choice->selectors[i], selector_found, &walk, words,
				    sizeof(words));
		if (!err)
			continue;
		if (err == -ENOENT && wait) {
			log_info("%s; waiting for it", words);
			err = 0;
		} else if (err == -ENOENT) {
			log_error("%s", words);
		}
	}
	return err;
}

/*
 * A program began, or made a socket, in a namespace nobody had told us of. While a
 * container is waited for by name, its runtime may not have written the name down yet:
 * then it may ring again.
 */
static int newcomer(void *ctx, void *data, size_t size)
{
	const struct newcomer *n = data;
	struct discover *d = ctx;
	struct walk walk = { .t = d->t, .choice = d->choice, .follow = d };
	struct netns_seen seen = { .pid = n->pid };
	__u32 id;

	if (size < sizeof(*n))
		return 0;
	seen.fd = netns_open_pid(n->pid);
	if (seen.fd < 0 || netns_inode(seen.fd, &seen.inode)) {
		/* Gone already, but others may be in there. */
		if (seen.fd >= 0)
			close(seen.fd);
		netns_each(namespace_seen, &walk);
	} else {
		namespace_seen(&seen, &walk);
		close(seen.fd);
	}
	if (!d->choice->all && node_by_cookie(d->t, n->cookie, &id))
		bpf_map_delete_elem(d->t->map[MAP_namespaces], &n->cookie);
	return 0;
}

static int follow_known(__u32 id, const struct node *node, void *ctx)
{
	struct discover *d = ctx;
	int fd;

	if (node->flags & NODE_INTERFACE)
		return 0;
	fd = node_open(node);
	if (fd < 0) {
		node_gone(d->t, id);
		return 0;
	}
	follow_node(d, id, fd);
	close(fd);
	return 0;
}

static int resync_one(__u32 id, const struct node *node, void *ctx)
{
	struct discover *d = ctx;

	if (!(node->flags & NODE_INTERFACE))
		node_link_new(d->t, id, 0);
	return 0;
}

static int watched(const struct watch_event *event, void *ctx)
{
	struct discover *d = ctx;
	struct walk walk = { .t = d->t, .choice = d->choice, .follow = d };

	switch (event->type) {
	case WATCH_LINK_NEW:
		node_link_new(d->t, event->key, event->link.ifindex);
		break;
	case WATCH_LINK_GONE:
		node_link_gone(d->t, event->key, event->link.ifindex);
		break;
	case WATCH_NETNS_GONE:
		node_gone(d->t, event->key);
		break;
	case WATCH_MOUNTS:
		netns_each(namespace_seen, &walk);
		break;
	case WATCH_RESYNC:
		netns_each(namespace_seen, &walk);
		node_each(d->t, resync_one, d);
		break;
	}
	return 0;
}

struct discover *discover_open(struct tidemark *t, const struct discover_choice *choice)
{
	struct discover *d = calloc(1, sizeof(*d));
	int err = 0;

	if (!d)
		return NULL;
	d->t = t;
	d->choice = choice;
	d->watch = watch_open(&err);
	d->newcomers = ring_buffer__new(t->map[MAP_newcomers], newcomer, d, NULL);
	if (!d->watch || !d->newcomers) {
		log_error("cannot follow namespaces: %s", strerror(err ? -err : errno));
		discover_close(d);
		return NULL;
	}
	node_each(t, follow_known, d);
	return d;
}

void discover_close(struct discover *d)
{
	if (!d)
		return;
	if (d->watch)
		watch_close(d->watch);
	ring_buffer__free(d->newcomers);
	free(d);
}

void discover_fds(const struct discover *d, int fds[DISCOVER_FDS])
{
	struct pollfd watch[WATCH_FDS];

	watch_fds(d->watch, watch);
	fds[0] = watch[0].fd;
	fds[1] = watch[1].fd;
	fds[2] = ring_buffer__epoll_fd(d->newcomers);
}

int discover_events(int which)
{
	return which == WATCH_FD_MOUNTS ? EPOLLPRI | EPOLLERR : EPOLLIN;
}

void discover_read(struct discover *d, int which)
{
	int err;

	if (which == 2) {
		ring_buffer__consume(d->newcomers);
		return;
	}
	err = watch_read(d->watch, which, watched, d);
	if (err)
		log_warn("following namespaces: %s", strerror(-err));
}

static int name_settle(__u32 id, const struct node *node, void *ctx)
{
	struct discover *d = ctx;
	struct node renamed = *node;
	struct netns_seen seen = { .pid = node->pid, .inode = node->inode };
	char name[NODE_NAME_MAX];

	if (node->flags & (NODE_INTERFACE | NODE_HOST) ||
	    physical_now_ns() - node->since_ns > NAME_SETTLES_NS)
		return 0;
	seen.fd = node_open(node);
	if (seen.fd < 0)
		return 0;
	snprintf(seen.path, sizeof(seen.path), "%s", node->path);
	netns_name(&seen, name);
	close(seen.fd);
	if (strcmp(name, node->name) && node_by_name(d->t, name, NULL, NULL)) {
		snprintf(renamed.name, sizeof(renamed.name), "%s", name);
		bpf_map_update_elem(d->t->map[MAP_nodes], &id, &renamed, BPF_EXIST);
	}
	return 0;
}

void discover_names(struct discover *d)
{
	if (d->choice->all)
		node_each(d->t, name_settle, d);
}
