/* SPDX-License-Identifier: GPL-2.0-only */
/* Stamps read from packets and written into them, for the clock stage. */
#ifndef TIDEMARK_WIRE_BPF_H
#define TIDEMARK_WIRE_BPF_H

#include "event.h"
#include "flow.bpf.h"
#include "peer.bpf.h"
#include "run.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct skew_key);
	__type(value, struct skew);
} skews SEC(".maps");

static const struct skew skew_empty = {
	.most_ns = 0x7fffffffffffffffLL,
	.least_ns = -0x7fffffffffffffffLL - 1,
};

/* Two CPUs that note one at once may lose one of the two: it is a bound all the same. */
static __always_inline void skew_note(const struct pkt *p, __u64 stamp, __u64 physical_ns, int news)
{
	struct skew_key key = { .node = p->key.node };
	__s64 ahead = stamp - physical_ns;
	struct skew *s;

	addr_copy(key.remote, p->key.remote);
	s = bpf_map_lookup_elem(&skews, &key);
	if (!s) {
		bpf_map_update_elem(&skews, &key, &skew_empty, BPF_NOEXIST);
		s = bpf_map_lookup_elem(&skews, &key);
		if (!s)
			return;
	}
	s->stamps++;
	if (news && p->key.proto == IPPROTO_TCP &&
	    p->notes & (NOTE_MESSAGE | NOTE_HEARD | NOTE_CLOSE) && ahead < s->most_ns)
		s->most_ns = ahead;
	if (stamp & CLOCK_COUNTER_MASK)
		return;
	s->physical++;
	if (ahead > s->least_ns)
		s->least_ns = ahead;
}

/*
 * A stamp from a peer. What may be merged becomes the flow's cause: in TCP the largest of
 * all that came, for what overtook is delivered together with what it overtook; of a
 * datagram its own. The same stamp again is no news: GSO copied it, or GRO did not.
 */
static __always_inline void wire_take(struct pkt *p, struct flow *f, struct counters *count,
				      __u64 stamp)
{
	struct settings *s = settings_get();
	struct clock *c = clock_get(p->clock);
	__u64 physical_ns, ahead;
	int news;

	if (!s || !c)
		return;
	physical_ns = bpf_ktime_get_boot_ns() + s->realtime_offset_ns + c->skew_ns;
	if (!clock_admits(stamp, physical_ns, s->max_ahead_ns)) {
		count->reason.stamp_rejected++;
		p->rejected = stamp;
		return;
	}
	ahead = clock_ahead_ns(stamp, physical_ns);
	if (s->flag_ahead_ns && ahead > s->flag_ahead_ns) {
		count->reason.stamp_flagged++;
		p->flags |= EVENT_FLAGGED;
	}
	count->reason.stamp++;
	p->carried = stamp;
	if (p->notes & (NOTE_MESSAGE | NOTE_AHEAD) && !(f->notes & FLOW_SPOKEN))
		f->notes |= FLOW_SPOKEN;
	news = !(f->notes & FLOW_CARRIED) ||
	       (p->key.proto == IPPROTO_TCP ? stamp > f->cause : stamp != f->cause);
	skew_note(p, stamp, physical_ns, news);
	if (!news)
		return;
	f->cause = stamp;
	f->notes |= FLOW_CARRIED | FLOW_NEWS;
}

/* Options, of TCP or behind UDP: kind, length, and so on; zeros behind the last. */
struct wire_area {
	__u8 bytes[64];
};

_Static_assert(sizeof(struct wire_area) == WIRE_UDP_MOST, "all there can be to look through");

#define WIRE_END (-1)	 /* ours is not there */
#define WIRE_BAD (-2)	 /* it is, and malformed */
#define WIRE_FOUND 0x100 /* or-ed with its offset */

/* From the option at `at` to the next. Checked by itself, or each turn would cost the whole. */
__checked int wire_step(struct wire_area *area, __u32 n, __u32 at, __u32 kind)
{
	__u32 length;

	if (!area || at > sizeof(*area) - 4 || at + 4 > n || !area->bytes[at])
		return WIRE_END;
	if (area->bytes[at] == 1) /* no operation, in both */
		return at + 1;
	length = area->bytes[at + 1];
	if (area->bytes[at] == kind && area->bytes[at + 2] == WIRE_EXID >> 8 &&
	    area->bytes[at + 3] == (WIRE_EXID & 0xff) && length >= 4)
		return length == 12 && at + length <= n ? (int)(WIRE_FOUND | at) : WIRE_BAD;
	return length < 2 ? WIRE_END : (int)(at + length);
}

