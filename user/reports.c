// SPDX-License-Identifier: GPL-2.0-only
/* Flows that are told of: the kernel's reports joined with the connection table. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/counter.h"
#include "../bpf/mark.h"
#include "cgroup.h"
#include "log.h"
#include "physical.h"
#include "report.skel.h"
#include "reports.h"
#include "show.h"
#include "tcp.skel.h"

#define BUCKETS_LEAST 64
/* A socket tells its end itself; how often the walk may miss it before it is not believed. */
#define MISSING_MOST 3

struct reports {
	struct tidemark *t;
	struct reports_options o;
	enum reports_how how;
	bool attached; /* or tried */
	reports_fn fn;
	void *ctx;
	struct ring_buffer *ring;
	struct reported **buckets;
	unsigned buckets_n, live;
	__u32 tick, hz;
	__u32 since; /* tick when this was opened */
	__u64 now_ns;
	struct reports_counts counts;
};

/* ---- in the kernel ---------------------------------------------------------------------- */

/* The maps of the datapath instead of copies of them. */
static int maps_share(const struct tidemark *t, struct bpf_object *object)
{
	struct bpf_map *map;
	int err = 0;

	for (int i = 0; i < MAPS_NR && !err; i++) {
		map = bpf_object__find_map_by_name(object, map_names[i]);
		if (map)
			err = bpf_map__reuse_fd(map, t->map[i]);
	}
	return err;
}

static int program_attach(const struct tidemark *t, struct bpf_object *object)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, "report_socket");
	int fd = cgroup_root_open(), err = fd < 0 ? fd : 0;
	struct bpf_link *link;
	char path[PATH_MAX];

	if (err)
		return err;
	link = bpf_program__attach_cgroup(program, fd);
	close(fd);
	if (!link)
		return -errno;
	if (snprintf(path, sizeof(path), "%s/report_socket", t->pin_dir) >= (int)sizeof(path))
		err = -ENAMETOOLONG;
	else
		err = bpf_link__pin(link, path);
	bpf_link__destroy(link);
	return err;
}

static int full_attach(const struct tidemark *t)
{
	struct tcp_bpf *skel = tcp_bpf_unpack();
	int err;

	if (!skel)
		return -errno;
	err = maps_share(t, skel->obj);
	if (!err)
		err = tcp_bpf__load(skel);
	if (!err)
		err = program_attach(t, skel->obj);
	tcp_bpf__destroy(skel);
	return err;
}

static int plain_attach(const struct tidemark *t)
{
	struct report_bpf *skel = report_bpf_unpack();
	int err;

	if (!skel)
		return -errno;
	err = maps_share(t, skel->obj);
	if (!err)
		err = report_bpf__load(skel);
	if (!err)
		err = program_attach(t, skel->obj);
	report_bpf__destroy(skel);
	return err;
}

/* What an earlier run attached goes on; sockets it has met are known to it alone. */
static int sockets_attach(struct reports *r)
{
	int err;

	if (!faccessat(r->t->dir, "report_socket", F_OK, 0))
		return 0;
	err = r->o.plain ? -ENOENT : full_attach(r->t);
	if (!err)
		return 0;
	log_debug("sockets cannot be read by the kernel's own types: %s", strerror(-err));
	r->how = REPORTS_PLAIN;
	return plain_attach(r->t);
}

/* ---- the flows that live ---------------------------------------------------------------- */

