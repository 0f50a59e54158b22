// SPDX-License-Identifier: GPL-2.0-only
/* The pipeline: every packet of a node runs through the stages, in and out. */
#include "pkt.bpf.h"
#include "part.bpf.h"
#include "parse.bpf.h"
#include "node.bpf.h"
#include "flow.bpf.h"
#include "clock.bpf.h"
#include "mark.bpf.h"
#include "record.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/* Stages that are listed and not built yet. */
#define stage_guard(at, p) NEXT
#define stage_fault(at, p) NEXT

/*
 * A CPU's packet under way. Not on the stack, which with all that a stage may call has 512
 * bytes. There is only ever one: the traffic control hooks run with softirqs off, are not
 * entered from hard interrupts, and a packet that causes another queues it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pkt);
} pkts SEC(".maps");

static __always_inline struct pkt *pkt_begin(void)
{
	__u32 zero = 0;
	struct pkt *p = bpf_map_lookup_elem(&pkts, &zero);

	if (p)
		__builtin_memset(p, 0, sizeof(*p));
	return p;
}

static __always_inline int pipe(struct __sk_buff *skb, __u32 parts)
{
	struct pass at = { .skb = skb, .parts = parts };
	struct pkt *p = pkt_begin();
	int verdict, done = 0;

	if (!p)
		return NEXT;
	p->how = skb->cb[ATTACH_CB_HOW];
	p->key.node = skb->cb[ATTACH_CB_NODE];
	p->clock = p->how & ATTACH_CLOCK_MASK;
	/* What leaves the device its node sends; unless the node is behind the device. */
	p->dir = !(p->how & ATTACH_EGRESS) == !(p->how & ATTACH_FAR) ? DIR_IN : DIR_OUT;
	p->from_local = p->dir == DIR_OUT;
	/* Both read as they stand: chosen between by address, the verifier refuses. */
	p->len = READ_ONCE(skb->len);
	if (p->how & ATTACH_FILE)
		p->len = READ_ONCE(skb->cb[ATTACH_CB_LENGTH]);
	at.count = counters_of(p->dir);
	if (!at.count)
		return NEXT;

#define X(name, live, all, what)                              \
	if (parts & (1U << STAGE_##name) && (all || !done)) { \
		at.count->stage.name.seen++;                  \
		verdict = stage_##name(&at, p);               \
		if (verdict == DONE) {                        \
			at.count->stage.name.done++;          \
			done = 1;                             \
		} else if (verdict != NEXT) {                 \
			at.count->stage.name.verdict++;       \
			return verdict;                       \
		}                                             \
	}
	STAGES(X)
#undef X
	return NEXT;
}

/* With what `stages` says. */
SEC("tc")
int pipeline(struct __sk_buff *skb)
{
	return pipe(skb, stages);
}

/* With what there is at first, if nobody asks for more: `stages` has to say the same. */
SEC("?tc")
int pipeline_first(struct __sk_buff *skb)
{
	return pipe(skb, PARTS_FIRST);
}

/*
 * A burst stays open until its clock does something else, which may be never. Whoever
 * reads the events ends old ones, by running this for the clocks that have one (it sees
 * them in the mapped `clocks`). With nobody reading there is nobody to tell.
 */
SEC("syscall")
int event_end(struct event_call *call)
{
	struct clock *c = clock_get(call->clock);
	struct begin b = {};
	struct event *e;

	if (!c || !run_packets(READ_ONCE(c->run)))
		return 0;
	e = event_reserve();
	if (!e)
		return 0; /* still open, ended later: nothing is lost */
	b.generation = __sync_fetch_and_add(&c->generation, 1);
	b.ended = __sync_lock_test_and_set(&c->run, run_make(b.generation, 0, 0));
	__builtin_memset(e, 0, sizeof(*e));
	e->clock = call->clock;
	e->node = c->node;
	e->ended = b.ended;
	event_submit(e);
	return 0;
}

static long burst_end(void *map, const struct flow_key *key, struct burst *open,
		      struct bursts_call *call)
{
	struct event *e;

	if (!run_packets(READ_ONCE(open->run)) || READ_ONCE(open->opened_ns) >= call->before_ns)
		return 0;
	e = event_reserve();
	if (!e)
		return 1; /* still open, ended later: nothing is lost */
	__builtin_memset(e, 0, sizeof(*e));
	e->clock = open->clock;
	e->node = key->node;
	e->ended = __sync_lock_test_and_set(&open->run, 0);
	event_submit(e);
	return 0;
}

/* The same where bursts are per flow. */
SEC("syscall")
int bursts_end(struct bursts_call *call)
{
	struct bursts_call copy = { .before_ns = READ_ONCE(call->before_ns) };

	bpf_for_each_map_elem(&bursts, burst_end, &copy, 0);
	return 0;
}

/* The unit of struct flow.last, which userspace can not read otherwise. */
SEC("syscall")
int flow_tick(void *call)
{
	return flow_now();
}

/* A node appears or goes: an event of its clock like any other. */
SEC("syscall")
int event_node(struct event_call *call)
{
	struct clock *c = clock_get(call->clock);
	struct settings *s = settings_get();
	struct begin b = {};
	struct event *e;

	if (!c || !s)
		return 0;
	b.wall_ns = bpf_ktime_get_boot_ns() + s->realtime_offset_ns + c->skew_ns;
	if (!s->reading) {
		clock_begin(c, &b);
		return 0;
	}
	e = event_reserve();
	if (!e) {
		event_lose(c);
		b.keep = 1;
		clock_begin(c, &b);
		return 0;
	}
	clock_begin(c, &b);
	__builtin_memset(e, 0, sizeof(*e));
	e->stamp = b.stamp;
	e->wall_ns = b.wall_ns;
	e->ended = b.ended;
	e->type = call->type;
	e->clock = call->clock;
	e->node = call->node;
	e->packets = 1;
	event_submit(e);
	return 0;
}

/*
 * What is said of one flow changes one flow: it is told by its key, and the others need
 * not ask again.
 */
SEC("syscall")
int mark_touch(struct mark_call *call)
{
	struct flow_key key;
	__u32 *words = (__u32 *)&key;

	/* One by one: of a context the verifier allows no other reads. */
#pragma unroll
	for (__u32 i = 0; i < sizeof(key) / 4; i++)
		words[i] = READ_ONCE(call->key[i]);
	if (READ_ONCE(call->told)) {
		flow_told(&key);
		return 0;
	}
	if (key.proto) {
		mark_touch_flows(&key);
		return 0;
	}
	key.proto = IPPROTO_TCP;
	mark_touch_flows(&key);
	key.proto = IPPROTO_UDP;
	mark_touch_flows(&key);
	return 0;
}