_Static_assert(WIRE_TCP_BYTES == 12 && WIRE_UDP_OPTION_BYTES == 12, "one length for both");

/* The offset of ours, WIRE_END or WIRE_BAD. */
static __always_inline int wire_find(struct wire_area *area, __u32 n, __u32 at, __u32 kind)
{
	int next = at;

#pragma clang loop unroll(disable)
	for (int i = 0; i < 40; i++) {
		next = wire_step(area, n, next, kind);
		if (next < 0)
			return next;
		if (next & WIRE_FOUND)
			return next & 0x3f;
	}
	return WIRE_END;
}

static __always_inline __u64 wire_stamp(const struct wire_area *area, __u32 at)
{
	__u64 stamp = 0;

	at = at > sizeof(*area) - 12 ? sizeof(*area) - 12 : at;
	for (int i = 0; i < 8; i++)
		stamp = stamp << 8 | area->bytes[at + 4 + i];
	return stamp;
}

#define TCP_OPTIONS_AT 20 /* in the header */

/* Received, or about to be sent: then it is a blank that is looked for. */
__checked int wire_tcp(struct __sk_buff *skb, struct pkt *p, struct flow *f)
{
	struct wire_area area = {};
	struct counters *count;
	__u64 stamp;
	__u32 n;
	int at;

	if (!p || !f)
		return 0;
	n = p->options;
	if (n < WIRE_TCP_BYTES || n > 40 || !peer_clocks(p->key.remote))
		return 0;
	count = counters_of(p->dir);
	if (!count || bpf_skb_load_bytes(skb, p->l4 + TCP_OPTIONS_AT, &area, n))
		return 0;
	at = wire_find(&area, n, 0, WIRE_TCP_KIND);
	if (at == WIRE_BAD)
		count->reason.stamp_bad++;
	/* The beginning of a burst, perhaps: nobody can tell. */
	if (at == WIRE_END && n > 40 - WIRE_TCP_BYTES)
		p->flags |= EVENT_NO_ROOM;
	if (at < 0)
		return 0;
	stamp = wire_stamp(&area, at);
	if (p->dir == DIR_IN && stamp)
		wire_take(p, f, count, stamp);
	if (p->dir == DIR_OUT && !stamp)
		p->blank = p->l4 + TCP_OPTIONS_AT + at;
	return 0;
}

static __always_inline struct wire *wire_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&wires, sk, 0, 0) : NULL;
}

/* Was this segment, which has no option, counted where that was decided? */
__checked int wire_joined(struct __sk_buff *skb, struct pkt *p)
{
	struct wire *w = wire_of(skb);

	return w && p && w->state & WIRE_JOINED &&
	       w->joined_to - (p->seq + p->fresh) < WIRE_BETWEEN;
}

/*
 * Fill in the blank: the stamp of what was noted of this segment, or of the last event its
 * flow sent, or the clock as it stands (a SYN-ACK). The checksum is corrected by what
 * replaces zeros; where it is left to the device the helper knows and does nothing.
 */
__checked int wire_tcp_fill(struct __sk_buff *skb, struct pkt *p, struct flow *f)
{
	struct counters *count;
	struct flow_dir *d;
	__u64 stamp, bytes;
	struct clock *c;
	struct wire *w;
	__u32 at;

	if (!p || !f || !p->blank)
		return 0;
	c = clock_get(p->clock);
	count = counters_of(p->dir);
	if (!c || !count)
		return 0;
	d = flow_dir(f, p->from_local);
	stamp = p->stamp ? p->stamp : d->burst ? d->burst : READ_ONCE(c->now);
	bytes = bpf_cpu_to_be64(stamp);
	at = p->blank + 4;
	bpf_l4_csum_replace(skb, p->l4 + 16, 0, (__u32)bytes, 4);
	bpf_l4_csum_replace(skb, p->l4 + 16, 0, bytes >> 32, 4);
	if (bpf_skb_store_bytes(skb, at, &bytes, sizeof(bytes), 0))
		return 0;
	count->reason.stamp++;
	if (!(f->notes & FLOW_WIRED))
		f->notes |= FLOW_WIRED;
	w = wire_of(skb);
	if (w) {
		w->burst = stamp;
		w->generation = d->burst == stamp ? d->generation : 0;
	}
	return 0;
}

/* ---- UDP: the surplus area of RFC 9868 ------------------------------------------------- */

