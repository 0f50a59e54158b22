/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage clock: bursts, ticks, merges, and the event each of them leaves. */
#ifndef TIDEMARK_CLOCK_BPF_H
#define TIDEMARK_CLOCK_BPF_H

#include "burst.bpf.h"
#include "event.bpf.h"
#include "flow.bpf.h"
#include "mark.h"
#include "node.bpf.h"
#include "owner.bpf.h"
#include "part.bpf.h"
#include "report.bpf.h"
#include "send.bpf.h"
#include "wire.bpf.h"

/*
 * Is this packet of the sender's burst we have noted already? While the sender's clock
 * still has that burst for its latest, it must be: bursts of a clock follow each other
 * and never come back. Otherwise the sender's stamps are asked.
 */
static __always_inline int burst_same_cause(struct pkt *p, const struct flow *f)
{
	struct clock *sender = clock_get(f->peer_clock);
	struct send_found found = {};

	if (sender && READ_ONCE(sender->burst) == f->cause)
		return 1;
	send_find(p, p->key.proto == IPPROTO_TCP, p->seq + p->fresh - 1, &found);
	return found.stamp == f->cause;
}

/*
 * The message continues the burst that is open: count it there and be done, without
 * reading a clock or leaving a record. A burst ends as soon as its clock does anything
 * else, so "is it mine?" is the whole question. What arrives with a new cause is an event
 * of its own: folded into the burst before, it would stand in the log before its cause.
 */
static __always_inline int burst_extend(struct clock *c, struct flow *f, struct pkt *p)
{
	struct flow_dir *d = flow_dir(f, p->from_local);
	__u64 burst = READ_ONCE(d->burst);
	__u16 generation = d->generation;
	int per_flow = burst_per_flow(c);

	if (!per_flow && !run_is_open(c, burst, generation))
		return 0;
	if (p->dir == DIR_IN && (f->notes & FLOW_NEWS || p->rejected || p->flags & EVENT_NO_ROOM))
		return 0;
	if (p->dir == DIR_IN && f->peer_clocked && !p->carried && !burst_same_cause(p, f))
		return 0;
	p->stamp = burst;
	return per_flow ? burst_join(p, burst, generation)
			: run_join(c, generation, p->segments, p->fresh);
}

/*
 * The socket's owner, for a flow that has none yet. What is sent has its socket with it.
 * For what is received the kernel is asked, once: before the first answer that finds the
 * listener, whose owner stands in until the accepted socket speaks for itself.
 */
static __always_inline void owner_take(struct flow *f, const struct owner *o, __u64 socket)
{
	f->uid = o->uid;
	f->cgroup = o->cgroup;
	__builtin_memcpy(f->comm, o->comm, sizeof(f->comm));
	f->pid = o->pid;
	if (o->socket == socket)
		f->notes &= ~FLOW_OWNER_LISTENER;
	else
		f->notes |= FLOW_OWNER_LISTENER;
	f->mark &= ~(MARK_GENERATION_MAX << MARK_GENERATION_SHIFT); /* rules may ask who it is */
}

static __always_inline struct bpf_sock *owner_lookup(struct __sk_buff *skb, const struct pkt *p)
{
	struct bpf_sock_tuple tuple = {};
	const __u32 *remote = (const __u32 *)p->key.remote, *local = (const __u32 *)p->key.local;
	__u32 size;

	if (!remote[0] && !remote[1] && remote[2] == bpf_htonl(0xffff)) {
		tuple.ipv4.saddr = remote[3];
		tuple.ipv4.daddr = local[3];
		tuple.ipv4.sport = bpf_htons(p->key.remote_port);
		tuple.ipv4.dport = bpf_htons(p->key.local_port);
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, remote, 16);
		__builtin_memcpy(tuple.ipv6.daddr, local, 16);
		tuple.ipv6.sport = bpf_htons(p->key.remote_port);
		tuple.ipv6.dport = bpf_htons(p->key.local_port);
		size = sizeof(tuple.ipv6);
	}
	if (p->key.proto == IPPROTO_TCP)
		return bpf_sk_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	return bpf_sk_lookup_udp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
}

