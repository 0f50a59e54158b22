// SPDX-License-Identifier: GPL-2.0-only
/* A rig that runs the pipeline on single packets and shows what they left behind. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../user/peer.h"
#include "rig.h"
#include "tidemark.skel.h"

static int rig_record(void *ctx, void *data, size_t size)
{
	struct rig *r = ctx;
	const struct event *e = data;

	if (size != sizeof(*e) || e->clock >= RIG_CLOCKS) {
		r->disorder++;
		return 0;
	}
	if (e->stamp) {
		r->disorder += e->stamp <= r->events_last[e->clock] || e->stamp <= e->cause;
		r->events_last[e->clock] = e->stamp;
	}
	r->events_all++;
	if (r->events_n < RIG_EVENTS)
		r->events[r->events_n++] = *e;
	return 0;
}

void rig_drain(struct rig *r)
{
	ring_buffer__consume(r->rings);
}

static int rig_rings(struct rig *r, size_t bytes)
{
	int cpus = libbpf_num_possible_cpus(), outer = bpf_map__fd(r->skel->maps.events), err = 0;

	for (int cpu = 0; cpu < cpus && !err; cpu++) {
		int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, bytes, NULL);

		if (fd < 0)
			return -errno;
		if (bpf_map_update_elem(outer, &cpu, &fd, BPF_ANY))
			err = -errno;
		else if (r->rings)
			err = ring_buffer__add(r->rings, fd, rig_record, r);
		else if (!(r->rings = ring_buffer__new(fd, rig_record, r, NULL)))
			err = -errno;
		close(fd);
	}
	return err;
}

static void *rig_map(struct bpf_map *map, size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	return at == MAP_FAILED ? NULL : at;
}

static void rig_sizes_set(struct tidemark_bpf *skel, const struct rig_sizes *s)
{
	bpf_map__set_max_entries(skel->maps.flows, s->flows ? s->flows : 4096);
	bpf_map__set_max_entries(skel->maps.embryonic, s->embryonic ? s->embryonic : 4096);
	bpf_map__set_max_entries(skel->maps.sends, s->sends ? s->sends : 4096);
	bpf_map__set_max_entries(skel->maps.fragments, s->fragments ? s->fragments : 1024);
	bpf_map__set_max_entries(skel->maps.clocks, RIG_CLOCKS);
	bpf_map__set_max_entries(skel->maps.nodes, 16);
	bpf_map__set_max_entries(skel->maps.attachments, 16);
	bpf_map__set_max_entries(skel->maps.namespaces, 16);
	bpf_map__set_max_entries(skel->maps.newcomers, getpagesize());
	bpf_map__set_max_entries(skel->maps.reports, 1 << 20);
	bpf_map__set_max_entries(skel->maps.marks, 1024);
	bpf_map__set_max_entries(skel->maps.heirs, 16);
	bpf_map__set_max_entries(skel->maps.bursts, 4096);
	bpf_map__set_max_entries(skel->maps.events, libbpf_num_possible_cpus());
	bpf_map__set_max_entries(skel->maps.packets, libbpf_num_possible_cpus());
}

int rig_open(struct rig *r, const struct rig_sizes *sizes)
{
	static const struct rig_sizes none;
	int err, zero = 0, fd;
	cpu_set_t cpu;

	memset(r, 0, sizeof(*r));
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		return -errno;
	r->skel = tidemark_bpf_unpack();
	if (!r->skel)
		return -errno;
	sizes = sizes ? sizes : &none;
	rig_sizes_set(r->skel, sizes);
	if (sizes->clocks_pin) {
		fd = bpf_obj_get(sizes->clocks_pin);
		if (fd < 0 || bpf_map__reuse_fd(r->skel->maps.clocks, fd))
			return -errno;
		close(fd);
	}
	err = tidemark_bpf__load(r->skel);
	if (!err)
		err = rig_rings(r, sizes->ring_bytes ? sizes->ring_bytes : 1 << 20);
	if (err)
		return err;
	fd = bpf_program__fd(r->skel->progs.pipeline);
	if (bpf_map_update_elem(bpf_map__fd(r->skel->maps.pipelines), &zero, &fd, BPF_ANY))
		return -errno;
	r->clocks = rig_map(r->skel->maps.clocks, RIG_CLOCKS * sizeof(struct clock));
	r->settings = rig_map(r->skel->maps.settings, sizeof(struct settings));
	if (!r->clocks || !r->settings)
		return -errno;
	if (!sizes->clocks_pin)
		rig_reset(r);
	return 0;
}

void rig_close(struct rig *r)
{
	ring_buffer__free(r->rings);
	if (r->clocks)
		munmap(r->clocks, RIG_CLOCKS * sizeof(struct clock));
	if (r->settings)
		munmap(r->settings, sizeof(struct settings));
	tidemark_bpf__destroy(r->skel);
}

static void map_empty(int map)
{
	__u8 key[64];

	while (!bpf_map_get_next_key(map, NULL, key))
		bpf_map_delete_elem(map, key);
}

void rig_reset(struct rig *r)
{
	map_empty(bpf_map__fd(r->skel->maps.flows));
	map_empty(bpf_map__fd(r->skel->maps.embryonic));
	map_empty(bpf_map__fd(r->skel->maps.sends));
	map_empty(bpf_map__fd(r->skel->maps.fragments));
	map_empty(bpf_map__fd(r->skel->maps.marks));
	map_empty(bpf_map__fd(r->skel->maps.paths));
	map_empty(bpf_map__fd(r->skel->maps.peers));
	map_empty(bpf_map__fd(r->skel->maps.skews));
	map_empty(bpf_map__fd(r->skel->maps.bursts));
	rig_drain(r);
	memset(r->clocks, 0, RIG_CLOCKS * sizeof(struct clock));
	memset(r->settings, 0, sizeof(*r->settings));
	r->settings->parts = r->skel->rodata->stages;
	for (int i = 0; i < RIG_CLOCKS; i++) {
		r->clocks[i].now = RIG_BEGIN;
		r->clocks[i].node = i + 1;
	}
	r->settings->reading = 1;
	r->node = 0;
	r->changed = r->disorder = r->events_n = r->events_all = 0;
	memset(r->runs, 0, sizeof(r->runs));
	memset(r->events_last, 0, sizeof(r->events_last));
	memset(r->counters, 0, sizeof(r->counters));
	for (int dir = 0; dir < DIRS_NR; dir++)
		r->counters[dir] = rig_count(r, dir);
}

int rig_run_bytes(struct rig *r, const struct frame *f, unsigned n, __u32 how)
{
	struct __sk_buff ctx = { .gso_segs = f->gso_segs, .gso_size = f->gso_size };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = f->bytes, .data_size_in = n,
		    .data_out = r->out, .data_size_out = sizeof(r->out), .ctx_in = &ctx,
		    .ctx_size_in = sizeof(ctx), .repeat = 1);

	ctx.cb[ATTACH_CB_NODE] = r->node ? r->node : (how & ATTACH_CLOCK_MASK) + 1;
	ctx.cb[ATTACH_CB_HOW] = how;
	if (bpf_prog_test_run_opts(bpf_program__fd(r->skel->progs.pipeline), &opts))
		return RIG_REFUSED;
	r->runs[!(how & ATTACH_EGRESS) == !(how & ATTACH_FAR) ? DIR_IN : DIR_OUT]++;
	r->out_n = opts.data_size_out;
	if (opts.data_size_out != n || memcmp(r->out, f->bytes, n))
		r->changed++;
	return (int)opts.retval;
}

int rig_run(struct rig *r, const struct frame *f, __u32 how)
{
	return rig_run_bytes(r, f, f->n, how);
}

void rig_end(struct rig *r, __u32 clock)
{
	struct event_call call = { .clock = clock };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));

	if (bpf_prog_test_run_opts(bpf_program__fd(r->skel->progs.event_end), &opts))
		r->disorder++;
}

struct counters rig_count(const struct rig *r, enum dir dir)
{
	static struct counters each[1024];
	const __u64 *from = (const __u64 *)each, *before = (const __u64 *)&r->counters[dir];
	struct counters sum = {};
	const size_t words = sizeof(sum) / sizeof(__u64);
	__u64 *to = (__u64 *)&sum;

	if (bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.counters), &dir, each))
		return sum;
	for (int cpu = 0; cpu < libbpf_num_possible_cpus(); cpu++)
		for (size_t i = 0; i < words; i++)
			to[i] += *from++;
	for (size_t i = 0; i < words; i++)
		to[i] -= before[i];
	return sum;
}

void rig_peer(struct rig *r, const char *text)
{
	const __u32 flags = PEER_CLOCKS;
	struct peer_key key;

	if (peer_parse(text, &key) ||
	    bpf_map_update_elem(bpf_map__fd(r->skel->maps.peers), &key, &flags, BPF_ANY))
		r->disorder++;
	r->settings->in_band = 1;
}

unsigned rig_entries(int map)
{
	__u8 key[64];
	unsigned n = 0;

	for (void *at = NULL; !bpf_map_get_next_key(map, at, key); at = key)
		n++;
	return n;
}

enum rig_where rig_flow(const struct rig *r, const struct flow_key *key, struct flow *f)
{
	if (!bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.flows), key, f))
		return RIG_FLOWS;
	if (!bpf_map_lookup_elem(bpf_map__fd(r->skel->maps.embryonic), key, f))
		return RIG_EMBRYONIC;
	return RIG_NOWHERE;
}

/* Texts end at their room rather than overflow. */
struct text {
	char *at;
	size_t left;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *form, ...)
{
	va_list args;
	int n;

	va_start(args, form);
	n = vsnprintf(t->at, t->left, form, args);
	va_end(args);
	if (n > 0 && (size_t)n < t->left) {
		t->at += n;
		t->left -= n;
	}
}

