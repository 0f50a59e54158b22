// SPDX-License-Identifier: GPL-2.0-only
/* Rows of the event log, from whole events. The format is event.schema.json. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "../bpf/stage.h"
#include "event.h"
#include "wire.h"
#include "log.h"
#include "markio.h"
#include "text.h"

const char *const event_texts[EVENTS_NR] = {
#define X(name, text) [EVENT_##name] = text,
	EVENTS(X)
#undef X
};

enum {
	HLC,
	WALL,
	NODE,
	HOST,
	TYPE,
	PROTO,
	SRC,
	DST,
	BYTES,
	PACKETS,
	SEQ,
	HLC_LAST,
	CAUSE,
	CAUSE_LAST,
	FLAGS,
	PID,
	COMM,
	NETNS,
	ID,
	COUNT,
	REASON,
	EXPERIMENT,
	ACTIVITY,
	MARK_HOW,
	VIA,
	AHEAD,
	REJECTED,
	HASH,
	UNSTAMPED,
	BURST
};

static const struct out_column columns[] = {
	[HLC] = { "hlc", "HLC", 16, 0, 0 },
	[WALL] = { "wall", "WALL CLOCK", 15, 0, OUT_OPTIONAL },
	[NODE] = { "node", "NODE", 12, 6, 0 },
	[HOST] = { .key = "host" },
	[TYPE] = { "type", "EVENT", 10, 0, 0 },
	[PROTO] = { .key = "proto" },
	[SRC] = { "src", "FROM", 21, 15, 0 },
	[DST] = { "dst", "TO", 21, 15, 0 },
	[BYTES] = { "bytes", "BYTES", 6, 0, OUT_RIGHT },
	[PACKETS] = { "packets", "PKTS", 4, 0, OUT_RIGHT | OUT_OPTIONAL },
	[SEQ] = { .key = "seq" },
	[HLC_LAST] = { .key = "hlc_last" },
	[CAUSE] = { .key = "cause" },
	[CAUSE_LAST] = { .key = "cause_last" },
	[FLAGS] = { .key = "flags" },
	[PID] = { .key = "pid" },
	[COMM] = { "comm", "PROCESS", 10, 6, OUT_OPTIONAL },
	[NETNS] = { .key = "netns" },
	[ID] = { .key = "id" },
	[COUNT] = { .key = "count" },
	[REASON] = { .key = "reason" },
	[EXPERIMENT] = { .key = "experiment" },
	[ACTIVITY] = { .key = "activity" },
	[MARK_HOW] = { .key = "mark_how" },
	[VIA] = { .key = "via" },
	[AHEAD] = { .key = "flagged" },
	[REJECTED] = { .key = "rejected" },
	[HASH] = { .key = "hash" },
	[UNSTAMPED] = { .key = "unstamped" },
	[BURST] = { .key = "burst" },
	{},
};

struct named {
	__u32 id;
	__u64 inode;
	char name[NODE_NAME_MAX];
};

struct event_log {
	const struct tidemark *t;
	struct out *out;
	const char *file;    /* its name */
	struct named *named; /* by id modulo size: a cache of `nodes` */
	char host[HOST_NAME_MAX + 1];
	bool json;
	struct registry *registry; /* NULL: marks are numbers */
};

#define NAMED 4096

static const struct named *name_of(struct event_log *log, __u32 id);

static int name_keep(__u32 id, const struct node *node, void *ctx)
{
	(void)node;
	name_of(ctx, id);
	return 0;
}

struct event_log *event_log_open(const struct tidemark *t, FILE *file, const char *name, bool json)
{
	struct event_log *log = calloc(1, sizeof(*log));
	char words[256];

	if (!log)
		return NULL;
	log->t = t;
	log->file = name;
	log->json = json;
	log->registry = registry_open(NULL, words, sizeof(words));
	log->named = calloc(NAMED, sizeof(*log->named));
	log->out = out_open(file, columns, OUT_STREAM | (json ? OUT_JSON : 0));
	if (!log->named || !log->out) {
		event_log_close(log, 0);
		return NULL;
	}
	if (gethostname(log->host, sizeof(log->host) - 1))
		strcpy(log->host, "localhost");
	out_flush_lines(log->out, true);
	node_each(t, name_keep, log); /* so that even their end has a name */
	return log;
}

int event_log_close(struct event_log *log, int status)
{
	int err = log->out ? out_close(log->out) : 0;

	if (err && err != -EPIPE)
		log_error("%s: %s", log->file, strerror(-err));
	if (err)
		status = 1;
	registry_close(log->registry);
	free(log->named);
	free(log);
	return status;
}

static const struct named *name_of(struct event_log *log, __u32 id)
{
	struct named *named = &log->named[id % NAMED];
	struct node node;

	if (named->id == id)
		return named;
	memset(named, 0, sizeof(*named));
	if (node_get(log->t, id, &node)) {
		snprintf(named->name, sizeof(named->name), "node-%u", id);
		return named; /* not kept: it may still be named */
	}
	named->id = id;
	named->inode = node.inode;
	snprintf(named->name, sizeof(named->name), "%s", node.name);
	return named;
}

