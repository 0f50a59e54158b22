/* SPDX-License-Identifier: GPL-2.0-only */
/* Nodes that appear, change and disappear while we run, told by the kernel. */
#ifndef TIDEMARK_DISCOVER_H
#define TIDEMARK_DISCOVER_H

#include "node.h"
#include "selector.h"

struct discover;

/*
 * Which namespaces are to be nodes: those the selectors name, or all when there are none
 * and `all` is set. The selectors stay the caller's.
 */
struct discover_choice {
	const struct selector *selectors;
	size_t selectors_n;
	bool all;
	struct node_options options;
};

/*
 * Make nodes of what is here now. A selector that finds nothing is an error, said, unless
 * `wait`: then it may come later; so may containers, where a trace follows them. What could not be
 * attached is said and left out.
 */
int discover_now(struct tidemark *t, const struct discover_choice *choice, bool wait);

/*
 * A first look at which devices of theirs carry traffic, for `choice->options.busy`: it changes
 * nothing, and what it does not find is not missing.
 */
void discover_look(const struct discover_choice *choice, struct busy *busy);

/* Follow what comes: devices of the nodes there are, and namespaces. NULL: said why. */
struct discover *discover_open(struct tidemark *t, const struct discover_choice *choice);
void discover_close(struct discover *d);

/* One descriptor for each; when it is ready, discover_read() with its index. */
#define DISCOVER_FDS 3
void discover_fds(const struct discover *d, int fds[DISCOVER_FDS]);
int discover_events(int which); /* EPOLLIN, EPOLLPRI... */
void discover_read(struct discover *d, int which);

/* Every few milliseconds: walks that were put off, so that a thousand changes cost a few. */
void discover_tick(struct discover *d);

/* Once a second: names that runtimes write down only after the namespace is there. */
void discover_names(struct discover *d);

#endif
