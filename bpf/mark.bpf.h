/* SPDX-License-Identifier: GPL-2.0-only */
/* Stage mark: the flow's experiment and activity, written into what the node sends. */
#ifndef TIDEMARK_MARK_BPF_H
#define TIDEMARK_MARK_BPF_H

#include "option.bpf.h"
#include "rule.bpf.h"

/*
 * The 20 bits, and nothing beside them: the traffic class shares the word. Written in
 * place, for which the kernel makes a cloned packet's headers writable before the program
 * starts (18 ns, of TCP's own packets only); a helper would cost every marked one 27.
 */
static __always_inline void label_write(struct pass *at, const struct pkt *p, __u32 mark)
{
	struct ipv6hdr *ip = ipv6_at(at->skb, p->l3, 0);

	if (!ip)
		return;
	ip->flow = (ip->flow & bpf_htonl(~MARK_LABEL_MASK)) | bpf_htonl(mark & MARK_LABEL_MASK);
	at->count->reason.mark_label++;
}

static __always_inline int mark_write(struct pass *at, struct pkt *p, __u32 mark)
{
	if (!p->v6) {
		at->count->reason.mark_ipv4++;
		return NEXT;
	}
	if (mark_how(mark) != MARK_LABEL)
		return mark_option(at->skb, p, mark);
	label_write(at, p, mark);
	return NEXT;
}

/* Does this packet matter here? All that is sent; of what is received, a flow's ends. */
static __always_inline int mark_minds(const struct pkt *p, __u32 flags)
{
	if (p->dir == DIR_OUT)
		return 1;
	if (p->tcp_flags & (TCP_FIN | TCP_RST))
		return 1;
	return p->tcp_flags & TCP_SYN && flags & MARKS_HEADERS;
}

/*
 * A flow carries its mark with it. It is asked for when the flow begins, when the rules
 * have changed and after a silence; for every other packet one comparison settles it.
 */
static __always_inline int stage_mark(struct pass *at, struct pkt *p)
{
	const struct settings *s = settings_get();
	struct flow *f = at->flow;
	__u32 mark, generation;

	if (!s || !f)
		return NEXT;
	generation = s->marks_generation;
	if (!generation)
		return NEXT;
	if (p->dir == DIR_IN && p->key.proto == IPPROTO_ICMPV6 && s->marks_flags & MARKS_HEADERS)
		mark_too_big(at->skb, p);
	if (!mark_minds(p, s->marks_flags))
		return NEXT;
	mark = f->mark;
	if ((mark >> MARK_GENERATION_SHIFT & MARK_GENERATION_MAX) !=
		    mark_tag(generation, mark, f->last) ||
	    p->idle >= MARK_FRESH_TICKS) {
		mark_ask_aloud(at, p);
		mark = f->mark;
	}
	if (!(mark & MARK_MARKED))
		return NEXT;
	if (f->state >= FLOW_CLOSED && p->tcp_flags & (TCP_FIN | TCP_RST))
		mark_end(p, f);
	if (s->marks_flags & MARKS_UNWRITTEN)
		return NEXT;
	if (p->dir == DIR_OUT)
		return mark_write(at, p, mark);
	if (p->tcp_flags & TCP_SYN && p->v6 && mark_how(mark) != MARK_LABEL)
		mark_mss(at->skb, p, mark);
	return NEXT;
}

#endif