struct wire_udp {
	__be16 check;
	__u8 kind;
	__u8 length;
	__be16 exid;
	__be16 stamp[4];
} __attribute__((packed));

static __always_inline __u32 wire_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/*
 * The checksum covers surplus and its length: a sum that is not all ones belongs to bytes
 * that were damaged, or that are no options at all.
 */
__checked int wire_udp_read(struct __sk_buff *skb, struct pkt *p, struct flow *f)
{
	struct wire_area area = {};
	__u32 n, pad, sum;
	struct counters *count;
	__u64 stamp;
	int at;

	if (!p || !f || !peer_clocks(p->key.remote))
		return 0;
	count = counters_of(p->dir);
	if (!count)
		return 0;
	pad = p->payload & 1;
	n = p->surplus - pad - WIRE_UDP_BYTES;
	asm volatile("" : "+r"(n));
	if (p->surplus < pad + WIRE_UDP_BYTES || n > WIRE_UDP_MOST - WIRE_UDP_BYTES)
		return 0;
	n += WIRE_UDP_BYTES;
	if (bpf_skb_load_bytes(skb, p->l4 + 8 + p->payload + pad, &area, n))
		return 0;
	at = wire_find(&area, n, 2, WIRE_UDP_KIND);
	if (at == WIRE_END)
		return 0;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&area, sizeof(area), bpf_htons(p->surplus));
	if (at == WIRE_BAD || wire_fold(sum) != 0xffff) {
		count->reason.stamp_bad++;
		return 0;
	}
	stamp = wire_stamp(&area, at);
	if (stamp)
		wire_take(p, f, count, stamp);
	return 0;
}

/* Every datagram is its own: one without a stamp on a flow that has them is not the last one's. */
static __always_inline void wire_udp_none(const struct pkt *p, struct flow *f)
{
	if (f->notes & FLOW_CARRIED && !p->carried && f->cause) {
		f->cause = 0;
		f->notes |= FLOW_NEWS;
	}
}

/* May this datagram be changed? Counts why not. */
static __always_inline int wire_udp_may(struct __sk_buff *skb, const struct pkt *p,
					struct counters *count, struct settings *s, __u32 add)
{
	struct bpf_sock *sk = skb->sk;
	__u32 mtu = 0;

	if (p->tail || p->head) {
		count->reason.stamp_fragment++;
		return 0;
	}
	for (__u32 i = 0; i < 16; i++)
		if (i < s->unstamped_n && (s->unstamped[i] == p->key.remote_port ||
					   s->unstamped[i] == p->key.local_port)) {
			count->reason.stamp_left_out++;
			return 0;
		}
	if (skb->gso_size || p->segments > 1) {
		count->reason.stamp_gso++;
		return 0;
	}
	if (p->surplus) {
		count->reason.stamp_surplus++;
		return 0;
	}
	/*
	 * In a tunnel the socket, if any, is that of what is inside, and whose checksum may be
	 * left to the device: that would sum up our bytes too.
	 */
	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->protocol != IPPROTO_UDP || sk->src_port != p->key.local_port) {
		count->reason.stamp_tunnel++;
		return 0;
	}
	if (bpf_check_mtu(skb, 0, &mtu, add, 0)) {
		count->reason.stamp_mtu++;
		return 0;
	}
	return 1;
}

static __always_inline void wire_udp_lengths(struct __sk_buff *skb, const struct pkt *p, __u32 add)
{
	__u32 at = p->l3 + (skb->protocol == bpf_htons(ETH_P_IP) ? 2 : 4);
	__be16 old = 0, new;

	bpf_skb_load_bytes(skb, at, &old, sizeof(old));
	new = bpf_htons(bpf_ntohs(old) + add);
	if (at == p->l3 + 2)
		bpf_l3_csum_replace(skb, p->l3 + 10, old, new, sizeof(new));
	bpf_skb_store_bytes(skb, at, &new, sizeof(new), 0);
}

/*
 * A checksum left to the device is summed to the end of the packet, our bytes included,
 * which come to minus their length: so what it begins with is raised by that. We are not
 * told which case it is; but a replacement marked as of the pseudo header changes both
 * kinds, and its reverse without the mark only the finished one. A finished one may come
 * back as 0 for 0xffff, which would mean none.
 */
