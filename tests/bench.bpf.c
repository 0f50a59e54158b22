// SPDX-License-Identifier: GPL-2.0-only
/* The benchmarks' traffic: rewrites a test packet, then tail-calls the pipeline, or does not. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "node.h"
#include "uapi.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* What an attachment would say; with `how_other`, every second packet says that instead. */
const volatile __u32 node = 1, how = ATTACH_LIVE, how_other;

/* Off: everything but the tail call and what prepares it, to be subtracted. */
const volatile __u32 passes = 1;

/* How many flows, in turn or at random; their number goes into the remote address. */
const volatile __u32 flows = 1, at_random, address_at;

/* TCP: where the sequence number is, and by how much it grows a packet. */
const volatile __u32 seq_at, seq_step;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} next SEC(".maps");

__u32 turn, lap, dice, other;

static __always_inline __u32 flow_choose(void)
{
	if (at_random) {
		dice = dice * 1664525 + 1013904223;
		return (__u64)dice * flows >> 32;
	}
	if (++turn >= flows) {
		turn = 0;
		lap++;
	}
	return turn;
}

SEC("tc")
int traffic(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u32 id = 0;

	if (how_other)
		other = !other;
	if (flows > 1 || seq_step) {
		if (!how_other || other)
			id = flow_choose();
		else
			id = turn;
	}
	if (flows > 1) {
		if (data + address_at + 4 > end)
			return TC_ACT_SHOT;
		*(__be32 *)(data + address_at) = bpf_htonl(0x0a000000 + id);
	}
	if (seq_step) {
		if (data + seq_at + 4 > end)
			return TC_ACT_SHOT;
		*(__be32 *)(data + seq_at) = bpf_htonl(1000 + lap * seq_step);
	}
	if (!passes)
		return TC_ACT_UNSPEC;
	if (how_other && !other) {
		skb->cb[ATTACH_CB_NODE] = node + 1;
		skb->cb[ATTACH_CB_HOW] = how_other;
	} else {
		skb->cb[ATTACH_CB_NODE] = node;
		skb->cb[ATTACH_CB_HOW] = how;
	}
	bpf_tail_call(skb, &next, 0);
	return TC_ACT_SHOT; /* never: the run checks */
}

/* The least that a flow tracker can do, to have something to compare with: IPv4, UDP. */
struct tracked_key {
	__be32 src, dst;
	__be16 src_port, dst_port;
	__u32 proto;
};

struct tracked {
	__u64 first_ns, last_ns, packets, bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct tracked_key);
	__type(value, struct tracked);
} tracked SEC(".maps");

SEC("tc")
int tracker(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct udphdr *udp = (void *)(ip + 1);
	struct tracked_key key = {};
	struct tracked *known, made = {};
	__u64 now = bpf_ktime_get_ns();

	if ((void *)(udp + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || ip->ver_ihl != 0x45)
		return TC_ACT_UNSPEC;
	key.src = ip->saddr;
	key.dst = ip->daddr;
	key.src_port = udp->source;
	key.dst_port = udp->dest;
	key.proto = ip->protocol;
	known = bpf_map_lookup_elem(&tracked, &key);
	if (known) {
		__sync_fetch_and_add(&known->packets, 1);
		__sync_fetch_and_add(&known->bytes, skb->len);
		known->last_ns = now;
		return TC_ACT_UNSPEC;
	}
	made.first_ns = made.last_ns = now;
	made.packets = 1;
	made.bytes = skb->len;
	bpf_map_update_elem(&tracked, &key, &made, BPF_ANY);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}
