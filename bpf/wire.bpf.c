// SPDX-License-Identifier: GPL-2.0-only
/* sock_ops: which TCP segments get the option, and the blank that the clock stage fills in. */
#include "pkt.bpf.h"
#include "node.bpf.h"
#include "flow.bpf.h"
#include "owner.bpf.h"
#include "peer.bpf.h"
#include "run.bpf.h"

/*
 * Who stamps? sock_ops alone can make room in a TCP header, and it alone decides; the clock
 * stage, at the device a moment later, takes the stamp, writes the record and fills the
 * blank. So one place stamps, the stamp on the wire is the one in the log, and the node is
 * known from the attachment. Had sock_ops stamped, every event of the flow would have to be
 * understood twice, here without sequence numbers.
 *
 * Which segments? One that begins a burst must carry its stamp. One that goes on with the
 * burst brings the receiver nothing it will not know by then, for TCP delivers in order; and
 * without an option the receiver's header prediction works. But between here and the device
 * another CPU may end the burst, and then it would be too late for an option. So the segment
 * joins the burst here: counted by the same exchange that finds the burst still open, it
 * belongs to it whatever happens next, and the clock stage is told to leave it alone. What
 * does not find its burst open gets the option, and what is sent again gets one in any case,
 * for it may be the burst's beginning that was lost.
 */

/* SYN with the option is tried so often; hosts that cannot bear it get one without. */
#define WIRE_SYNS 2

static __always_inline void wire_address(struct bpf_sock_ops *ops, __u8 to[16], int remote)
{
	/* Read first: joined by a branch, they would be read through a pointer that moved. */
	__u32 v4 = remote ? READ_ONCE(ops->remote_ip4) : READ_ONCE(ops->local_ip4);
	__u32 last = remote ? READ_ONCE(ops->remote_ip6[3]) : READ_ONCE(ops->local_ip6[3]);
	__u32 *word = (__u32 *)to;

	word[0] = remote ? ops->remote_ip6[0] : ops->local_ip6[0];
	word[1] = remote ? ops->remote_ip6[1] : ops->local_ip6[1];
	word[2] = remote ? ops->remote_ip6[2] : ops->local_ip6[2];
	word[3] = last;
	/* An IPv6 socket that speaks IPv4 may have its address in either form. */
	if (ops->family == AF_INET || (!word[0] && !word[1] && !word[2])) {
		word[0] = 0;
		word[1] = 0;
		word[2] = bpf_htonl(0xffff);
		word[3] = v4;
	}
}

/* The node the socket is in, or 0. */
static __always_inline __u32 wire_node(struct bpf_sock_ops *ops)
{
	__u64 cookie = bpf_get_netns_cookie(ops);
	__u32 *node = bpf_map_lookup_elem(&namespaces, &cookie);

	return node ? *node : 0;
}

/* The same, if the other end is a peer. */
static __always_inline __u32 wire_node_to_peer(struct bpf_sock_ops *ops)
{
	__u8 remote[16] __attribute__((aligned(8)));
	__u32 node = wire_node(ops);

	if (!node)
		return 0;
	wire_address(ops, remote, 1);
	return peer_clocks(remote) ? node : 0;
}

/*
 * Does this packet, or the SYN it answers, have the option? The kernel looks through the
 * options for kind and ExID; the length is for us to look at.
 */
static __always_inline int wire_shown(struct bpf_sock_ops *ops, __u64 flags)
{
	__u8 option[WIRE_TCP_BYTES] = { WIRE_TCP_KIND, 4, WIRE_EXID >> 8, WIRE_EXID & 0xff };

	return bpf_load_hdr_opt(ops, option, sizeof(option), flags) == WIRE_TCP_BYTES;
}

static __always_inline void wire_callbacks(struct bpf_sock_ops *ops, __u32 wanted)
{
	const __u32 ours =
		BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;

	bpf_sock_ops_cb_flags_set(ops, (ops->bpf_sock_ops_cb_flags & ~ours) | wanted);
}

static __always_inline struct wire *wire_get(struct bpf_sock_ops *ops, __u64 flags)
{
	struct bpf_sock *sk = ops->sk;

	return sk ? bpf_sk_storage_get(&wires, sk, 0, flags) : NULL;
}

static __always_inline struct wire *wire_make(struct bpf_sock_ops *ops, __u32 id)
{
	struct node *node = bpf_map_lookup_elem(&nodes, &id);
	struct wire *w;

	if (!node)
		return NULL;
	w = wire_get(ops, BPF_SK_STORAGE_GET_F_CREATE);
	if (!w)
		return NULL;
	w->node = id;
	w->clock = node->clock;
	return w;
}

/* A SYN that came had it: the clock stage has seen that, even if nobody saved the SYN. */
static __always_inline int wire_flow_shown(struct bpf_sock_ops *ops, __u32 node)
{
	struct flow_key key = { .node = node,
				.proto = IPPROTO_TCP,
				.local_port = ops->local_port,
				.remote_port = bpf_ntohl(ops->remote_port) };
	struct flow *f;

	wire_address(ops, key.local, 0);
	wire_address(ops, key.remote, 1);
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		f = bpf_map_lookup_elem(&embryonic, &key);
	return f && f->notes & FLOW_CARRIED;
}

