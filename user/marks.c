// SPDX-License-Identifier: GPL-2.0-only
/* Marks of an open datapath: single flows and rules, in the kernel's maps. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>

#include "marks.h"
#include "node.h"
#include "pipeline.h"

const char *const mark_hows[MARK_HOWS_NR] = {
	[MARK_LABEL] = "label",
	[MARK_HOP_BY_HOP] = "hop-by-hop",
	[MARK_DESTINATION] = "destination",
	[MARK_BOTH] = "hop-by-hop+destination",
};

/* ---- to the kernel's form and back -------------------------------------------------- */

static __u64 boot_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

static bool mark_is_single(const struct mark *m)
{
	return endpoint_is_exact(&m->src) && endpoint_is_exact(&m->dst) && !m->by_uid &&
	       !*m->comm && !m->cgroup && !m->exclude && !m->ids_n;
}

static __u32 given_of(const struct mark *m)
{
	return mark_label(m->experiment, m->activity, 0) | (__u32)m->how << MARK_HOW_SHIFT |
	       (m->for_ns ? MARK_TIMED : 0) | (m->inherit ? MARK_INHERIT : 0);
}

/* false: its time is over */
static bool given_read(struct mark *m, __u32 given, __u64 until_ns)
{
	__u64 now = boot_ns();

	m->experiment = mark_experiment(given);
	m->activity = mark_activity(given);
	m->how = mark_how(given);
	m->inherit = given & MARK_INHERIT;
	m->for_ns = until_ns > now ? until_ns - now : 0;
	return !until_ns || until_ns > now;
}

static void mask_of(const struct endpoint *e, __u64 address[2], __u64 mask[2])
{
	__u8 bytes[16] = {};

	for (unsigned i = 0; e->addressed && i < e->bits; i++)
		bytes[i / 8] |= 0x80 >> i % 8;
	memcpy(mask, bytes, sizeof(bytes));
	memset(address, 0, sizeof(bytes));
	if (e->addressed)
		memcpy(address, e->address, sizeof(bytes));
}

static void endpoint_read(struct endpoint *e, const __u64 address[2], const __u64 mask[2],
			  __u16 low, __u16 high)
{
	memset(e, 0, sizeof(*e));
	memcpy(e->address, address, sizeof(e->address));
	e->bits = __builtin_popcountll(mask[0]) + __builtin_popcountll(mask[1]);
	e->addressed = e->bits;
	if (low || high != 65535) {
		e->ported = true;
		e->low = low;
		e->high = high;
	}
}

static void rule_of(struct rule *r, const struct mark *m, const struct tidemark *t)
{
	memset(r, 0, sizeof(*r));
	mask_of(&m->src, r->src, r->src_mask);
	mask_of(&m->dst, r->dst, r->dst_mask);
	r->src_low = m->src.low;
	r->src_high = m->src.ported ? m->src.high : 65535;
	r->dst_low = m->dst.low;
	r->dst_high = m->dst.ported ? m->dst.high : 65535;
	r->given = given_of(m);
	r->id = m->id;
	r->until_ns = m->for_ns ? boot_ns() + m->for_ns : 0;
	r->cgroup = m->cgroup;
	r->cgroup_level = m->cgroup_level;
	r->flows = m->flows;
	r->uid = m->uid;
	r->proto = m->proto;
	r->flags = (m->by_uid ? RULE_UID : 0) | (*m->comm ? RULE_COMM : 0) |
		   (m->exclude ? RULE_EXCLUDE : 0) | (m->at_random ? RULE_RANDOM : 0) |
		   (m->configured ? RULE_CONFIGURED : 0);
	r->ids_n = m->ids_n;
	memcpy(r->ids, m->ids, sizeof(r->ids));
	memcpy(r->comm, m->comm, sizeof(r->comm));
	memcpy(r->node_name, m->node, sizeof(r->node_name));
	if (*m->node && node_by_name(t, m->node, NULL, &r->node))
		r->node = RULE_NODE_NONE;
}

static bool rule_read(struct mark *m, const struct rule *r)
{
	memset(m, 0, sizeof(*m));
	endpoint_read(&m->src, r->src, r->src_mask, r->src_low, r->src_high);
	endpoint_read(&m->dst, r->dst, r->dst_mask, r->dst_low, r->dst_high);
	m->id = r->id;
	m->cgroup = r->cgroup;
	m->cgroup_level = r->cgroup_level;
	m->flows = r->flows;
	m->uid = r->uid;
	m->proto = r->proto;
	m->by_uid = r->flags & RULE_UID;
	m->exclude = r->flags & RULE_EXCLUDE;
	m->at_random = r->flags & RULE_RANDOM;
	m->configured = r->flags & RULE_CONFIGURED;
	m->ids_n = r->ids_n;
	memcpy(m->ids, r->ids, sizeof(m->ids));
	memcpy(m->comm, r->comm, sizeof(m->comm));
	memcpy(m->node, r->node_name, sizeof(m->node));
	m->node[sizeof(m->node) - 1] = m->comm[sizeof(m->comm) - 1] = 0;
	return given_read(m, r->given, r->until_ns);
}

