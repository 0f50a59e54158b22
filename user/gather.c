// SPDX-License-Identifier: GPL-2.0-only
/* Packets of many segments in one order: a heap of segments, and in each a small heap of packets. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gather.h"
#include "joint.h"
#include "log.h"
#include "secret.h"

void gather_wrong(struct gather *m, const struct segment *s)
{
	bool keyless = s->why == secret_error(-ENOKEY) || s->why == secret_error(-EKEYREJECTED);

	m->failed = true;
	if (keyless && m->keyless == s->why)
		return;
	if (keyless)
		m->keyless = s->why;
	log_error("%s: %s", s->path, s->why ? s->why : "cannot be read");
}

/* ---- which segments --------------------------------------------------------------------------- */

int gather_directories(const char *path, int (*each)(const char *path, int dir, void *ctx),
		       void *ctx)
{
	struct dirent **entries;
	char below[4352];
	int err = 0, n, dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	n = dir < 0 ? -1 : scandir(path, &entries, NULL, alphasort);
	if (n < 0) {
		err = -errno;
		log_error("%s: %m", path);
		if (dir >= 0)
			close(dir);
		return err;
	}
	err = each(path, dir, ctx);
	for (int i = 0; i < n; i++) {
		struct stat st;
		int fd = -1;

		if (!err && entries[i]->d_name[0] != '.' &&
		    !fstatat(dir, entries[i]->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
		    S_ISDIR(st.st_mode))
			fd = openat(dir, entries[i]->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0) {
			snprintf(below, sizeof(below), "%s/%s", path, entries[i]->d_name);
			err = each(below, fd, ctx);
			close(fd);
		}
		free(entries[i]);
	}
	free(entries);
	close(dir);
	return err;
}

static void newest_note(struct gather *m, const char *base)
{
	if (strcmp(base, m->newest) > 0)
		snprintf(m->newest, sizeof(m->newest), "%s", base);
}

/* For those who go on from here when there is more. */
static int segment_note(struct gather *m, const struct segment *s)
{
	newest_note(m, s->base);
	if (s->sealed)
		return 0;
	if (array_grow((void **)&m->open, &m->open_room, m->open_n + 1, sizeof(*m->open)))
		return -ENOMEM;
	memcpy(m->open[m->open_n].path, s->path, sizeof(s->path));
	m->open[m->open_n++].end = s->catalog.end;
	return 0;
}

static int gap_note(struct gather *m, const struct catalog_gap *gap, const char *node,
		    const char *host)
{
	struct gather_gap *to;

	if (gap->from_ns > m->to_ns || gap->to_ns < m->from_ns)
		return 0;
	if (array_grow((void **)&m->gaps, &m->gaps_room, m->gaps_n + 1, sizeof(*to)))
		return -ENOMEM;
	to = &m->gaps[m->gaps_n++];
	to->gap = *gap;
	snprintf(to->host, sizeof(to->host), "%s", host);
	snprintf(to->node, sizeof(to->node), "%s", node);
	return 0;
}

static int gaps_note(struct gather *m, const struct segment *s)
{
	const struct catalog *about = segment_about(s);
	int err = 0;

	for (__u32 i = 0; i < about->gaps_n && !err; i++)
		err = gap_note(m, &about->gaps[i], catalog_node_name(about, about->gaps[i].node),
			       about->host);
	return err;
}

static int gap_hear(void *ctx, const struct joint_gap *gap, const char *host)
{
	return gap_note(ctx, &gap->gap, gap->node, host);
}

struct adding {
	struct gather *m;
	__u32 source;
};

static int segment_add(struct gather *m, int dir, const char *path, const char *base, __u32 source)
{
	struct gather_cursor *c = calloc(1, sizeof(*c));
	const struct catalog *about;
	bool any = false;
	int err;

	if (!c)
		return -ENOMEM;
	err = segment_open(&c->segment, dir, path, base);
	if (err == -ENOENT && store_bare(dir, base)) {
		c->segment.why = "has no index; `record --reindex` makes it";
		err = -EBADMSG;
	}
	if (!err)
		err = segment_note(m, &c->segment);
	if (!err)
		err = gaps_note(m, &c->segment);
	about = segment_about(&c->segment);
	if (!err && segment_packets(&c->segment) && about->first_ns <= m->to_ns &&
	    about->last_ns >= m->from_ns) {
		err = segment_match(&c->segment, m->expr, &any);
		/* Held open from now on, it may be deleted and is read all the same. */
		if (!err && any)
			err = segment_open_data(&c->segment);
	}
	if (err && err != -ENOENT && err != -ENOMEM)
		gather_wrong(m, &c->segment);
	if (!err && any &&
	    array_grow((void **)&m->cursors, &m->cursors_room, m->cursors_n + 1,
		       sizeof(struct gather_cursor *)))
		err = -ENOMEM;
	if (err || !any) {
		segment_close(&c->segment);
		free(c);
		return err == -ENOMEM ? err : 0;
	}
	c->source = source;
	c->number = m->cursors_n;
	c->late = m->by_stamp ? about->late_stamp : about->late_ns;
	c->key = m->by_stamp ? about->first_stamp : about->first_ns;
	m->cursors[m->cursors_n++] = c;
	return 0;
}

static int gap_compare(const void *a, const void *b)
{
	const struct catalog_gap *x = &((const struct gather_gap *)a)->gap,
				 *y = &((const struct gather_gap *)b)->gap;

	if (x->from_ns != y->from_ns)
		return x->from_ns < y->from_ns ? -1 : 1;
	return (x->to_ns > y->to_ns) - (x->to_ns < y->to_ns);
}

/* Of a question that leaves nothing out, no joint index could say more than each segment's. */
int gather_spare(struct gather *m, int dir, const char *path, const struct store_names *names,
		 bool **spared)
{
	struct joint_question question = {
		.expr = m->expr, .from_ns = m->from_ns, .to_ns = m->to_ns, .spans = m->spans
	};
	struct joint_hearer hearer = { .gap = gap_hear, .ctx = m };
	int err = 0;

	*spared = NULL;
	if (m->expr || m->from_ns || m->to_ns != ~0ULL)
		err = joints_ask(dir, path, names, &question, &hearer, spared);
	m->joints += hearer.joints;
	return err;
}

static int directory_add(const char *path, int dir, void *ctx)
{
	struct adding *adding = ctx;
	struct gather *m = adding->m;
	struct store_names names;
	bool *spared = NULL;
	__u32 gaps = m->gaps_n;
	int err = store_list(dir, &names);

	if (!err)
		err = gather_spare(m, dir, path, &names, &spared);
	for (__u32 i = 0; i < names.n && !err; i++) {
		if (!names.at[i].index && !names.at[i].journal && !store_has_data(&names.at[i]))
			continue;
		m->segments++;
		if (spared && spared[i]) {
			newest_note(m, names.at[i].base);
			continue;
		}
		m->opened++;
		err = segment_add(m, dir, path, names.at[i].base, adding->source);
	}
	/* Whoever told of them. */
	if (m->gaps_n > gaps)
		qsort(m->gaps + gaps, m->gaps_n - gaps, sizeof(*m->gaps), gap_compare);
	free(spared);
	free(names.at);
	return err;
}

int gather_add(struct gather *m, const char *path, __u32 source)
{
	struct adding adding = { m, source };

	return gather_directories(path, directory_add, &adding);
}

/* ---- one segment's packets -------------------------------------------------------------------- */

static bool item_before(const struct gather_item *a, const struct gather_item *b)
{
	if (a->key != b->key)
		return a->key < b->key;
	if (a->second != b->second)
		return a->second < b->second;
	return a->position < b->position;
}

static int item_push(struct gather_cursor *c, const struct gather_item *item)
{
	__u32 at = c->heap_n, up;

	if (array_grow((void **)&c->heap, &c->heap_room, at + 1, sizeof(*c->heap)))
		return -ENOMEM;
	c->heap_n++;
	for (; at; at = up) {
		up = (at - 1) / 2;
		if (!item_before(item, &c->heap[up]))
			break;
		c->heap[at] = c->heap[up];
	}
	c->heap[at] = *item;
	return 0;
}

static struct gather_item item_pop(struct gather_cursor *c)
{
	struct gather_item first = c->heap[0], last = c->heap[--c->heap_n];
	__u32 at = 0, down;

	for (; (down = at * 2 + 1) < c->heap_n; at = down) {
		if (down + 1 < c->heap_n && item_before(&c->heap[down + 1], &c->heap[down]))
			down++;
		if (!item_before(&c->heap[down], &last))
			break;
		c->heap[at] = c->heap[down];
	}
	c->heap[at] = last;
	return first;
}

int gather_look(const struct gather *m, struct segment *s, __u64 ref, struct gather_item *item)
{
	const struct catalog_track *t;
	struct pcapng_packet packet;
	struct expr_packet q;
	int err;

	item->position = (__u32)(ref >> 32);
	item->half = (__u32)ref;
	err = segment_packet(s, item->position, &packet, &item->stamp);
	if (err)
		return err;
	item->wall_ns = packet.wall_ns;
	item->key = m->by_stamp ? item->stamp : item->wall_ns;
	item->second = m->by_stamp ? item->wall_ns : item->stamp;
	if (item->wall_ns < m->from_ns || item->wall_ns > m->to_ns)
		return 0;
	if (!m->of_packets)
		return 1;
	t = segment_track(s, item->half >> 1);
	if (!t)
		return -EBADMSG;
	segment_question(s, t, item->half & 1, &q);
	q.wall_ns = item->wall_ns;
	q.stamp = item->stamp;
	q.wire = packet.wire;
	q.origins = m->causal ? m->causal(m->causal_ctx, s, &t->track, item) : 0;
	return expr_match(m->expr, &q);
}

/* Reads on until the earliest packet at hand is the earliest there is. */
static int cursor_fill(struct gather *m, struct gather_cursor *c)
{
	struct gather_item item;
	int fits;

	while (c->next < c->refs.n &&
	       (!c->heap_n || c->late > c->top || c->heap[0].key > c->top - c->late)) {
		fits = gather_look(m, &c->segment, c->refs.at[c->next++], &item);
		m->looked++;
		if (fits < 0)
			return fits;
		if (item.key > c->top)
			c->top = item.key;
		if (fits && item_push(c, &item))
			return -ENOMEM;
	}
	if (c->heap_n) {
		c->key = c->heap[0].key;
		c->second = c->heap[0].second;
	}
	return 0;
}

static void cursor_close(struct gather_cursor *c)
{
	segment_close(&c->segment);
	free(c->refs.at);
	free(c->heap);
	c->refs.at = NULL;
	c->heap = NULL;
	c->refs.n = c->heap_n = c->next = 0;
}

/* ---- all of them ------------------------------------------------------------------------------- */

static bool cursor_before(const struct gather *m, __u32 a, __u32 b)
{
	const struct gather_cursor *x = m->cursors[a], *y = m->cursors[b];

	if (x->key != y->key)
		return x->key < y->key;
	if (x->active != y->active) /* one that is not may have something yet earlier */
		return !x->active;
	if (x->second != y->second)
		return x->second < y->second;
	return a < b;
}

static void heap_push(struct gather *m, __u32 cursor)
{
	__u32 at = m->heap_n++, up;

	for (; at; at = up) {
		up = (at - 1) / 2;
		if (!cursor_before(m, cursor, m->heap[up]))
			break;
		m->heap[at] = m->heap[up];
	}
	m->heap[at] = cursor;
}

static __u32 heap_pop(struct gather *m)
{
	__u32 first = m->heap[0], last = m->heap[--m->heap_n], at = 0, down;

	for (; (down = at * 2 + 1) < m->heap_n; at = down) {
		if (down + 1 < m->heap_n && cursor_before(m, m->heap[down + 1], m->heap[down]))
			down++;
		if (!cursor_before(m, m->heap[down], last))
			break;
		m->heap[at] = m->heap[down];
	}
	m->heap[at] = last;
	return first;
}

int gather_begin(struct gather *m)
{
	m->heap = malloc((m->cursors_n + 1ULL) * sizeof(*m->heap));
	if (!m->heap)
		return -ENOMEM;
	for (__u32 i = 0; i < m->cursors_n; i++)
		heap_push(m, i);
	return 0;
}

/* What is wrong with one segment is said, and does not keep others from answering. */
static int cursor_turn(struct gather *m, struct gather_cursor *c)
{
	int err = 0;

	if (!c->active)
		err = segment_find(&c->segment, m->from_ns, m->to_ns, 0, &c->refs);
	if (!c->active && !err)
		segment_expect(&c->segment, &c->refs);
	c->active = true;
	if (!err)
		err = cursor_fill(m, c);
	if (err == -ENOMEM)
		return err;
	if (err) {
		gather_wrong(m, &c->segment);
		c->next = c->refs.n; /* what was read in order before it is good */
		if (c->heap_n) {
			c->key = c->heap[0].key;
			c->second = c->heap[0].second;
		}
	}
	return 0;
}

int gather_next(struct gather *m, struct gathered *packet)
{
	while (m->heap_n) {
		__u32 number = heap_pop(m);
		struct gather_cursor *c = m->cursors[number];
		bool was_active = c->active;
		struct gather_item item;
		int err = 0;

		if (!was_active || !c->heap_n)
			err = cursor_turn(m, c);
		if (err)
			return err;
		if (!c->heap_n) {
			cursor_close(c);
			continue;
		}
		if (!was_active) {
			heap_push(m, number);
			continue;
		}
		item = item_pop(c);
		*packet = (struct gathered){ &c->segment, c->source,	number,	   item.position,
					     item.half,	  item.wall_ns, item.stamp };
		err = cursor_turn(m, c);
		if (err)
			return err;
		heap_push(m, number);
		return 1;
	}
	return 0;
}

void gather_free(struct gather *m)
{
	for (__u32 i = 0; i < m->cursors_n; i++) {
		cursor_close(m->cursors[i]);
		free(m->cursors[i]);
	}
	free(m->cursors);
	free(m->heap);
	free(m->open);
	free(m->gaps);
}
