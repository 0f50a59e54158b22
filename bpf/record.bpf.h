/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage record: which class a packet is of, whether it is cut, and its copy into a ring. */
#ifndef TIDEMARK_RECORD_BPF_H
#define TIDEMARK_RECORD_BPF_H

#include "clock.bpf.h"
#include "event.bpf.h"
#include "flow.bpf.h"
#include "mark.h"
#include "node.bpf.h"
#include "track.bpf.h"

/* One ring a CPU, as of events. Empty until somebody records. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ring);
} packets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CLASSES);
	__type(key, __u32);
	__type(value, struct class);
} classes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct precedence);
} precedences SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct assignment_key);
	__type(value, struct assignment);
} assignments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLASSES + 1);
	__type(key, __u32);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CLASSES + 1);
	__type(key, __u32);
	__type(value, struct retention);
} retentions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct loss_key);
	__type(value, struct loss);
} losses SEC(".maps");

static __always_inline struct class *class_get(__u32 slot)
{
	return bpf_map_lookup_elem(&classes, &slot);
}

static __always_inline struct tally *tally_get(__u32 slot)
{
	return bpf_map_lookup_elem(&tallies, &slot);
}

/*
 * One step of a class's filter over the packet in the draft. Checked by itself: inlined,
 * the tests of 32 steps after each other were two thirds of all that the verifier looked
 * at, and of what a start takes. It is run once a flow.
 */
__checked int class_step(__u32 slot, __u32 i, __u32 truths)
{
	struct class *c = class_get(slot);
	struct packet *d = draft_get();

	if (!c || !d || i >= FILTER_OPS_MAX)
		return 0;
	return filter_step(&c->ops[i], &d->track, truths);
}

/* Does the class want the packet in the draft? */
__checked int class_wants(__u32 slot)
{
	struct class *c = class_get(slot);
	__u32 truths = FILTER_BEGUN;

	if (!c)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < FILTER_OPS_MAX; i++) {
		if (i >= c->ops_n)
			break;
		truths = class_step(slot, i, truths);
	}
	return truths & 1;
}

/* The class that was given to this end of the flow, or CLASS_NONE. */
__checked int assignment_find(struct flow_key *flow, __u32 local, __u32 end)
{
	struct assignment_key key = { .prefix = 128 };
	struct assignment *a;

	if (!flow)
		return CLASS_NONE;
	addr_copy(key.address, local ? flow->local : flow->remote);
	a = bpf_map_lookup_elem(&assignments, &key);
	if (!a || !(a->ends & end))
		return CLASS_NONE;
	if (a->until_ns && a->until_ns < bpf_ktime_get_boot_ns())
		return CLASS_NONE;
	return a->class;
}

/*
 * Makes the draft's track and asks the classes in their order; hosts that were given one
 * come first, the end that spoke first before the other. Once a flow and generation.
 */
__checked int record_ask(struct __sk_buff *skb, struct pkt *p, __u32 from_local)
{
	struct precedence *order;
	__u32 zero = 0, slot;

	if (!p)
		return CLASS_NONE;
	track_make(skb, p);
	order = bpf_map_lookup_elem(&precedences, &zero);
	if (!order)
		return CLASS_NONE;
	if (order->assigned && p->keyed) {
		struct flow_key key = p->key;

		slot = assignment_find(&key, from_local, ASSIGN_ORIG);
		if (slot < CLASSES)
			return slot;
		slot = assignment_find(&key, !from_local, ASSIGN_RESP);
		if (slot < CLASSES)
			return slot;
	}
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < CLASSES; i++) {
		if (i >= order->n)
			break;
		slot = order->slot[i];
		if (class_wants(slot))
			return slot;
	}
	return CLASS_NONE;
}

/* Not kept for want of room. Counted where a reader makes gaps of it. */
__checked int record_lose(struct pkt *p, __u32 class, __u64 wall_ns)
{
	struct loss_key key = { .class = class };
	struct loss none = {}, *loss;
	struct tally *tally = tally_get(class);

	if (!p || !tally)
		return 0;
	key.node = p->key.node;
	tally->lost_packets++;
	tally->lost_bytes += p->len;
	loss = bpf_map_lookup_elem(&losses, &key);
	if (!loss) {
		bpf_map_update_elem(&losses, &key, &none, BPF_NOEXIST);
		loss = bpf_map_lookup_elem(&losses, &key);
	}
	if (!loss)
		return 0;
	__sync_fetch_and_add(&loss->packets, 1);
	__sync_fetch_and_add(&loss->bytes, p->len);
	WRITE_ONCE(loss->last_ns, wall_ns);
	return 0;
}

/*
 * A wake-up costs an interrupt, so the reader comes by timer; only who fills the ring to
 * the mark wakes it, once for each time.
 */
static __always_inline __u64 record_flags(void *ring, __u32 wake, __u32 size)
{
	__u64 held = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);

	return held < wake && held + size >= wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

/*
 * Into a record of `room` bytes, which must be constant. `tag` is one to put back: behind
 * the two addresses of the frame.
 */
