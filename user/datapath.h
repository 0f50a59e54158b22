/* SPDX-License-Identifier: GPL-2.0-only */
/* The options of every command that loads the datapath, and bringing it up and down. */
#ifndef TIDEMARK_DATAPATH_H
#define TIDEMARK_DATAPATH_H

#include <argp.h>

#include "discover.h"
#include "peer.h"
#include "tidemark.h"

#define DATAPATH_INTERFACES 64

struct datapath_options {
	const char *pin_dir, *state_dir;
	struct selector *selectors;
	size_t selectors_n;
	const char *interfaces[DATAPATH_INTERFACES];
	size_t interfaces_n;
	struct node_skew *skews;
	size_t skews_n;
	struct sizes sizes;
	bool clock_per_host, every_packet, burst_flow;
	bool wait;	  /* for nodes that are not there yet, instead of failing */
	__u32 attach_how; /* enum attachment_how */
	int verbose;
	struct peer_options peers;
};

/* A child parser; its input is a struct datapath_options. Bad values end with status 2. */
extern const struct argp datapath_argp;

/* Only where things are and how much to say, for commands that look. */
extern const struct argp where_argp;

/* What the options say of nodes. */
struct discover_choice datapath_choice(const struct datapath_options *o);

/*
 * Make a datapath and its nodes, all of it or nothing. `temporary`: for as long as the
 * one command runs. Returns 0, or an exit status after saying why.
 */
int datapath_up(struct tidemark *t, const struct datapath_options *o, bool temporary);

/* What was asked for that an open datapath is not, as an option, or NULL. */
const char *datapath_differs(const struct tidemark *t, const struct datapath_options *o);

/* An event for each segment from now on, or for each burst. */
void datapath_every_packet(struct tidemark *t, bool every);

/* auto, clsact or tcx; -EINVAL. */
int attach_how_parse(const char *text, __u32 *how);

/* Take an open datapath down: nodes, state saved, pins. An exit status. */
int datapath_down(struct tidemark *t);

/*
 * Of a datapath that is up, the ids of the nodes that the options choose: `only` grows, and
 * is the caller's to free; none if they choose none. An exit status; who is no node of it
 * has been named.
 */
int datapath_only(struct tidemark *t, const struct datapath_options *o, __u32 **only, size_t *n);

/* The skews given, applied to nodes that are there. An exit status. */
int datapath_skew(struct tidemark *t, const struct datapath_options *o);

#endif
