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
	__u64 walked_ns;	    /* when all namespaces were last walked */
	bool walk;		    /* and must be again */
	__u64 ask_again_ns;	    /* not before then is a newcomer worth a look into files */
	__u64 named_until_ns;	    /* runtimes may still write down who the newcomers are */
	struct known *known;	    /* by inode: nodes that need not be asked who they are */
	size_t known_n, known_size; /* a power of two */
	__u64 own_key; /* under which the namespace of interfaces (-i) is watched, or 0 */
};

/* Of what watch_add() is given: no node's. */
#define KEY_OWN (1ULL << 32)

struct known {
	__u64 inode; /* 0: free */
	__u32 node;
};

/* Between two walks; a namespace is to be found within a tenth of a second. */
#define WALK_NS (25ULL * 1000 * 1000)

struct walk {
	struct tidemark *t;
	const struct discover_choice *choice;
	struct discover *follow;	 /* NULL: nobody follows yet */
	const struct selector *selector; /* by which something is looked for, or NULL; */
	__u32 first;			 /* nodes from here on were made by those before it */
};

static struct known *known_at(struct discover *d, __u64 inode)
{
	size_t i = inode * 0x9e3779b97f4a7c15ULL >> 32;

	for (;; i++) {
		struct known *k = &d->known[i & (d->known_size - 1)];

		if (!k->inode || k->inode == inode)
			return k;
	}
}

/* Without memory nobody is known, and everybody is asked: slower, as right. */
static void known_add(struct discover *d, __u64 inode, __u32 node)
{
	struct known *old = d->known, *k;
	size_t size = d->known_size;

	if (2 * (d->known_n + 1) > size) {
		d->known = calloc(size ? 2 * size : 64, sizeof(*d->known));
		if (!d->known) {
			d->known = old;
			return;
		}
		d->known_size = size ? 2 * size : 64;
		d->known_n = 0;
		for (size_t i = 0; i < size; i++)
			if (old[i].inode && old[i].node) {
				*known_at(d, old[i].inode) = old[i];
				d->known_n++;
			}
		free(old);
	}
	k = known_at(d, inode);
	d->known_n += !k->inode;
	*k = (struct known){ inode, node };
}

/*
 * A namespace has gone. Its inode may have been given to another already, and that one
 * been passed over for it: so there is a walk to do.
 */
static void known_gone(struct discover *d, __u32 node)
{
	for (size_t i = 0; i < d->known_size; i++)
		if (d->known[i].inode && d->known[i].node == node)
			d->known[i].node = 0; /* stays in its place, so that others are found */
	d->walk = true;
}

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

static bool is_known(const struct walk *walk, __u64 inode)
{
	return walk->follow && walk->follow->known_size && known_at(walk->follow, inode)->node;
}

/* Named twice, by two -n of one command: a node has one name, and we do not choose. */
static int second_name(const struct walk *walk, __u32 id)
{
	struct node node;

	if (!walk->selector || !walk->selector->name[0] || id < walk->first ||
	    node_get(walk->t, id, &node) || !strcmp(node.name, walk->selector->name))
		return 0;
	log_error("%s: is node %s already, by an -n before it, and has one name; leave out one of "
		  "the two",
		  walk->selector->name, node.name);
	return -ENOTUNIQ;
}

static int node_found(struct walk *walk, const struct netns_seen *seen, const char *name,
		      __u32 flags)
{
	__u32 id;
	int err = node_add(walk->t, seen, name, flags, &walk->choice->options, &id);

	if (err == -EEXIST) {
		if (walk->follow)
			known_add(walk->follow, seen->inode, id);
		return second_name(walk, id);
	}
	if (err == -ENOENT || err == -ESRCH) /* it was just going */
		return 0;
	if (err) {
		log_warn("%s: cannot attach: %s", name, strerror(-err));
		return err;
	}
	log_debug("%s: node %u", name, id);
	if (walk->follow) {
		known_add(walk->follow, seen->inode, id);
		follow_node(walk->follow, id, seen->fd);
	}
	return 0;
}