__checked int owner_find(struct __sk_buff *skb, struct pkt *p)
{
	struct bpf_sock *sk;
	struct owner *o;
	struct flow *f;

	if (!p)
		return 0;
	f = flow_get(p);
	if (!f)
		return 0;
	if (p->dir == DIR_OUT) {
		sk = skb->sk;
		if (!sk)
			return 0;
		sk = bpf_sk_fullsock(sk);
		if (!sk)
			return 0;
		o = bpf_sk_storage_get(&owners, sk, 0, 0);
		if (o)
			owner_take(f, o, bpf_get_socket_cookie(skb));
		return 0;
	}
	if (f->notes & FLOW_OWNER_ASKED)
		return 0;
	f->notes |= FLOW_OWNER_ASKED;
	sk = owner_lookup(skb, p);
	if (!sk)
		return 0;
	o = bpf_sk_storage_get(&owners, sk, 0, 0);
	if (o)
		owner_take(f, o, p->key.proto == IPPROTO_TCP ? 0 : o->socket);
	bpf_sk_release(sk);
	return 0;
}

static __always_inline void event_fill(struct event *e, const struct pkt *p, const struct flow *f,
				       __u32 type)
{
	int message = type == EVENT_send || type == EVENT_recv;

	e->node = p->key.node;
	e->clock = p->clock;
	e->bytes = message ? p->fresh : 0;
	e->packets = message ? p->segments : 1;
	e->seq = p->seq;
	e->type = type;
	e->proto = p->key.proto;
	e->tcp_flags = p->tcp_flags;
	e->dir = p->dir;
	e->_pad = 0;
	e->mark = f->mark & MARK_MARKED ? f->mark : 0;
	e->flags = p->flags;
	e->hash = p->hash;
	e->rejected = p->rejected;
	if (p->from_local) {
		addr_copy(e->src, p->key.local);
		addr_copy(e->dst, p->key.remote);
		e->src_port = p->key.local_port;
		e->dst_port = p->key.remote_port;
	} else {
		addr_copy(e->src, p->key.remote);
		addr_copy(e->dst, p->key.local);
		e->src_port = p->key.remote_port;
		e->dst_port = p->key.local_port;
	}
	e->pid = f->pid;
	__builtin_memcpy(e->comm, f->comm, sizeof(e->comm));
}

struct caused {
	__u64 cause;   /* what it is an effect of, for the record; 0: not known */
	__u64 carried; /* what is merged, which may be later */
};

/*
 * The sender was a node here, and what it left is not there any more: too many flows at once.
 * Its clock as it stands is later than what was sent, so order holds.
 */
static __always_inline void send_evicted(const struct flow *f, struct send_found *found)
{
	struct clock *sender = clock_get(f->peer_clock);

	if (!sender)
		return;
	found->stamp = READ_ONCE(sender->now);
	found->clock = f->peer_clock;
	found->forgotten = 1;
}

/*
 * What came with a received packet: from a sender on this host, in the packet itself, or
 * both. In TCP what was carried is the last there was on the flow, not only this segment's:
 * the rest of a burst carries nothing.
 */
__checked int event_cause(struct pkt *p, struct flow *f, __u32 type, __u32 seq, struct caused *why)
{
	struct send_found found = {};
	struct counters *count;
	int by_seq;

	if (!p || !f || !why)
		return 0;
	count = counters_of(p->dir);
	if (!count)
		return 0;
	by_seq = p->key.proto == IPPROTO_TCP && !(p->tcp_flags & TCP_RST);
	send_find(p, by_seq, seq, &found);
	if (!found.stamp && f->peer_clocked)
		send_evicted(f, &found);
	why->carried = found.stamp;
	why->cause = found.forgotten ? 0 : found.stamp;
	if (found.stamp) {
		f->peer_clock = found.clock;
		f->peer_clocked = 1;
		if (found.forgotten)
			count->reason.cause_forgotten++;
	}
	if (!(f->notes & FLOW_CARRIED) || !f->cause)
		return 0;
	if (why->carried < f->cause)
		why->carried = f->cause;
	if (by_seq && (why->cause >= f->cause || p->flags & EVENT_NO_ROOM))
		return 0;
	/* A sender that does not stamp its data has its SYN's stamp for a past, no cause. */
	if (by_seq && type == EVENT_recv && !(f->notes & FLOW_SPOKEN))
		return 0;
	p->flags |= EVENT_IN_BAND;
	why->cause = f->cause;
	return 0;
}