const char *rig_moved(const struct rig *r)
{
	static const char *const dirs[] = { "in", "out" };
	static char said[1024];
	struct text t = { said, sizeof(said) };
	struct counters c;
	bool any;

	*said = 0;
	for (int dir = 0; dir < DIRS_NR; dir++) {
		c = rig_count(r, dir);
		any = false;
#define X(name, stage, meaning)                                                                \
	if (c.reason.name) {                                                                   \
		say(&t, "%s%s %s %llu", *said && !any ? " " : "", any ? "" : dirs[dir], #name, \
		    c.reason.name);                                                            \
		any = true;                                                                    \
	}
		REASONS(X)
#undef X
	}
	return said;
}

static void say_end(struct text *t, const __u8 address[16], __u16 port)
{
	static const __u8 mapped[12] = { [10] = 0xff, 0xff };
	char name[INET6_ADDRSTRLEN];
	bool v4 = !memcmp(address, mapped, 12);

	inet_ntop(v4 ? AF_INET : AF_INET6, address + (v4 ? 12 : 0), name, sizeof(name));
	say(t, v4 ? "%s:%u" : "[%s]:%u", name, port);
}

static void say_flows(struct text *t, int map, const char *prefix, const char *said)
{
	struct flow_key key;
	struct flow f;

	for (void *at = NULL; !bpf_map_get_next_key(map, at, &key); at = &key) {
		if (bpf_map_lookup_elem(map, &key, &f))
			continue;
		say(t, "%s%s", *said ? "; " : "", prefix);
		if (key.proto == IPPROTO_TCP || key.proto == IPPROTO_UDP)
			say(t, "%s ", key.proto == IPPROTO_TCP ? "tcp" : "udp");
		else
			say(t, "%u ", key.proto);
		say_end(t, key.local, key.local_port);
		say(t, "-");
		say_end(t, key.remote, key.remote_port);
		say(t, " out %llu %llu in %llu %llu", f.dir[DIR_OUT].packets, f.dir[DIR_OUT].bytes,
		    f.dir[DIR_IN].packets, f.dir[DIR_IN].bytes);
	}
}

