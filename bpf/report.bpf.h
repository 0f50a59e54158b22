/* SPDX-License-Identifier: GPL-2.0-only */
/* The way out for reports, and what sockets tell by themselves: start, period, end. */
#ifndef TIDEMARK_REPORT_BPF_H
#define TIDEMARK_REPORT_BPF_H

#include "flow.bpf.h"
#include "mark.h"
#include "owner.bpf.h"
#include "report.h"

/* One ring for all CPUs: the end of a connection must not overtake its start. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1);
} reports __attribute__((weak)) SEC(".maps");

/* No helper of ours reserves: kernels before 6.2 lose track of a record that is tested twice. */
static __always_inline void report_begin(struct report *r, const struct settings *s)
{
	struct counters *count = counters_of(DIR_OUT);

	if (count)
		count->reason.report++;
	__builtin_memset(r, 0, sizeof(*r));
	r->wall_ns = bpf_ktime_get_boot_ns() + s->realtime_offset_ns;
}

static __always_inline void report_lose(void)
{
	struct counters *count = counters_of(DIR_OUT);

	if (count)
		count->reason.report_lost++;
}

static __always_inline void report_flow(struct report *r, const struct flow *f)
{
	r->has |= REPORT_FLOW;
	r->mark = f->mark;
	r->first_ns = f->first_ns;
	for (int dir = 0; dir < DIRS_NR; dir++) {
		r->bytes[dir] = f->dir[dir].bytes;
		r->packets[dir] = f->dir[dir].packets;
		r->tcp_flags[dir] = f->dir[dir].tcp_flags;
	}
	r->cgroup = f->cgroup;
	r->pid = f->pid;
	r->uid = f->uid;
	r->opener = f->opener;
	__builtin_memcpy(r->comm, f->comm, sizeof(r->comm));
}

/*
 * A flow has just got its mark. For the mark stage, where it asks the rules: so flows
 * without a socket here (UDP, forwarded), and those that live for milliseconds, are told
 * of as surely as any.
 */
__checked int report_marked(struct pkt *p, struct flow *f)
{
	struct settings *s = settings_get();
	struct report *r;

	if (!p || !f || !s || !s->reports)
		return 0;
	if (!(f->mark & MARK_MARKED))
		return 0;
	r = bpf_ringbuf_reserve(&reports, sizeof(*r), 0);
	if (!r) {
		report_lose();
		return 0;
	}
	f->notes |= FLOW_TOLD;
	report_begin(r, s);
	r->type = REPORT_start;
	r->key = p->key;
	report_flow(r, f);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

#endif
