// SPDX-License-Identifier: GPL-2.0-only
/* Events as JSON lines in memory, made once for all sinks that want them. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>

#include "event.h"
#include "lines.h"

struct one {
	FILE *file;
	char *at;
	size_t len;
	struct event_log *log;
};

struct lines {
	struct one event, gap;
};

static int one_open(struct one *one, const struct tidemark *t)
{
	one->file = open_memstream(&one->at, &one->len);
	one->log = one->file ? event_log_open(t, one->file, "a line", true) : NULL;
	return one->log ? 0 : -1;
}

static void one_close(struct one *one)
{
	if (one->log)
		event_log_close(one->log, 0);
	if (one->file)
		fclose(one->file);
	free(one->at);
}

struct lines *lines_open(const struct tidemark *t)
{
	struct lines *lines = calloc(1, sizeof(*lines));

	if (lines && (one_open(&lines->event, t) || one_open(&lines->gap, t))) {
		lines_close(lines);
		return NULL;
	}
	return lines;
}

void lines_close(struct lines *lines)
{
	if (!lines)
		return;
	one_close(&lines->event);
	one_close(&lines->gap);
	free(lines);
}

/* The log flushes after each line, and that is when the stream tells address and length. */
static const char *one_line(struct one *one, int err, size_t *len)
{
	*len = err ? 0 : one->len;
	return one->at;
}

const char *lines_event(struct lines *lines, const struct joined *joined, size_t *len)
{
	struct one *one = &lines->event;

	rewind(one->file);
	return one_line(one, event_log_write(one->log, joined), len);
}

const char *lines_gap(struct lines *lines, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count,
		      const char *reason, size_t *len)
{
	struct one *one = &lines->gap;

	rewind(one->file);
	return one_line(one, event_log_gap(one->log, node, stamp, wall_ns, count, reason), len);
}

void lines_rename(struct lines *lines)
{
	event_log_rename(lines->event.log);
	event_log_rename(lines->gap.log);
}