static int key_of(struct flow_key *key, const struct mark *m, const struct tidemark *t)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->local, m->src.address, sizeof(key->local));
	memcpy(key->remote, m->dst.address, sizeof(key->remote));
	key->local_port = m->src.low;
	key->remote_port = m->dst.low;
	key->proto = m->proto;
	if (*m->node && node_by_name(t, m->node, NULL, &key->node))
		return -ENODEV;
	return 0;
}

static bool entry_read(const struct tidemark *t, struct mark *m, const struct flow_key *key,
		       const struct mark_entry *e)
{
	struct node node;

	memset(m, 0, sizeof(*m));
	memcpy(m->src.address, key->local, sizeof(key->local));
	memcpy(m->dst.address, key->remote, sizeof(key->remote));
	m->src.bits = m->dst.bits = 128;
	m->src.addressed = m->dst.addressed = m->src.ported = m->dst.ported = true;
	m->src.low = m->src.high = key->local_port;
	m->dst.low = m->dst.high = key->remote_port;
	m->proto = key->proto;
	m->id = e->id;
	m->flows = e->flow_ns != 0;
	if (key->node && !node_get(t, key->node, &node))
		memcpy(m->node, node.name, sizeof(m->node));
	else if (key->node)
		snprintf(m->node, sizeof(m->node), "node-%u", key->node);
	return given_read(m, e->given, e->until_ns);
}

bool mark_same(const struct mark *a, const struct mark *b)
{
	return endpoint_same(&a->src, &b->src) && endpoint_same(&a->dst, &b->dst) &&
	       a->proto == b->proto && !strcmp(a->node, b->node) && a->by_uid == b->by_uid &&
	       (!a->by_uid || a->uid == b->uid) && !strcmp(a->comm, b->comm) &&
	       a->cgroup == b->cgroup;
}

/* ---- rules -------------------------------------------------------------------------- */

struct rules {
	struct rule at[RULES_MAX];
	unsigned n;
};

static int rules_map(const struct tidemark *t, bool spare)
{
	return t->map[spare ? MAP_rules_spare : MAP_rules];
}

static void rules_load(const struct tidemark *t, struct rules *rules)
{
	__u32 in_force = t->settings->marks_rules;
	int map = rules_map(t, in_force >> 16);

	rules->n = in_force & 0xffff;
	for (__u32 i = 0; i < rules->n; i++)
		if (bpf_map_lookup_elem(map, &i, &rules->at[i]))
			rules->n = i;
}

static unsigned rule_bits(const struct rule *r)
{
	return __builtin_popcountll(r->src_mask[0]) + __builtin_popcountll(r->src_mask[1]) +
	       __builtin_popcountll(r->dst_mask[0]) + __builtin_popcountll(r->dst_mask[1]);
}

static unsigned rule_ports(const struct rule *r)
{
	return r->src_high - r->src_low + r->dst_high - r->dst_low;
}

#define BY(expression)                   \
	do {                             \
		long order = expression; \
		if (order)               \
			return order;    \
	} while (0)

/* Exclusions, then the most specific; among equals, the older. */
static int rule_compare(const void *left, const void *right)
{
	const struct rule *a = left, *b = right;

	BY(!(a->flags & RULE_EXCLUDE) - !(b->flags & RULE_EXCLUDE));
	BY((long)rule_bits(b) - rule_bits(a));
	BY((long)rule_ports(a) - rule_ports(b));
	BY(!a->proto - !b->proto);
	BY(!a->node - !b->node);
	BY(!a->cgroup - !b->cgroup);
	BY(b->cgroup_level - a->cgroup_level);
	BY(!(a->flags & RULE_UID) - !(b->flags & RULE_UID));
	BY(!(a->flags & RULE_COMM) - !(b->flags & RULE_COMM));
	return a->id < b->id ? -1 : a->id > b->id;
}

/* Every flow is asked again with its next packet. */
static void generation_next(struct tidemark *t)
{
	__u32 generation = t->settings->marks_generation;

	t->settings->marks_generation = generation % MARK_GENERATION_MAX + 1;
}

