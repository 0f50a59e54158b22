/* SPDX-License-Identifier: GPL-2.0-only */
/* Messages in packets: which sending and which receiving are of one. */
#ifndef TIDEMARK_QUERY_MATCH_H
#define TIDEMARK_QUERY_MATCH_H

#include <stdbool.h>

#include <linux/types.h>

#include "names.h"
#include "sorter.h"

/* A packet that is a message, at one end of it. */
struct match_end {
	__u64 key; /* direction of its flow; of a datagram what is in it, too */
	__u64 stamp, wall_ns;
	__u32 node;
	__u32 seq, len; /* of TCP: what it takes of the sequence */
	bool out, tcp, syn;
	__u8 pad;
};

struct match_edge {
	__u64 out_stamp, in_stamp;
	__u32 out_node, in_node;
};

struct match_edges {
	struct match_edge *at;
	__u32 n, room;
};

struct sorter *match_sorter(size_t budget);

/* All ends, sorted and matched. Nodes are named "host/node". -errno. */
int match_ends(struct sorter *ends, const struct names *nodes, struct match_edges *edges);

#endif
