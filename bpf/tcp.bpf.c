// SPDX-License-Identifier: GPL-2.0-only
/* Reports of TCP sockets, read by the kernel's own types (BTF): everything it knows of them. */
#include "socket.bpf.h"
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

/* include/linux/tcp.h: what a connection has been waiting for. */
enum { CHRONO_BUSY = 1, CHRONO_RWND_LIMITED, CHRONO_SNDBUF_LIMITED, CHRONOS_NR = 3 };

static __always_inline void tcp_chrono(struct report_tcp *r, struct tcp_sock *tp, __u32 now)
{
	__u32 type = BPF_CORE_READ_BITFIELD_PROBED(tp, chrono_type);
	__u32 stat[CHRONOS_NR];

	bpf_core_read(&stat, sizeof(stat), &tp->chrono_stat);
	if (type >= 1 && type <= CHRONOS_NR) {
		__u32 since = now - tp->chrono_start;

		for (__u32 i = 0; i < CHRONOS_NR; i++)
			stat[i] += i + 1 == type ? since : 0;
	}
	r->rwnd_limited_ticks = stat[CHRONO_RWND_LIMITED - 1];
	r->sndbuf_limited_ticks = stat[CHRONO_SNDBUF_LIMITED - 1];
	r->busy_ticks = stat[0] + stat[1] + stat[2];
}

static __always_inline int socket_more(struct report_tcp *r, struct bpf_sock *sk)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct inet_connection_sock *icsk;
	__u32 now = bpf_jiffies64();

	if (!tp)
		return 0;
	icsk = &tp->inet_conn;
	r->bytes_sent = tp->bytes_sent;
	r->bytes_retrans = tp->bytes_retrans;
	r->pacing_rate = BPF_CORE_READ(icsk, icsk_inet.sk.sk_pacing_rate);
	r->mdev_us = tp->mdev_us;
	r->pmtu = BPF_CORE_READ(icsk, icsk_pmtu_cookie);
	r->advmss = tp->advmss;
	r->rcv_mss = BPF_CORE_READ(icsk, icsk_ack.rcv_mss);
	r->rcv_ssthresh = tp->rcv_ssthresh;
	r->rcv_space = BPF_CORE_READ(tp, rcvq_space.space);
	r->rcv_rtt_us = BPF_CORE_READ(tp, rcv_rtt_est.rtt_us);
	r->snd_wnd = tp->snd_wnd;
	r->notsent = tp->write_seq - tp->snd_nxt;
	r->reordering = tp->reordering;
	r->rto_ticks = BPF_CORE_READ(icsk, icsk_rto);
	r->sent_ticks = now - tp->lsndtime;
	r->received_ticks = now - BPF_CORE_READ(icsk, icsk_ack.lrcvtime);
	r->acked_ticks = now - tp->rcv_tstamp;
	r->ca_state = BPF_CORE_READ_BITFIELD_PROBED(icsk, icsk_ca_state);
	if (BPF_CORE_READ_BITFIELD_PROBED(tp, rx_opt.tstamp_ok))
		r->options |= REPORT_TIMESTAMPS;
	if (BPF_CORE_READ_BITFIELD_PROBED(tp, rx_opt.sack_ok))
		r->options |= REPORT_SACK;
	if (BPF_CORE_READ_BITFIELD_PROBED(tp, rx_opt.wscale_ok)) {
		r->options |= REPORT_SCALED;
		r->snd_wscale = BPF_CORE_READ_BITFIELD_PROBED(tp, rx_opt.snd_wscale);
		r->rcv_wscale = BPF_CORE_READ_BITFIELD_PROBED(tp, rx_opt.rcv_wscale);
	}
	tcp_chrono(r, tp, now);
	return 1;
}

SEC("sockops")
int report_socket(struct bpf_sock_ops *ctx)
{
	return socket_callback(ctx);
}