const char *rig_flows(const struct rig *r)
{
	static char said[4096];
	struct text t = { said, sizeof(said) };

	*said = 0;
	say_flows(&t, bpf_map__fd(r->skel->maps.flows), "+", said);
	say_flows(&t, bpf_map__fd(r->skel->maps.embryonic), "", said);
	return said;
}

const char *rig_events(struct rig *r)
{
	static const char *const types[] = {
#define X(name, text) #name,
		EVENTS(X)
#undef X
	};
	static char said[16384];
	struct text t = { said, sizeof(said) };

	*said = 0;
	rig_drain(r);
	for (unsigned i = 0; i < r->events_n; i++) {
		const struct event *e = &r->events[i];

		say(&t, "%s%s", i ? "; " : "", e->type < EVENTS_NR ? types[e->type] : "?");
		if (e->type != EVENT_none)
			say(&t, " %u>%u %uB %up", e->src_port, e->dst_port, e->bytes, e->packets);
		for (unsigned k = 0; e->cause && k <= i; k++)
			if (k == i ||
			    (r->events[k].stamp == e->cause && r->events[k].dir == DIR_OUT)) {
				say(&t, k == i ? " #?" : " #%u", k + 1);
				break;
			}
		if (run_packets(e->ended))
			say(&t, " ended %up %uB", run_packets(e->ended), run_bytes(e->ended));
	}
	return said;
}

