/* SPDX-License-Identifier: GPL-2.0-only */
/* Reports: what a flow came to, told by the kernel at its start, now and then, at its end. Shared. */
#ifndef TIDEMARK_REPORT_H
#define TIDEMARK_REPORT_H

#include "flow.h"
#include "types.h"

/* settings.reports: which flows are told of. */
enum report_whose {
	REPORTS_NONE,
	REPORTS_MARKED, /* flows that have a mark */
	REPORTS_TCP,	/* and every TCP connection of a node */
};

enum report_type { REPORT_start, REPORT_ongoing, REPORT_end, REPORTS_NR };

/* report.has */
#define REPORT_FLOW (1U << 0)	/* the connection table knew it: bytes, packets, process */
#define REPORT_SOCKET (1U << 1) /* of a socket of this host: struct report_tcp, first part */
#define REPORT_BTF (1U << 2)	/* and second part: read by the kernel's own types */

/* report_tcp.options */
#define REPORT_TIMESTAMPS (1U << 0)
#define REPORT_SACK (1U << 1)
#define REPORT_SCALED (1U << 2)
#define REPORT_ECN (1U << 3)

/*
 * What the kernel's TCP knows of a connection, as it keeps it; ticks are jiffies. The first
 * part is in the API that BPF guarantees, the second in structures of the kernel's own.
 */
struct report_tcp {
	__u64 bytes_acked;
	__u64 bytes_received;
	__u32 srtt_us; /* eight times that */
	__u32 rtt_min_us;
	__u32 cwnd; /* segments, as all that follows until delivered_ce */
	__u32 ssthresh;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 retrans; /* in the connection's life */
	__u32 lost_out;
	__u32 sacked_out;
	__u32 segs_in;
	__u32 segs_out;
	__u32 data_segs_in;
	__u32 data_segs_out;
	__u32 dsack_dups;
	__u32 delivered;
	__u32 delivered_ce;
	__u32 rate_delivered; /* segments in */
	__u32 rate_interval_us;
	__u32 mss;
	__u32 retransmits; /* of the segment that is waited for */
	char congestion[16];

	__u64 bytes_sent; /* retransmissions included */
	__u64 bytes_retrans;
	__u64 pacing_rate; /* bytes per second */
	__u32 mdev_us;	   /* four times that */
	__u32 pmtu;
	__u32 advmss;
	__u32 rcv_mss;
	__u32 rcv_ssthresh;
	__u32 rcv_space;
	__u32 rcv_rtt_us; /* eight times that */
	__u32 snd_wnd;
	__u32 notsent;
	__u32 reordering;
	__u32 rto_ticks;
	__u32 sent_ticks; /* since data was last sent; received; acknowledged */
	__u32 received_ticks;
	__u32 acked_ticks;
	__u32 busy_ticks; /* had something to send; could not for the peer's window, our buffer */
	__u32 rwnd_limited_ticks;
	__u32 sndbuf_limited_ticks;
	__u8 ca_state;
	__u8 options; /* REPORT_* */
	__u8 snd_wscale;
	__u8 rcv_wscale;
};

_Static_assert(sizeof(struct report_tcp) == 208, "no hidden padding");

/*
 * Map `reports`, a ring. A connection is told from a later one on the same ends by
 * first_ns, which is struct flow's.
 */
struct report {
	struct flow_key key;
	__u32 mark; /* as struct flow.mark */
	__u64 first_ns;
	__u64 wall_ns;
	__u64 bytes[DIRS_NR]; /* on the wire */
	__u64 packets[DIRS_NR];
	__u64 cgroup;
	__u32 pid;
	__u32 uid;
	char comm[16];
	__u8 type;  /* enum report_type */
	__u8 state; /* TCP's (1 established, 7 closed) of the socket, if there is one */
	__u8 has;   /* REPORT_* */
	__u8 opener;
	__u8 tcp_flags[DIRS_NR]; /* seen */
	__u8 _pad[2];
	struct report_tcp tcp;
};

_Static_assert(sizeof(struct report) == 344, "no hidden padding");

#endif
