/* SPDX-License-Identifier: GPL-2.0-only */
/* A rig that runs the pipeline on single packets and shows what they left behind. */
#ifndef TIDEMARK_RIG_H
#define TIDEMARK_RIG_H

#include <stddef.h>

#include "../bpf/clock.h"
#include "../bpf/counter.h"
#include "../bpf/event.h"
#include "../bpf/flow.h"
#include "../bpf/node.h"
#include "../bpf/send.h"
#include "pkt.h"

#define RIG_CLOCKS 4
#define RIG_EVENTS 4096
#define RIG_BEGIN (1ULL << 60) /* where clocks start: physical time is long past that */

/* How a frame is handed over: this, or-ed with a clock index and other ATTACH_* flags. */
#define OUT (ATTACH_LIVE | ATTACH_EGRESS)
#define IN ATTACH_LIVE

#define RIG_REFUSED (-1000) /* the kernel would not run it: too short, too long */

struct rig_sizes {
	unsigned flows, embryonic, sends, fragments;
	size_t ring_bytes;
	const char *clocks_pin; /* use these, and leave everything as it is found */
};

/*
 * The datapath's own object, loaded and not pinned. Node n has clock n-1. The process is
 * kept on one CPU, so all events are in one ring, in the order they were made.
 */
struct rig {
	struct tidemark_bpf *skel;
	struct ring_buffer *rings;
	struct clock *clocks;
	struct settings *settings;
	struct counters counters[DIRS_NR]; /* when the rig was reset */
	__u32 node;			   /* not 0: instead of the clock's own */
	unsigned runs[DIRS_NR];
	unsigned changed;    /* packets that came out other than they went in */
	__u8 out[FRAME_MAX]; /* the last one as it came out */
	unsigned out_n;
	unsigned events_n, events_all;
	__u64 events_last[RIG_CLOCKS]; /* stamp no later record of the clock may reach */
	unsigned disorder;	       /* records that are not above the one before */
	struct event events[RIG_EVENTS];
};

/* 0, or -errno. All sizes have defaults. */
int rig_open(struct rig *r, const struct rig_sizes *sizes);
void rig_close(struct rig *r);

/* As after rig_open(): empty tables, clocks at RIG_BEGIN, counters to be compared from here. */
void rig_reset(struct rig *r);

/* Run the pipeline: its verdict, or RIG_REFUSED. */
int rig_run(struct rig *r, const struct frame *f, __u32 how);
int rig_run_bytes(struct rig *r, const struct frame *f, unsigned n, __u32 how);

/* Clocks are exchanged with these addresses from here on (off after a reset). */
void rig_peer(struct rig *r, const char *range);

/* Run event_end on a clock. */
void rig_end(struct rig *r, __u32 clock);

/* Take the records out of the rings into r->events. */
void rig_drain(struct rig *r);

/* Since the reset, of all CPUs. */
struct counters rig_count(const struct rig *r, enum dir dir);
unsigned rig_entries(int map);
enum rig_where { RIG_NOWHERE, RIG_EMBRYONIC, RIG_FLOWS };
enum rig_where rig_flow(const struct rig *r, const struct flow_key *key, struct flow *f);

/*
 * Looks as text, to compare whole: reasons that moved ("out flow_new 1 event 1"), all
 * flows ("+udp 8.0.0.1:7-8.0.0.2:9 out 1 60 in 0 0", "+" for an admitted one), and drained
 * records ("recv 7>9 100B 1p #1", by its number the record it names as cause).
 */
const char *rig_moved(const struct rig *r);
const char *rig_flows(const struct rig *r);
const char *rig_events(struct rig *r);

/*
 * Every run is in a counter of where it ended, none got a verdict, none was changed, and
 * no record is below one before it. NULL, or what is not so.
 */
const char *rig_wrong(struct rig *r);

/* A connection as one node sees it, and a packet of it as that node sends or receives it. */
struct conn {
	unsigned local, remote; /* hosts */
	__u16 local_port, remote_port;
	__u32 clock, how; /* more of ATTACH_* */
	__u32 segments;
	bool v6;
};

int conn_tcp(struct rig *r, const struct conn *c, enum dir dir, __u8 flags, __u32 seq,
	     unsigned payload);
int conn_udp(struct rig *r, const struct conn *c, enum dir dir, unsigned payload);

/* What the node knows of it. */
enum rig_where conn_flow(const struct rig *r, const struct conn *c, __u8 proto, struct flow *f);

#endif