void event_log_rename(struct event_log *log)
{
	struct node node;

	/* Those that are gone keep the name they had. */
	for (size_t i = 0; i < NAMED; i++)
		if (log->named[i].id && !node_get(log->t, log->named[i].id, &node))
			snprintf(log->named[i].name, sizeof(log->named[i].name), "%s", node.name);
}

static void out_traffic(struct event_log *log, const struct joined *joined)
{
	struct out *out = log->out;
	const struct event *e = &joined->event;
	bool message = e->type == EVENT_send || e->type == EVENT_recv;

	out_str(out, PROTO, e->proto == IPPROTO_TCP ? "tcp" : "udp");
	out_address(out, SRC, e->src, e->src_port);
	out_address(out, DST, e->dst, e->dst_port);
	if (message) {
		out_u64(out, BYTES, joined->bytes);
		out_u64(out, PACKETS, joined->packets);
		out_stamp(out, HLC_LAST, e->stamp); /* all its messages have the one */
	}
	if (e->proto == IPPROTO_TCP) {
		out_u64(out, SEQ, e->seq);
		if (!message)
			out_tcp_flags(out, FLAGS, e->tcp_flags);
	}
	if (e->cause) {
		out_stamp(out, CAUSE, e->cause);
		out_stamp(out, CAUSE_LAST, e->cause);
		if (e->flags & EVENT_IN_BAND)
			out_str(out, VIA, "in-band");
		if (e->flags & EVENT_FLAGGED)
			out_bool(out, AHEAD, true);
	}
	if (e->rejected)
		out_stamp(out, REJECTED, e->rejected);
	if (message && e->hash)
		out_u64(out, HASH, e->hash);
	if (e->flags & EVENT_UNSTAMPED)
		out_bool(out, UNSTAMPED, true);
	if (e->flags & EVENT_BURST_FLOW)
		out_str(out, BURST, "flow");
	if (e->pid) {
		out_u64(out, PID, e->pid);
		out_mem(out, COMM, e->comm, sizeof(e->comm));
	}
	if (e->mark)
		out_mark(out, EXPERIMENT, ACTIVITY, MARK_HOW, log->registry, e->mark);
}

static const enum out_colour colours[EVENTS_NR] = {
	[EVENT_send] = OUT_CYAN, [EVENT_recv] = OUT_GREEN,  [EVENT_retransmit] = OUT_YELLOW,
	[EVENT_gap] = OUT_RED,	 [EVENT_node_up] = OUT_DIM, [EVENT_node_down] = OUT_DIM,
};

static const struct named *out_head(struct event_log *log, __u32 type, __u32 node, __u64 stamp,
				    __u64 wall_ns)
{
	const struct named *named = name_of(log, node);

	out_colour(log->out, colours[type]);
	out_stamp(log->out, HLC, stamp);
	out_str(log->out, TYPE, event_texts[type]);
	out_str(log->out, NODE, named->name);
	out_str(log->out, HOST, log->host);
	out_wall(log->out, WALL, wall_ns);
	return named;
}

int event_log_write(struct event_log *log, const struct joined *joined)
{
	const struct event *e = &joined->event;
	const struct named *named = out_head(log, e->type, e->node, e->stamp, e->wall_ns);

	if (e->type == EVENT_node_up || e->type == EVENT_node_down) {
		out_u64(log->out, ID, e->node);
		if (named->inode)
			out_u64(log->out, NETNS, named->inode);
		if (e->type == EVENT_node_up && log->t->settings->burst_flow)
			out_str(log->out, BURST, "flow");
	} else {
		out_traffic(log, joined);
	}
	return out_row(log->out);
}

static void out_text(struct out *out, unsigned column, const json_t *value)
{
	if (json_is_string(value))
		out_str(out, column, json_string_value(value));
	else if (json_is_integer(value))
		out_u64(out, column, json_integer_value(value));
}

int event_log_json(struct event_log *log, const struct json_t *event)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	const char *wall = json_string_value(json_object_get(event, "wall"));
	uint64_t wall_ns;

	for (int i = 0; type && i < EVENTS_NR; i++)
		if (event_texts[i] && !strcmp(type, event_texts[i]))
			out_colour(log->out, colours[i]);
	for (unsigned i = 0; columns[i].key; i++)
		if (columns[i].heading && i != WALL)
			out_text(log->out, i, json_object_get(event, columns[i].key));
	if (wall && !text_parse_wall(wall, &wall_ns))
		out_wall(log->out, WALL, wall_ns);
	return out_row(log->out);
}

int event_log_gap(struct event_log *log, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count,
		  const char *reason)
{
	out_head(log, EVENT_gap, node, stamp, wall_ns);
	out_u64(log->out, COUNT, count);
	out_str(log->out, REASON, reason);
	return out_row(log->out);
}