/* How many packets a stage must have been given, from what became of those before. */
static const char *wrong_counts(const struct counters *c, unsigned runs)
{
	const __typeof__(c->reason) *why = &c->reason;
	const struct stage_count *parse = &c->stage.parse, *node = &c->stage.node;
	const struct stage_count *flow = &c->stage.flow, *clock = &c->stage.clock;

	if (parse->seen != runs)
		return "stage parse did not see every packet once";
	if (parse->done != why->arp + why->other_ethertype + why->truncated + why->bad_header +
				   why->too_many_headers + why->fragment_unknown)
		return "packets end in stage parse without their reason";
	if (node->seen != runs - parse->done)
		return "packets are lost between parse and node";
	if (node->done != why->no_node + why->other_host)
		return "packets end in stage node without their reason";
	if (flow->seen != node->seen - node->done || flow->done < why->flow_refused)
		return "packets are lost between node and flow";
	if (clock->seen != flow->seen - flow->done || clock->done)
		return "packets are lost between flow and clock";
	if (parse->verdict || node->verdict || flow->verdict || clock->verdict)
		return "a stage decided over a packet";
	return NULL;
}

const char *rig_wrong(struct rig *r)
{
	struct counters in = rig_count(r, DIR_IN), out = rig_count(r, DIR_OUT);
	const char *wrong = wrong_counts(&in, r->runs[DIR_IN]);

	if (!wrong)
		wrong = wrong_counts(&out, r->runs[DIR_OUT]);
	if (wrong)
		return wrong;
	rig_drain(r);
	if (r->changed)
		return "a packet came out other than it went in";
	if (r->disorder)
		return "a record's stamp is not above what must be before it";
	return NULL;
}

static void conn_begin(struct frame *f, const struct conn *c, enum dir dir)
{
	if (dir == DIR_OUT)
		frame_ip(f, c->v6, c->local, c->remote);
	else
		frame_ip(f, c->v6, c->remote, c->local);
}

static int conn_run(struct rig *r, struct frame *f, const struct conn *c, enum dir dir,
		    unsigned payload)
{
	frame_payload(f, payload);
	frame_end(f);
	if (c->segments > 1) {
		f->gso_segs = c->segments;
		f->gso_size = payload / c->segments + 1;
	}
	return rig_run(r, f, (dir == DIR_OUT ? OUT : IN) | c->clock | c->how);
}

int conn_tcp(struct rig *r, const struct conn *c, enum dir dir, __u8 flags, __u32 seq,
	     unsigned payload)
{
	static struct frame f;
	bool out = dir == DIR_OUT;

	conn_begin(&f, c, dir);
	frame_tcp(&f, out ? c->local_port : c->remote_port, out ? c->remote_port : c->local_port,
		  seq, flags, 12);
	return conn_run(r, &f, c, dir, payload);
}

int conn_udp(struct rig *r, const struct conn *c, enum dir dir, unsigned payload)
{
	static struct frame f;
	bool out = dir == DIR_OUT;

	conn_begin(&f, c, dir);
	frame_udp(&f, out ? c->local_port : c->remote_port, out ? c->remote_port : c->local_port);
	return conn_run(r, &f, c, dir, payload);
}

static void conn_address(__u8 to[16], unsigned host, bool v6)
{
	static const __u8 v4_prefix[12] = { [10] = 0xff, 0xff };
	static const __u8 v6_prefix[12] = { 0xfd, 0, 0, 0, 0x86, 0xdd };

	memcpy(to, v6 ? v6_prefix : v4_prefix, 12);
	put32(to + 12, v6 ? host : 8 << 24 | host);
}

enum rig_where conn_flow(const struct rig *r, const struct conn *c, __u8 proto, struct flow *f)
{
	struct flow_key key = { .local_port = c->local_port,
				.remote_port = c->remote_port,
				.node = c->clock + 1,
				.proto = proto };

	conn_address(key.local, c->local, c->v6);
	conn_address(key.remote, c->remote, c->v6);
	return rig_flow(r, &key, f);
}
