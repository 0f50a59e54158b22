/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage flow: find or create the flow, count, follow TCP, say what is new. */
#ifndef TIDEMARK_FLOW_BPF_H
#define TIDEMARK_FLOW_BPF_H

#include "pkt.bpf.h"
#include "node.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows __attribute__((weak)) SEC(".maps");

/*
 * Flows of which only one side has spoken. Everything enters here, and only what was
 * answered moves on to `flows`, so that a flood of a million SYNs, or of datagrams with
 * invented sources, evicts nothing but itself. One-way flows (logs, metrics) live here
 * for good and pay a second lookup a packet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow);
} embryonic __attribute__((weak)) SEC(".maps");

static const struct flow flow_empty;

/* At 250 Hz and a 32-bit count a flow that was idle for half a year looks fresh. */
static __always_inline __u32 flow_now(void)
{
	return bpf_jiffies64();
}

/* The wall clock, for a new flow only. */
static __always_inline __u64 flow_wall(void)
{
	const struct settings *s = settings_get();

	return bpf_ktime_get_boot_ns() + (s ? s->realtime_offset_ns : 0);
}

/* Computed, not chosen: behind a branch the verifier follows all that comes twice. */
static __always_inline struct flow_dir *flow_dir(struct flow *f, __u32 from_local)
{
	barrier_var(from_local);
	return &f->dir[from_local & 1];
}

static __always_inline int flow_side(const struct pkt *p)
{
	return p->from_local ? DIR_OUT : DIR_IN;
}

/*
 * Have both sides spoken, so that this is no flood? For TCP a SYN and the answer to it
 * prove nothing, the initiator's next segment does; and nothing that was reset counts.
 */
static __always_inline int flow_admits(struct flow *f, const struct pkt *p)
{
	const struct flow_dir *this = flow_dir(f, p->from_local);
	const struct flow_dir *other = flow_dir(f, !p->from_local);

	if (!other->packets)
		return 0;
	if (p->key.proto != IPPROTO_TCP)
		return 1;
	return (p->tcp_flags & (TCP_SYN | TCP_RST | TCP_ACK)) == TCP_ACK &&
	       !((this->tcp_flags | other->tcp_flags) & TCP_RST);
}

/*
 * Not in `flows`: find it among the embryonic or make it there, and admit it when it is
 * time. Two CPUs may race to make or to admit one; the loser of either takes what the
 * winner made. A packet counted into the embryonic entry while another CPU copies it is
 * lost to the flow's count: one packet of a handshake, at worst.
 */
