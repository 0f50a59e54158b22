/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose socket it is: taken when a process makes or first uses it. Shared. */
#ifndef TIDEMARK_OWNER_H
#define TIDEMARK_OWNER_H

#include "types.h"

/* Socket storage `owners`; an accepted socket starts with a copy of its listener's. */
struct owner {
	__u32 pid; /* thread group */
	__u32 uid;
	__u64 cgroup; /* id, cgroup v2 */
	char comm[16];
	__u64 socket; /* cookie of the socket it was taken for: a copy has its listener's */
	__u32 mark;   /* what it inherits, see mark.h; 0: nothing */
	__u32 _pad;
};

/* Map `heirs`, by thread: what it read last was of a flow whose mark is inherited. */
struct heir {
	__u64 since_ns; /* MONOTONIC */
	__u32 mark;
	__u32 _pad;
};

/* Whoever has read nothing for so long serves nobody any more. */
#define HEIR_NS 10000000000ULL

/* What `newcomers` rings for: somebody became active in a namespace we may not know. */
struct newcomer {
	__u64 cookie;
	__u32 pid;
	__u32 _pad;
};

#endif
