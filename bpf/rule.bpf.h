/* SPDX-License-Identifier: GPL-2.0-only */
/* Which mark a flow has: single flows first, then what it inherits, then rules. */
#ifndef TIDEMARK_RULE_BPF_H
#define TIDEMARK_RULE_BPF_H

#include "clock.bpf.h"
#include "flow.bpf.h"
#include "mark.h"
#include "node.bpf.h"
#include "owner.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct flow_key);
	__type(value, struct mark_entry);
} marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RULES_MAX);
	__type(key, __u32);
	__type(value, struct rule);
} rules SEC(".maps"), rules_spare SEC(".maps");

/* A flow that was silent for so many ticks is asked again with its next packet. */
#define MARK_FRESH_SHIFT 6
#define MARK_FRESH_TICKS (1U << MARK_FRESH_SHIFT)

#define MARK_LEVELS 8

/* What a rule can ask of a flow. */
struct asked {
	struct flow_key key;
	__u32 uid;
	__u64 now_ns;
	__u64 cgroup;
	__u64 above[MARK_LEVELS]; /* the cgroups it is in, by depth */
	__u64 comm[2];
	__u32 owned; /* uid, cgroup and comm are known */
	__u32 rules; /* in force */
	__u32 old;   /* the mark it had, and 0: none */
	__u32 given; /* the answer, and 0: none */
};

/*
 * The generation a flow must have been asked under. What ends at a time is asked again
 * with every step of a slow clock, so that nobody has to tell its flows.
 */
static __always_inline __u32 mark_tag(__u32 generation, __u32 mark, __u32 jiffies)
{
	if (mark & MARK_TIMED)
		generation = (generation + (jiffies >> MARK_FRESH_SHIFT)) & MARK_GENERATION_MAX;
	return generation ? generation : MARK_GENERATION_MAX;
}

static __always_inline int rule_asks_owner(const struct rule *r)
{
	return r->flags & RULE_OWNER || r->cgroup;
}

static __always_inline int owner_fits(const struct rule *r, const struct asked *a)
{
	const __u64 *comm = (const __u64 *)r->comm;

	if (!a->owned)
		return 0;
	if (r->flags & RULE_UID && r->uid != a->uid)
		return 0;
	if (r->flags & RULE_COMM && (comm[0] != a->comm[0] || comm[1] != a->comm[1]))
		return 0;
	return !r->cgroup || r->cgroup == a->cgroup ||
	       r->cgroup == a->above[r->cgroup_level % MARK_LEVELS];
}

/* Checked by itself: inlined, its branches multiplied with what calls it. */
__checked int rule_fits(struct rule *r, struct asked *a)
{
	const __u64 *src, *dst;

	if (!r || !a)
		return 0;
	src = (const __u64 *)a->key.local;
	dst = (const __u64 *)a->key.remote;
	if ((src[0] & r->src_mask[0]) != r->src[0] || (src[1] & r->src_mask[1]) != r->src[1] ||
	    (dst[0] & r->dst_mask[0]) != r->dst[0] || (dst[1] & r->dst_mask[1]) != r->dst[1])
		return 0;
	if (a->key.local_port < r->src_low || a->key.local_port > r->src_high ||
	    a->key.remote_port < r->dst_low || a->key.remote_port > r->dst_high)
		return 0;
	if ((r->proto && r->proto != a->key.proto) || (r->node && r->node != a->key.node))
		return 0;
	if (r->until_ns && a->now_ns >= r->until_ns)
		return 0;
	return !rule_asks_owner(r) || owner_fits(r, a);
}

/*
 * One of a rule's ids. A flow that is asked again, as each is once its process is known,
 * keeps the one it has for as long as that is among them, and it is nobody's turn.
 */
__checked int rule_choose(struct rule *r, struct asked *a)
{
	__u32 old, id, nth;

	if (!r || !a || !r->ids_n)
		return 0;
	old = mark_experiment(a->old) << RULE_ID_SHIFT | mark_activity(a->old);
	nth = r->flags & RULE_RANDOM ? bpf_get_prandom_u32() : (__u32)r->flows;
	id = r->ids[nth % r->ids_n % RULE_IDS_MAX];
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < RULE_IDS_MAX; i++)
		if (a->old && i < r->ids_n && r->ids[i] == old)
			id = old;
	a->given = (r->given & ~MARK_LABEL_MASK) | MARK_MARKED |
		   mark_label(id >> RULE_ID_SHIFT, id & MARK_ACTIVITY_MAX, 0);
	return 0;
}