static unsigned key_hash(const struct flow_key *key)
{
	const unsigned char *bytes = (const void *)key;
	__u64 hash = 0xcbf29ce484222325; /* FNV-1a */

	for (size_t i = 0; i < sizeof(*key); i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3;
	return hash ^ hash >> 32;
}

static struct reported **slot_of(const struct reports *r, const struct flow_key *key)
{
	struct reported **at = &r->buckets[key_hash(key) & (r->buckets_n - 1)];

	while (*at && memcmp(&(*at)->latest.key, key, sizeof(*key)))
		at = &(*at)->next;
	return at;
}

static void buckets_grow(struct reports *r)
{
	unsigned n = r->buckets_n, more = n * 2;
	struct reported **old = r->buckets, *flow, *next;
	struct reported **buckets = calloc(more, sizeof(*buckets));

	if (!buckets)
		return; /* longer chains, nothing worse */
	r->buckets = buckets;
	r->buckets_n = more;
	for (unsigned i = 0; i < n; i++)
		for (flow = old[i]; flow; flow = next) {
			next = flow->next;
			flow->next = NULL;
			*slot_of(r, &flow->latest.key) = flow;
		}
	free(old);
}

static void tell(struct reports *r, enum report_type type, struct reported *flow)
{
	flow->now_ns = r->now_ns;
	flow->hz = r->hz;
	flow->latest.type = type;
	for (int dir = 0; dir < DIRS_NR; dir++) {
		flow->more[dir] = flow->latest.bytes[dir] - flow->told[dir];
		flow->told[dir] = flow->latest.bytes[dir];
	}
	r->counts.started += type == REPORT_start;
	r->counts.ongoing += type == REPORT_ongoing;
	r->counts.ended += type == REPORT_end;
	r->fn(type, flow, r->ctx);
}

static void flow_end(struct reports *r, struct reported **at, __u64 ended_ns)
{
	struct reported *flow = *at;

	flow->ended_ns = ended_ns < flow->started_ns ? flow->started_ns : ended_ns;
	tell(r, REPORT_end, flow);
	*at = flow->next;
	free(flow);
	r->live--;
}

static void flow_start(struct reports *r, const struct report *report, struct reported **at)
{
	struct reported *flow;

	if (r->live >= REPORTS_FLOWS_MAX || !(flow = calloc(1, sizeof(*flow)))) {
		r->counts.refused++;
		return;
	}
	flow->latest = *report;
	flow->started_ns = report->first_ns ? report->first_ns : report->wall_ns;
	flow->next_ns = r->now_ns + r->o.period_ns;
	*at = flow;
	r->live++;
	tell(r, REPORT_start, flow);
}

/* Rules that change give what has not changed another generation, and other entropy. */
static bool mark_same(__u32 a, __u32 b)
{
	return !((a ^ b) & ((MARK_LABEL_MASK & ~MARK_ENTROPY_MASK) | MARK_MARKED));
}

static bool is_same(const struct reported *flow, const struct report *report)
{
	return (!flow->latest.first_ns || !report->first_ns ||
		flow->latest.first_ns == report->first_ns) &&
	       mark_same(flow->latest.mark, report->mark);
}

/* What a report knows that the last one did not, or knows newer. */
static void flow_update(struct reported *flow, const struct report *report)
{
	struct report *latest = &flow->latest;
	__u8 has = latest->has;

	latest->wall_ns = report->wall_ns;
	if (report->has & REPORT_FLOW) {
		memcpy(latest->bytes, report->bytes, sizeof(latest->bytes));
		memcpy(latest->packets, report->packets, sizeof(latest->packets));
		memcpy(latest->tcp_flags, report->tcp_flags, sizeof(latest->tcp_flags));
		latest->mark = report->mark;
		latest->first_ns = report->first_ns;
		if (report->pid) {
			latest->pid = report->pid;
			latest->uid = report->uid;
			latest->cgroup = report->cgroup;
			memcpy(latest->comm, report->comm, sizeof(latest->comm));
		}
	}
	if (report->has & REPORT_SOCKET) {
		latest->tcp = report->tcp;
		latest->state = report->state;
	}
	latest->has = has | report->has;
	flow->missing = 0;
}

static bool is_wanted(const struct reports *r, const struct report *report)
{
	const struct flow_key *key = &report->key;

	if (key->proto == IPPROTO_UDP && r->o.ignore_port &&
	    (key->remote_port == r->o.ignore_port || key->local_port == r->o.ignore_port))
		return false;
	return (key->proto == IPPROTO_TCP && r->o.whose == REPORTS_TCP) ||
	       (report->mark & MARK_MARKED);
}

static int record(void *ctx, void *data, size_t size)
{
	struct reports *r = ctx;
	const struct report *report = data;
	struct reported **at;

	if (size < sizeof(*report) || !is_wanted(r, report))
		return 0;
	if (r->live >= r->buckets_n)
		buckets_grow(r);
	at = slot_of(r, &report->key);
	if (*at && !is_same(*at, report)) {
		/* The end of what went before comes late: it has been told. */
		if (report->type == REPORT_end && report->first_ns < (*at)->latest.first_ns)
			return 0;
		flow_end(r, at, report->wall_ns);
		at = slot_of(r, &report->key);
	}
	if (*at)
		flow_update(*at, report);
	else
		flow_start(r, report, at);
	at = slot_of(r, &report->key);
	if (*at && report->type == REPORT_end)
		flow_end(r, at, report->wall_ns);
	return 0;
}

/* ---- the connection table --------------------------------------------------------------- */

static int table_find(const struct reports *r, const struct flow_key *key, struct flow *f)
{
	if (!bpf_map_lookup_elem(r->t->map[MAP_flows], key, f))
		return 0;
	return bpf_map_lookup_elem(r->t->map[MAP_embryonic], key, f) ? -ENOENT : 0;
}

static void report_of(const struct reports *r, const struct flow_key *key, const struct flow *f,
		      struct report *report)
{
	memset(report, 0, sizeof(*report));
	report->key = *key;
	report->mark = f->mark;
	report->first_ns = f->first_ns;
	report->wall_ns = r->now_ns;
	for (int dir = 0; dir < DIRS_NR; dir++) {
		report->bytes[dir] = f->dir[dir].bytes;
		report->packets[dir] = f->dir[dir].packets;
		report->tcp_flags[dir] = f->dir[dir].tcp_flags;
	}
	report->cgroup = f->cgroup;
	report->pid = f->pid;
	report->uid = f->uid;
	report->opener = f->opener;
	memcpy(report->comm, f->comm, sizeof(report->comm));
	report->has = REPORT_FLOW;
}

static bool is_over(const struct flow *f)
{
	return f->state == FLOW_CLOSED || f->state == FLOW_RESET;
}

static __u64 idle_ns(const struct reports *r, const struct flow *f)
{
	__s32 ticks = r->tick - f->last;

	return ticks > 0 ? ticks * (1000000000ULL / r->hz) : 0;
}

/* Its period is over: what does the table say? Leaves *at at the next flow. */
static struct reported **flow_look(struct reports *r, struct reported **at)
{
	struct reported *flow = *at;
	bool socket = flow->latest.has & REPORT_SOCKET;
	struct report report;
	struct flow f;
	__u64 idle, limit;

	if (table_find(r, &flow->latest.key, &f) ||
	    (flow->latest.first_ns && f.first_ns != flow->latest.first_ns)) {
		/* Evicted, or another one's. A socket that lives keeps its flow alive. */
		if (!socket || ++flow->missing >= MISSING_MOST) {
			flow_end(r, at, flow->latest.wall_ns);
			return at;
		}
	} else {
		report_of(r, &flow->latest.key, &f, &report);
		if (!is_wanted(r, &report) || !mark_same(report.mark, flow->latest.mark)) {
			flow_end(r, at, r->now_ns);
			if (is_wanted(r, &report))
				flow_start(r, &report, slot_of(r, &report.key));
			return at;
		}
		idle = idle_ns(r, &f);
		limit = flow->latest.key.proto != IPPROTO_TCP ? r->o.idle_ns
			: socket			      ? ~0ULL
							      : r->o.idle_tcp_ns;
		if (is_over(&f) || idle > limit) {
			__u8 missing = flow->missing;

			flow_update(flow, &report);
			flow->missing = missing + 1;
			if (!socket || flow->missing >= MISSING_MOST) {
				flow_end(r, at, r->now_ns - idle);
				return at;
			}
		} else {
			flow_update(flow, &report);
		}
	}
	flow->next_ns += r->o.period_ns;
	if (flow->next_ns <= r->now_ns)
		flow->next_ns = r->now_ns + r->o.period_ns;
	tell(r, REPORT_ongoing, flow);
	return &flow->next;
}

static void periods(struct reports *r)
{
	for (unsigned i = 0; i < r->buckets_n; i++)
		for (struct reported **at = &r->buckets[i]; *at;)
			at = (*at)->next_ns <= r->now_ns ? flow_look(r, at) : &(*at)->next;
}

/* Has it come and gone while the ring had no room for any report of it? */
static bool is_missed(const struct reports *r, const struct flow *f)
{
	return is_over(f) && !(f->notes & FLOW_TOLD) && (__s32)(f->last - r->since) > 0;
}

/* The table is the kernel's: it sets the bit. */
static void told_set(const struct reports *r, const struct flow_key *key)
{
	struct mark_call call = { .told = 1 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));

	memcpy(call.key, key, sizeof(call.key));
	bpf_prog_test_run_opts(r->t->mark_touch, &opts);
}

