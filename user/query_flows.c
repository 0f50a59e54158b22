// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark query --flows`: who, when, how much; from flow records where packets are gone. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flowlog.h"
#include "log.h"
#include "secret.h"
#include "query.h"
#include "wire.h"

enum {
	F_FIRST,
	F_LAST,
	F_NODE,
	F_DEVICE,
	F_HOST,
	F_CLASS,
	F_PROTO,
	F_LOCAL,
	F_REMOTE,
	F_PACKETS_OUT,
	F_PACKETS_IN,
	F_BYTES_OUT,
	F_BYTES_IN,
	F_EXPERIMENT,
	F_ACTIVITY,
	F_PID,
	F_COMM,
	F_HLC,
	F_HLC_LAST
};

static const struct out_column columns[] = {
	[F_FIRST] = { "first", "FIRST", 18, 0, 0 },
	[F_LAST] = { .key = "last" },
	[F_NODE] = { "node", "NODE", 12, 6, 0 },
	[F_DEVICE] = { .key = "device" },
	[F_HOST] = { .key = "host" },
	[F_CLASS] = { .key = "class" },
	[F_PROTO] = { "proto", "PROTO", 7, 0, 0 },
	[F_LOCAL] = { "local", "LOCAL", 40, 15, 0 },
	[F_REMOTE] = { "remote", "REMOTE", 40, 15, 0 },
	[F_PACKETS_OUT] = { "packets_out", "OUT", 8, 0, OUT_RIGHT | OUT_OPTIONAL },
	[F_PACKETS_IN] = { "packets_in", "IN", 8, 0, OUT_RIGHT | OUT_OPTIONAL },
	[F_BYTES_OUT] = { "bytes_out", "BYTES OUT", 9, 0, OUT_RIGHT },
	[F_BYTES_IN] = { "bytes_in", "BYTES IN", 9, 0, OUT_RIGHT },
	[F_EXPERIMENT] = { .key = "experiment" },
	[F_ACTIVITY] = { .key = "activity" },
	[F_PID] = { .key = "pid" },
	[F_COMM] = { "comm", "COMMAND", 15, 0, OUT_OPTIONAL },
	[F_HLC] = { .key = "hlc" },
	[F_HLC_LAST] = { .key = "hlc_last" },
	{},
};

/* What one class of one directory had, over all its segments. */
struct gathering {
	struct query *q;
	struct out *out;
	struct catalog sum;
	int err;
};

static bool half_matches(struct query *q, const struct segment *s, const struct catalog_track *t,
			 bool forward)
{
	struct expr_packet question;

	segment_question(s, t, forward, &question);
	return expr_may_match(q->expr, &question);
}

static int track_gather(struct gathering *g, const struct segment *s, const struct catalog_track *t)
{
	const struct catalog_device *d = segment_device(s, &t->track);
	struct catalog_track *sum;
	__s64 number;
	bool any = false;

	if (t->first_ns > g->q->gather.to_ns || t->last_ns < g->q->gather.from_ns)
		return 0;
	for (int i = 0; i < 2; i++)
		any |= t->packets[i] && half_matches(g->q, s, t, i);
	if (!any)
		return 0;
	if (d && catalog_device_find(&g->sum, d->node, d->device, d->linktype) < 0 &&
	    catalog_device_add(&g->sum, d))
		return -ENOMEM;
	number = catalog_track(&g->sum, &t->track);
	if (number < 0)
		return (int)number;
	sum = &g->sum.tracks[number];
	if (!sum->last_ns || t->first_ns < sum->first_ns)
		sum->first_ns = t->first_ns;
	if (!sum->last_ns || t->first_stamp < sum->first_stamp)
		sum->first_stamp = t->first_stamp;
	if (t->last_ns > sum->last_ns)
		sum->last_ns = t->last_ns;
	if (t->last_stamp > sum->last_stamp)
		sum->last_stamp = t->last_stamp;
	for (int i = 0; i < 2; i++) {
		sum->packets[i] += t->packets[i];
		sum->wire[i] += t->wire[i];
	}
	return 0;
}