static __always_inline struct flow *flow_embryonic(struct pass *at, struct pkt *p)
{
	struct flow *f = bpf_map_lookup_elem(&embryonic, &p->key), *admitted;

	if (!f) {
		bpf_map_update_elem(&embryonic, &p->key, &flow_empty, BPF_NOEXIST);
		f = bpf_map_lookup_elem(&embryonic, &p->key);
		if (!f) {
			at->count->reason.flow_refused++;
			return NULL;
		}
		if (!f->first_ns) {
			at->count->reason.flow_new++;
			f->first_ns = flow_wall();
			f->opener = p->from_local ? FLOW_OPENER_LOCAL : FLOW_OPENER_REMOTE;
			/* TCP that does not begin with a SYN is older than we are. */
			if (p->key.proto == IPPROTO_TCP &&
			    (p->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
				f->opener = FLOW_OPENER_UNKNOWN;
		}
		return f;
	}
	if (!flow_admits(f, p))
		return f;
	if (!bpf_map_update_elem(&flows, &p->key, f, BPF_NOEXIST))
		at->count->reason.flow_admitted++;
	admitted = bpf_map_lookup_elem(&flows, &p->key);
	if (!admitted)
		return f;
	admitted->notes |= FLOW_ADMITTED;
	bpf_map_delete_elem(&embryonic, &p->key);
	return admitted;
}

/*
 * The part of [from, to) that lies in the hole counts as new, and the hole shrinks by it;
 * but a part from its middle leaves it as it is, there is room for one only. What is sent
 * again need not have the bounds it had: senders join what was lost with what was not.
 */
static __always_inline __u32 flow_fill(struct flow_dir *d, __u32 *from, __u32 to)
{
	if (d->hole_from == d->hole_to)
		return 0;
	if ((__s32)(*from - d->hole_from) < 0)
		*from = d->hole_from;
	if ((__s32)(to - d->hole_to) > 0)
		to = d->hole_to;
	if ((__s32)(to - *from) <= 0)
		return 0;
	if (*from == d->hole_from)
		d->hole_from = to;
	else if (to == d->hole_to)
		d->hole_to = *from;
	return to - *from;
}

/*
 * How many bytes of [*seq, *seq + length) were not seen before in this direction; *seq
 * becomes the first of them.
 *
 * Bytes that were skipped (loss, reordering) are remembered as one hole, so that filling
 * it counts as new. A second hole widens the first: bytes between the two then count
 * again if they are sent again, which is the rarer of the two mistakes. A segment with an
 * invented sequence number opens a hole and what really follows falls into it, so it
 * hides nothing.
 */
static __always_inline __u32 flow_fresh(struct flow_dir *d, __u32 *seq, __u32 length)
{
	__u32 end = *seq + length, from = *seq;
	__s32 beyond = end - d->next_seq, ahead = from - d->next_seq;

	if (!d->synced) {
		d->synced = DIR_SYNCED;
		d->next_seq = end;
		return length;
	}
	if (beyond <= 0) {
		length = flow_fill(d, &from, end);
		if (length)
			*seq = from;
		return length;
	}
	if (ahead < 0)
		length = beyond + flow_fill(d, &from, d->next_seq);
	if (ahead > 0) {
		if (d->hole_from == d->hole_to)
			d->hole_from = d->next_seq;
		d->hole_to = *seq;
	}
	d->next_seq = end;
	*seq = end - length; /* the last byte matters more than the first */
	return length;
}

/*
 * The same for what a node receives: how many bytes a segment makes deliverable. TCP hands
 * over nothing beyond a hole, so to the node it has not arrived: counted at once, it would
 * stand in the log before the message in the hole, which it may be the answer to. What lies
 * beyond is counted when the hole is filled, and NOTE_AHEAD says that some came.
 *
 * There is one hole. A second one widens it, and what came between the two, or in the
 * middle of one, is forgotten. It will not be sent again, so that hole stays, until the
 * receiver acknowledges what is beyond (flow_acked), which is exact but comes after.
 */
static __always_inline __u32 flow_arrive(struct flow_dir *d, struct pkt *p)
{
	__u32 from = p->seq, end = from + p->payload;

	if (!d->synced) {
		d->synced = DIR_SYNCED;
		d->next_seq = end;
		return p->payload;
	}
	if (d->hole_from == d->hole_to) {
		if ((__s32)(end - d->next_seq) <= 0)
			return 0;
		if ((__s32)(from - d->next_seq) > 0) {
			p->notes |= NOTE_AHEAD;
			d->hole_from = d->next_seq;
			d->hole_to = from;
			d->next_seq = end;
			return 0;
		}
		p->seq = d->next_seq;
		d->next_seq = end;
		return end - p->seq;
	}
	if ((__s32)(end - d->hole_from) <= 0)
		return 0;
	if ((__s32)(from - d->hole_from) <= 0) {
		p->seq = d->hole_from;
		d->hole_from = end;
		if ((__s32)(end - d->hole_to) < 0)
			return end - p->seq;
		if ((__s32)(end - d->next_seq) > 0)
			d->next_seq = end;
		d->hole_from = d->hole_to = 0;
		return d->next_seq - p->seq;
	}
	if ((__s32)(from - d->hole_to) >= 0 && (__s32)(end - d->next_seq) <= 0)
		return 0;
	p->notes |= NOTE_AHEAD;
	if ((__s32)(from - d->next_seq) > 0 ||
	    ((__s32)(from - d->hole_to) < 0 && (__s32)(end - d->hole_to) >= 0))
		d->hole_to = from;
	if ((__s32)(end - d->next_seq) > 0)
		d->next_seq = end;
	return 0;
}

/* One side says what it has: it may be more than we know. */
static __always_inline void flow_acked(struct flow_dir *d, __u32 ack)
{
	if (d->hole_from != d->hole_to && (__s32)(ack - d->hole_to) >= 0)
		d->synced |= DIR_FILLED;
}

/*
 * Then the next segment that comes, whatever it is, tells of what had not been told. Kept in the
 * packet, as NOTE_AHEAD is: of what is in variables the verifier knows whether they are zero,
 * and follows all that comes for each.
 */
static __always_inline void flow_filled(struct flow_dir *d, struct pkt *p)
{
	p->filled = d->next_seq - d->hole_from;
	p->filled_seq = d->hole_from;
	d->synced = DIR_SYNCED;
	d->hole_from = d->hole_to = 0;
}

/* A new connection on the same ends: nothing of the old one may colour it. */
static __always_inline void flow_restart(struct flow *f, const struct pkt *p)
{
	__u8 notes = f->notes & FLOW_ADMITTED;

	*f = flow_empty;
	f->notes = notes;
	f->first_ns = flow_wall();
	f->opener = p->from_local ? FLOW_OPENER_LOCAL : FLOW_OPENER_REMOTE;
}

static __always_inline void flow_syn(struct flow *f, struct pkt *p)
{
	struct flow_dir *d = flow_dir(f, p->from_local);
	int known = f->state == FLOW_SYN || f->state == FLOW_SYN_ACK;

	if (known && f->isn == p->seq) {
		f->retransmits[flow_side(p)]++;
		p->notes = p->dir == DIR_OUT ? NOTE_RETRANSMIT : 0;
		return;
	}
	/*
	 * A SYN inside a connection that lives: the other end refuses it, and so do we. From
	 * a side that had said nothing it is no such thing: what is there is a stray.
	 */
	if ((f->state == FLOW_ESTABLISHED || f->state == FLOW_CLOSING) && d->packets)
		return;
	if (f->state != FLOW_OPEN || d->packets || flow_dir(f, !p->from_local)->packets)
		flow_restart(f, p);
	f->state = FLOW_SYN;
	f->isn = p->seq;
	d->synced = DIR_SYNCED;
	d->next_seq = p->seq + 1 + p->payload;
	p->notes = p->dir == DIR_OUT ? NOTE_CONNECT : NOTE_HEARD;
	if (p->payload) { /* TCP Fast Open */
		p->seq++;
		p->fresh = p->payload;
		p->notes |= NOTE_MESSAGE;
	}
}

static __always_inline void flow_syn_ack(struct flow *f, struct pkt *p)
{
	struct flow_dir *d = flow_dir(f, p->from_local);

	if (f->state != FLOW_SYN) {
		f->retransmits[flow_side(p)] += f->state == FLOW_SYN_ACK;
		return;
	}
	f->state = FLOW_SYN_ACK;
	d->synced = DIR_SYNCED;
	d->next_seq = p->seq + 1;
	p->notes = p->dir == DIR_OUT ? NOTE_CARRY : NOTE_MERGE;
}

static __always_inline void flow_rst(struct flow *f, struct pkt *p)
{
	/* Our own connect refused, or something that had been a connection. */
	if (f->state != FLOW_RESET && f->state != FLOW_CLOSED &&
	    (f->state >= FLOW_ESTABLISHED || f->opener == FLOW_OPENER_LOCAL ||
	     f->notes & FLOW_ADMITTED))
		p->notes = NOTE_CLOSE;
	f->state = FLOW_RESET;
}

/* A connection begins, or is broken off. By itself: few packets, and half of what there is. */
__checked int flow_turn(struct flow *f, struct pkt *p)
{
	if (!f || !p)
		return 0;
	if (p->tcp_flags & TCP_RST)
		flow_rst(f, p);
	else if (p->tcp_flags & TCP_ACK)
		flow_syn_ack(f, p);
	else
		flow_syn(f, p);
	return 0;
}

static __always_inline void flow_fin(struct flow *f, struct flow_dir *d, struct pkt *p)
{
	if (d->tcp_flags & TCP_FIN) /* again */
		return;
	p->notes |= NOTE_CLOSE;
	f->state = flow_dir(f, !p->from_local)->tcp_flags & TCP_FIN ? FLOW_CLOSED : FLOW_CLOSING;
}

static __always_inline void flow_again(struct pass *at, struct flow *f, struct pkt *p)
{
	f->retransmits[flow_side(p)]++;
	if (p->dir == DIR_OUT) {
		at->count->reason.retransmit++;
		p->notes |= NOTE_RETRANSMIT;
	} else {
		at->count->reason.duplicate++;
	}
}

static __always_inline void flow_data(struct pass *at, struct flow *f, struct flow_dir *d,
				      struct pkt *p)
{
	if (p->dir == DIR_IN) {
		if (d->synced & DIR_FILLED)
			flow_filled(d, p);
		if (p->payload)
			p->fresh = flow_arrive(d, p);
	} else {
		p->fresh = flow_fresh(d, &p->seq, p->payload);
	}
	if (READ_ONCE(p->notes) & NOTE_AHEAD)
		at->count->reason.ahead++;
	if (READ_ONCE(p->filled)) {
		p->fresh += p->filled;
		p->seq = p->filled_seq;
	}
	if (READ_ONCE(p->fresh))
		p->notes |= NOTE_MESSAGE;
	else if (p->payload && !(READ_ONCE(p->notes) & NOTE_AHEAD))
		flow_again(at, f, p);
}

static __always_inline void flow_tcp(struct pass *at, struct flow *f, struct flow_dir *d,
				     struct pkt *p)
{
	__u8 flags = p->tcp_flags;
	int by_opener = f->opener == (p->from_local ? FLOW_OPENER_LOCAL : FLOW_OPENER_REMOTE);

	if (flags & (TCP_RST | TCP_SYN)) {
		flow_turn(f, p);
	} else {
		if (f->state == FLOW_SYN_ACK && by_opener) {
			f->state = FLOW_ESTABLISHED;
			if (p->dir == DIR_IN)
				p->notes |= NOTE_ACCEPT;
		}
		if (flags & TCP_ACK)
			flow_acked(flow_dir(f, !p->from_local), p->ack);
		if (p->payload || d->synced & DIR_FILLED)
			flow_data(at, f, d, p);
		else if (!d->synced) {
			d->synced = DIR_SYNCED;
			d->next_seq = p->seq;
		}
		if (flags & TCP_FIN)
			flow_fin(f, d, p);
	}
	if ((d->tcp_flags | flags) != d->tcp_flags)
		d->tcp_flags |= flags;
}

static __always_inline struct flow *flow_get(const struct pkt *p)
{
	struct flow_key key = p->key;
	struct flow *f = bpf_map_lookup_elem(&flows, &key);

	return f ? f : bpf_map_lookup_elem(&embryonic, &key);
}

/*
 * The flow's counters and, in p->notes, what there is for the clock to do. Per packet:
 * one lookup, two additions. The clock is not read: `last` is in jiffies.
 */
static __always_inline int stage_flow(struct pass *at, struct pkt *p)
{
	struct flow *f = bpf_map_lookup_elem(&flows, &p->key);
	struct flow_dir *d;
	__u32 now;

	if (!f) {
		f = flow_embryonic(at, p);
		if (!f)
			return DONE;
	}
	d = flow_dir(f, p->from_local);
	if (p->key.proto == IPPROTO_TCP) {
		if (!p->tail)
			flow_tcp(at, f, d, p);
	} else if (p->key.proto == IPPROTO_UDP && !p->tail) {
		p->fresh = p->payload;
		p->notes = NOTE_MESSAGE;
	}
	__sync_fetch_and_add(&d->packets, p->segments);
	__sync_fetch_and_add(&d->bytes, p->wire);
	now = flow_now();
	p->idle = f->last ? now - f->last : 0;
	WRITE_ONCE(f->last, now);
	at->flow = f;
	return NEXT;
}

#endif
