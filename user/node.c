// SPDX-License-Identifier: GPL-2.0-only
/* Nodes of a datapath: made of namespaces, attached by their devices, forgotten when gone. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../bpf/event.h"
#include "attach.h"
#include "log.h"
#include "marks.h"
#include "node.h"
#include "peer.h"
#include "physical.h"
#include "selector.h"
#include "state.h"

int node_get(const struct tidemark *t, __u32 id, struct node *out)
{
	return bpf_map_lookup_elem(t->map[MAP_nodes], &id, out) ? -errno : 0;
}

int node_each(const struct tidemark *t, node_fn fn, void *ctx)
{
	__u32 *ids = NULL, *grown, key;
	size_t n = 0, size = 0;
	struct node node;
	int ret = 0;

	/* First the keys: walking a hash that loses entries meanwhile starts over. */
	for (void *at = NULL; !bpf_map_get_next_key(t->map[MAP_nodes], at, &key); at = &key) {
		if (n == size) {
			size = size ? 2 * size : 64;
			grown = realloc(ids, size * sizeof(*ids));
			if (!grown) {
				free(ids);
				return -ENOMEM;
			}
			ids = grown;
		}
		ids[n++] = key;
	}
	for (size_t i = 0; i < n && !ret; i++)
		if (!node_get(t, ids[i], &node))
			ret = fn(ids[i], &node, ctx);
	free(ids);
	return ret;
}

static int node_count_one(__u32 id, const struct node *node, void *ctx)
{
	(void)id, (void)node;
	++*(unsigned *)ctx;
	return 0;
}

unsigned node_count(const struct tidemark *t)
{
	unsigned n = 0;

	node_each(t, node_count_one, &n);
	return n;
}

struct node_search {
	const char *name;
	__u64 cookie;
	struct node node;
	__u32 id;
};

static int node_has_name(__u32 id, const struct node *node, void *ctx)
{
	struct node_search *search = ctx;

	if (strcmp(node->name, search->name))
		return 0;
	search->id = id;
	search->node = *node;
	return 1;
}

int node_by_name(const struct tidemark *t, const char *name, struct node *out, __u32 *id)
{
	struct node_search search = { .name = name };

	if (node_each(t, node_has_name, &search) <= 0)
		return -ENOENT;
	if (out)
		*out = search.node;
	if (id)
		*id = search.id;
	return 0;
}

int node_by_cookie(const struct tidemark *t, __u64 cookie, __u32 *id)
{
	if (bpf_map_lookup_elem(t->map[MAP_namespaces], &cookie, id))
		return -errno;
	return *id ? 0 : -ENOENT;
}

int node_open(const struct node *node)
{
	const struct netns id = { .cookie = node->cookie, .inode = node->inode };

	return netns_find(&id, node->path, node->pid);
}

int node_skew(struct tidemark *t, const char *name, __s64 skew_ns)
{
	struct node node;

	if (node_by_name(t, name, &node, NULL))
		return -ENOENT;
	t->clocks[node.clock].skew_ns = skew_ns;
	return 0;
}

static __s64 skew_of(const struct node_options *options, const char *name)
{
	for (size_t i = 0; options && i < options->skews_n; i++)
		if (!strcmp(options->skews[i].name, name))
			return options->skews[i].ns;
	return 0;
}

/*
 * A clock for a node. A slot is free when no node has it; it is begun anew, so a node that
 * gets the slot of one that is gone inherits nothing. Only what the state file remembers
 * of a node of the same name, from before a restart, is a floor: no stamp may come twice.
 */
static int clock_assign(struct tidemark *t, __u32 id, const char *name,
			const struct node_options *options, __u32 *index)
{
	struct clock *c;

	if (t->settings->clock_per_host && t->clocks[0].node) {
		*index = 0;
		return 0;
	}
	for (*index = 0; *index < t->clocks_n; ++*index)
		if (!t->clocks[*index].node)
			break;
	if (*index == t->clocks_n)
		return -ENOSPC;
	c = &t->clocks[*index];
	memset(c, 0, sizeof(*c));
	c->now = state_floor(t, t->settings->clock_per_host ? STATE_HOST : name);
	c->skew_ns = skew_of(options, name);
	c->flags = t->settings->every_packet ? CLOCK_EVERY_PACKET : 0;
	c->flags |= t->settings->burst_flow ? CLOCK_BURST_FLOW : 0;
	c->node = id;
	return 0;
}

static void clock_free(struct tidemark *t, __u32 index)
{
	if (!t->settings->clock_per_host)
		t->clocks[index].node = 0;
}

static void node_event(struct tidemark *t, __u32 id, __u32 clock, __u32 type)
{
	struct event_call call = { .clock = clock, .node = id, .type = type };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));

	bpf_prog_test_run_opts(t->event_node, &opts);
}

/* Two containers called "web", one in each of two projects: the second is "web#2". */
static void name_make_unique(const struct tidemark *t, char name[NODE_NAME_MAX])
{
	char wanted[NODE_NAME_MAX];

	memcpy(wanted, name, sizeof(wanted));
	for (int i = 2; i < 100000 && !node_by_name(t, name, NULL, NULL); i++)
		snprintf(name, NODE_NAME_MAX, "%.52s#%d", wanted, i);
}