static __always_inline int record_copy(struct __sk_buff *skb, void *ring, const struct packet *d,
				       const __u32 room, __u32 kept, __u32 tag, __u32 wake)
{
	__u8 *to = bpf_ringbuf_reserve(ring, sizeof(*d) + room, 0);
	__u32 skip = tag ? 12 : 0, put = tag ? 16 : 0;
	long err = 0;

	if (!to)
		return -1;
	__builtin_memcpy(to, d, sizeof(*d));
	if (tag) {
		err = bpf_skb_load_bytes(skb, 0, to + sizeof(*d), 12);
		*(__be32 *)(to + sizeof(*d) + 12) = bpf_htonl(tag);
		kept -= put + 1;
		asm volatile("" : "+r"(kept));
		if (kept < room - 16)
			err |= bpf_skb_load_bytes(skb, skip, to + sizeof(*d) + 16, kept + 1);
	} else {
		kept--;
		asm volatile("" : "+r"(kept));
		if (kept < room)
			err = bpf_skb_load_bytes(skb, 0, to + sizeof(*d), kept + 1);
	}
	if (err) {
		bpf_ringbuf_discard(to, BPF_RB_NO_WAKEUP);
		return -1;
	}
	bpf_ringbuf_submit(to, record_flags(ring, wake, sizeof(*d) + room));
	return 0;
}

/* What the ring can carry in one piece: the largest packet there is but for BIG TCP. */
#define RECORD_ROOM 65600

__checked int record_put(struct __sk_buff *skb, __u32 tag, __u32 wake)
{
	__u32 cpu = bpf_get_smp_processor_id(), kept;
	void *ring = bpf_map_lookup_elem(&packets, &cpu);
	struct packet *d = draft_get();

	if (!ring || !d)
		return -1;
	kept = d->kept;
	if (kept <= 96)
		return record_copy(skb, ring, d, 96, kept, tag, wake);
	if (kept <= 352)
		return record_copy(skb, ring, d, 352, kept, tag, wake);
	if (kept <= 1600)
		return record_copy(skb, ring, d, 1600, kept, tag, wake);
	if (kept <= 9216)
		return record_copy(skb, ring, d, 9216, kept, tag, wake);
	return record_copy(skb, ring, d, RECORD_ROOM, kept, tag, wake);
}

/* The draft, whose track may have been made already, becomes a record. */
__checked int record_keep(struct __sk_buff *skb, struct pkt *p, __u32 class, __u32 made)
{
	struct settings *s = settings_get();
	struct tally *tally = tally_get(class);
	struct class *c = class_get(class);
	struct packet *d = draft_get();
	struct clock *clock;
	__u32 tag = 0;

	if (!p || !s || !tally || !c || !d)
		return 0;
	if (!made)
		track_make(skb, p);
	d->track.class = class;
	if (p->how & ATTACH_FILE) {
		d->stamp = skb->cb[ATTACH_CB_NUMBER];
		d->wall_ns = 0;
		d->wire = p->len;
		d->kept = 0;
	} else {
		clock = clock_get(p->clock);
		d->wall_ns = bpf_ktime_get_boot_ns() + s->realtime_offset_ns;
		d->stamp = p->stamp;
		if (clock) {
			d->wall_ns += clock->skew_ns;
			if (!d->stamp)
				d->stamp = READ_ONCE(clock->now);
		}
		if (skb->vlan_present && !(p->how & ATTACH_L3))
			tag = bpf_ntohs(skb->vlan_proto) << 16 | (skb->vlan_tci & 0xffff);
		d->wire = p->len + (tag ? 4 : 0);
		d->kept = d->wire < c->snap ? d->wire : c->snap;
		if (d->kept > RECORD_ROOM)
			d->kept = RECORD_ROOM;
	}
	d->flags = (p->dir == DIR_OUT ? PACKET_OUT : 0) | (p->how & ATTACH_L3 ? PACKET_L3 : 0) |
		   (p->from_local ? PACKET_FORWARD : 0) | (skb->gso_segs > 1 ? PACKET_GSO : 0);
	if (record_put(skb, tag, c->wake)) {
		record_lose(p, class, d->wall_ns);
		return 0;
	}
	tally->stored_packets++;
	tally->stored_bytes += d->wire;
	return 0;
}

/* Of what is cut, by luck: else who waits for the cutoff would know what is never seen. */
static __always_inline int record_sampled(const struct class *c, struct tally *tally)
{
	if (!c->sample || c->flags & CLASS_SAMPLE_FLOWS || bpf_get_prandom_u32() % c->sample)
		return 0;
	tally->sampled_packets++;
	return 1;
}

/* The flow's own bytes are counted by now, these of this packet too. */
static __always_inline int record_is_cut(const struct class *c, struct flow *f, const struct pkt *p,
					 __u32 record, struct tally *tally)
{
	__u64 before = READ_ONCE(f->dir[DIR_IN].bytes) + READ_ONCE(f->dir[DIR_OUT].bytes) - p->wire;

	if (before < c->cutoff || record & RECORD_KEPT ||
	    p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST))
		return 0;
	return !record_sampled(c, tally);
}

