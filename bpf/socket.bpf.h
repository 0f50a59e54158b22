/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets that report: TCP's own callbacks at changes of state and on measured round trips. */
#ifndef TIDEMARK_SOCKET_BPF_H
#define TIDEMARK_SOCKET_BPF_H

#include "report.bpf.h"

/* What a socket has told. Made when it is first heard of, gone with it. */
struct told {
	struct flow_key key; /* once the flow is known, its node not 0 */
	__u32 mark;
	__u64 first_ns;
	__u64 next_ns; /* not before: a round trip is measured with every acknowledgement */
	__u8 started;
	__u8 _pad[7];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct told);
} told __attribute__((weak)) SEC(".maps");

static __always_inline void socket_key(struct flow_key *key, struct bpf_sock_ops *ctx, __u32 node)
{
	__u32 *local = (__u32 *)key->local, *remote = (__u32 *)key->remote;

	__builtin_memset(key, 0, sizeof(*key));
	if (ctx->family == AF_INET) {
		local[2] = remote[2] = bpf_htonl(0xffff);
		local[3] = ctx->local_ip4;
		remote[3] = ctx->remote_ip4;
		/* Or the compiler joins both branches' last load, and the verifier takes no
		 * address in the context that was computed.
		 */
		asm volatile("" ::: "memory");
	} else {
		local[0] = ctx->local_ip6[0];
		local[1] = ctx->local_ip6[1];
		local[2] = ctx->local_ip6[2];
		local[3] = ctx->local_ip6[3];
		remote[0] = ctx->remote_ip6[0];
		remote[1] = ctx->remote_ip6[1];
		remote[2] = ctx->remote_ip6[2];
		remote[3] = ctx->remote_ip6[3];
	}
	key->local_port = ctx->local_port;
	key->remote_port = bpf_ntohl(ctx->remote_port);
	key->node = node;
	key->proto = IPPROTO_TCP;
}

/* The part that every kernel we run on gives. */
static __always_inline void socket_tcp(struct report_tcp *r, struct bpf_sock_ops *ctx,
				       struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);

	if (!tcp)
		return;
	r->bytes_acked = tcp->bytes_acked;
	r->bytes_received = tcp->bytes_received;
	r->srtt_us = tcp->srtt_us;
	r->rtt_min_us = tcp->rtt_min;
	r->cwnd = tcp->snd_cwnd;
	r->ssthresh = tcp->snd_ssthresh;
	r->packets_out = tcp->packets_out;
	r->retrans_out = tcp->retrans_out;
	r->retrans = tcp->total_retrans;
	r->lost_out = tcp->lost_out;
	r->sacked_out = tcp->sacked_out;
	r->segs_in = tcp->segs_in;
	r->segs_out = tcp->segs_out;
	r->data_segs_in = tcp->data_segs_in;
	r->data_segs_out = tcp->data_segs_out;
	r->dsack_dups = tcp->dsack_dups;
	r->delivered = tcp->delivered;
	r->delivered_ce = tcp->delivered_ce;
	r->rate_delivered = tcp->rate_delivered;
	r->rate_interval_us = tcp->rate_interval_us;
	r->mss = tcp->mss_cache;
	r->retransmits = tcp->icsk_retransmits;
	if (tcp->ecn_flags & 1)
		r->options |= REPORT_ECN;
	bpf_getsockopt(ctx, IPPROTO_TCP, TCP_CONGESTION, r->congestion, sizeof(r->congestion));
}

/* Second part, where the program was built to read it. */
static __always_inline int socket_more(struct report_tcp *r, struct bpf_sock *sk);

static __always_inline void socket_report(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					  struct told *told, const struct settings *s,
					  enum report_type type, __u8 state)
{
	struct flow_key key = told->key;
	struct flow *f = bpf_map_lookup_elem(&flows, &key);
	struct report *r;

	if (!f)
		f = bpf_map_lookup_elem(&embryonic, &key);
	/* A later connection on the same ends may have the entry already. */
	if (f && told->first_ns && f->first_ns != told->first_ns)
		f = NULL;
	if (f) {
		told->mark = f->mark;
		told->first_ns = f->first_ns;
	}
	if (!told->started) {
		if (type == REPORT_end)
			return;
		if (!(told->mark & MARK_MARKED) && s->reports != REPORTS_TCP)
			return;
		type = REPORT_start;
	}
	r = bpf_ringbuf_reserve(&reports, sizeof(*r), 0);
	if (!r) {
		report_lose();
		return; /* not started then: the next one is */
	}
	report_begin(r, s);
	told->started = 1;
	r->type = type;
	r->state = state;
	r->key = key;
	r->mark = told->mark;
	r->first_ns = told->first_ns;
	if (f) {
		f->notes |= FLOW_TOLD;
		report_flow(r, f);
	}
	r->has |= REPORT_SOCKET;
	socket_tcp(&r->tcp, ctx, sk);
	if (socket_more(&r->tcp, sk))
		r->has |= REPORT_BTF;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/*
 * Runs for every TCP socket of the host as it connects or is accepted; only those of our
 * nodes are asked to call again. Callbacks that others have asked for stay asked for.
 */
static __always_inline struct told *socket_meet(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);
	__u32 *node = bpf_map_lookup_elem(&namespaces, &cookie);
	struct told *t;

	if (!node || !*node)
		return NULL;
	t = bpf_sk_storage_get(&told, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!t)
		return NULL;
	if (!t->key.node)
		socket_key(&t->key, ctx, *node);
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | SOCK_OPS_STATE_FLAG |
					       SOCK_OPS_RTT_FLAG);
	return t;
}

static __always_inline int socket_callback(struct bpf_sock_ops *ctx)
{
	struct settings *s = settings_get();
	struct bpf_sock *sk = ctx->sk;
	__u32 op = ctx->op;
	struct told *t;
	__u64 now_ns;

	if (!s || !s->reports || !sk)
		return 1;
	switch (op) {
	case SOCK_OPS_TCP_CONNECT:
		/* Its SYN is not sent yet: there is nothing to tell. */
		socket_meet(ctx, sk);
		return 1;
	case SOCK_OPS_ACTIVE_ESTABLISHED:
	case SOCK_OPS_PASSIVE_ESTABLISHED:
		t = socket_meet(ctx, sk);
		if (!t)
			return 1;
		t->next_ns = bpf_ktime_get_ns() + s->report_period_ns;
		socket_report(ctx, sk, t, s, REPORT_ongoing, TCP_ESTABLISHED);
		return 1;
	case SOCK_OPS_RTT:
		t = bpf_sk_storage_get(&told, sk, 0, 0);
		now_ns = bpf_ktime_get_ns();
		if (!t || now_ns < t->next_ns)
			return 1;
		t->next_ns = now_ns + s->report_period_ns;
		socket_report(ctx, sk, t, s, REPORT_ongoing, ctx->state);
		return 1;
	case SOCK_OPS_STATE:
		t = bpf_sk_storage_get(&told, sk, 0, 0);
		if (t && ctx->args[1] == TCP_CLOSE)
			socket_report(ctx, sk, t, s, REPORT_end, TCP_CLOSE);
		return 1;
	}
	return 1;
}

#endif
