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
	X(clock_bad, clock, "no such clock")                                                       \
	X(report, mark, "reports of flows")                                                        \
	X(report_lost, mark, "reports lost: ring buffer full")                                     \
	X(mark_flow, mark, "flow found to have a mark")                                            \
	X(mark_label, mark, "marked in its flow label")                                            \
	X(mark_header, mark, "marked by an option in an extension header")                         \
	X(mark_already, mark, "had the option already")                                            \
	X(mark_ipv4, mark, "of a marked flow, but IPv4 has no place for a mark")                   \
	X(mark_fragment, mark, "without its option: a fragment")                                   \
	X(mark_no_room, mark, "without its option: it would exceed the MTU")                       \
	X(mark_header_full, mark, "without its option: no place in the headers it has")            \
	X(mark_failed, mark, "without its option: the kernel made no room")                        \
	X(mark_mss, mark, "MSS lowered, so that full segments have room for the option")           \
	X(mark_ended, mark, "mark of one flow over: the flow ended, or its time")                  \
	X(ahead, flow, "received TCP data beyond a hole: told when it is filled")                  \
	X(stamp, clock, "stamps written into packets, or read from them")                          \
	X(stamp_flagged, clock, "stamps from far ahead, merged all the same")                      \
	X(stamp_rejected, clock, "stamps not merged: too far ahead, or no stamp at all")           \
	X(stamp_bad, clock, "option of ours that is malformed: ignored")                           \
	X(stamp_no_space, clock, "TCP segment without a stamp: no room for the option")            \
	X(stamp_silent, clock, "connection to a peer that does not show the option")               \
	X(stamp_older, clock, "connection older than Tidemark: its data has no stamps")            \
	X(stamp_gso, clock, "UDP without a stamp: several datagrams in one")                       \
	X(stamp_fragment, clock, "UDP without a stamp: in fragments")                              \
	X(stamp_mtu, clock, "UDP without a stamp: would exceed the MTU")                           \
	X(stamp_surplus, clock, "UDP without a stamp: has options of its own")                     \
	X(stamp_tunnel, clock, "UDP without a stamp: not made by a UDP socket of the node")        \
	X(stamp_left_out, clock, "UDP without a stamp: the port is to be left alone")              \
	X(stamp_sampled, clock, "UDP without a stamp: not in the sample")

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