/*
 * Everything that is not the continuation of a burst: merge what came, tick, leave a
 * record, and, if it is sent, leave the stamp for the receiver. `seq` is the sequence
 * number the receiver will ask by (its last byte), `from` the first.
 *
 * The record is reserved before anything changes. When there is no room the clock ticks
 * and merges all the same (order must hold for what comes after), but the open burst is
 * left open: ending it is something only a record can tell.
 *
 * Data that is sent with a FIN is two events in one packet, which has room for one stamp:
 * the data's. The close has the very next one, taken with it. So a receiver, which notes the
 * data first and then the close, is above both.
 */
__checked int event_note(struct __sk_buff *skb, struct pkt *p, __u32 type, __u32 from, __u32 seq)
{
	struct settings *s = settings_get();
	struct counters *count;
	struct flow_dir *d;
	struct clock *c;
	struct flow *f;
	struct event *e;
	struct begin b = {};
	struct caused why = {};
	__u64 boot_ns;
	int message = type == EVENT_send || type == EVENT_recv, closing;

	if (!p || !s)
		return 0;
	c = clock_get(p->clock);
	f = flow_get(p);
	count = counters_of(p->dir);
	if (!c || !f || !count)
		return 0;
	closing = (p->dir == DIR_OUT) & ((p->notes & NOTE_LAST) == NOTE_LAST);
	asm volatile("" : "+r"(closing)); /* a number, not two ways for the verifier to go */
	d = flow_dir(f, p->from_local);
	boot_ns = bpf_ktime_get_boot_ns();
	if (p->dir == DIR_IN)
		event_cause(p, f, type, seq, &why);
	if ((!f->pid || f->notes & FLOW_OWNER_LISTENER) && !(p->how & ATTACH_FAR))
		owner_find(skb, p);

	b.carried = why.carried;
	b.wall_ns = boot_ns + s->realtime_offset_ns + c->skew_ns;
	b.packets = p->segments;
	b.bytes = p->fresh;
	b.more = closing & message;
	b.open = message && !closing && !(c->flags & CLOCK_EVERY_PACKET);
	b.stamp = closing && type == EVENT_close ? p->stamp + 1 : 0;
	if (!s->reading) {
		burst_begin(c, p, &b);
	} else {
		/* One branch for each outcome: older verifiers lose track of a record that is
		 * asked twice whether it is there.
		 */
		e = event_reserve();
		if (!e) {
			count->reason.event_lost++;
			event_lose(c);
			b.keep = 1;
			burst_begin(c, p, &b);
			goto sent;
		}
		burst_begin(c, p, &b);
		event_fill(e, p, f, type);
		e->stamp = b.stamp;
		if (b.open && burst_per_flow(c))
			e->flags |= EVENT_BURST_FLOW;
		if (e->dir == DIR_OUT && e->hash && wire_sampled_out(b.stamp, s->stamp_one_in))
			e->flags |= EVENT_UNSTAMPED;
		e->cause = why.cause;
		e->wall_ns = b.wall_ns;
		e->ended = b.ended;
		e->generation = b.generation;
		event_submit(e);
		count->reason.event++;
	}
	if (b.generation)
		burst_opened(c, d, &b, boot_ns);
sent:
	if (!closing || message)
		p->stamp = b.stamp;
	if (p->dir == DIR_IN) {
		f->cause = why.cause;
		f->notes &= ~FLOW_NEWS;
		return 0;
	}
	if (d->burst != b.stamp) { /* whole as it is: nothing joins it */
		d->generation = 0;
		d->burst = b.stamp;
	}
	if (f->notes & FLOW_ADMITTED || f->opener != FLOW_OPENER_REMOTE || f->peer_clocked)
		send_note(p, from, b.stamp, type == EVENT_connect);
	return 0;
}

/*
 * The handshake's middle: no event, but causal all the same. Who accepts leaves its clock
 * as it is for the one who connects, if that one is a node here too (the SYN told); who
 * connects merges it. Merging ends an open burst, for what follows has a new past.
 */