static int namespace_seen(const struct netns_seen *seen, void *ctx)
{
	struct walk *walk = ctx;
	const struct discover_choice *choice = walk->choice;
	char name[NODE_NAME_MAX];
	__u64 own = 0;

	if (is_known(walk, seen->inode))
		return 0;
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

	if (is_known(ctx, seen->inode))
		return 0;
	netns_inode_pid(0, &own);
	return node_found(ctx, seen, name, seen->inode == own ? NODE_HOST : 0);
}

/*
 * Everything that is here now. What selectors mean is asked of each once: asking whether a
 * namespace is meant, for each namespace, would read the files of runtimes as often.
 */
static void walk_all(struct walk *walk)
{
	char words[512];

	if (walk->choice->all)
		netns_each(namespace_seen, walk);
	for (size_t i = 0; i < walk->choice->selectors_n; i++)
		selector_each(&walk->choice->selectors[i], selector_found, walk, words,
			      sizeof(words));
}

static int namespace_look(const struct netns_seen *seen, void *ctx)
{
	struct netns ns;
	int home;

	if (netns_identify(seen->fd, &ns))
		return 0;
	home = netns_enter(seen->fd);
	if (home < 0)
		return 0;
	busy_look(ctx, ns.cookie);
	if (netns_leave(home)) {
		log_error("cannot go back to the namespace we came from");
		exit(1);
	}
	return 0;
}

static int selected_look(const struct netns_seen *seen, const char *name, void *ctx)
{
	(void)name;
	return namespace_look(seen, ctx);
}

void discover_look(const struct discover_choice *choice, struct busy *busy)
{
	char words[512];

	if (choice->all)
		netns_each(namespace_look, busy);
	for (size_t i = 0; i < choice->selectors_n; i++)
		selector_each(&choice->selectors[i], selected_look, busy, words, sizeof(words));
}

int discover_now(struct tidemark *t, const struct discover_choice *wanted, bool wait)
{
	struct discover_choice settled = *wanted, *choice = &settled;
	struct walk walk = { .t = t, .choice = choice, .first = t->settings->next_node };
	char words[512] = "";
	int err = 0;

	settled.options.settled = true;
	if (choice->all)
		return netns_each(namespace_seen, &walk);
	for (size_t i = 0; i < choice->selectors_n && !err; i++) {
		const struct selector *selector = &choice->selectors[i];

		walk.selector = selector;
		*words = 0;
		err = selector_each(selector, selector_found, &walk, words, sizeof(words));
		if (!err)
			continue;
		if (err == -ENOENT &&
		    (wait || (t->settings->temporary && selector_is_container(selector)))) {
			log_info("%s; waiting for it", words);
			err = 0;
		} else if (*words) { /* else it was said where it failed */
			log_error("%s", words);
		}
	}
	return err;
}

/*
 * While containers are waited for, every program that begins in a namespace that is none of ours
 * rings, and finding out whose it is reads the files of runtimes. That may take a tenth of our
 * time and no more: events are waiting. Who is put off is found by a walk, a moment later.
 */
static __u64 rest_after(const struct discover *d, __u64 began_ns)
{
	__u64 now = physical_monotonic_ns();

	return d->choice->all ? now : now + 9 * (now - began_ns);
}

