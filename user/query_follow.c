// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark query --follow`: journals read on as they grow, in order of arrival. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "log.h"
#include "query.h"

/* Where a directory is not told of (a network's file system), it is looked at so often. */
#define LOOK_MS 250

/* A packet can be read so long after its time at the latest. */
#define ARRIVAL_NS 1000000000ULL

/* A segment that is, or was when last looked, being written. */
struct followed {
	struct segment segment;
	__u32 entries; /* seen */
	__u64 from;    /* bytes of it were in the answer before */
};

struct following {
	struct query *q;
	struct query_sink *sink;
	struct followed **at;
	__u32 n, room;
	__u64 *ended; /* of those that have, what is left of their paths: sorted */
	__u32 ended_n, ended_room;
	int watch;
};

static __u64 path_hash(const char *path)
{
	return XXH3_64bits(path, strlen(path));
}

static int hash_compare(const void *a, const void *b)
{
	const __u64 *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* What there was when the answer before was given, this has to go on from; nothing else. */
static bool is_news(const struct following *f, const char *path, const struct store_name *name,
		    __u64 *from)
{
	const struct gather *m = &f->q->gather;
	char whole[4400];
	__u64 hash;

	snprintf(whole, sizeof(whole), "%s/%s", path, name->base);
	hash = path_hash(whole);
	*from = 0;
	if (f->ended_n && bsearch(&hash, f->ended, f->ended_n, sizeof(hash), hash_compare))
		return false;
	for (__u32 i = 0; i < f->n; i++)
		if (!strcmp(f->at[i]->segment.path, whole))
			return false;
	for (__u32 i = 0; i < m->open_n; i++) {
		if (strcmp(m->open[i].path, whole))
			continue;
		*from = m->open[i].end;
		return true;
	}
	return (name->journal && !name->index) || strcmp(name->base, m->newest) > 0;
}

static int segment_follow(struct following *f, int dir, const char *path, const char *base,
			  __u64 from)
{
	struct followed *new = calloc(1, sizeof(*new));
	int err;

	if (!new || array_grow((void **)&f->at, &f->room, f->n + 1, sizeof(struct followed *))) {
		free(new);
		return -ENOMEM;
	}
	err = segment_open(&new->segment, dir, path, base);
	if (!err)
		err = segment_open_data(&new->segment);
	if (err) {
		if (err != -ENOENT)
			gather_wrong(&f->q->gather, &new->segment);
		segment_close(&new->segment);
		free(new);
		return 0;
	}
	new->from = from;
	f->at[f->n++] = new;
	return 0;
}

/* Segments that began since the last look; sealed ones too, if they began and ended in it. */
static int directory_look(const char *path, int dir, void *ctx)
{
	struct following *f = ctx;
	struct store_names names;
	int err = store_list(dir, &names);
	__u64 from;

	if (f->watch >= 0)
		inotify_add_watch(f->watch, path, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE);
	for (__u32 i = 0; i < names.n && !err; i++)
		if ((names.at[i].journal || names.at[i].index) &&
		    is_news(f, path, &names.at[i], &from))
			err = segment_follow(f, dir, path, names.at[i].base, from);
	free(names.at);
	return err;
}

static int packet_follow(struct following *f, struct segment *s, __u64 ref)
{
	struct gather_item item;
	struct gathered packet;
	int fits = gather_look(&f->q->gather, s, ref, &item), err;

	if (fits <= 0)
		return fits;
	packet = (struct gathered){ .segment = s,
				    .position = item.position,
				    .half = item.half,
				    .wall_ns = item.wall_ns,
				    .stamp = item.stamp };
	err = sink_packet(f->sink, &packet);
	if (!err)
		f->q->found++;
	return err;
}

static int segment_advance(struct following *f, struct followed *one)
{
	struct segment *s = &one->segment;
	struct index_refs refs = {};
	bool any;
	int err = segment_refresh(s);

	if (!err && segment_packets(s) > one->entries) {
		err = segment_match(s, f->q->expr, &any);
		if (!err && any)
			err = segment_find(s, 0, ~0ULL, one->entries, &refs);
		one->entries = segment_packets(s);
	}
	for (__u32 i = 0; i < refs.n && !err; i++) {
		if (query_cancelled || (f->q->limit && f->q->found >= f->q->limit))
			break;
		if ((refs.at[i] >> 32) * CATALOG_UNIT >= one->from)
			err = packet_follow(f, s, refs.at[i]);
	}
	free(refs.at);
	if (err == -EBADMSG) {
		gather_wrong(&f->q->gather, s);
		one->entries = segment_packets(s);
		err = 0;
	}
	return err;
}

/* The journal is unlinked once the index is there; what was in it last is read before. */
static bool has_ended(const struct followed *one)
{
	char name[4500];

	snprintf(name, sizeof(name), "%s" STORE_JOURNAL, one->segment.path);
	return one->segment.sealed || access(name, F_OK);
}

/* A follower may run for months: of what has ended no more is kept than tells it from news. */
static int forget(struct following *f, struct followed *one)
{
	if (array_grow((void **)&f->ended, &f->ended_room, f->ended_n + 1, sizeof(*f->ended)))
		return -ENOMEM;
	f->ended[f->ended_n++] = path_hash(one->segment.path);
	segment_close(&one->segment);
	free(one);
	return 0;
}

static int look(struct following *f)
{
	__u32 left = 0, before = f->ended_n;
	int err = 0;

	for (unsigned i = 0; i < f->q->directories_n && !err; i++)
		err = gather_directories(f->q->directories[i], directory_look, f);
	for (__u32 i = 0; i < f->n; i++) {
		struct followed *one = f->at[i];
		bool ended = !err && has_ended(one);

		if (!err)
			err = segment_advance(f, one);
		if (err || !ended || forget(f, one))
			f->at[left++] = one;
	}
	f->n = left;
	if (f->ended_n > before)
		qsort(f->ended, f->ended_n, sizeof(*f->ended), hash_compare);
	return err;
}

static void news_wait(int watch)
{
	struct pollfd poller = { .fd = watch, .events = POLLIN };
	char events[4096];

	if (poll(&poller, 1, LOOK_MS) > 0)
		while (read(watch, events, sizeof(events)) > 0)
			;
}

/*
 * Nothing of what is asked for can come any more: what was on its way at that time has arrived. A
 * node whose clock is behind ours has no say in it, as it has none in what --until means.
 */
static bool is_over(const struct query *q)
{
	struct timespec now;
	__u64 now_ns;

	if (q->limit && q->found >= q->limit)
		return true;
	clock_gettime(CLOCK_REALTIME, &now);
	now_ns = (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
	return now_ns > ARRIVAL_NS && now_ns - ARRIVAL_NS > q->gather.to_ns;
}

int query_follow(struct query *q, struct query_sink *sink)
{
	struct following f = { .q = q, .sink = sink };
	int err = 0;

	f.watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	for (unsigned i = 0; i < q->directories_n && !err; i++)
		err = gather_directories(q->directories[i], directory_look, &f);
	for (bool over = false; !err && !query_cancelled && !over;) {
		over = is_over(q); /* before the last look: what came until then is in it */
		err = look(&f);
		if (!err)
			err = sink_flush(sink);
		if (!err && !query_cancelled && !over && !is_over(q))
			news_wait(f.watch);
	}
	for (__u32 i = 0; i < f.n; i++) {
		segment_close(&f.at[i]->segment);
		free(f.at[i]);
	}
	free(f.at);
	free(f.ended);
	if (f.watch >= 0)
		close(f.watch);
	return err;
}
