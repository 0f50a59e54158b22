// SPDX-License-Identifier: GPL-2.0-only
/* `past of` and `future of`: which packets an event can have been caused by, or have caused.
 *
 * A node's packets are in the order of their stamps, and a message's sending is before its
 * receiving. So of each node it is enough to know how far the past reaches, or where the future
 * begins: one stamp, its cut. Every message is found at both ends once, by what survives on the
 * wire; then cuts are moved along the messages until none moves.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <xxhash.h>

#include "log.h"
#include "names.h"
#include "query.h"
#include "query_match.h"

#define MEMORY (256ULL << 20) /* of messages; more are sorted on disk */
#define CANDIDATES 10
#define CONTENT 64 /* bytes of a datagram that tell it from others */
#define TCP_FIN 1
#define TCP_SYN 2

struct query_past {
	struct query *q;
	bool future;
	__u64 stamp;
	const char *wanted; /* node, or "" */
	__u64 seed;
	struct names nodes; /* "host/node" */
	struct sorter *ends;
	struct match_edges edges;
	__u64 *cuts; /* by node; past: up to it, 0 nothing; future: from it on, ~0 nothing */
	bool *has;   /* the stamp, by node */
	__u32 nodes_room;
	struct dissector dissector;

	/* the last packet's */
	const struct segment *segment;
	__u32 id;
	__s64 node;
};

/* ---- nodes ------------------------------------------------------------------------------------ */

static __s64 node_number(struct query_past *p, const struct segment *s, const struct track *t)
{
	const struct catalog_device *d;
	char name[2 * CATALOG_NAME_MAX + 16];
	__u32 room = p->nodes_room, known = p->nodes.n;
	int len;

	if (p->segment == s && p->id == t->flow.node)
		return p->node;
	d = segment_device(s, t);
	if (d)
		len = snprintf(name, sizeof(name), "%s/%s", segment_about(s)->host, d->node_name);
	else
		len = snprintf(name, sizeof(name), "%s/%u", segment_about(s)->host, t->flow.node);
	p->segment = s;
	p->id = t->flow.node;
	p->node = names_id(&p->nodes, name, (size_t)len);
	if (p->node < 0)
		return p->node;
	if (array_grow((void **)&p->has, &room, p->nodes.n, sizeof(*p->has)) ||
	    array_grow((void **)&p->cuts, &p->nodes_room, p->nodes.n, sizeof(*p->cuts)))
		return -ENOMEM;
	if (p->nodes.n > known) {
		p->has[p->node] = false;
		p->cuts[p->node] = p->future ? ~0ULL : 0;
	}
	return p->node;
}

static bool node_is(const char *whole, const char *wanted)
{
	const char *tail = strchr(whole, '/');

	return !strcmp(whole, wanted) || (tail && !strcmp(tail + 1, wanted));
}

/* ---- messages --------------------------------------------------------------------------------- */

/* From whom to whom, the same at both ends. */
static __u64 direction_key(const struct query_past *p, const struct flow_key *f, bool forward)
{
	unsigned char text[37] = { [36] = f->proto };

	memcpy(text, forward ? f->local : f->remote, 16);
	memcpy(text + 16, forward ? f->remote : f->local, 16);
	memcpy(text + 32, forward ? &f->local_port : &f->remote_port, 2);
	memcpy(text + 34, forward ? &f->remote_port : &f->local_port, 2);
	return XXH3_64bits_withSeed(text, sizeof(text), p->seed);
}

