// SPDX-License-Identifier: GPL-2.0-only
/* `--write DIR`: files of events, rotated, compressed once closed, deleted oldest first. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gaps.h"
#include "log.h"
#include "physical.h"
#include "shelf.h"
#include "sinks.h"
#include "text.h"

#define BUFFER_BYTES (64 << 10)
#define FLUSH_NS (100ULL * 1000 * 1000)
#define RETRY_NS (1000ULL * 1000 * 1000)

/* A line in the buffer: whose it is, in case the disk does not take it. */
struct owed {
	size_t end;
	__u32 node;
	__u64 stamp, wall_ns, lost; /* a gap's own count */
};

struct write_sink {
	struct sink sink;
	__u64 file_bytes, file_age_ns, budget_bytes;
	struct lines *lines;
	struct shelf *shelf;
	char *where;
	int file;
	char name[SHELF_NAME_MAX];
	__u64 size, opened_ns, flushed_ns, retry_ns;
	struct text buffer;
	struct owed *owed;
	size_t owed_n, owed_size;
	struct gaps gaps;
	bool full; /* what was said: the disk takes no more */
};

#define GAP_DISK "the disk had no room: free some, or lower the budget"

/* ---- the file ------------------------------------------------------------------------------ */

static int file_open(struct write_sink *w, __u64 now_ns)
{
	w->file = shelf_create(w->shelf, w->name);
	if (w->file < 0)
		return w->file;
	w->size = 0;
	w->opened_ns = now_ns;
	return 0;
}

static void file_close(struct write_sink *w)
{
	if (w->file < 0)
		return;
	close(w->file);
	w->file = -1;
	shelf_closed(w->shelf, w->name);
}

/* Whole lines or none: a part of one is taken back. -errno. */
static int lines_write(struct write_sink *w, const char *at, size_t len)
{
	size_t done = 0;
	ssize_t n;
	int err;

	while (done < len) {
		n = write(w->file, at + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			err = n ? -errno : -ENOSPC;
			if (ftruncate(w->file, w->size))
				log_warn("%s: %s", w->where, strerror(errno));
			lseek(w->file, w->size, SEEK_SET);
			return err;
		}
		done += n;
	}
	w->size += len;
	return 0;
}

static int gap_write(const char *line, size_t len, void *ctx)
{
	struct write_sink *w = ctx;

	return lines_write(w, line, len);
}

/* ---- the buffer ------------------------------------------------------------------------------ */

static void buffer_lose(struct write_sink *w)
{
	for (size_t i = 0; i < w->owed_n; i++) {
		const struct owed *owed = &w->owed[i];
		__u64 lost = owed->lost ? owed->lost : 1;

		gaps_add(&w->gaps, owed->node, owed->stamp, owed->wall_ns, lost);
		w->sink.stats.lost += lost;
		w->sink.stats.events--;
	}
}

static void trouble(struct write_sink *w, int err, __u64 now_ns)
{
	w->sink.stats.errors++;
	w->retry_ns = now_ns + RETRY_NS;
	if (!w->full)
		log_error("%s: %s; events are not kept there until that changes", w->where,
			  strerror(-err));
	w->full = true;
}

static void buffer_flush(struct write_sink *w, __u64 now_ns)
{
	int err = 0;

	w->flushed_ns = now_ns;
	if (w->full && now_ns < w->retry_ns)
		err = -ENOSPC;
	else if (w->file < 0 && (w->buffer.len || gaps_any(&w->gaps)))
		err = file_open(w, now_ns);
	if (!err && gaps_any(&w->gaps))
		err = gaps_tell(&w->gaps, w->lines, GAP_DISK, gap_write, w);
	if (!err && w->buffer.len)
		err = lines_write(w, w->buffer.at, w->buffer.len);
	if (err) {
		if (!w->full || now_ns >= w->retry_ns)
			trouble(w, err, now_ns);
		buffer_lose(w);
	} else if (w->full) {
		log_info("%s: events are kept again", w->where);
		w->full = false;
	}
	w->buffer.len = 0;
	w->owed_n = 0;
	w->sink.stats.queued = 0;
	shelf_budget(w->shelf, w->budget_bytes, w->file < 0 ? 0 : w->size);
}

static int owed_add(struct write_sink *w, const struct sink_event *event)
{
	struct owed *grown;

	if (w->owed_n == w->owed_size) {
		size_t size = w->owed_size ? 2 * w->owed_size : 256;

		grown = realloc(w->owed, size * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		w->owed = grown;
		w->owed_size = size;
	}
	w->owed[w->owed_n++] = (struct owed){
		.node = event->node,
		.stamp = event->stamp,
		.wall_ns = event->wall_ns,
		.lost = event->joined ? 0 : event->lost,
	};
	return 0;
}

static int write_event(struct sink *sink, const struct sink_event *event)
{
	struct write_sink *w = (struct write_sink *)sink;

	sink->stats.events++;
	if (owed_add(w, event)) {
		gaps_add(&w->gaps, event->node, event->stamp, event->wall_ns, 1);
		sink->stats.lost++;
		return 0;
	}
	text_add(&w->buffer, event->line, event->len);
	if (w->buffer.err) {
		buffer_lose(w);
		text_free(&w->buffer);
		memset(&w->buffer, 0, sizeof(w->buffer));
		w->owed_n = 0;
	}
	sink->stats.queued = w->buffer.len;
	if (w->buffer.len >= BUFFER_BYTES)
		buffer_flush(w, physical_monotonic_ns());
	if (w->file >= 0 && w->size >= w->file_bytes)
		file_close(w);
	return 0;
}

static void write_tick(struct sink *sink, __u64 now_ns)
{
	struct write_sink *w = (struct write_sink *)sink;

	if (now_ns - w->flushed_ns >= FLUSH_NS && (w->buffer.len || gaps_any(&w->gaps)))
		buffer_flush(w, now_ns);
	if (w->file >= 0 && w->size &&
	    (w->size >= w->file_bytes || now_ns - w->opened_ns >= w->file_age_ns))
		file_close(w);
	shelf_tick(w->shelf);
}

static int write_close(struct sink *sink, int status)
{
	struct write_sink *w = (struct write_sink *)sink;

	w->retry_ns = 0;
	buffer_flush(w, physical_monotonic_ns());
	file_close(w);
	if (shelf_close(w->shelf) || w->full)
		status = 1;
	if (sink->stats.lost)
		log_warn("%s: %llu events were not kept", w->where,
			 (unsigned long long)sink->stats.lost);
	text_free(&w->buffer);
	gaps_free(&w->gaps);
	free(w->owed);
	free(w->where);
	free(w);
	return status;
}

struct sink *sink_write_open(const struct sink_write_options *o, struct lines *lines)
{
	struct write_sink *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->file_bytes = o->file_bytes;
	w->file_age_ns = o->file_age_ns;
	w->budget_bytes = o->budget_bytes;
	w->lines = lines;
	w->file = -1;
	w->where = strdup(o->dir);
	w->shelf = w->where ? shelf_open(w->where) : NULL;
	if (!w->shelf) {
		free(w->where);
		free(w);
		return NULL;
	}
	w->sink = (struct sink){
		.kind = "write",
		.where = w->where,
		.lines = true,
		.event = write_event,
		.tick = write_tick,
		.close = write_close,
	};
	return &w->sink;
}
