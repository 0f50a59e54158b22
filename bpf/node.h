/* SPDX-License-Identifier: GPL-2.0-only */
/* Nodes, and what every part of one datapath must agree on. Shared with userspace. */
#ifndef TIDEMARK_NODE_H
#define TIDEMARK_NODE_H

#include "types.h"

#define NODE_NAME_MAX 64
#define NODE_PATH_MAX 96

/* node.flags */
#define NODE_INTERFACE (1U << 0) /* chosen with -i: its interface, not its namespace */
#define NODE_HOST (1U << 1)	 /* the namespace Tidemark runs in */

/*
 * A network namespace we watch (or, with -i, one interface). Map `nodes`, by id. Written
 * by userspace; the packet path reads nothing here: what it needs came with the
 * attachment (ATTACH_* below) or lies in the node's clock.
 *
 * Identity is the cookie, which the kernel never reuses while it runs; the inode number
 * is what people see in /proc, and is reused. Ids are never reused either.
 */
struct node {
	__u64 cookie;
	__u64 inode;
	__u64 since_ns; /* wall clock */
	__u32 clock;	/* index into clocks */
	__u32 flags;	/* NODE_* */
	__s32 pid;	/* a process that was in it, 0 unknown: a hint to find it again */
	__u32 _spare;
	char name[NODE_NAME_MAX];
	char path[NODE_PATH_MAX]; /* where it is mounted, or empty: a hint too */
};

/*
 * What an attachment tells the pipeline. Every attached device has a tiny program of its
 * own that writes these into the packet's control block and tail-calls the pipeline. An
 * identity that was fixed when we attached is right on every kernel, where asking the
 * packet is not (its netns cookie is the sender's socket's), and costs no lookup.
 */
#define ATTACH_CB_NODE 0   /* skb->cb[0]: node id */
#define ATTACH_CB_HOW 1	   /* skb->cb[1]: clock index | flags */
#define ATTACH_CB_LENGTH 2 /* skb->cb[2], of a file's packet: the frame's whole length */
#define ATTACH_CB_NUMBER 3 /* skb->cb[3], the same: which one it is */

#define ATTACH_CLOCK_MASK 0xffffffU
#define ATTACH_L3 (1U << 24)	  /* no Ethernet header (tun, ipip, ...) */
#define ATTACH_FAR (1U << 25)	  /* a port: ingress is what the node behind it sends */
#define ATTACH_PROMISC (1U << 26) /* chosen with -i: what is addressed to others counts too */
#define ATTACH_EGRESS (1U << 27)  /* at the device's egress */
#define ATTACH_FILE (1U << 28)	  /* read from a file, and not all of it is here */
#define ATTACH_LIVE (1U << 31)	  /* so that a word of ours is never zero */

/* Where one device is attached. Map `attachments`, by (node, ifindex). For `down`. */
struct attachment_key {
	__u32 node;
	__u32 ifindex;
};

enum attachment_how {
	ATTACH_AUTO, /* settings only: tcx where traffic runs already, else clsact */
	ATTACHED_CLSACT = 1,
	ATTACHED_TCX = 2,
};

struct attachment {
	__u32 how;	/* enum attachment_how */
	__u32 flags;	/* ATTACH_* */
	__u32 priority; /* of both filters (clsact) */
	__u32 handle;
	__u32 qdisc_is_ours; /* nobody had a clsact qdisc there before us */
	char device[16];
};

/* settings.temporary; 0: it stays until `down` */
#define DATAPATH_OF_TRACE 1
#define DATAPATH_OF_RUN 2

/* One entry, map `settings`, mapped by userspace: what may change while the datapath runs. */
struct settings {
	__s64 realtime_offset_ns; /* CLOCK_REALTIME - CLOCK_BOOTTIME */
	__u64 steps_back;	  /* times that offset fell by more than a millisecond */
	__u32 reading;		  /* somebody drains the events: record them */
	__u32 every_packet;	  /* for the clocks of nodes to come */
	__u32 clock_per_host;	  /* --clock host */
	__u32 all;		  /* every namespace is a node, those to come too */
	__u32 temporary;	  /* DATAPATH_OF_*: whoever made it takes it down again */
	__u32 next_node;	  /* id of the next node */
	__s32 reader;		  /* its pid, for words; the lock on the pin directory decides */
	__u32 attach_how;	  /* enum attachment_how */
	__u32 began_jiffies;	  /* the kernel's tick when the datapath was made, */
	__u32 _spare2;
	__u64 began_ns;	       /* and MONOTONIC at that time: together they give its rate */
	__u32 complete;	       /* `up` got to its end; 0: it was interrupted */
	__u32 every_packet_up; /* what `up` chose; a trace that asks for more takes it back */
	__u32 reports;	       /* enum report_whose: somebody takes reports of flows */
	__u32 _spare3;
	__u64 report_period_ns; /* between two of one connection */
	__u32 marks_generation; /* of the rules, see mark.h; 0: there has been no mark yet */
	__u32 marks_rules;	/* how many are in force; 1 << 16: in `rules_spare` */
	__u32 marks_flags;	/* MARKS_* */
	__u32 marks_next_id;
	__u32 in_band;	      /* there are peers: packets are looked at, and stamped */
	__u32 unstamped_n;    /* how many ports are listed below */
	__u64 max_ahead_ns;   /* a stamp further ahead is not merged; 0: any is */
	__u64 flag_ahead_ns;  /* further ahead: merged, and counted */
	__u16 unstamped[16];  /* UDP ports whose datagrams are left as they are */
	__u32 recording;      /* generation of the classes, 1 to 255; 0: nobody records */
	__s32 recorder;	      /* pid of who empties the rings of packets, */
	__u64 recorder_began; /* and when it began, as /proc has it: pids come again */
	__u32 parts;	      /* of the pipeline that is loaded, see stage.h */
	__u32 stamp_one_in;   /* of so many bursts of datagrams one is stamped; 0, 1: all */
	__u32 burst_flow;     /* --burst flow: bursts are per flow, for all clocks */
	__u32 _spare4;
};

#endif