/* What a packet says as a message; false: it is none. Acknowledgements only are not. */
static bool message_read(struct query_past *p, const struct pcapng_packet *packet, __u32 flags,
			 const struct track *t, struct match_end *end)
{
	bool forward = flags & PACKET_FORWARD;
	struct track read = { .flow.node = t->flow.node };
	struct dissected more;
	__u32 held, length;

	if (t->flow.proto != IPPROTO_TCP && t->flow.proto != IPPROTO_UDP)
		return false;
	dissect(&p->dissector, packet->frame, packet->kept, packet->wire, flags, &read, &more);
	if (more.is_fragment)
		return false;
	end->key = direction_key(p, &t->flow, forward);
	end->tcp = t->flow.proto == IPPROTO_TCP;
	if (end->tcp) {
		end->syn = !!(more.tcp_flags & TCP_SYN);
		end->seq = more.seq;
		end->len = more.payload + !!(more.tcp_flags & (TCP_SYN | TCP_FIN));
		return end->len;
	}
	if (more.payload_at < 8 || more.payload_at > packet->kept)
		return false;
	/* The header's length, for behind it there may be a stamp of ours. */
	length =
		(__u32)packet->frame[more.payload_at - 4] << 8 | packet->frame[more.payload_at - 3];
	length = length > 8 ? length - 8 : 0;
	held = packet->kept - more.payload_at;
	held = held < length ? held : length;
	held = held < CONTENT ? held : CONTENT;
	end->key = XXH3_64bits_withSeed(packet->frame + more.payload_at, held,
					end->key ^ (__u64)length << 32 ^ more.ip_id);
	return true;
}

static int packet_learn(struct query_past *p, const struct gathered *g)
{
	struct match_end end = { .stamp = g->stamp, .wall_ns = g->wall_ns };
	const struct catalog_track *t = segment_track(g->segment, g->half >> 1);
	__u32 flags = g->half & 1 ? PACKET_FORWARD : 0;
	struct pcapng_packet packet;
	__u64 stamp;
	__s64 node;

	if (!g->stamp)
		return 0;
	if (!t || segment_packet(g->segment, g->position, &packet, &stamp))
		return -EBADMSG;
	node = node_number(p, g->segment, &t->track);
	if (node < 0)
		return (int)node;
	if (g->stamp == p->stamp &&
	    (!*p->wanted || node_is(names_get(&p->nodes, (__u32)node), p->wanted)))
		p->has[node] = true;
	end.node = (__u32)node;
	end.out = (packet.flags & PCAPNG_DIRECTION) == PCAPNG_OUT;
	if (segment_about(g->segment)->devices[packet.interface].linktype == PCAPNG_LINK_RAW)
		flags |= PACKET_L3;
	if (!message_read(p, &packet, flags, &t->track, &end))
		return 0;
	return sorter_add(p->ends, &end);
}

/* The whole record: what led to an event may be of any flow, and long before. */
static int record_learn(struct query_past *p)
{
	struct gather all = { .to_ns = ~0ULL };
	struct gathered g;
	int err = 0;

	for (unsigned i = 0; i < p->q->directories_n && !err; i++)
		if (gather_add(&all, p->q->directories[i], i))
			p->q->gather.failed = true;
	err = gather_begin(&all);
	while (!err && !query_cancelled && (err = gather_next(&all, &g)) == 1) {
		err = packet_learn(p, &g);
		if (!(all.looked & 0xfff))
			log_progress("causes: %llu packets looked at", all.looked);
	}
	log_progress_end();
	p->q->gather.failed |= all.failed;
	gather_free(&all);
	return err;
}

/* ---- cuts ------------------------------------------------------------------------------------- */

static int edge_later(const void *a, const void *b)
{
	const struct match_edge *x = a, *y = b;

	return (x->in_stamp < y->in_stamp) - (x->in_stamp > y->in_stamp);
}

static int edge_sooner(const void *a, const void *b)
{
	const struct match_edge *x = a, *y = b;

	return (x->out_stamp > y->out_stamp) - (x->out_stamp < y->out_stamp);
}

/*
 * In the order in which clocks that were told of each other put the messages, one sweep moves
 * every cut as far as it goes; a second sees that. Where clocks were not told, it takes more.
 */