static long rule_try(void *map, const __u32 *index, struct rule *r, struct asked *a)
{
	if (*index >= a->rules)
		return 1;
	if (!rule_fits(r, a))
		return 0;
	if (r->flags & RULE_EXCLUDE)
		return 1;
	a->given = r->given | MARK_MARKED;
	if (r->ids_n)
		rule_choose(r, a);
	if ((a->given ^ a->old) & (MARK_MARKED | (MARK_LABEL_MASK & ~MARK_ENTROPY_MASK)))
		__sync_fetch_and_add(&r->flows, 1);
	return 1;
}

/*
 * Not a loop over the map: the verifier would follow each of its turns. Two calls that stay
 * two: merged into one by the compiler, older kernels (6.1) refuse a call whose map
 * depends on where it came from. The barriers differ.
 */
static __always_inline void rules_find(struct asked *a, __u32 in_force)
{
	a->rules = in_force & 0xffff;
	if (!a->rules)
		return;
	if (in_force >> 16) {
		bpf_for_each_map_elem(&rules_spare, rule_try, a, 0);
		asm volatile("" ::"i"(1) : "memory");
	} else {
		bpf_for_each_map_elem(&rules, rule_try, a, 0);
		asm volatile("" ::"i"(2) : "memory");
	}
}

/*
 * Ticks to time, by how many there have been since the datapath was made: how many a
 * second the kernel has it does not say.
 */
static __always_inline __u64 ticks_ns(const struct settings *s, __u32 ticks)
{
	__u32 passed = flow_now() - s->began_jiffies;

	return passed ? ticks * ((bpf_ktime_get_ns() - s->began_ns) / passed) : 0;
}

/* May the flow have what this entry gives? It may not if the entry was another flow's. */
static __always_inline int entry_admits(const struct mark_entry *e, const struct flow *f,
					const struct pkt *p, const struct settings *s, __u64 now_ns)
{
	if (e->until_ns && now_ns >= e->until_ns)
		return 0;
	if (!e->flow_ns || e->flow_node != p->key.node)
		return 1;
	if (p->key.proto == IPPROTO_TCP)
		/* One that did not begin with a SYN is the old one, which had been forgotten. */
		return e->flow_ns == f->first_ns || f->opener == FLOW_OPENER_UNKNOWN;
	if (e->flow_ns == f->first_ns)
		return p->idle < MARK_FRESH_TICKS || ticks_ns(s, p->idle) < MARK_IDLE_NS;
	return ticks_ns(s, flow_now() - e->used) < MARK_IDLE_NS;
}

/* An entry's key for the k-th try: as it is, for any node, for any protocol, for both. */
static __always_inline void entry_key(struct flow_key *key, const struct flow_key *of, __u32 k)
{
	*key = *of;
	if (k & 1)
		key->node = 0;
	if (k & 2)
		key->proto = 0;
}

__checked int marks_find(struct pkt *p, struct flow *f, struct asked *a)
{
	const struct settings *s = settings_get();
	struct counters *count;
	struct mark_entry *e;
	struct flow_key key;

	if (!p || !f || !a || !s)
		return 0;
	count = counters_of(p->dir);
	if (!count)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < 4; k++) {
		entry_key(&key, &a->key, k);
		e = bpf_map_lookup_elem(&marks, &key);
		if (!e)
			continue;
		if (!entry_admits(e, f, p, s, a->now_ns)) {
			if (!bpf_map_delete_elem(&marks, &key))
				count->reason.mark_ended++;
			continue;
		}
		if (!e->flow_ns || e->flow_node == p->key.node) {
			e->flow_node = p->key.node;
			e->flow_ns = f->first_ns;
		}
		e->used = flow_now();
		a->given = e->given | MARK_MARKED;
		return 1;
	}
	return 0;
}

/* The connection is over, and so is what was said of it alone. */
__checked int mark_end(struct pkt *p, struct flow *f)
{
	struct counters *count;
	struct mark_entry *e;
	struct flow_key key;

	if (!p || !f)
		return 0;
	count = counters_of(p->dir);
	if (!count)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 k = 0; k < 4; k++) {
		entry_key(&key, &p->key, k);
		e = bpf_map_lookup_elem(&marks, &key);
		if (e && e->flow_ns == f->first_ns && e->flow_node == p->key.node &&
		    !bpf_map_delete_elem(&marks, &key))
			count->reason.mark_ended++;
	}
	return 0;
}

