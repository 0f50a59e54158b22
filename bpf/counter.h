/* SPDX-License-Identifier: GPL-2.0-only */
/* What is counted: packets per stage and direction, and everything that went otherwise. */
#ifndef TIDEMARK_COUNTER_H
#define TIDEMARK_COUNTER_H

#include "stage.h"
#include "types.h"

/*
 * Why something was not done, or not done fully. Packets are never dropped for any of
 * these: the packet goes on, and the count says what Tidemark does not know about it.
 *
 *	X(name, stage, meaning)
 */
#define REASONS(X)                                                                                 \
	X(arp, parse, "ARP")                                                                       \
	X(other_ethertype, parse, "neither IPv4, IPv6 nor ARP")                                    \
	X(truncated, parse, "shorter than its own headers say")                                    \
	X(bad_header, parse, "header field that cannot be (version, length)")                      \
	X(too_many_headers, parse, "more VLAN tags, MPLS labels or IPv6 extensions than followed") \
	X(fragment, parse, "later fragment, joined to its first")                                  \
	X(fragment_unknown, parse, "later fragment whose first was not seen: no ports")            \
	X(no_node, node, "arrived without a node: not through an attachment of ours")              \
	X(other_host, node, "addressed to another machine, merely flooded here")                   \
	X(flow_new, flow, "flow seen for the first time")                                          \
	X(flow_admitted, flow, "flow entered the table: both sides had spoken")                    \
	X(flow_refused, flow, "no room even in the embryonic table")                               \
	X(duplicate, flow, "received TCP data that had been received before")                      \
	X(retransmit, flow, "sent TCP data that had been sent before")                             \
	X(event, clock, "events recorded")                                                         \
	X(event_lost, clock, "events lost: ring buffer full")                                      \
	X(cause_forgotten, clock, "sender is a node here, but its stamp was no longer kept")       \
	X(clock_bad, clock, "no such clock")

/* Per CPU and direction. Field names are what `bpftool map dump` shows. */
struct stage_count {
	__u64 seen;    /* packets that reached the stage */
	__u64 done;    /* for which later stages had nothing to do */
	__u64 verdict; /* for which the stage decided: dropped or redirected */
};

struct counters {
	struct {
#define X(name, live, all, what) struct stage_count name;
		STAGES(X)
#undef X
	} stage;
	struct {
#define X(name, stage, meaning) __u64 name;
		REASONS(X)
#undef X
	} reason;
};

#endif
