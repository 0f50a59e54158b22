// SPDX-License-Identifier: GPL-2.0-only
/* TCP sockets older than Tidemark: their segments may have stamps from now on. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "flow.bpf.h"
#include "owner.bpf.h"
#include "peer.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* Lets a program set the callbacks of any socket it holds: Linux 6.12. */
#define TCP_BPF_SOCK_OPS_CB_FLAGS 1008
#define SOL_TCP 6
#define TCP_LISTEN 10
#define TCP_ESTABLISHED 1

static __always_inline int older_peer(const struct sock_common *skc, __u16 family)
{
	__u8 remote[16] __attribute__((aligned(8))) = { [10] = 0xff, [11] = 0xff };

	if (family == AF_INET)
		*(__u32 *)(remote + 12) = BPF_CORE_READ(skc, skc_daddr);
	else
		BPF_CORE_READ_INTO(&remote, skc, skc_v6_daddr);
	return peer_clocks(remote);
}

static __always_inline int older_callbacks(struct tcp_sock *tp, __u32 wanted)
{
	__u32 flags = 0;

	bpf_getsockopt(tp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
	flags |= wanted;
	return bpf_setsockopt(tp, SOL_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
}

/*
 * A listener: so that its SYN-ACKs can have the option. A connection: nobody has offered it
 * the option, so the next segment that has room does (WIRE_GREETS), and who hears of it
 * answers. Counted are those to peers.
 */
SEC("iter/tcp")
int older_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	__u64 cookie;
	__u32 *node, id;
	struct counters *count;
	struct tcp_sock *tp;
	struct node *n;
	struct wire *w;
	__u16 family;
	__u8 state;

	if (!skc)
		return 0;
	tp = bpf_skc_to_tcp_sock(skc);
	if (!tp)
		return 0;
	state = BPF_CORE_READ(skc, skc_state);
	family = BPF_CORE_READ(skc, skc_family);
	cookie = BPF_CORE_READ(skc, skc_net.net, net_cookie);
	node = bpf_map_lookup_elem(&namespaces, &cookie);
	if (!node || !*node)
		return 0;
	id = *node;
	if (state == TCP_LISTEN) {
		older_callbacks(tp, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		return 0;
	}
	n = bpf_map_lookup_elem(&nodes, &id);
	count = counters_of(DIR_OUT);
	if (state != TCP_ESTABLISHED || !n || !count || !older_peer(skc, family))
		return 0;
	w = bpf_sk_storage_get(&wires, tp, 0, 0);
	if (w)
		return 0;
	count->reason.stamp_older++;
	w = bpf_sk_storage_get(&wires, tp, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!w)
		return 0;
	w->node = id;
	w->clock = n->clock;
	w->state = WIRE_GREETS;
	older_callbacks(tp, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG |
				    BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG);
	return 0;
}