/* What an index does not say of a track: the times, stamps and bytes of its packets. */
static int packets_sum(struct segment *s, const struct index_refs *refs, struct catalog_track *t)
{
	struct pcapng_packet p;
	__u64 stamp;

	for (__u32 i = 0; i < refs->n; i++) {
		int err = segment_packet(s, (__u32)(refs->at[i] >> 32), &p, &stamp);

		if (err)
			return err;
		if (!i || p.wall_ns < t->first_ns)
			t->first_ns = p.wall_ns;
		if (!i || stamp < t->first_stamp)
			t->first_stamp = stamp;
		t->last_ns = p.wall_ns > t->last_ns ? p.wall_ns : t->last_ns;
		t->last_stamp = stamp > t->last_stamp ? stamp : t->last_stamp;
		t->wire[refs->at[i] & 1] += p.wire;
	}
	return 0;
}

/* Only where the flow record is gone: every packet is read. */
static int sealed_gather(struct gathering *g, struct segment *s)
{
	struct index_refs refs = {};
	struct catalog_track t;
	int err = segment_open_data(s);

	for (__u32 n = 0; !err && n < s->index.tracks && !query_cancelled; n++) {
		refs.n = 0;
		err = index_track(&s->index, n, &t, 3, &refs);
		if (err)
			s->why = "a damaged index; `record --reindex` makes it anew";
		if (!err)
			err = packets_sum(s, &refs, &t);
		if (!err)
			err = track_gather(g, s, &t);
	}
	free(refs.at);
	return err;
}

static int tracks_gather(struct gathering *g, const struct segment *s, const struct catalog *c)
{
	int err = 0;

	for (__u32 t = 0; !err && t < c->tracks_n; t++)
		err = track_gather(g, s, &c->tracks[t]);
	return err;
}

static int segment_gather(struct gathering *g, int dir, const char *path, const char *base)
{
	struct catalog record = {};
	struct segment s;
	int err = segment_open(&s, dir, path, base);

	if (!err) {
		memcpy(g->sum.host, segment_about(&s)->host, sizeof(g->sum.host));
		memcpy(g->sum.class_name, segment_about(&s)->class_name, 32);
	}
	if (!err && !s.sealed)
		err = tracks_gather(g, &s, &s.catalog);
	else if (!err && !flowlog_read(dir, base, &record))
		err = tracks_gather(g, &s, &record);
	else if (!err)
		err = sealed_gather(g, &s);
	if (err && err != -ENOENT && err != -ENOMEM)
		gather_wrong(&g->q->gather, &s);
	catalog_free(&record);
	segment_close(&s);
	return err == -ENOMEM ? err : 0;
}

/* Its packets are deleted: a segment of which only the tracks are left. */
static int flowlog_gather(struct gathering *g, int dir, const char *path, const char *base)
{
	struct segment s = { .dir = dir, .journal = -1, .data.fd = -1 };
	int err = flowlog_read(dir, base, &s.catalog);

	snprintf(s.path, sizeof(s.path), "%s/%s" STORE_FLOWS, path, base);
	s.why = err == -ENOKEY || err == -EKEYREJECTED ? secret_error(err) : "damaged";
	if (err && err != -ENOENT && err != -ENOMEM)
		gather_wrong(&g->q->gather, &s);
	if (!err) {
		memcpy(g->sum.host, s.catalog.host, sizeof(g->sum.host));
		memcpy(g->sum.class_name, s.catalog.class_name, 32);
	}
	for (__u32 t = 0; !err && t < s.catalog.tracks_n; t++)
		err = track_gather(g, &s, &s.catalog.tracks[t]);
	catalog_free(&s.catalog);
	return err == -ENOMEM ? err : 0;
}

static int by_first(const void *a, const void *b)
{
	const struct catalog_track *x = a, *y = b;

	return (x->first_ns > y->first_ns) - (x->first_ns < y->first_ns);
}

