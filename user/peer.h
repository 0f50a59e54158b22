/* SPDX-License-Identifier: GPL-2.0-only */
/* Peers: with whom clocks are exchanged in packets, and how far they are believed. */
#ifndef TIDEMARK_PEER_H
#define TIDEMARK_PEER_H

#include <stdbool.h>
#include <stddef.h>

#include "../bpf/wire.h"
#include "tidemark.h"

#define PEER_PORTS 16

/* What the options say. Starts as {}. */
struct peer_options {
	struct peer_key *peers;
	size_t peers_n;
	__u64 max_ahead_ns;
	bool max_ahead_given;
	__u16 no_stamp[PEER_PORTS];
	size_t no_stamp_n;
	__u32 stamp_one_in; /* 0: not said */
};

/* `10.0.0.0/8`, `fd00::/16`, or one address. -EINVAL. */
int peer_parse(const char *text, struct peer_key *key);

/* An option's value; 0, or -errno after saying why not. */
int peer_add(struct peer_options *o, const char *text);
int peer_max_ahead(struct peer_options *o, const char *text);
int peer_no_stamp(struct peer_options *o, const char *text);
int peer_sample(struct peer_options *o, const char *text);

/*
 * Tell an open datapath. Peers are added to those there are; from the first on packets are
 * looked at and stamped. 0, or -errno after saying why not.
 */
int peers_apply(struct tidemark *t, const struct peer_options *o);

/*
 * Exactly these from now on; what `was` there beyond them goes, or with NULL whatever else
 * there is. 0, or -errno after saying why not.
 */
int peers_set(struct tidemark *t, const struct peer_options *now, const struct peer_options *was);

/*
 * Listeners and connections that were there before their node was may have stamps too: those
 * of all nodes there are, and of the namespace we are in, for a node that is being added.
 * Kernels that cannot do that leave them as they are, which is no error.
 */
void peers_older(struct tidemark *t);
void peers_older_here(const struct tidemark *t);

/* Each peer there is, shortest key order as the kernel has it. Non-zero stops and is returned. */
int peers_each(const struct tidemark *t, int (*fn)(const struct peer_key *key, void *ctx),
	       void *ctx);

#endif