/* Flows that the table has and we do not: older than this run, or their report was lost. */
static void adopt_from(struct reports *r, enum map map)
{
	struct flow_key key, next;
	struct report report;
	struct reported *flow;
	struct flow f;
	int err = bpf_map_get_next_key(r->t->map[map], NULL, &key);

	for (unsigned n = 0; !err && n < 4 * REPORTS_FLOWS_MAX; n++, key = next) {
		err = bpf_map_get_next_key(r->t->map[map], &key, &next);
		if (bpf_map_lookup_elem(r->t->map[map], &key, &f) ||
		    (is_over(&f) && !is_missed(r, &f)))
			continue;
		report_of(r, &key, &f, &report);
		if (is_over(&f)) {
			report.type = REPORT_end;
			report.wall_ns -= idle_ns(r, &f);
		}
		flow = *slot_of(r, &key);
		if (!is_wanted(r, &report) || idle_ns(r, &f) > r->o.idle_ns ||
		    (flow && is_same(flow, &report)))
			continue;
		record(r, &report, sizeof(report));
		told_set(r, &key);
	}
}

static void adopt(struct reports *r)
{
	adopt_from(r, MAP_flows);
	adopt_from(r, MAP_embryonic);
}

static __u64 lost_read(const struct reports *r)
{
	struct counters out;

	return counters_read(r->t, DIR_OUT, &out) ? r->counts.lost : out.reason.report_lost;
}

