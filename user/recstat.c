// SPDX-License-Identifier: GPL-2.0-only
/* What is told of recording, class by class: counts, retention, loss as a rate. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/record.h"
#include "appender.h"
#include "log.h"
#include "packets.h"
#include "physical.h"
#include "recstat.h"

struct recstat {
	const struct tidemark *t;
	struct packets *packets;
	struct appender
		*file; /* of its own thread: a disk that hangs stops no ring from being emptied */
	struct out *out;
	__u64 every_ns, last_ns;
	struct tally last[CLASSES + 1]; /* at the end of the last interval */
	struct retention retained[CLASSES + 1];
};

enum {
	R_SHOW,
	R_WALL,
	R_CLASS,
	R_CUTOFF,
	R_INTERVAL,
	R_STORED,
	R_STORED_BYTES,
	R_CUT,
	R_CUT_BYTES,
	R_SAMPLED,
	R_LOST,
	R_LOST_BYTES,
	R_LOST_PPM,
	R_MEM,
	R_MEM_NS,
	R_DISK,
	R_DISK_FILES,
	R_DISK_NS,
};

const struct out_column recstat_columns[] = {
	[R_SHOW] = { .key = "show" },
	[R_WALL] = { .key = "wall" },
	[R_CLASS] = { "class", "CLASS", 20, 6, 0 },
	[R_CUTOFF] = { "cutoff_bytes", "CUTOFF", 7, 0, OUT_RIGHT },
	[R_INTERVAL] = { .key = "interval_ns" },
	[R_STORED] = { "stored_packets", "STORED", 11, 0, OUT_RIGHT },
	[R_STORED_BYTES] = { "stored_bytes", "BYTES", 7, 0, OUT_RIGHT },
	[R_CUT] = { "cut_packets", "CUT", 11, 0, OUT_RIGHT },
	[R_CUT_BYTES] = { "cut_bytes", "BYTES", 7, 0, OUT_RIGHT },
	[R_SAMPLED] = { "sampled_packets", "SAMPLED", 8, 0, OUT_RIGHT | OUT_OPTIONAL },
	[R_LOST] = { "lost_packets", "LOST", 9, 0, OUT_RIGHT },
	[R_LOST_BYTES] = { .key = "lost_bytes" },
	[R_LOST_PPM] = { "lost_ppm", "PPM", 7, 0, OUT_RIGHT },
	[R_MEM] = { "mem_bytes", "MEMORY", 7, 0, OUT_RIGHT },
	[R_MEM_NS] = { "mem_ns", "SPAN", 6, 0, OUT_RIGHT },
	[R_DISK] = { "disk_bytes", "DISK", 7, 0, OUT_RIGHT },
	[R_DISK_FILES] = { "disk_files", "FILES", 6, 0, OUT_RIGHT | OUT_OPTIONAL },
	[R_DISK_NS] = { "disk_ns", "SPAN", 6, 0, OUT_RIGHT },
	{},
};

static int tally_read(const struct tidemark *t, __u32 slot, struct tally *sum)
{
	return tidemark_sum(t, MAP_tallies, slot, (__u64 *)sum, sizeof(*sum));
}

static __u32 ppm(__u64 lost, __u64 stored)
{
	return lost ? lost * 1000000.0 / (lost + stored) : 0;
}

/* Counts as they are given: of an interval, or since the datapath is up. */
static int row(struct out *out, const char *class_name, __u64 cutoff, const struct tally *n,
	       const struct retention *held)
{
	out_str(out, R_SHOW, "record");
	out_str(out, R_CLASS, class_name);
	if (cutoff != CLASS_WHOLE)
		out_bytes(out, R_CUTOFF, cutoff);
	out_u64(out, R_STORED, n->stored_packets);
	out_bytes(out, R_STORED_BYTES, n->stored_bytes);
	out_u64(out, R_CUT, n->cut_packets);
	out_bytes(out, R_CUT_BYTES, n->cut_bytes);
	out_u64(out, R_SAMPLED, n->sampled_packets);
	out_u64(out, R_LOST, n->lost_packets + held->lost_packets);
	out_bytes(out, R_LOST_BYTES, n->lost_bytes + held->lost_bytes);
	out_u64(out, R_LOST_PPM, held->lost_ppm);
	out_bytes(out, R_MEM, held->mem_bytes);
	out_span(out, R_MEM_NS, held->mem_ns);
	out_bytes(out, R_DISK, held->disk_bytes);
	out_u64(out, R_DISK_FILES, held->disk_files);
	out_span(out, R_DISK_NS, held->disk_ns);
	return out_row(out);
}

static void retention_read(struct recstat *s, __u32 slot, struct retention *r)
{
	__u64 now = physical_now_ns();
	struct packets_stats p;

	memset(r, 0, sizeof(*r));
	if (slot >= CLASSES)
		return;
	packets_stats(s->packets, slot, &p);
	r->mem_bytes = p.waiting_bytes;
	r->mem_ns = p.waiting_since_ns && p.waiting_since_ns < now ? now - p.waiting_since_ns : 0;
	r->disk_bytes = p.disk.disk_bytes;
	r->disk_files = p.disk.files;
	if (p.disk.newest_ns > p.disk.oldest_ns && p.disk.oldest_ns)
		r->disk_ns = p.disk.newest_ns - p.disk.oldest_ns;
	r->lost_packets = p.lost_packets;
	r->lost_bytes = p.lost_bytes;
}

