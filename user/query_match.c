// SPDX-License-Identifier: GPL-2.0-only
/* Messages in packets: which sending and which receiving are of one.
 *
 * What is claimed is certain, or nothing is: a byte of TCP was received after it was sent for the
 * first time, whatever was sent again; of datagrams that are all alike the n-th that comes was not
 * sent before the n-th that went.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "query_match.h"

struct matching {
	const struct names *nodes;
	struct match_edges *edges;
	struct match_end *ends; /* of one key: sent ones first, by node, stamp, time */
	__u32 n, room;
	__s64 *reach; /* of TCP: how far the sequence is after this one, from its connection's start */
	__u32 reach_room;
	bool alone; /* one node sent, and one received */
};

static int end_compare(const void *a, const void *b)
{
	const struct match_end *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	if (x->out != y->out)
		return x->out ? -1 : 1;
	if (x->node != y->node)
		return x->node < y->node ? -1 : 1;
	if (x->stamp != y->stamp)
		return x->stamp < y->stamp ? -1 : 1;
	return (x->wall_ns > y->wall_ns) - (x->wall_ns < y->wall_ns);
}

struct sorter *match_sorter(size_t budget)
{
	return sorter_new(sizeof(struct match_end), end_compare, budget);
}

static bool one_host(const struct names *nodes, __u32 a, __u32 b)
{
	const char *x = names_get(nodes, a), *y = names_get(nodes, b);
	size_t n = strcspn(x, "/");

	return n == strcspn(y, "/") && !memcmp(x, y, n);
}

static int edge_add(struct matching *m, const struct match_end *out, const struct match_end *in)
{
	/* No event is made of a SYN that comes: it has its node's latest stamp. After it is what has
	 * a greater one; the latest itself may be the connecting that it answers.
	 */
	struct match_edge edge = { out->stamp, in->stamp + in->syn, out->node, in->node };
	struct match_edges *e = m->edges;

	/* Nodes of one host always know of each other's stamps, so this was not the sender. Of a SYN
	 * that says nothing; but if only one sent it and one received, it was.
	 */
	if (out->stamp >= edge.in_stamp && !(in->syn && m->alone) &&
	    one_host(m->nodes, out->node, in->node))
		return 0;
	if (e->n && !memcmp(&e->at[e->n - 1], &edge, sizeof(edge))) /* of one burst */
		return 0;
	if (array_grow((void **)&e->at, &e->room, e->n + 1, sizeof(edge)))
		return -ENOMEM;
	e->at[e->n++] = edge;
	return 0;
}

/* A run: what one node sent, or received, of one connection. The same ports may serve another. */
struct run {
	__u32 from, to;
	bool has_syn;
	__u32 isn; /* or the first sequence number there is */
};

static struct run run_at(struct matching *m, __u32 from, __u32 to)
{
	struct run run = { .from = from, .isn = m->ends[from].seq, .has_syn = m->ends[from].syn };
	__s64 top = 0, at = 0;
	__u32 last = run.isn;

	for (run.to = from; run.to < to; run.to++) {
		const struct match_end *e = &m->ends[run.to];

		if (run.to > from && e->syn && !(run.has_syn && e->seq == run.isn))
			break;
		at += (__s32)(e->seq - last);
		last = e->seq;
		top = at + e->len > top ? at + e->len : top;
		m->reach[run.to] = top;
	}
	return run;
}

/* The sending that first got the sequence this far, if it has the byte before. */
static int tcp_find(struct matching *m, const struct run *outs, const struct match_end *in,
		    __s64 last)
{
	__u32 from = outs->from, to = outs->to;

	while (from < to) {
		__u32 middle = from + (to - from) / 2;

		if (m->reach[middle] < last)
			from = middle + 1;
		else
			to = middle;
	}
	if (from == outs->to || in->seq + in->len - 1 - m->ends[from].seq >= m->ends[from].len)
		return 0; /* not recorded */
	return edge_add(m, &m->ends[from], in);
}

static int runs_match(struct matching *m, const struct run *outs, const struct run *ins)
{
	__s64 at = (__s32)(ins->isn - outs->isn);
	__u32 last = ins->isn;
	int err = 0;

	if (outs->has_syn && ins->has_syn && outs->isn != ins->isn)
		return 0;
	for (__u32 i = ins->from; i < ins->to && !err; i++) {
		const struct match_end *in = &m->ends[i];

		at += (__s32)(in->seq - last);
		last = in->seq;
		err = tcp_find(m, outs, in, at + in->len);
	}
	return err;
}

/* What one node sent of a direction and what another received. */
static int tcp_match(struct matching *m, __u32 out, __u32 out_end, __u32 in, __u32 in_end)
{
	int err = 0;

	for (__u32 o = out; o < out_end && !err;) {
		struct run outs = run_at(m, o, out_end);

		for (__u32 i = in; i < in_end && !err;) {
			struct run ins = run_at(m, i, in_end);

			err = runs_match(m, &outs, &ins);
			i = ins.to;
		}
		o = outs.to;
	}
	return err;
}

static __u32 stretch_end(const struct matching *m, __u32 from)
{
	__u32 to = from;

	while (to < m->n && m->ends[to].out == m->ends[from].out &&
	       m->ends[to].node == m->ends[from].node)
		to++;
	return to;
}

static int stretches_match(struct matching *m, __u32 out, __u32 out_end, __u32 in, __u32 in_end)
{
	int err = 0;

	if (m->ends[out].node == m->ends[in].node)
		return 0;
	if (m->ends[out].tcp)
		return tcp_match(m, out, out_end, in, in_end);
	for (; out < out_end && in < in_end && !err; out++, in++)
		err = edge_add(m, &m->ends[out], &m->ends[in]);
	return err;
}

static int key_match(struct matching *m)
{
	int err = 0;

	if (array_grow((void **)&m->reach, &m->reach_room, m->n, sizeof(*m->reach)))
		return -ENOMEM;
	m->alone = stretch_end(m, stretch_end(m, 0)) == m->n;
	for (__u32 out = 0, out_end; out < m->n && m->ends[out].out && !err; out = out_end) {
		out_end = stretch_end(m, out);
		for (__u32 in = out_end, in_end; in < m->n && !err; in = in_end) {
			in_end = stretch_end(m, in);
			if (!m->ends[in].out)
				err = stretches_match(m, out, out_end, in, in_end);
		}
	}
	return err;
}

int match_ends(struct sorter *sorter, const struct names *nodes, struct match_edges *edges)
{
	struct matching m = { .nodes = nodes, .edges = edges };
	struct sorter_cursor cursor = {};
	const struct match_end *end;
	int err = sorter_sort(sorter);

	if (!err)
		err = sorter_cursor_open(&cursor, sorter, 0, 4096);
	while (!err) {
		end = sorter_cursor_next(&cursor, &err);
		if (m.n && (!end || end->key != m.ends[0].key)) {
			err = err ? err : key_match(&m);
			m.n = 0;
		}
		if (!end || err)
			break;
		err = array_grow((void **)&m.ends, &m.room, m.n + 1, sizeof(*m.ends));
		if (!err)
			m.ends[m.n++] = *end;
	}
	sorter_cursor_close(&cursor);
	free(m.ends);
	free(m.reach);
	return err;
}