__checked int event_handshake(struct pkt *p)
{
	struct settings *s = settings_get();
	struct send_found found = {};
	struct clock *c;
	struct flow *f;
	struct event *e = NULL;
	struct begin b = {};

	if (!p || !s)
		return 0;
	c = clock_get(p->clock);
	f = flow_get(p);
	if (!c || !f)
		return 0;
	if (p->notes & NOTE_CARRY) {
		if (f->peer_clocked)
			send_note(p, p->seq, READ_ONCE(c->now), 1);
		return 0;
	}
	send_find(p, 0, 0, &found);
	if (found.stamp) {
		f->peer_clock = found.clock;
		f->peer_clocked = 1;
	}
	if (found.stamp < p->carried)
		found.stamp = p->carried;
	if (!found.stamp)
		return 0;
	if (p->notes & NOTE_HEARD) /* merged when the handshake is complete, as `accept` */
		return 0;
	b.carried = found.stamp;
	b.wall_ns = bpf_ktime_get_boot_ns() + s->realtime_offset_ns + c->skew_ns;
	if (!s->reading) {
		burst_begin(c, p, &b);
		return 0;
	}
	e = event_reserve();
	if (!e) { /* only an end was to be told, and it will be: not a loss */
		b.keep = 1;
		burst_begin(c, p, &b);
		return 0;
	}
	burst_begin(c, p, &b);
	__builtin_memset(e, 0, sizeof(*e));
	e->clock = p->clock;
	e->node = p->key.node;
	e->ended = b.ended; /* possibly nothing: then nobody minds the record */
	event_submit(e);
	return 0;
}

__checked int mark_ask(struct __sk_buff *skb, struct pkt *p, struct flow *f);

/* And tell who listens, if it is another one. Not from within: the stack would not do. */
static __always_inline void mark_ask_aloud(struct pass *at, struct pkt *p)
{
	__u32 old = at->flow->mark;

	mark_ask(at->skb, p, at->flow);
	if ((READ_ONCE(at->flow->mark) ^ old) &
	    (MARK_MARKED | (MARK_LABEL_MASK & ~MARK_ENTROPY_MASK)))
		report_marked(p, at->flow);
}

/* A flow's first event is to say its mark already; later stages find it asked for. */
static __always_inline void event_marked(struct pass *at, struct pkt *p)
{
	const struct settings *s = settings_get();

	if (pass_has(at, STAGES_LIVE_mark) && s && s->marks_generation &&
	    !(at->flow->mark >> MARK_GENERATION_SHIFT & MARK_GENERATION_MAX))
		mark_ask_aloud(at, p);
}

static __always_inline int stage_clock(struct pass *at, struct pkt *p)
{
	struct clock *c = clock_get(p->clock);
	__u32 message = p->dir == DIR_OUT ? EVENT_send : EVENT_recv;
	__u32 end = p->seq + p->fresh;
	struct settings *s = settings_get();
	__u16 notes;

	if (pass_has(at, PART_WIRE) && s && s->in_band)
		wire_before(at, p);
	notes = p->notes;
	if (!notes && !p->blank)
		return NEXT;
	if (!c) {
		at->count->reason.clock_bad++;
		return NEXT;
	}
	if (notes == NOTE_MESSAGE && burst_extend(c, at->flow, p))
		goto stamp;
	event_marked(at, p);
	if (notes & (NOTE_MERGE | NOTE_CARRY | NOTE_HEARD) || (notes & NOTE_AHEAD && p->carried))
		event_handshake(p);
	if (notes & NOTE_CONNECT)
		event_note(at->skb, p, EVENT_connect, p->seq, p->seq);
	if (notes & NOTE_ACCEPT)
		event_note(at->skb, p, EVENT_accept, p->seq, p->seq - 1);
	if (notes & NOTE_RETRANSMIT)
		event_note(at->skb, p, EVENT_retransmit, p->seq, p->seq);
	if (notes & NOTE_MESSAGE)
		event_note(at->skb, p, message, p->seq, end - 1);
	if (notes & NOTE_CLOSE)
		event_note(at->skb, p, EVENT_close, end, end);
stamp:
	if (pass_has(at, PART_WIRE) && s && s->in_band && p->dir == DIR_OUT)
		wire_after(at, p);
	return NEXT;
}

#endif