/* What the flow is told of the answer. The user may suspend it at this very moment. */
__checked int record_decide(struct flow *f, __u32 slot, __u32 generation)
{
	struct class *c = class_get(slot);
	__u32 old, now;

	if (!f)
		return slot | generation << 8;
	old = READ_ONCE(f->record);
	now = slot | generation << 8 | (old & RECORD_SUSPENDED);
	if (RECORD_GENERATION(old) && RECORD_CLASS(old) == slot)
		now |= old & RECORD_DRAWN;
	else if (c && c->flags & CLASS_SAMPLE_FLOWS && c->sample &&
		 !(bpf_get_prandom_u32() % c->sample))
		now |= RECORD_DRAWN;
	__sync_val_compare_and_swap(&f->record, old, now);
	return now;
}

/* Who opened it: told by the flow; of one older than us, the packet at hand. */
static __always_inline __u32 record_opener(const struct flow *f, const struct pkt *p)
{
	if (!f || f->opener == FLOW_OPENER_UNKNOWN)
		return p->from_local;
	return f->opener == FLOW_OPENER_LOCAL;
}

static __always_inline void record_owner(const struct flow *f)
{
	struct packet *d = draft_get();

	if (!d)
		return;
	if (!f) {
		d->track.mark = d->track.pid = 0;
		__builtin_memset(d->track.comm, 0, sizeof(d->track.comm));
		return;
	}
	d->track.mark = f->mark & ((1U << MARK_GENERATION_SHIFT) - 1);
	d->track.pid = f->pid;
	__builtin_memcpy(d->track.comm, f->comm, sizeof(d->track.comm));
}

/*
 * For a flow that is known to be cut: three lookups in arrays and an addition. What has no
 * flow has a class too and is never cut; it is asked each time.
 */
static __always_inline int stage_record(struct pass *at, struct pkt *p)
{
	struct settings *s = settings_get();
	__u32 generation = s ? s->recording & 0xff : 0, record, slot, made = 0;
	struct flow *f = at->flow;
	struct tally *tally;
	struct class *c;

	if (!generation)
		return NEXT;
	if (!(p->how & ATTACH_FILE)) /* what stamps and marks have added is part of the frame */
		p->len = READ_ONCE(at->skb->len);
	record = f ? READ_ONCE(f->record) : 0;
	if (!f || RECORD_GENERATION(record) != generation) {
		record_owner(f);
		slot = record_ask(at->skb, p, record_opener(f, p));
		record = f ? record_decide(f, slot, generation) : slot;
		made = 1;
	}
	slot = RECORD_CLASS(record);
	tally = tally_get(slot);
	if (!tally)
		return NEXT;
	c = class_get(slot);
	if (!c || (f && record_is_cut(c, f, p, record, tally))) {
		tally->cut_packets++;
		tally->cut_bytes += p->len;
		return NEXT;
	}
	if (!made)
		record_owner(f);
	record_keep(at->skb, p, slot, made);
	return NEXT;
}

/* The user's word over one flow: no cutoff, or the class's again. */
SEC("syscall")
int record_suspend(struct record_call *call)
{
	struct flow_key key = call->key;
	struct flow *f = bpf_map_lookup_elem(&flows, &key);

	if (!f)
		f = bpf_map_lookup_elem(&embryonic, &key);
	call->found = f != NULL;
	if (!f)
		return 0;
	if (call->on)
		__sync_fetch_and_or(&f->record, RECORD_SUSPENDED);
	else
		__sync_fetch_and_and(&f->record, ~RECORD_SUSPENDED);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct head);
} heads SEC(".maps");

/* How many of the heads have been through. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} replayed SEC(".maps");

/* What an attachment's own program tail-calls. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} pipelines SEC(".maps");

/*
 * In the place of an attachment, for packets of a file: run again and again over one
 * buffer, which becomes the next packet each time. So the kernel is called once for many.
 */
SEC("?tc")
int replay(struct __sk_buff *skb)
{
	__u32 zero = 0, i, held;
	__u64 *next = bpf_map_lookup_elem(&replayed, &zero);
	struct head *head;

	if (!next)
		return NEXT;
	i = *next;
	++*next;
	head = bpf_map_lookup_elem(&heads, &i);
	if (!head)
		return NEXT;
	held = head->held;
	asm volatile("" : "+r"(held));
	if (held < 14 || held > HEAD_BYTES || bpf_skb_change_tail(skb, held, 0) ||
	    bpf_skb_store_bytes(skb, 0, head->bytes, held, 0))
		return NEXT;
	skb->cb[ATTACH_CB_NODE] = 1;
	skb->cb[ATTACH_CB_HOW] = ATTACH_LIVE | ATTACH_PROMISC | ATTACH_FILE;
	skb->cb[ATTACH_CB_LENGTH] = head->length;
	skb->cb[ATTACH_CB_NUMBER] = i;
	bpf_tail_call(skb, &pipelines, 0);
	return NEXT;
}

#endif