static int node_make(struct tidemark *t, struct node *node, const struct node_options *options,
		     __u32 *id)
{
	struct timespec now;
	int err;

	*id = t->settings->next_node++;
	name_make_unique(t, node->name);
	err = clock_assign(t, *id, node->name, options, &node->clock);
	if (err)
		return err;
	clock_gettime(CLOCK_REALTIME, &now);
	node->since_ns = now.tv_sec * 1000000000ULL + now.tv_nsec;
	if (bpf_map_update_elem(t->map[MAP_nodes], id, node, BPF_NOEXIST)) {
		err = -errno;
		clock_free(t, node->clock);
		return err;
	}
	marks_node_new(t, node->name, *id);
	return 0;
}

static void node_forget(struct tidemark *t, __u32 id, const struct node *node)
{
	if (!(node->flags & NODE_INTERFACE))
		bpf_map_delete_elem(t->map[MAP_namespaces], &node->cookie);
	bpf_map_delete_elem(t->map[MAP_nodes], &id);
	clock_free(t, node->clock);
}

/* In the node's namespace: every device that speaks for it. */
static int node_attach_all(struct tidemark *t, __u32 id, const struct node *node,
			   const struct node_options *options)
{
	struct link *links;
	bool *busy;
	size_t n;
	int err = link_list(&links, &n);

	if (err)
		return err;
	busy = calloc(n, sizeof(*busy));
	if (busy && options->settled && t->settings->attach_how == ATTACH_AUTO)
		busy_ask(options->busy, node->cookie, links, n, busy);
	for (size_t i = 0; i < n; i++) {
		int one;

		if (!link_speaks(links, n, i))
			continue;
		one = attach_device(t, id, node->clock, 0, &links[i], busy && busy[i]);
		if (one && one != -ENODEV)
			err = one;
	}
	free(busy);
	free(links);
	return err;
}

int node_add(struct tidemark *t, const struct netns_seen *seen, const char *name, __u32 flags,
	     const struct node_options *options, __u32 *id)
{
	struct node node = { .inode = seen->inode, .flags = flags, .pid = seen->pid };
	struct netns ns;
	int err = netns_identify(seen->fd, &ns), home;

	if (err)
		return err;
	if (!node_by_cookie(t, ns.cookie, id))
		return -EEXIST;
	node.cookie = ns.cookie;
	name_clean(name, node.name);
	if (strlen(seen->path) < sizeof(node.path))
		strcpy(node.path, seen->path);
	err = node_make(t, &node, options, id);
	if (err)
		return err;
	if (bpf_map_update_elem(t->map[MAP_namespaces], &ns.cookie, id, BPF_ANY)) {
		err = -errno;
		node_forget(t, *id, &node);
		return err;
	}
	node_event(t, *id, node.clock, EVENT_node_up);
	home = netns_enter(seen->fd);
	if (home < 0) {
		node_remove(t, *id);
		return home;
	}
	err = node_attach_all(t, *id, &node, options);
	peers_older_here(t);
	if (netns_leave(home)) {
		log_error("cannot go back to the namespace we came from");
		exit(1);
	}
	if (err)
		node_remove(t, *id);
	return err;
}

/*
 * A device chosen by name is a node called after it. A port speaks for whoever is behind
 * it: that one sends what comes in here.
 */
static int interface_add(struct tidemark *t, const struct link *link,
			 const struct node_options *options)
{
	__u32 flags = ATTACH_PROMISC | (link_is_port(link) ? ATTACH_FAR : 0), id;
	struct node node = { .flags = NODE_INTERFACE, .pid = getpid() };
	bool busy = false;
	struct netns ns;
	int err, fd = netns_open_pid(getpid());

	if (fd < 0)
		return fd;
	err = netns_identify(fd, &ns);
	close(fd);
	if (err)
		return err;
	node.cookie = ns.cookie;
	node.inode = ns.inode;
	snprintf(node.name, sizeof(node.name), "%s", link->name);
	err = node_make(t, &node, options, &id);
	if (err)
		return err;
	node_event(t, id, node.clock, EVENT_node_up);
	if (t->settings->attach_how == ATTACH_AUTO)
		busy_ask(options->busy, node.cookie, link, 1, &busy);
	err = attach_device(t, id, node.clock, flags, link, busy);
	if (err)
		node_remove(t, id);
	return err;
}

int node_add_interface(struct tidemark *t, const char *device, const struct node_options *options)
{
	struct link *links;
	size_t n, i;
	int err = link_list(&links, &n);

	if (err)
		return err;
	for (i = 0; i < n && strcmp(links[i].name, device); i++)
		;
	if (i == n) {
		free(links);
		return -ENODEV;
	}
	err = interface_add(t, &links[i], options);
	/* Frames from port to port never reach the bridge device itself. */
	if (!strcmp(links[i].kind, "bridge"))
		for (size_t p = 0; p < n && !err; p++)
			if (links[p].master == links[i].ifindex)
				err = interface_add(t, &links[p], options);
	free(links);
	return err;
}

