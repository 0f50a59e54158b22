// SPDX-License-Identifier: GPL-2.0-only
/* Reads event logs: JSON lines, as event.schema.json describes them. */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "eventlog.h"
#include "text.h"

/* A file, a line at a time, in memory that does not grow with the lines. */
struct lines {
	FILE *file;
	size_t start, end; /* read, not yet given out */
	bool ended;
	char buf[EVENTLOG_LINE_MOST];
};

/* One line on its way from JSON. */
struct entry {
	const json_t *object;
	struct eventlog_line line;
	struct eventlog_error *error;
};

__attribute__((format(printf, 3, 4))) static int fail(struct eventlog_error *error, int err,
						      const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->why, sizeof(error->why), format, args);
	va_end(args);
	return err;
}

/* 1 and a line without its newline, 0 at the end, or -errno; -EMSGSIZE for a line too long. */
static int lines_next(struct lines *lines, const char **line, size_t *len)
{
	for (;;) {
		size_t have = lines->end - lines->start;
		char *at = lines->buf + lines->start, *newline = memchr(at, '\n', have);

		if (newline || (lines->ended && have)) {
			*line = at;
			*len = newline ? (size_t)(newline - at) : have;
			lines->start += *len + !!newline;
			return 1;
		}
		if (lines->ended)
			return 0;
		if (have == sizeof(lines->buf))
			return -EMSGSIZE;
		memmove(lines->buf, at, have);
		lines->start = 0;
		errno = 0;
		lines->end =
			have + fread(lines->buf + have, 1, sizeof(lines->buf) - have, lines->file);
		if (lines->end < sizeof(lines->buf)) {
			if (ferror(lines->file))
				return errno ? -errno : -EIO;
			lines->ended = true;
		}
	}
}

/* NULL with *err 0: the key is absent and may be. */
static const char *entry_string(struct entry *entry, const char *key, bool must, int *err)
{
	const json_t *value = json_object_get(entry->object, key);

	*err = 0;
	if (json_is_string(value))
		return json_string_value(value);
	if (value)
		*err = fail(entry->error, -EINVAL, "%s is not a string", key);
	else if (must)
		*err = fail(entry->error, -EINVAL, "no %s", key);
	return NULL;
}

/* 1 if there, 0 if not, -EINVAL if it is something else or must be there. */
static int entry_stamp(struct entry *entry, const char *key, bool must, uint64_t *stamp)
{
	int err;
	const char *str = entry_string(entry, key, must, &err);

	if (!str)
		return err;
	if (text_parse_stamp(str, stamp))
		return fail(entry->error, -EINVAL, "%s is not 16 hexadecimal digits", key);
	return 1;
}

static int entry_number(struct entry *entry, const char *key, bool must, uint64_t most,
			uint64_t *number)
{
	const json_t *value = json_object_get(entry->object, key);

	if (!value)
		return must ? fail(entry->error, -EINVAL, "no %s", key) : 0;
	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    (uint64_t)json_integer_value(value) > most)
		return fail(entry->error, -EINVAL, "%s is not a number from 0 to %llu", key,
			    (unsigned long long)most);
	*number = (uint64_t)json_integer_value(value);
	return 1;
}

static int entry_stamps(struct entry *entry)
{
	struct causal_event *event = &entry->line.event;
	int err;

	err = entry_stamp(entry, "hlc", true, &event->hlc);
	if (err < 0)
		return err;
	event->hlc_last = event->hlc;
	err = entry_stamp(entry, "hlc_last", false, &event->hlc_last);
	if (err < 0)
		return err;
	event->flags |= err ? CAUSAL_HAS_LAST : 0;
	err = entry_stamp(entry, "cause", false, &event->cause);
	if (err < 0)
		return err;
	if (err)
		event->flags |= CAUSAL_HAS_CAUSE;
	if (!err) {
		err = entry_stamp(entry, "rejected", false, &event->cause);
		if (err < 0)
			return err;
		event->flags |= err ? CAUSAL_REJECTED : 0;
	}
	event->cause_last = event->cause;
	err = entry_stamp(entry, "cause_last", false, &event->cause_last);
	if (err > 0 && !(event->flags & CAUSAL_HAS_CAUSE))
		return fail(entry->error, -EINVAL, "cause_last without cause");
	return err < 0 ? err : 0;
}

static int entry_place(struct entry *entry)
{
	struct eventlog_line *line = &entry->line;
	const char *wall, *burst;
	int err;

	line->host = entry_string(entry, "host", false, &err);
	if (err)
		return err;
	if (!line->host)
		line->host = "";
	line->node = entry_string(entry, "node", true, &err);
	if (err)
		return err;
	wall = entry_string(entry, "wall", true, &err);
	if (err)
		return err;
	burst = entry_string(entry, "burst", false, &err);
	if (err)
		return err;
	if (burst && strcmp(burst, "flow") == 0)
		line->event.flags |= CAUSAL_BURST_FLOW;
	if (text_parse_wall(wall, &line->event.wall_ns))
		return fail(entry->error, -EINVAL,
			    "wall is not a time like 2026-11-20T22:31:05.5Z");
	return 0;
}

