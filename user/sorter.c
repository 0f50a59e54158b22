// SPDX-License-Identifier: GPL-2.0-only
/* Sorts any number of records of one size in bounded memory: what does not fit goes to disk. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sorter.h"

#define FAN_IN 128 /* runs merged at once */
#define FIRST_ROOM 1024

/* A sorted stretch of the file: records from..to. */
struct run {
	uint64_t from, to;
};

struct sorter {
	size_t size;
	sorter_fn compare;
	char *records; /* in memory: all of them, or those not yet written */
	size_t n, room, most;
	int fd; /* of the runs, -1: none yet */
	struct run *runs;
	size_t runs_n, runs_room;
	uint64_t written; /* to fd, in this round of runs */
	uint64_t count;
};

const char *sorter_dir(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && *dir ? dir : "/tmp";
}

int sorter_temporary(void)
{
	const char *dir = sorter_dir();
	char path[4096];
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd < 0 ? -errno : fd;
	snprintf(path, sizeof(path), "%s/tidemark-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

struct sorter *sorter_new(size_t record_size, sorter_fn compare, size_t budget)
{
	struct sorter *sorter = calloc(1, sizeof(*sorter));

	if (!sorter)
		return NULL;
	sorter->size = record_size;
	sorter->compare = compare;
	/* qsort() takes as much again for itself. */
	sorter->most = budget / record_size / 2;
	if (sorter->most < 16)
		sorter->most = 16;
	sorter->fd = -1;
	return sorter;
}

void sorter_free(struct sorter *sorter)
{
	if (!sorter)
		return;
	if (sorter->fd >= 0)
		close(sorter->fd);
	free(sorter->records);
	free(sorter->runs);
	free(sorter);
}

static int write_all(int fd, const char *bytes, size_t len, uint64_t at)
{
	while (len) {
		ssize_t done = pwrite(fd, bytes, len, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		bytes += done;
		at += (uint64_t)done;
		len -= (size_t)done;
	}
	return 0;
}

static int read_all(int fd, char *bytes, size_t len, uint64_t at)
{
	while (len) {
		ssize_t done = pread(fd, bytes, len, (off_t)at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return done ? -errno : -EIO;
		bytes += done;
		at += (uint64_t)done;
		len -= (size_t)done;
	}
	return 0;
}

/* Logs are mostly sorted already, and then this is one look at each. */
static void records_sort(struct sorter *sorter)
{
	for (size_t i = 1; i < sorter->n; i++) {
		if (sorter->compare(sorter->records + (i - 1) * sorter->size,
				    sorter->records + i * sorter->size) > 0) {
			qsort(sorter->records, sorter->n, sorter->size, sorter->compare);
			return;
		}
	}
}

static int run_add(struct sorter *sorter, uint64_t from, uint64_t to)
{
	if (sorter->runs_n == sorter->runs_room) {
		size_t room = sorter->runs_room * 2 + 16;
		struct run *runs = reallocarray(sorter->runs, room, sizeof(*runs));

		if (!runs)
			return -ENOMEM;
		sorter->runs = runs;
		sorter->runs_room = room;
	}
	sorter->runs[sorter->runs_n++] = (struct run){ from, to };
	return 0;
}

static int records_spill(struct sorter *sorter)
{
	int err = 0;

	if (sorter->fd < 0) {
		sorter->fd = sorter_temporary();
		if (sorter->fd < 0) {
			err = sorter->fd;
			sorter->fd = -1;
			return err;
		}
	}
	records_sort(sorter);
	err = write_all(sorter->fd, sorter->records, sorter->n * sorter->size,
			sorter->written * sorter->size);
	if (!err)
		err = run_add(sorter, sorter->written, sorter->written + sorter->n);
	sorter->written += sorter->n;
	sorter->n = 0;
	return err;
}

int sorter_add(struct sorter *sorter, const void *record)
{
	if (sorter->n == sorter->room && sorter->room < sorter->most) {
		size_t room = sorter->room ? sorter->room * 2 : FIRST_ROOM;
		char *records;

		if (room > sorter->most)
			room = sorter->most;
		records = reallocarray(sorter->records, room, sorter->size);
		if (!records)
			return -ENOMEM;
		sorter->records = records;
		sorter->room = room;
	}
	if (sorter->n == sorter->room) {
		int err = records_spill(sorter);

		if (err)
			return err;
	}
	memcpy(sorter->records + sorter->n++ * sorter->size, record, sorter->size);
	sorter->count++;
	return 0;
}

/* One run being merged: its records come through a slice of the sorter's memory. */
struct source {
	struct run left; /* in the file, not yet in the slice */
	char *slice;
	size_t have, used;
};

static int source_fill(struct sorter *sorter, struct source *source, size_t room)
{
	uint64_t left = source->left.to - source->left.from;
	size_t n = left < room ? (size_t)left : room;
	int err = read_all(sorter->fd, source->slice, n * sorter->size,
			   source->left.from * sorter->size);

	source->left.from += n;
	source->have = n;
	source->used = 0;
	return err;
}

static bool source_before(const struct sorter *sorter, const struct source *a,
			  const struct source *b)
{
	int order = sorter->compare(a->slice + a->used * sorter->size,
				    b->slice + b->used * sorter->size);

	return order ? order < 0 : a < b;
}

static void source_sink(const struct sorter *sorter, struct source **heap, size_t n, size_t at)
{
	struct source *held = heap[at];
	size_t child;

	while ((child = 2 * at + 1) < n) {
		if (child + 1 < n && source_before(sorter, heap[child + 1], heap[child]))
			child++;
		if (!source_before(sorter, heap[child], held))
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = held;
}

/* Merge n sources into fd from place `at` on; the last slice of memory collects the output. */
static int sources_merge(struct sorter *sorter, struct source *sources, size_t n, size_t room,
			 int fd, uint64_t at)
{
	struct source *heap[FAN_IN];
	char *out = sorter->records + n * room * sorter->size;
	size_t out_n = 0, left = n;
	int err = 0;

	for (size_t i = 0; i < n && !err; i++) {
		err = source_fill(sorter, &sources[i], room);
		heap[i] = &sources[i];
	}
	for (size_t i = n; i-- > 0 && !err;)
		source_sink(sorter, heap, n, i);
	while (left && !err) {
		struct source *first = heap[0];

		memcpy(out + out_n++ * sorter->size, first->slice + first->used++ * sorter->size,
		       sorter->size);
		if (out_n == room) {
			err = write_all(fd, out, out_n * sorter->size, at * sorter->size);
			at += out_n;
			out_n = 0;
		}
		if (first->used == first->have && first->left.from < first->left.to && !err)
			err = source_fill(sorter, first, room);
		else if (first->used == first->have)
			heap[0] = heap[--left];
		if (left)
			source_sink(sorter, heap, left, 0);
	}
	if (!err && out_n)
		err = write_all(fd, out, out_n * sorter->size, at * sorter->size);
	return err;
}

/* One round: every FAN_IN runs become one, in a new file. */
static int runs_merge(struct sorter *sorter)
{
	struct source sources[FAN_IN];
	struct run *old = sorter->runs;
	size_t old_n = sorter->runs_n;
	int fd = sorter_temporary(), err = fd < 0 ? fd : 0;

	sorter->runs = NULL;
	sorter->runs_n = sorter->runs_room = 0;
	for (size_t i = 0; i < old_n && !err; i += FAN_IN) {
		size_t n = old_n - i < FAN_IN ? old_n - i : FAN_IN;
		size_t room = sorter->room / (n + 1);

		for (size_t k = 0; k < n; k++)
			sources[k] = (struct source){
				.left = old[i + k],
				.slice = sorter->records + k * room * sorter->size,
			};
		err = sources_merge(sorter, sources, n, room, fd, old[i].from);
		if (!err)
			err = run_add(sorter, old[i].from, old[i + n - 1].to);
	}
	free(old);
	if (fd >= 0) {
		close(sorter->fd);
		sorter->fd = fd;
	}
	return err;
}

int sorter_sort(struct sorter *sorter)
{
	int err = 0;

	if (sorter->fd < 0) {
		records_sort(sorter);
		return 0;
	}
	if (sorter->n)
		err = records_spill(sorter);
	/* Slices of at least one record each, whatever the budget. */
	if (!err && sorter->room < FAN_IN + 1) {
		char *records = reallocarray(sorter->records, FAN_IN + 1, sorter->size);

		if (!records)
			return -ENOMEM;
		sorter->records = records;
		sorter->room = FAN_IN + 1;
	}
	while (!err && sorter->runs_n > 1)
		err = runs_merge(sorter);
	free(sorter->records);
	sorter->records = NULL;
	return err;
}

uint64_t sorter_count(const struct sorter *sorter)
{
	return sorter->count;
}

int64_t sorter_read(struct sorter *sorter, uint64_t at, void *records, size_t n)
{
	int err;

	if (at >= sorter->count)
		return 0;
	if (n > sorter->count - at)
		n = (size_t)(sorter->count - at);
	if (sorter->fd < 0) {
		memcpy(records, sorter->records + at * sorter->size, n * sorter->size);
		return (int64_t)n;
	}
	err = read_all(sorter->fd, records, n * sorter->size, at * sorter->size);
	return err ? err : (int64_t)n;
}

int sorter_cursor_open(struct sorter_cursor *cursor, struct sorter *sorter, uint64_t at,
		       size_t room)
{
	*cursor = (struct sorter_cursor){ .sorter = sorter, .at = at, .room = room };
	cursor->buffer = malloc(room * sorter->size);
	return cursor->buffer ? 0 : -ENOMEM;
}

const void *sorter_cursor_next(struct sorter_cursor *cursor, int *err)
{
	*err = 0;
	if (cursor->used == cursor->have) {
		int64_t got = sorter_read(cursor->sorter, cursor->at, cursor->buffer, cursor->room);

		cursor->used = cursor->have = 0;
		if (got <= 0) {
			*err = (int)got;
			return NULL;
		}
		cursor->have = (size_t)got;
	}
	cursor->at++;
	return cursor->buffer + cursor->used++ * cursor->sorter->size;
}

void sorter_cursor_close(struct sorter_cursor *cursor)
{
	free(cursor->buffer);
	*cursor = (struct sorter_cursor){};
}