static __u32 rules_flags(const struct rules *rules)
{
	__u32 flags = 0;

	for (unsigned i = 0; i < rules->n; i++) {
		const struct rule *r = &rules->at[i];

		if (mark_how(r->given) != MARK_LABEL)
			flags |= MARKS_HEADERS;
		if (r->flags & RULE_OWNER || r->cgroup)
			flags |= MARKS_OWNERS;
		if (r->cgroup)
			flags |= MARKS_CGROUPS;
		if (r->given & MARK_INHERIT)
			flags |= MARKS_INHERIT;
	}
	return flags;
}

/* Into the bank that is not in force; then one word puts it in force, whole. */
static int rules_store(struct tidemark *t, struct rules *rules)
{
	struct settings *s = t->settings;
	bool spare = !(s->marks_rules >> 16);
	int map = rules_map(t, spare);

	qsort(rules->at, rules->n, sizeof(rules->at[0]), rule_compare);
	for (__u32 i = 0; i < rules->n; i++)
		if (bpf_map_update_elem(map, &i, &rules->at[i], BPF_ANY))
			return -errno;
	/* What single flows need stays: nobody counts them. */
	__atomic_store_n(&s->marks_flags,
			 rules_flags(rules) | (s->marks_flags &
					       (MARKS_HEADERS | MARKS_INHERIT | MARKS_UNWRITTEN)),
			 __ATOMIC_SEQ_CST);
	__atomic_store_n(&s->marks_rules, (spare ? 1U << 16 : 0) | rules->n, __ATOMIC_SEQ_CST);
	generation_next(t);
	return 0;
}

static void rules_expire(struct rules *rules)
{
	__u64 now = boot_ns();
	unsigned kept = 0;

	for (unsigned i = 0; i < rules->n; i++)
		if (!rules->at[i].until_ns || rules->at[i].until_ns > now)
			rules->at[kept++] = rules->at[i];
	rules->n = kept;
}

static int rules_put(struct rules *rules, struct tidemark *t, struct mark *m)
{
	struct mark old;

	for (unsigned i = 0; i < rules->n; i++) {
		rule_read(&old, &rules->at[i]);
		if (!mark_same(&old, m))
			continue;
		m->id = rules->at[i].id;
		rule_of(&rules->at[i], m, t);
		return 0;
	}
	if (rules->n == RULES_MAX)
		return -ENOSPC;
	m->id = ++t->settings->marks_next_id;
	rule_of(&rules->at[rules->n++], m, t);
	return 0;
}

/* ---- single flows ------------------------------------------------------------------- */

static int flow_touch(const struct tidemark *t, const struct flow_key *key)
{
	struct mark_call call = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));

	memcpy(call.key, key, sizeof(call.key));
	return bpf_prog_test_run_opts(t->mark_touch, &opts);
}

/* Entries whose time is over make room. */
static void entries_expire(const struct tidemark *t)
{
	int map = t->map[MAP_marks];
	struct flow_key key, next;
	struct mark_entry e;
	__u64 now = boot_ns();
	int err = bpf_map_get_next_key(map, NULL, &key);

	for (; !err; key = next) {
		err = bpf_map_get_next_key(map, &key, &next);
		if (!bpf_map_lookup_elem(map, &key, &e) && e.until_ns && e.until_ns <= now)
			bpf_map_delete_elem(map, &key);
	}
}

struct undo {
	struct flow_key key;
	struct mark_entry old;
	bool replaced;
};

static int entry_put(struct tidemark *t, struct mark *m, struct undo *undo)
{
	struct mark_entry e = { .given = given_of(m) };
	int map = t->map[MAP_marks], err = key_of(&undo->key, m, t);

	if (err)
		return err;
	undo->replaced = !bpf_map_lookup_elem(map, &undo->key, &undo->old);
	m->id = undo->replaced ? undo->old.id : ++t->settings->marks_next_id;
	e.id = m->id;
	e.until_ns = m->for_ns ? boot_ns() + m->for_ns : 0;
	if (m->how != MARK_LABEL)
		t->settings->marks_flags |= MARKS_HEADERS;
	if (m->inherit)
		t->settings->marks_flags |= MARKS_INHERIT;
	if (!bpf_map_update_elem(map, &undo->key, &e, BPF_ANY))
		return 0;
	err = -errno;
	if (err != -E2BIG)
		return err;
	entries_expire(t);
	if (!bpf_map_update_elem(map, &undo->key, &e, BPF_ANY))
		return 0;
	return errno == E2BIG ? -ENOSPC : -errno;
}

static void entries_undo(struct tidemark *t, const struct undo *undo, size_t n)
{
	for (size_t i = n; i-- > 0;) {
		if (undo[i].replaced)
			bpf_map_update_elem(t->map[MAP_marks], &undo[i].key, &undo[i].old, BPF_ANY);
		else
			bpf_map_delete_elem(t->map[MAP_marks], &undo[i].key);
	}
}