static void newcomer_ask(struct discover *d, const struct netns_seen *seen)
{
	struct walk walk = { .t = d->t, .choice = d->choice, .follow = d };
	__u64 now = physical_monotonic_ns();

	if (now < d->ask_again_ns) {
		d->walk = true;
		return;
	}
	namespace_seen(seen, &walk);
	d->ask_again_ns = rest_after(d, now);
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
	/*
	 * With interfaces alone nobody is looked for; who rang once is not rung for again. But a
	 * trace of the same datapath may wait for somebody, and has to be rung for.
	 */
	if (!d->choice->all && !d->choice->selectors_n && !d->t->settings->reading)
		return 0;
	seen.fd = netns_open_pid(n->pid);
	if (seen.fd < 0 || netns_inode(seen.fd, &seen.inode)) {
		/* Gone already, but others may be in there. */
		if (seen.fd >= 0)
			close(seen.fd);
		if (d->choice->all)
			walk_all(&walk);
		else
			d->walk = true;
	} else {
		newcomer_ask(d, &seen);
		close(seen.fd);
	}
	if (!d->choice->all && node_by_cookie(d->t, n->cookie, &id)) {
		bpf_map_delete_elem(d->t->map[MAP_namespaces], &n->cookie);
		d->named_until_ns = physical_monotonic_ns() + NAME_SETTLES_NS;
	}
	return 0;
}

static int follow_known(__u32 id, const struct node *node, void *ctx)
{
	struct discover *d = ctx;
	int fd;

	if (node->flags & NODE_INTERFACE) {
		d->own_key = KEY_OWN;
		return 0;
	}
	fd = node_open(node);
	if (fd < 0) {
		node_gone(d->t, id);
		return 0;
	}
	known_add(d, node->inode, id);
	follow_node(d, id, fd);
	close(fd);
	return 0;
}

/* Nodes that are interfaces go when those do. Their namespace is ours, and may be a node too. */
static void follow_interfaces(struct discover *d)
{
	int fd = netns_open_pid(getpid()), err = fd < 0 ? fd : 0;
	struct netns own;
	__u32 id;

	if (!err)
		err = watch_add(d->watch, fd, KEY_OWN);
	if (err == -EEXIST && !netns_identify(fd, &own) && !node_by_cookie(d->t, own.cookie, &id)) {
		d->own_key = id;
		err = 0;
	}
	if (fd >= 0)
		close(fd);
	if (err)
		log_warn("interfaces: cannot follow them: %s", strerror(-err));
	node_interface_gone(d->t, 0);
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

	switch (event->type) {
	case WATCH_LINK_NEW:
		if (event->key != KEY_OWN)
			node_link_new(d->t, event->key, event->link.ifindex);
		break;
	case WATCH_LINK_GONE:
		if (d->own_key && event->key == d->own_key)
			node_interface_gone(d->t, event->link.ifindex);
		if (event->key != KEY_OWN)
			node_link_gone(d->t, event->key, event->link.ifindex);
		break;
	case WATCH_NETNS_GONE:
		node_gone(d->t, event->key);
		known_gone(d, event->key);
		break;
	case WATCH_MOUNTS:
		d->walk = true;
		discover_tick(d);
		break;
	case WATCH_RESYNC:
		d->walk = true;
		node_each(d->t, resync_one, d);
		if (d->own_key)
			node_interface_gone(d->t, 0);
		break;
	}
	return 0;
}

void discover_tick(struct discover *d)
{
	struct walk walk = { .t = d->t, .choice = d->choice, .follow = d };
	__u64 now = physical_monotonic_ns();

	if (!d->walk || now < d->walked_ns || now - d->walked_ns < WALK_NS)
		return;
	d->walk = false;
	walk_all(&walk);
	d->walked_ns = rest_after(d, now);
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
	if (d->own_key)
		follow_interfaces(d);
	return d;
}

void discover_close(struct discover *d)
{
	if (!d)
		return;
	if (d->watch)
		watch_close(d->watch);
	ring_buffer__free(d->newcomers);
	free(d->known);
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

/* A server that has made its sockets rings no more: so look again while a runtime may write. */
static bool waits_for_container(const struct discover_choice *choice)
{
	for (size_t i = 0; i < choice->selectors_n; i++)
		if (selector_is_container(&choice->selectors[i]))
			return true;
	return false;
}

void discover_names(struct discover *d)
{
	if (d->choice->all)
		node_each(d->t, name_settle, d);
	else if (physical_monotonic_ns() < d->named_until_ns && waits_for_container(d->choice))
		d->walk = true;
}
