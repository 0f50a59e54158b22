/* SPDX-License-Identifier: GPL-2.0-only */
/* What a query was asked, and where its answer goes. */
#ifndef TIDEMARK_QUERY_H
#define TIDEMARK_QUERY_H

#include "dissect.h"
#include "gather.h"
#include "out.h"

#define QUERY_DIRECTORIES_MAX 256

struct at_options;

struct query {
	const char *directories[QUERY_DIRECTORIES_MAX];
	unsigned directories_n;
	const char *text; /* the expression */
	struct expr *expr;
	const char *write; /* a file, - for stdout; NULL: print */
	bool count, flows, json, follow;
	bool keys; /* some were given */
	int by;	   /* 0: as it fits, 't' time, 'h' hlc */
	__u64 since_ns, until_ns, limit, now_ns;
	const char *since, *until; /* as given */
	struct at_options *at;	   /* a daemon, if there are no directories */

	struct gather gather;
	__u64 found;
	bool said_total;
};

/* Set by SIGINT and SIGTERM. */
extern volatile int query_cancelled;

/* ---- where packets go --------------------------------------------------------------------------- */

struct query_sink;

/* NULL: said why. */
struct query_sink *sink_open(const struct query *query);

/* 0; -EPIPE and others: nobody reads. */
int sink_packet(struct query_sink *sink, const struct gathered *packet);
int sink_flush(struct query_sink *sink);

/* The exit status; `status` if nothing went wrong. */
int sink_close(struct query_sink *sink, int status);

/* As an answer names it: `tcp`, `ip-41`, `0x88cc`. In `text`, where it is a number. */
const char *query_proto_name(const struct track *t, char text[16]);

/* ---- other answers ------------------------------------------------------------------------------ */

int query_flows(struct query *query);

/* Same packets found in several directories, as when one was copied into another. */
struct query_twins {
	__u64 wall_ns;
	struct query_twin {
		__u64 hash;
		__u32 source, times;
	} * at;
	__u32 n, room;
};

/* Has another directory had it already? 1, 0, -errno. */
int twins_have(struct query_twins *twins, const struct gathered *packet);

/* What `past of` and `future of` in the expression mean; the exit status, when it was said why. */
struct query_past;
int query_past_begin(struct query *query, struct query_past **past);
void query_past_end(struct query_past *past);

/* Keeps the directories that are records, and says what the others are. Exit status: 1 if none is. */
int query_directories(struct query *query);

/* Is what -w names not a file of the class directories that are read? 2: said that it is. */
int query_apart(const struct query *query);

/* Goes on with packets that come from now on, until cancelled or the limit is reached. */
int query_follow(struct query *query, struct query_sink *sink);

#endif