static void times_read(struct reports *r)
{
	r->now_ns = physical_now_ns();
	r->tick = tidemark_tick(r->t);
	if (!r->hz)
		r->hz = physical_hz(r->t, r->tick);
}

/* ---- what others call ------------------------------------------------------------------- */

void reports_step(struct reports *r)
{
	__u64 lost;
	int err;

	if (!r->attached) {
		r->attached = true;
		err = sockets_attach(r);
		if (err)
			log_warn("sockets are not asked (%s): of connections there is what packets "
				 "say",
				 strerror(-err));
	}
	times_read(r);
	ring_buffer__consume(r->ring);
	lost = lost_read(r);
	if (lost != r->counts.lost)
		adopt(r);
	r->counts.lost = lost;
	periods(r);
}

void reports_set(struct reports *r, const struct reports_options *o)
{
	r->o = *o;
	r->t->settings->report_period_ns = o->period_ns;
	*(volatile __u32 *)&r->t->settings->reports = o->whose;
}

struct reports *reports_open(struct tidemark *t, const struct reports_options *o, reports_fn fn,
			     void *ctx)
{
	struct reports *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;

	if (!r)
		goto fail;
	r->t = t;
	r->fn = fn;
	r->ctx = ctx;
	r->o = *o;
	r->buckets_n = BUCKETS_LEAST;
	r->buckets = calloc(r->buckets_n, sizeof(*r->buckets));
	r->ring = ring_buffer__new(t->map[MAP_reports], record, r, NULL);
	if (!r->buckets || !r->ring)
		goto fail;
	err = o->later ? 0 : sockets_attach(r);
	if (err)
		goto fail;
	r->attached = !o->later;
	times_read(r);
	r->since = r->tick;
	/* What lies there is of an earlier run: the table knows it as well, and what became of it. */
	r->o.whose = REPORTS_NONE;
	ring_buffer__consume(r->ring);
	reports_set(r, o);
	r->counts.lost = lost_read(r);
	adopt(r);
	return r;
fail:
	log_error("flows cannot be reported: %s", strerror(-err));
	if (r) {
		ring_buffer__free(r->ring);
		free(r->buckets);
	}
	free(r);
	return NULL;
}

void reports_close(struct reports *r)
{
	struct reported *flow;

	if (!r)
		return;
	*(volatile __u32 *)&r->t->settings->reports = REPORTS_NONE;
	ring_buffer__free(r->ring);
	for (unsigned i = 0; i < r->buckets_n; i++)
		while ((flow = r->buckets[i])) {
			r->buckets[i] = flow->next;
			free(flow);
		}
	free(r->buckets);
	free(r);
}

enum reports_how reports_how(const struct reports *r)
{
	return r->how;
}

const struct reports_counts *reports_counts(const struct reports *r)
{
	return &r->counts;
}

unsigned reports_live(const struct reports *r)
{
	return r->live;
}

void reports_each(const struct reports *r, void (*fn)(const struct reported *flow, void *ctx),
		  void *ctx)
{
	for (unsigned i = 0; i < r->buckets_n; i++)
		for (const struct reported *flow = r->buckets[i]; flow; flow = flow->next)
			fn(flow, ctx);
}