static __always_inline void wire_established(struct bpf_sock_ops *ops, int active)
{
	__u32 node = wire_node_to_peer(ops);
	struct counters *count;
	struct wire *w;

	if (!node) {
		if (wire_node(ops) && !active) /* from its listener */
			wire_callbacks(ops, 0);
		return;
	}
	w = wire_make(ops, node);
	if (!w)
		return;
	w->retransmits = ops->total_retrans;
	if (wire_shown(ops, 0) || (!active && wire_flow_shown(ops, node))) {
		w->state |= WIRE_SHOWN | WIRE_GREETS;
		wire_callbacks(ops, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		return;
	}
	count = counters_of(DIR_OUT);
	if (count)
		count->reason.stamp_silent++;
	wire_callbacks(ops, BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG);
}

/* Data that begins nothing new: counted here. */
static __always_inline int wire_joins(struct bpf_sock_ops *ops, struct wire *w, __u32 bytes)
{
	__u32 mss = ops->mss_cache - WIRE_TCP_BYTES, segments = 1;
	struct clock *c = clock_get(w->clock);

	if (!c || !w->generation || !run_is_open(c, w->burst, w->generation))
		return 0;
	if (mss - 1 < 65535 && bytes > mss)
		segments = (bytes + mss - 1) / mss;
	if (!run_join(c, w->generation, segments, bytes))
		return 0;
	w->joined_to = ops->snd_nxt + bytes;
	w->state |= WIRE_JOINED;
	return 1;
}

static __always_inline int wire_wanted(struct bpf_sock_ops *ops, struct wire *w)
{
	__u32 flags = ops->skb_tcp_flags, bytes = ops->skb_len, sent_again = ops->total_retrans;

	/* Room is kept in every segment, or the one that needs it exceeds the MTU. */
	if (ops->args[0] & BPF_WRITE_HDR_TCP_CURRENT_MSS)
		return w->state & WIRE_SHOWN;
	if (flags & TCP_SYN)
		return w->syns < WIRE_SYNS && ++w->syns;
	/* Of a connection older than we are: offered once, where room was not kept for it. */
	if (!(w->state & WIRE_SHOWN) &&
	    (!(w->state & WIRE_GREETS) || !bytes || bytes > ops->mss_cache - WIRE_TCP_BYTES))
		return 0;
	if (w->state & WIRE_GREETS) {
		w->state &= ~WIRE_GREETS;
		return 1;
	}
	if (flags & (TCP_FIN | TCP_RST))
		return 1;
	if (!bytes)
		return 0;
	if (sent_again != w->retransmits) {
		w->retransmits = sent_again;
		return 1;
	}
	return !wire_joins(ops, w, bytes);
}

/* Next to a cookie of TCP Fast Open (RFC 7413) there is no room in a SYN. */
#define TCP_OPTION_FAST_OPEN 34

static __always_inline int wire_syn_is_full(struct bpf_sock_ops *ops)
{
	__u8 option[20] = { TCP_OPTION_FAST_OPEN };

	return bpf_load_hdr_opt(ops, option, sizeof(option), BPF_LOAD_HDR_OPT_TCP_SYN) > 4;
}

/*
 * A SYN-ACK has no socket yet: asked for twice, the same answer twice. It has the option if
 * the SYN had, or could not.
 */
static __always_inline int wire_answers(struct bpf_sock_ops *ops)
{
	return wire_node_to_peer(ops) &&
	       (wire_shown(ops, BPF_LOAD_HDR_OPT_TCP_SYN) || wire_syn_is_full(ops));
}

static __always_inline void wire_reserve(struct bpf_sock_ops *ops)
{
	struct wire *w = NULL;
	struct counters *count;

	if (!ops->is_fullsock) {
		if (!wire_answers(ops))
			return;
	} else {
		w = wire_get(ops, 0);
		if (!w)
			return;
		w->state &= ~WIRE_RESERVED;
		if (!wire_wanted(ops, w))
			return;
	}
	if (!bpf_reserve_hdr_opt(ops, WIRE_TCP_BYTES, 0)) {
		if (w && !(ops->args[0] & BPF_WRITE_HDR_TCP_CURRENT_MSS))
			w->state |= WIRE_RESERVED;
		return;
	}
	count = counters_of(DIR_OUT);
	if (count && !(ops->args[0] & BPF_WRITE_HDR_TCP_CURRENT_MSS))
		count->reason.stamp_no_space++;
}

static __always_inline void wire_blank(struct bpf_sock_ops *ops)
{
	__u8 option[WIRE_TCP_BYTES] = { WIRE_TCP_KIND, WIRE_TCP_BYTES, WIRE_EXID >> 8,
					WIRE_EXID & 0xff };
	struct wire *w;

	if (ops->is_fullsock) {
		w = wire_get(ops, 0);
		if (!w || !(w->state & WIRE_RESERVED))
			return;
		w->state &= ~WIRE_RESERVED;
	} else if (!wire_answers(ops)) {
		return;
	}
	bpf_store_hdr_opt(ops, option, sizeof(option), 0);
}

static __always_inline void wire_parse(struct bpf_sock_ops *ops)
{
	struct wire *w = wire_get(ops, 0);

	if (!w || w->state & WIRE_SHOWN || !wire_shown(ops, 0))
		return;
	w->state |= WIRE_SHOWN | WIRE_GREETS;
	wire_callbacks(ops, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
}

/* Sockets of other namespaces, of other datapaths' nodes too, pass by here: hands off. */
SEC("sockops")
int wire_ops(struct bpf_sock_ops *ops)
{
	struct settings *s = settings_get();
	__u32 node;

	if (!s || !s->in_band)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		if (wire_node(ops))
			wire_callbacks(ops, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		node = wire_node_to_peer(ops);
		if (node && wire_make(ops, node))
			wire_callbacks(ops, BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		wire_established(ops, 1);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		wire_established(ops, 0);
		break;
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		wire_parse(ops);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		wire_reserve(ops);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		wire_blank(ops);
		break;
	}
	return 1;
}