static void tally_less(struct tally *n, const struct tally *before)
{
	for (size_t i = 0; i < sizeof(*n) / sizeof(__u64); i++)
		((__u64 *)n)[i] -= ((const __u64 *)before)[i];
}

static void line(struct recstat *s, __u32 slot, const struct tally *now, struct retention *held,
		 __u64 interval_ns)
{
	static const struct class none = { .cutoff = CLASS_WHOLE, .name = "-" };
	struct retention moved = *held;
	struct tally n = *now;
	struct class c = none;

	tally_less(&n, &s->last[slot]);
	moved.lost_packets -= s->retained[slot].lost_packets;
	moved.lost_bytes -= s->retained[slot].lost_bytes;
	held->lost_ppm = moved.lost_ppm =
		ppm(n.lost_packets + moved.lost_packets, n.stored_packets - moved.lost_packets);
	if (slot < CLASSES)
		bpf_map_lookup_elem(s->t->map[MAP_classes], &slot, &c);
	else if (!n.cut_packets)
		return;
	out_wall(s->out, R_WALL, physical_now_ns());
	out_u64(s->out, R_INTERVAL, interval_ns);
	row(s->out, c.name, c.cutoff, &n, &moved);
}

void recstat_leave(struct recstat *s, __u32 slot)
{
	struct tally now, *none = calloc(s->t->cpus, sizeof(*none));
	const struct retention nothing = {};
	const struct class nobody = {};
	struct retention held;

	retention_read(s, slot, &held);
	if (!tally_read(s->t, slot, &now) && memcmp(&now, &s->last[slot], sizeof(now)))
		line(s, slot, &now, &held, physical_monotonic_ns() - s->last_ns);
	bpf_map_update_elem(s->t->map[MAP_classes], &slot, &nobody, BPF_ANY);
	bpf_map_update_elem(s->t->map[MAP_retentions], &slot, &nothing, BPF_ANY);
	if (none)
		bpf_map_update_elem(s->t->map[MAP_tallies], &slot, none, BPF_ANY);
	free(none);
	memset(&s->retained[slot], 0, sizeof(s->retained[slot]));
	if (tally_read(s->t, slot, &s->last[slot]))
		memset(&s->last[slot], 0, sizeof(s->last[slot]));
	if (appender_ready(s->file)) /* else it goes with what comes next */
		appender_send(s->file);
}

void recstat_second(struct recstat *s, __u64 now_ns)
{
	__u64 at = now_ns ? now_ns : physical_monotonic_ns();
	/* While the disk has not taken the lines before, an interval grows longer. */
	bool due = !now_ns || (at >= s->last_ns + s->every_ns && appender_ready(s->file));
	struct retention held;
	struct packets_stats p;
	struct tally now;

	if (!now_ns)
		appender_wait(s->file);
	for (__u32 slot = 0; slot <= CLASSES; slot++) {
		if (slot < CLASSES) {
			packets_stats(s->packets, slot, &p);
			if (!p.known)
				continue;
		}
		retention_read(s, slot, &held);
		held.lost_ppm = s->retained[slot].lost_ppm;
		if (due && !tally_read(s->t, slot, &now)) {
			line(s, slot, &now, &held, at - s->last_ns);
			s->last[slot] = now;
			s->retained[slot] = held;
		}
		bpf_map_update_elem(s->t->map[MAP_retentions], &slot, &held, BPF_ANY);
	}
	if (!due)
		return;
	s->last_ns = at;
	appender_send(s->file);
}

struct recstat *recstat_open(const struct tidemark *t, struct packets *packets, const char *dir,
			     __u64 every_ns)
{
	struct recstat *s = calloc(1, sizeof(*s));
	char path[4096];

	if (!s)
		return NULL;
	s->t = t;
	s->packets = packets;
	s->every_ns = every_ns;
	s->last_ns = physical_monotonic_ns();
	for (__u32 slot = 0; slot <= CLASSES; slot++)
		tally_read(t, slot, &s->last[slot]);
	snprintf(path, sizeof(path), "%s/stats.jsonl", dir);
	s->file = appender_open(path);
	if (s->file)
		s->out = out_open(appender_stream(s->file), recstat_columns, OUT_JSON | OUT_STREAM);
	if (s->out) {
		out_flush_lines(s->out, true);
		return s;
	}
	log_error("%s: %s", path, strerror(errno));
	recstat_close(s);
	return NULL;
}

void recstat_close(struct recstat *s)
{
	if (!s)
		return;
	if (s->out)
		out_close(s->out);
	if (s->file)
		appender_close(s->file);
	free(s);
}

int recstat_each(const struct tidemark *t, recstat_fn fn, void *ctx)
{
	struct retention held = {};
	struct tally n;
	struct class c;

	for (__u32 slot = 0; slot <= CLASSES; slot++) {
		c = (struct class){ .cutoff = CLASS_WHOLE, .name = "-" };
		if (slot < CLASSES && bpf_map_lookup_elem(t->map[MAP_classes], &slot, &c))
			return -errno;
		if (!*c.name || tally_read(t, slot, &n) || (slot == CLASSES && !n.cut_packets))
			continue;
		bpf_map_lookup_elem(t->map[MAP_retentions], &slot, &held);
		fn(&c, &n, &held, ctx);
	}
	return 0;
}

static void row_show(const struct class *c, const struct tally *counts,
		     const struct retention *held, void *ctx)
{
	row(ctx, c->name, c->cutoff, counts, held);
}

int recstat_show(const struct tidemark *t, struct out *out)
{
	return recstat_each(t, row_show, out);
}