/* ---- both --------------------------------------------------------------------------- */

static int marks_put(struct tidemark *t, struct mark *marks, size_t n, size_t *bad,
		     struct rules *rules, struct undo *undo)
{
	size_t singles = 0;
	bool ruled = false;
	int err = pipeline_need(t, STAGES_LIVE_mark);

	if (err)
		return err;
	rules_load(t, rules);
	rules_expire(rules);
	for (size_t i = 0; i < n && !err; i++) {
		*bad = i;
		if (mark_is_single(&marks[i])) {
			err = entry_put(t, &marks[i], &undo[singles]);
			singles += !err;
		} else {
			err = rules_put(rules, t, &marks[i]);
			ruled = true;
		}
	}
	if (!err && ruled)
		err = rules_store(t, rules);
	if (err) {
		entries_undo(t, undo, singles);
		return err;
	}
	if (!t->settings->marks_generation)
		generation_next(t);
	for (size_t i = 0; i < singles && !err; i++)
		err = flow_touch(t, &undo[i].key);
	return err;
}

int marks_add(struct tidemark *t, struct mark *marks, size_t n, size_t *bad)
{
	struct rules *rules = calloc(1, sizeof(*rules));
	struct undo *undo = calloc(n ? n : 1, sizeof(*undo));
	int err = -ENOMEM;

	*bad = 0;
	if (rules && undo)
		err = marks_put(t, marks, n, bad, rules, undo);
	free(rules);
	free(undo);
	return err;
}

int marks_each(const struct tidemark *t, mark_fn fn, void *ctx)
{
	struct rules *rules = calloc(1, sizeof(*rules));
	int map = t->map[MAP_marks], ret = 0, err;
	struct flow_key key, next;
	struct mark_entry e;
	struct mark m;

	if (!rules)
		return -ENOMEM;
	err = bpf_map_get_next_key(map, NULL, &key);
	for (; !err && !ret; key = next) {
		err = bpf_map_get_next_key(map, &key, &next);
		if (!bpf_map_lookup_elem(map, &key, &e) && entry_read(t, &m, &key, &e))
			ret = fn(&m, ctx);
	}
	rules_load(t, rules);
	for (unsigned i = 0; i < rules->n && !ret; i++)
		if (rule_read(&m, &rules->at[i]))
			ret = fn(&m, ctx);
	free(rules);
	return ret;
}

static int entries_remove(struct tidemark *t, mark_choice fn, void *ctx)
{
	int map = t->map[MAP_marks], removed = 0, err;
	struct flow_key key, next;
	struct mark_entry e;
	struct mark m;

	err = bpf_map_get_next_key(map, NULL, &key);
	for (; !err; key = next) {
		err = bpf_map_get_next_key(map, &key, &next);
		if (bpf_map_lookup_elem(map, &key, &e))
			continue;
		if (!entry_read(t, &m, &key, &e) || !fn(&m, ctx))
			continue;
		if (!bpf_map_delete_elem(map, &key)) {
			flow_touch(t, &key);
			removed++;
		}
	}
	return removed;
}

int marks_remove(struct tidemark *t, mark_choice fn, void *ctx)
{
	struct rules *rules = calloc(1, sizeof(*rules));
	int removed = 0, err = 0;
	unsigned kept = 0;
	struct mark m;

	if (!rules)
		return -ENOMEM;
	rules_load(t, rules);
	rules_expire(rules);
	for (unsigned i = 0; i < rules->n; i++) {
		rule_read(&m, &rules->at[i]);
		if (fn(&m, ctx))
			removed++;
		else
			rules->at[kept++] = rules->at[i];
	}
	rules->n = kept;
	if (removed)
		err = rules_store(t, rules);
	free(rules);
	return err ? err : removed + entries_remove(t, fn, ctx);
}

void marks_node_new(struct tidemark *t, const char *name, __u32 id)
{
	struct rules *rules = calloc(1, sizeof(*rules));
	bool named = false, alone = t->lock < 0;

	if (!rules)
		return;
	if (!(t->settings->marks_rules & 0xffff) || (alone && tidemark_lock(t))) {
		free(rules);
		return;
	}
	rules_load(t, rules);
	for (unsigned i = 0; i < rules->n; i++) {
		if (strcmp(rules->at[i].node_name, name))
			continue;
		rules->at[i].node = id;
		named = true;
	}
	if (named)
		rules_store(t, rules);
	if (alone)
		tidemark_unlock(t);
	free(rules);
}

int marks_forget(struct tidemark *t, const struct flow_key *key)
{
	if (bpf_map_delete_elem(t->map[MAP_marks], key))
		return -errno;
	return flow_touch(t, key);
}