static int sum_print(struct gathering *g)
{
	struct catalog *c = &g->sum;
	struct segment named = { .catalog = *c };

	if (c->tracks_n)
		qsort(c->tracks, c->tracks_n, sizeof(*c->tracks), by_first);
	named.catalog = *c;
	for (__u32 i = 0; i < c->tracks_n && (!g->q->limit || g->q->found < g->q->limit); i++) {
		const struct catalog_track *t = &c->tracks[i];
		const struct flow_key *f = &t->track.flow;
		const struct catalog_device *d = segment_device(&named, &t->track);
		bool ported = track_has_ports(&t->track);
		static const __u8 none[16];
		char name[16];

		out_wall(g->out, F_FIRST, t->first_ns);
		out_wall(g->out, F_LAST, t->last_ns);
		out_str(g->out, F_NODE, d ? d->node_name : NULL);
		out_str(g->out, F_DEVICE, d ? d->name : NULL);
		out_str(g->out, F_HOST, c->host);
		out_str(g->out, F_CLASS, c->class_name);
		out_str(g->out, F_PROTO, query_proto_name(&t->track, name));
		if (memcmp(f->local, none, 16) || memcmp(f->remote, none, 16)) {
			out_address(g->out, F_LOCAL, f->local,
				    ported ? f->local_port : OUT_NO_PORT);
			out_address(g->out, F_REMOTE, f->remote,
				    ported ? f->remote_port : OUT_NO_PORT);
		}
		out_u64(g->out, F_PACKETS_OUT, t->packets[1]);
		out_u64(g->out, F_PACKETS_IN, t->packets[0]);
		out_bytes(g->out, F_BYTES_OUT, t->wire[1]);
		out_bytes(g->out, F_BYTES_IN, t->wire[0]);
		if (t->track.mark & MARK_MARKED) {
			out_u64(g->out, F_EXPERIMENT, mark_experiment(t->track.mark));
			out_u64(g->out, F_ACTIVITY, mark_activity(t->track.mark));
		}
		if (t->track.pid)
			out_u64(g->out, F_PID, t->track.pid);
		if (t->track.comm[0])
			out_mem(g->out, F_COMM, t->track.comm, sizeof(t->track.comm));
		if (t->last_stamp) {
			out_stamp(g->out, F_HLC, t->first_stamp);
			out_stamp(g->out, F_HLC_LAST, t->last_stamp);
		}
		g->q->found++;
		if (out_row(g->out))
			return -EPIPE;
	}
	return 0;
}

static int is_flows(const struct dirent *entry)
{
	const char *dot = strchr(entry->d_name, '.');

	return dot && dot - entry->d_name < STORE_NAME_MAX && !strcmp(dot, STORE_FLOWS);
}

static int directory_gather(const char *path, int dir, void *ctx)
{
	struct gathering *g = ctx;
	struct store_names names;
	struct dirent **records = NULL;
	bool *spared = NULL;
	int err = store_list(dir, &names), n;
	__u32 at = 0;

	if (!err)
		err = gather_spare(&g->q->gather, dir, path, &names, &spared);
	n = scandirat(dir, ".", &records, is_flows, alphasort);
	for (__u32 i = 0; i < names.n && !err; i++)
		if ((names.at[i].index || names.at[i].journal) && (!spared || !spared[i]))
			err = segment_gather(g, dir, path, names.at[i].base);
	free(spared);
	for (int i = 0; i < n; i++) {
		char base[STORE_NAME_MAX];

		snprintf(base, sizeof(base), "%.*s",
			 (int)(strchr(records[i]->d_name, '.') - records[i]->d_name),
			 records[i]->d_name);
		while (at < names.n && strcmp(names.at[at].base, base) < 0)
			at++;
		if (!err &&
		    (at == names.n || strcmp(names.at[at].base, base) || names.at[at].alone))
			err = flowlog_gather(g, dir, path, base);
		free(records[i]);
	}
	free(records);
	free(names.at);
	if (!err)
		err = sum_print(g);
	catalog_free(&g->sum);
	return err;
}

int query_flows(struct query *q)
{
	struct gathering g = { .q = q };
	int err = 0, status;

	g.out = out_open(stdout, columns, q->json ? OUT_JSON | OUT_STREAM : 0);
	if (!g.out)
		return 1;
	for (unsigned i = 0; i < q->directories_n && !query_cancelled; i++) {
		err = gather_directories(q->directories[i], directory_gather, &g);
		if (err && err != -EPIPE)
			q->gather.failed = true;
	}
	status = out_finish(g.out, 0);
	return status ? status : q->gather.failed;
}