static __always_inline void wire_udp_check(struct __sk_buff *skb, const struct pkt *p, __u32 add)
{
	__u32 at = p->l4 + 6;
	__be16 before = 0, after = 0, raise = bpf_htons(add);

	bpf_skb_load_bytes(skb, at, &before, sizeof(before));
	if (!before)
		return;
	bpf_l4_csum_replace(skb, at, 0, raise, BPF_F_PSEUDO_HDR | sizeof(raise));
	bpf_l4_csum_replace(skb, at, raise, 0, sizeof(raise));
	bpf_skb_load_bytes(skb, at, &after, sizeof(after));
	if (after || before != 0xffff)
		return;
	bpf_skb_store_bytes(skb, at, &before, sizeof(before), 0);
}

__checked int wire_udp_append(struct __sk_buff *skb, struct pkt *p)
{
	struct wire_udp option = { .kind = WIRE_UDP_KIND,
				   .length = WIRE_UDP_OPTION_BYTES,
				   .exid = bpf_htons(WIRE_EXID) };
	struct settings *s = settings_get();
	struct counters *count;
	__u32 pad, add, end, sum;
	__u8 zero = 0;

	if (!p || !s || !p->stamp || !peer_clocks(p->key.remote))
		return 0;
	count = counters_of(p->dir);
	if (!count)
		return 0;
	if (wire_sampled_out(p->stamp, s->stamp_one_in)) {
		count->reason.stamp_sampled++;
		return 0;
	}
	pad = p->payload & 1;
	add = WIRE_UDP_BYTES + pad;
	end = p->l4 + 8 + p->payload;
	if (!wire_udp_may(skb, p, count, s, add))
		return 0;
	sum = bpf_htons(add) + bpf_htons(WIRE_UDP_KIND << 8 | WIRE_UDP_OPTION_BYTES) + option.exid;
	for (int i = 0; i < 4; i++) {
		option.stamp[i] = bpf_htons(p->stamp >> (48 - 16 * i));
		sum += option.stamp[i];
	}
	option.check = ~wire_fold(sum);
	if (!option.check)
		option.check = 0xffff;
	if (bpf_skb_change_tail(skb, end + add, 0)) {
		count->reason.stamp_mtu++;
		return 0;
	}
	if (pad)
		bpf_skb_store_bytes(skb, end, &zero, 1, 0);
	bpf_skb_store_bytes(skb, end + pad, &option, sizeof(option), 0);
	wire_udp_check(skb, p, add);
	wire_udp_lengths(skb, p, add);
	count->reason.stamp++;
	return 0;
}

/* What both ends of a datagram can compute, for when its stamp is lost on the way. */
__checked int wire_udp_hash(struct __sk_buff *skb, struct pkt *p)
{
	__u64 words[WIRE_HASH_BYTES / 8] = {};
	__u32 n;

	if (!p || !peer_clocks(p->key.remote))
		return 0;
	/* Compared and passed in one register, or 6.1 takes it for a read of no bytes. */
	n = (p->payload < WIRE_HASH_BYTES ? p->payload : WIRE_HASH_BYTES) - 1;
	asm volatile("" : "+r"(n));
	if (n < WIRE_HASH_BYTES && bpf_skb_load_bytes(skb, p->l4 + 8, words, n + 1))
		return 0;
	p->hash = wire_hash(words, p->payload);
	return 0;
}

/* ---- before and after the clock ---------------------------------------------------------- */

/* Only at a node's own device: what passes by, or belongs to a guest, is not ours to change. */
#define WIRE_NOT (ATTACH_FAR | ATTACH_PROMISC)

static __always_inline void wire_before(struct pass *at, struct pkt *p)
{
	if (p->how & WIRE_NOT)
		return;
	if (p->key.proto == IPPROTO_TCP) {
		if (p->options)
			wire_tcp(at->skb, p, at->flow);
		if (p->dir == DIR_OUT && p->notes & NOTE_MESSAGE && !p->blank &&
		    at->flow->notes & FLOW_WIRED && wire_joined(at->skb, p))
			p->notes &= ~NOTE_MESSAGE;
	} else if (p->key.proto == IPPROTO_UDP) {
		if (p->notes)
			wire_udp_hash(at->skb, p);
		if (p->dir == DIR_IN) {
			if (p->surplus)
				wire_udp_read(at->skb, p, at->flow);
			wire_udp_none(p, at->flow);
		}
	}
}

static __always_inline void wire_after(struct pass *at, struct pkt *p)
{
	if (p->how & WIRE_NOT)
		return;
	if (p->blank)
		wire_tcp_fill(at->skb, p, at->flow);
	else if (p->key.proto == IPPROTO_UDP)
		wire_udp_append(at->skb, p);
}

#endif