static void cuts_move(struct query_past *p)
{
	bool moved = true;

	if (p->edges.n)
		qsort(p->edges.at, p->edges.n, sizeof(*p->edges.at),
		      p->future ? edge_sooner : edge_later);
	while (moved && !query_cancelled) {
		moved = false;
		for (__u32 i = 0; i < p->edges.n; i++) {
			const struct match_edge *e = &p->edges.at[i];

			if (p->future && e->out_stamp >= p->cuts[e->out_node] &&
			    e->in_stamp < p->cuts[e->in_node]) {
				p->cuts[e->in_node] = e->in_stamp;
				moved = true;
			} else if (!p->future && e->in_stamp <= p->cuts[e->in_node] &&
				   e->out_stamp > p->cuts[e->out_node]) {
				p->cuts[e->out_node] = e->out_stamp;
				moved = true;
			}
		}
	}
}

/* Segments wholly beyond the cuts of all nodes need not be looked at again. */
static void cuts_bound(struct query_past *p)
{
	__u64 least = ~0ULL, most = 0;

	for (__u32 i = 0; i < p->nodes.n; i++) {
		least = p->cuts[i] < least ? p->cuts[i] : least;
		most = p->cuts[i] > most ? p->cuts[i] : most;
	}
	p->q->gather.stamp_from = p->future ? least : 0;
	p->q->gather.stamp_to = p->future ? ~0ULL : most;
}

/* The node whose event it is. Exit status. */
static int origin_find(struct query_past *p)
{
	struct text text = {};
	unsigned n = 0;

	for (__u32 i = 0; i < p->nodes.n; i++) {
		if (!p->has[i])
			continue;
		p->cuts[i] = p->stamp;
		if (n++ < CANDIDATES) {
			text_add_str(&text, n > 1 ? ", " : "");
			text_add_str(&text, names_get(&p->nodes, i));
		}
	}
	if (!n)
		log_error("%016llx%s%s: no packet here has this stamp; the events that have are in "
			  "the event log, `hlc`",
			  p->stamp, *p->wanted ? "@" : "", p->wanted);
	else if (n > 1)
		log_error("%016llx: an event of several nodes: %.*s; say which as %016llx@NODE",
			  p->stamp, (int)text.len, text.at, p->stamp);
	text_free(&text);
	return n == 1 ? 0 : 2;
}

static unsigned causal(void *ctx, struct segment *s, const struct track *t,
		       const struct gather_item *item)
{
	struct query_past *p = ctx;
	__s64 node = node_number(p, s, t);

	if (node < 0 || !item->stamp)
		return 0;
	if (p->future)
		return item->stamp >= p->cuts[node] ? GATHER_FUTURE : 0;
	return item->stamp <= p->cuts[node] ? GATHER_PAST : 0;
}

int query_past_begin(struct query *q, struct query_past **past)
{
	const struct expr *origin = expr_origin(q->expr);
	struct query_past *p;
	int err = 0, status = 1;

	*past = NULL;
	if (!origin)
		return 0;
	*past = p = calloc(1, sizeof(*p));
	if (!p)
		return 1;
	p->q = q;
	p->future = origin->kind == EXPR_FUTURE;
	p->stamp = origin->from_ns;
	p->wanted = origin->name;
	if (getrandom(&p->seed, sizeof(p->seed), 0) != sizeof(p->seed))
		err = -errno;
	p->ends = match_sorter(MEMORY);
	if (!p->ends)
		err = -ENOMEM;
	if (!err)
		err = record_learn(p);
	if (!err)
		err = match_ends(p->ends, &p->nodes, &p->edges);
	sorter_free(p->ends);
	p->ends = NULL;
	p->segment = NULL;
	if (err)
		log_error("causes: %s", strerror(-err));
	else if (query_cancelled)
		log_warn("cancelled before an answer");
	else
		status = origin_find(p);
	if (status)
		return status;
	cuts_move(p);
	cuts_bound(p);
	q->gather.causal = causal;
	q->gather.causal_ctx = p;
	return 0;
}

void query_past_end(struct query_past *p)
{
	if (!p)
		return;
	names_free(&p->nodes);
	free(p->edges.at);
	free(p->cuts);
	free(p->has);
	free(p);
}