int node_link_new(struct tidemark *t, __u32 id, int ifindex)
{
	struct node node;
	struct link *links;
	int err = node_get(t, id, &node), fd, home;
	size_t n;

	if (err)
		return err;
	fd = node_open(&node);
	if (fd < 0)
		return fd;
	home = netns_enter(fd);
	close(fd);
	if (home < 0)
		return home;
	err = link_list(&links, &n);
	for (size_t i = 0; !err && i < n; i++) {
		struct attachment_key key = { .node = id, .ifindex = links[i].ifindex };

		if (ifindex && links[i].ifindex != ifindex)
			continue;
		if (link_speaks(links, n, i))
			err = attach_device(t, id, node.clock, 0, &links[i], false);
		else
			detach_device(t, &key); /* it has been given a master */
	}
	if (!err)
		free(links);
	if (netns_leave(home)) {
		log_error("cannot go back to the namespace we came from");
		exit(1);
	}
	return err;
}

void node_link_gone(struct tidemark *t, __u32 id, int ifindex)
{
	const struct attachment_key key = { .node = id, .ifindex = ifindex };

	detach_gone(t, &key);
}

/* Every attachment of a node, or of all (0). */
static size_t attachments_of(const struct tidemark *t, __u32 id, struct attachment_key **keys)
{
	struct attachment_key key, *grown;
	size_t n = 0, size = 0;

	*keys = NULL;
	for (void *at = NULL; !bpf_map_get_next_key(t->map[MAP_attachments], at, &key); at = &key) {
		if (id && key.node != id)
			continue;
		if (n == size) {
			size = size ? 2 * size : 16;
			grown = realloc(*keys, size * sizeof(**keys));
			if (!grown)
				break;
			*keys = grown;
		}
		(*keys)[n++] = key;
	}
	return n;
}

void node_gone(struct tidemark *t, __u32 id)
{
	struct attachment_key *keys;
	struct node node;
	size_t n;

	if (node_get(t, id, &node))
		return;
	node_event(t, id, node.clock, EVENT_node_down);
	state_note(t, node.name, t->clocks[node.clock].now);
	n = attachments_of(t, id, &keys);
	for (size_t i = 0; i < n; i++)
		detach_gone(t, &keys[i]);
	free(keys);
	node_forget(t, id, &node);
}

static bool link_is_there(const struct link *links, size_t n, int ifindex)
{
	for (size_t i = 0; i < n; i++)
		if (links[i].ifindex == ifindex)
			return true;
	return false;
}

void node_interface_gone(struct tidemark *t, int ifindex)
{
	struct attachment_key *keys;
	struct link *links = NULL;
	size_t n, links_n = 0;
	struct node node;
	__u64 own = 0;

	if (netns_inode_pid(0, &own) || (!ifindex && link_list(&links, &links_n)))
		return;
	n = attachments_of(t, 0, &keys);
	for (size_t i = 0; i < n; i++) {
		/* The same number may be another device in another namespace. */
		if (node_get(t, keys[i].node, &node) || !(node.flags & NODE_INTERFACE) ||
		    node.inode != own)
			continue;
		if (ifindex ? (int)keys[i].ifindex == ifindex
			    : !link_is_there(links, links_n, keys[i].ifindex))
			node_gone(t, keys[i].node);
	}
	free(keys);
	free(links);
}

int node_remove(struct tidemark *t, __u32 id)
{
	struct attachment_key *keys;
	int err = 0, one, fd, home;
	struct node node;
	size_t n;

	if (node_get(t, id, &node))
		return -ENOENT;
	n = attachments_of(t, id, &keys);
	fd = node_open(&node);
	if (fd < 0) { /* gone, and its devices with it; or reachable no more */
		if (fd != -ENOENT && fd != -ESRCH)
			err = fd;
		for (size_t i = 0; i < n && !err; i++)
			detach_gone(t, &keys[i]);
		goto out;
	}
	home = netns_enter(fd);
	close(fd);
	if (home < 0) {
		err = home;
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		one = detach_device(t, &keys[i]);
		if (one && !err)
			err = one;
	}
	if (netns_leave(home)) {
		log_error("cannot go back to the namespace we came from");
		exit(1);
	}
out:
	free(keys);
	if (err) {
		log_error("%s: cannot detach: %s", node.name, strerror(-err));
		return err;
	}
	state_note(t, node.name, t->clocks[node.clock].now);
	node_forget(t, id, &node);
	return 0;
}

struct node_removal {
	struct tidemark *t;
	int err;
};

static int node_remove_one(__u32 id, const struct node *node, void *ctx)
{
	struct node_removal *removal = ctx;
	int err = node_remove(removal->t, id);

	(void)node;
	if (err && !removal->err)
		removal->err = err;
	return 0;
}

int node_remove_all(struct tidemark *t)
{
	struct node_removal removal = { .t = t };

	node_each(t, node_remove_one, &removal);
	return removal.err;
}
