/* SPDX-License-Identifier: GPL-2.0-only */
/* What recording is told, and what it tells: classes, assignments, tallies, losses. Shared. */
#ifndef TIDEMARK_RECORD_H
#define TIDEMARK_RECORD_H

#include "filter.h"
#include "track.h"
#include "types.h"

#define CLASSES 32
#define LOSS_TOLD (1U << 31) /* loss_key.class: what of it readers have made gaps of */
#define CLASS_NONE CLASSES   /* of what no class wants; it has a tally too */
#define CLASS_NAME_MAX 32
#define CLASS_WHOLE (~0ULL) /* class.cutoff: none */

/* class.flags */
#define CLASS_SAMPLE_FLOWS (1U << 0) /* `sample` is drawn once a flow, which is then kept whole */

/*
 * How a part of the traffic is kept. Map `classes`, by slot: a class keeps its slot for
 * life, for packets and flows name it by that. Which is asked first is told apart
 * (struct precedence), so that a reload moves nothing.
 *
 * A packet of a flow is kept while the bytes of the flow's packets before it, both
 * directions together and with all headers, are fewer than the cutoff: so the packet that
 * crosses the line is the last one kept, and a cutoff of 0 keeps none but TCP's SYN, FIN
 * and RST, which always are.
 */
struct class
{
	__u64 cutoff; /* bytes, or CLASS_WHOLE */
	__u32 snap;   /* most bytes kept of a packet */
	__u32 sample; /* of what is cut, one in so many is kept all the same; 0: none */
	__u32 flags;  /* CLASS_* */
	__u32 wake;   /* a reader is woken when a ring holds so many bytes */
	char name[CLASS_NAME_MAX];
	__u32 ops_n; /* none: takes everything */
	__u32 _pad;
	struct filter_op ops[FILTER_OPS_MAX];
};

_Static_assert(sizeof(struct class) == 64 + 52 * FILTER_OPS_MAX, "no hidden padding");

/* Map `precedences`, one entry: slots in the order in which their classes are asked. */
struct precedence {
	__u32 n;
	__u32 assigned; /* there are assignments: look at them first */
	__u8 slot[CLASSES];
};

/* assignment.ends: of a flow, which end must be in the prefix */
#define ASSIGN_ORIG (1U << 0) /* who spoke first */
#define ASSIGN_RESP (1U << 1)

/* Map `assignments`: classes given to hosts while we run, before any filter is asked. */
struct assignment_key {
	__u32 prefix; /* bits, of 128: IPv4 is ::ffff:a.b.c.d */
	__u8 address[16];
};

struct assignment {
	__u64 until_ns; /* BOOTTIME, 0: for good */
	__u32 class;	/* slot */
	__u32 ends;	/* ASSIGN_* */
};

/*
 * struct flow.record: class 8 | generation 8 | flags. The generation is that of the
 * classes the flow was asked under, struct settings.recording (1 to 255); another one, or
 * 0, means that it has to be asked again.
 */
#define RECORD_CLASS(record) ((record)&0xffU)
#define RECORD_GENERATION(record) ((record) >> 8 & 0xffU)
#define RECORD_SUSPENDED (1U << 16) /* no cutoff for this flow: the user said so, */
#define RECORD_DRAWN (1U << 17)	    /* or the draw did */
#define RECORD_KEPT (RECORD_SUSPENDED | RECORD_DRAWN)

/* Map `tallies`, by class and CPU. */
struct tally {
	__u64 stored_packets;
	__u64 stored_bytes; /* of the frames, whether snapped or not */
	__u64 cut_packets;
	__u64 cut_bytes;
	__u64 sampled_packets; /* of those stored, beyond the cutoff by luck */
	__u64 lost_packets;
	__u64 lost_bytes;
};

/* Map `retentions`, by class: what the recorder says of its side, once a second. */
struct retention {
	__u64 mem_bytes;  /* waiting for the disk */
	__u64 mem_ns;	  /* since when */
	__u64 disk_bytes; /* packets and indexes */
	__u64 disk_files;
	__u64 disk_ns;	    /* from the first packet on disk to the last */
	__u64 lost_packets; /* for want of memory or of disk, since it began */
	__u64 lost_bytes;
	__u64 lost_ppm; /* of all that was to be stored in the last interval */
};

/* Map `losses`: what found no room in its ring. A reader makes gaps of it. */
struct loss_key {
	__u32 node;
	__u32 class;
};

struct loss {
	__u64 packets;
	__u64 bytes;
	__u64 last_ns; /* the node's wall clock */
};

/* Context of the syscall program `record_suspend`. */
struct record_call {
	struct flow_key key;
	__u32 on;
	__u32 found; /* out: so many flows had it set */
};

/*
 * A packet of a file on its way through the pipeline, map `heads`: its first bytes, for
 * nothing deeper is looked at. Userspace has the rest and keeps it itself.
 */
#define HEAD_BYTES 512

struct head {
	__u32 length; /* the frame's */
	__u32 held;   /* bytes of it here, at least an Ethernet header */
	__u8 bytes[HEAD_BYTES];
};

#endif