/* What an earlier merge said of it. */
static int entry_merged(struct entry *entry)
{
	const char *edge;
	int err;

	edge = entry_string(entry, "edge", false, &err);
	if (err)
		return err;
	if (edge && strcmp(edge, "matched") == 0 && entry->line.event.flags & CAUSAL_HAS_CAUSE)
		entry->line.event.flags |= CAUSAL_MATCHED;
	entry->line.unknown = edge && strcmp(edge, "unknown") == 0;
	return 0;
}

static int entry_bytes(struct entry *entry)
{
	struct eventlog_line *line = &entry->line;
	uint64_t seq = 0, bytes = 0;
	int err;

	err = entry_number(entry, "seq", false, UINT32_MAX, &seq);
	if (err < 0)
		return err;
	line->event.flags |= err ? CAUSAL_HAS_SEQ : 0;
	err = entry_number(entry, "bytes", false, INT64_MAX, &bytes);
	if (err < 0)
		return err;
	/* A burst may be longer than fits here; then only its beginning is matched. */
	line->event.bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
	if (!(line->event.flags & CAUSAL_HAS_SEQ)) {
		err = entry_number(entry, "hash", false, UINT32_MAX, &seq);
		if (err < 0)
			return err;
		line->event.flags |= err ? CAUSAL_HAS_HASH : 0;
	}
	line->event.seq = (uint32_t)seq;
	return 0;
}

static int entry_flow(struct entry *entry)
{
	struct eventlog_line *line = &entry->line;
	const char **parts[] = { &line->proto, &line->src, &line->dst };
	const char *const keys[] = { "proto", "src", "dst" };
	int err;

	for (int i = 0; i < 3; i++) {
		*parts[i] = entry_string(entry, keys[i], true, &err);
		if (err)
			return err;
	}
	err = entry_bytes(entry);
	return err ? err : entry_merged(entry);
}

static int entry_read(struct entry *entry)
{
	const char *type;
	int err;

	err = entry_stamps(entry);
	if (err)
		return err;
	type = entry_string(entry, "type", true, &err);
	if (err)
		return err;
	entry->line.event.type = causal_type_parse(type);
	err = entry_place(entry);
	if (err)
		return err;
	switch (entry->line.event.type) {
	case CAUSAL_NODE_UP:
	case CAUSAL_NODE_DOWN:
	case CAUSAL_OTHER:
		return 0;
	case CAUSAL_GAP:
		err = entry_number(entry, "count", true, INT64_MAX, &entry->line.lost);
		return err < 0 ? err : 0;
	default:
		return entry_flow(entry);
	}
}

static int line_read(struct entry *entry, eventlog_fn fn, void *ctx)
{
	json_error_t why;
	json_t *object =
		json_loadb(entry->line.text, entry->line.len, JSON_REJECT_DUPLICATES, &why);
	int err;

	if (!object)
		return fail(entry->error, -EINVAL, "not a JSON object (%s)", why.text);
	if (!json_is_object(object)) {
		json_decref(object);
		return fail(entry->error, -EINVAL, "not a JSON object (another JSON value)");
	}
	entry->object = object;
	entry->line.event.flow = CAUSAL_NONE;
	entry->line.event.line =
		entry->line.number > UINT32_MAX ? UINT32_MAX : (uint32_t)entry->line.number;
	err = entry_read(entry);
	if (!err) {
		err = fn(&entry->line, ctx);
		if (err)
			fail(entry->error, err, "%s", strerror(-err));
	}
	json_decref(object);
	return err;
}

static bool line_is_empty(const char *line, size_t len)
{
	while (len && strchr(" \t\r", line[len - 1]) && line[len - 1])
		len--;
	return !len;
}

int eventlog_each(FILE *file, eventlog_fn fn, void *ctx, void (*progress)(uint64_t lines),
		  struct eventlog_error *error)
{
	struct lines *lines = calloc(1, sizeof(*lines));
	const char *line = NULL;
	uint64_t at = 0;
	size_t len = 0;
	int err = 0, got;

	*error = (struct eventlog_error){};
	if (!lines)
		return fail(error, -ENOMEM, "%s", strerror(ENOMEM));
	lines->file = file;
	while ((got = lines_next(lines, &line, &len)) > 0) {
		struct entry entry = {
			.error = error,
			.line = { .number = ++error->line, .text = line, .len = len, .at = at },
		};

		at += len + 1;
		if (error->line % EVENTLOG_PROGRESS == 0 && progress)
			progress(error->line);
		if (line_is_empty(line, len))
			continue;
		err = line_read(&entry, fn, ctx);
		if (err)
			break;
	}
	if (got == -EMSGSIZE) {
		error->line++;
		err = fail(error, -EINVAL, "line longer than %d bytes", EVENTLOG_LINE_MOST);
	} else if (got < 0) {
		error->line = 0;
		err = fail(error, got, "%s", strerror(-got));
	}
	free(lines);
	return err;
}

int eventlog_add(const struct eventlog_line *line, void *ctx)
{
	struct causal_event event = line->event;
	struct causal *causal = ctx;
	int64_t id = causal_node(causal, line->host, line->node);

	if (id < 0)
		return (int)id;
	event.node = (uint32_t)id;
	if (line->unknown)
		event.flags &= (uint8_t) ~(CAUSAL_HAS_SEQ | CAUSAL_HAS_HASH);
	if (line->proto) {
		id = causal_flow(causal, line->proto, line->src, line->dst);
		if (id < 0)
			return (int)id;
		event.flow = (uint32_t)id;
	}
	return causal_add(causal, &event, line->lost);
}
