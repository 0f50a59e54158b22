/* SPDX-License-Identifier: GPL-2.0-only */
/* Nodes of a datapath: make one of a namespace, follow its devices, let it go. */
#ifndef TIDEMARK_USER_NODE_H
#define TIDEMARK_USER_NODE_H

#include "busy.h"
#include "link.h"
#include "netns.h"
#include "tidemark.h"

/* What a user said about nodes to come: -n, -i, --skew, --clock. */
struct node_skew {
	char name[NODE_NAME_MAX];
	__s64 ns;
};

struct node_options {
	const struct node_skew *skews;
	size_t skews_n;
	bool settled;	   /* what is here now, not what just came: traffic may be running */
	struct busy *busy; /* a first look at that, or NULL */
};

/*
 * Make the namespace a node, with a clock of its own (or the host's), attached to every
 * device that speaks for it. Returns its id, or -errno; -EEXIST if it is one already
 * (then *id is that). The name gets a number if another node has it.
 */
int node_add(struct tidemark *t, const struct netns_seen *seen, const char *name, __u32 flags,
	     const struct node_options *options, __u32 *id);

/* Make one device of our own namespace a node, and with a bridge every port of it. */
int node_add_interface(struct tidemark *t, const char *device, const struct node_options *options);

/* Attach a device that a node has got; one that is none of its voices is left alone. */
int node_link_new(struct tidemark *t, __u32 id, int ifindex);
void node_link_gone(struct tidemark *t, __u32 id, int ifindex);

/*
 * Interfaces of this namespace that are nodes (-i): that with this index has gone, or, with 0,
 * those that are not there any more.
 */
void node_interface_gone(struct tidemark *t, int ifindex);

/* The namespace is no more: its devices went with it. */
void node_gone(struct tidemark *t, __u32 id);

/* Take one node, or all, off: detach, forget. The first error, after trying everything. */
int node_remove(struct tidemark *t, __u32 id);
int node_remove_all(struct tidemark *t);

/* Copies; -ENOENT. */
int node_get(const struct tidemark *t, __u32 id, struct node *out);
int node_by_name(const struct tidemark *t, const char *name, struct node *out, __u32 *id);
int node_by_cookie(const struct tidemark *t, __u64 cookie, __u32 *id);

/* Return non-zero to stop; node_each() hands that value back. */
typedef int (*node_fn)(__u32 id, const struct node *node, void *ctx);
int node_each(const struct tidemark *t, node_fn fn, void *ctx);
unsigned node_count(const struct tidemark *t);

/* Opens a node's namespace again, or -errno. */
int node_open(const struct node *node);

/* Sets a node's clock off by so much; -ENOENT. */
int node_skew(struct tidemark *t, const char *name, __s64 skew_ns);

#endif
