// SPDX-License-Identifier: GPL-2.0-only
/* Recording and queries, as metrics and as the daemon's status has them. */
#include <stdio.h>
#include <stdlib.h>

#include "metrics.h"
#include "recmetrics.h"
#include "recstat.h"

/*
 * What those who run a recorder look at: how much came, how much of it is kept, how far
 * back it reaches, and how much is missing. name, type, kind of value, value, what.
 */
#define FAMILIES(X)                                                                                \
	X(stored_packets_total, counter, u64, n->stored_packets, "Packets kept, by class.")        \
	X(stored_bytes_total, counter, u64, n->stored_bytes, "Bytes of the frames that are kept.") \
	X(cut_packets_total, counter, u64, n->cut_packets,                                         \
	  "Packets beyond a cutoff, or of no class.")                                              \
	X(cut_bytes_total, counter, u64, n->cut_bytes, "Bytes of the frames beyond a cutoff.")     \
	X(sampled_packets_total, counter, u64, n->sampled_packets,                                 \
	  "Packets beyond a cutoff that are kept all the same.")                                   \
	X(lost_packets_total, counter, u64, n->lost_packets + held->lost_packets,                  \
	  "Packets for which there was no room in ring, memory or disk.")                          \
	X(lost_bytes_total, counter, u64, n->lost_bytes + held->lost_bytes,                        \
	  "Bytes of the frames that were lost.")                                                   \
	X(lost_ratio, gauge, ppm, held->lost_ppm,                                                  \
	  "Of what was to be stored, what was lost: over the last interval.")                      \
	X(memory_bytes, gauge, u64, held->mem_bytes, "Bytes that wait for the disk.")              \
	X(memory_seconds, gauge, seconds, held->mem_ns,                                            \
	  "How long the oldest of them have waited.")                                              \
	X(disk_bytes, gauge, u64, held->disk_bytes, "Packets and indexes on disk.")                \
	X(disk_files, gauge, u64, held->disk_files, "Files of packets on disk.")                   \
	X(disk_seconds, gauge, seconds, held->disk_ns,                                             \
	  "From the first packet on disk to the last: how far back the record reaches.")

static void metric_ppm(struct text *text, __u64 ppm)
{
	char number[32];

	snprintf(number, sizeof(number), " %llu.%06llu\n", ppm / 1000000, ppm % 1000000);
	text_add_str(text, number);
}

#define X(family, type, kind, value, help)                                       \
	static void family##_write(const struct class *c, const struct tally *n, \
				   const struct retention *held, void *ctx)      \
	{                                                                        \
		(void)n, (void)held;                                             \
		metric_name(ctx, "tidemark_record_" #family);                    \
		metric_label(ctx, "class", c->name);                             \
		metric_##kind(ctx, value);                                       \
	}
FAMILIES(X)
#undef X

/* Every class as it is at one moment: each family tells of the same, and reads no map again. */
struct scrape {
	struct {
		struct class class;
		struct tally tally;
		struct retention held;
	} all[CLASSES + 1];
	size_t n;
};

static void class_take(const struct class *c, const struct tally *n, const struct retention *held,
		       void *ctx)
{
	struct scrape *scrape = ctx;

	if (scrape->n <= CLASSES) {
		scrape->all[scrape->n].class = *c;
		scrape->all[scrape->n].tally = *n;
		scrape->all[scrape->n++].held = *held;
	}
}

static void queries_write(struct text *text, const struct serve *serve)
{
	struct serve_stats s;
	const struct {
		const char *name, *type, *help;
		__u64 value;
	} all[] = {
		{ "tidemark_queries_running", "gauge", "Queries that are being answered.", 0 },
		{ "tidemark_queries_total", "counter", "Queries begun.", 1 },
		{ "tidemark_queries_refused_total", "counter",
		  "Queries beyond the limit, and connections that could not be let in.", 2 },
		{ "tidemark_queries_cancelled_total", "counter", "Queries ended by request.", 3 },
		{ "tidemark_queries_sent_bytes_total", "counter", "Bytes of answers.", 4 },
	};

	serve_stats(serve, &s);
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		const __u64 values[] = { s.running, s.queries, s.refused, s.cancelled, s.bytes };

		metric_family(text, all[i].name, all[i].type, all[i].help);
		metric_name(text, all[i].name);
		metric_u64(text, values[all[i].value]);
	}
}

void recmetrics_write(struct text *text, const struct tidemark *t, const struct serve *serve)
{
	struct scrape *scrape = calloc(1, sizeof(*scrape));

	if (scrape)
		recstat_each(t, class_take, scrape);
#define X(family, type, kind, value, help)                                                         \
	metric_family(text, "tidemark_record_" #family, #type, help);                              \
	for (size_t i = 0; scrape && i < scrape->n; i++)                                           \
		family##_write(&scrape->all[i].class, &scrape->all[i].tally, &scrape->all[i].held, \
			       text);
	FAMILIES(X)
#undef X
	free(scrape);
	queries_write(text, serve);
}

static void class_json(const struct class *c, const struct tally *n, const struct retention *held,
		       void *ctx)
{
	json_t *one = json_pack("{s:s}", "class", c->name);

#define PUT(key, value) json_object_set_new(one, key, json_integer((json_int_t)(value)))
	PUT("stored_packets", n->stored_packets);
	PUT("stored_bytes", n->stored_bytes);
	PUT("cut_packets", n->cut_packets);
	PUT("cut_bytes", n->cut_bytes);
	PUT("lost_packets", n->lost_packets + held->lost_packets);
	PUT("lost_ppm", held->lost_ppm);
	PUT("mem_bytes", held->mem_bytes);
	PUT("mem_ns", held->mem_ns);
	PUT("disk_bytes", held->disk_bytes);
	PUT("disk_ns", held->disk_ns);
#undef PUT
	json_array_append_new(ctx, one);
}

json_t *recmetrics_json(const struct tidemark *t, const struct serve *serve, const char *dir)
{
	json_t *classes = json_array();
	struct serve_stats s;

	serve_stats(serve, &s);
	recstat_each(t, class_json, classes);
	return json_pack("{s:s,s:o,s:I,s:I,s:I,s:I}", "dir", dir, "classes", classes,
			 "queries_running", (json_int_t)s.running, "queries", (json_int_t)s.queries,
			 "queries_refused", (json_int_t)s.refused, "queries_cancelled",
			 (json_int_t)s.cancelled);
}