/* Who sends it, where some rule wants to know. */
static __always_inline void asked_owner(struct asked *a, struct __sk_buff *skb, struct pkt *p,
					struct flow *f, __u32 flags)
{
	if (!f->pid && !(p->how & ATTACH_FAR))
		owner_find(skb, p);
	a->owned = f->pid != 0;
	a->uid = f->uid;
	a->cgroup = f->cgroup;
	__builtin_memcpy(a->comm, f->comm, sizeof(a->comm));
	if (!(flags & MARKS_CGROUPS) || p->dir != DIR_OUT)
		return;
#pragma unroll
	for (int level = 0; level < MARK_LEVELS; level++)
		a->above[level] = bpf_skb_ancestor_cgroup_id(skb, level);
}

/*
 * What the process that opened it was serving then. Only a packet that is sent knows its
 * socket.
 */
static __always_inline void heir_find(struct __sk_buff *skb, struct asked *a)
{
	struct bpf_sock *sk = skb->sk;
	struct owner *o;

	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return;
	o = bpf_sk_storage_get(&owners, sk, 0, 0);
	/* An accepted socket has its listener's: it was not opened, and inherits nothing. */
	if (o && o->mark && o->socket == bpf_get_socket_cookie(skb))
		a->given = (o->mark & ~MARK_TIMED) | MARK_MARKED;
}

/*
 * Ask for the flow's mark and keep the answer in the flow. A flow that has ended keeps the
 * one it had: what now stands for its ports may be meant for the next.
 */
__checked int mark_ask(struct __sk_buff *skb, struct pkt *p, struct flow *f)
{
	const struct settings *s = settings_get();
	struct counters *count;
	struct asked a = {};
	__u32 old, mark;

	if (!p || !f || !s)
		return 0;
	count = counters_of(p->dir);
	if (!count)
		return 0;
	if (s->marks_flags & MARKS_INHERIT && p->dir == DIR_IN && f->mark & MARK_MARKED)
		return 0; /* the next that is sent can be asked what it inherits */
	if (f->state < FLOW_CLOSED) {
		a.key = p->key;
		a.now_ns = bpf_ktime_get_boot_ns();
		a.old = f->mark & MARK_MARKED ? f->mark : 0;
		if (s->marks_flags & MARKS_OWNERS)
			asked_owner(&a, skb, p, f, s->marks_flags);
		marks_find(p, f, &a);
		if (!a.given && s->marks_flags & MARKS_INHERIT && p->dir == DIR_OUT)
			heir_find(skb, &a);
		if (!a.given)
			rules_find(&a, READ_ONCE(s->marks_rules));
		old = f->mark;
		mark = a.given;
		if (mark && old & MARK_MARKED)
			mark |= old & MARK_ENTROPY_MASK;
		else if (mark)
			mark |= bpf_get_prandom_u32() & MARK_ENTROPY_MASK;
		if (mark && !(old & MARK_MARKED))
			count->reason.mark_flow++;
	} else {
		mark = f->mark & ~(MARK_GENERATION_MAX << MARK_GENERATION_SHIFT);
	}
	mark |= mark_tag(s->marks_generation, mark, f->last) << MARK_GENERATION_SHIFT;
	WRITE_ONCE(f->mark, mark);
	return 0;
}

struct touched {
	struct flow_key key;
};

static __always_inline void flow_told(const struct flow_key *key)
{
	struct flow *f = bpf_map_lookup_elem(&flows, key);

	if (!f)
		f = bpf_map_lookup_elem(&embryonic, key);
	if (f)
		f->notes |= FLOW_TOLD;
}

static __always_inline void flow_touch(const struct flow_key *key)
{
	struct flow *f = bpf_map_lookup_elem(&flows, key);

	if (!f)
		f = bpf_map_lookup_elem(&embryonic, key);
	if (f)
		f->mark &= ~(MARK_GENERATION_MAX << MARK_GENERATION_SHIFT);
}

static long node_touch(void *map, const __u32 *id, struct node *node, struct touched *t)
{
	t->key.node = *id;
	flow_touch(&t->key);
	return 0;
}

/* The flows of this key, of one node or of all, are to ask again. */
static __always_inline void mark_touch_flows(const struct flow_key *key)
{
	struct touched t = { .key = *key };

	if (key->node)
		flow_touch(&t.key);
	else
		bpf_for_each_map_elem(&nodes, node_touch, &t, 0);
}

#endif
