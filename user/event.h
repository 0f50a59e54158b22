/* SPDX-License-Identifier: GPL-2.0-only */
/* Events as people and programs read them: rows of the event log. */
#ifndef TIDEMARK_USER_EVENT_H
#define TIDEMARK_USER_EVENT_H

#include "join.h"
#include "node.h"
#include "out.h"

struct event_log;
struct json_t;

/*
 * NULL without memory. `json`: one object per line. The file stays the caller's; `name` is
 * what to call it when writing fails.
 */
struct event_log *event_log_open(const struct tidemark *t, FILE *file, const char *name, bool json);

/* One event as a row. A node that is gone is still called what it was. */
int event_log_write(struct event_log *log, const struct joined *joined);

/* A row of the table, of a line as event_log_write() makes them. */
int event_log_json(struct event_log *log, const struct json_t *event);

/* So many events of a node were lost, up to this stamp. */
int event_log_gap(struct event_log *log, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count,
		  const char *reason);

#define GAP_RING "no room in the ring of events: read faster, or --ring SIZE"

/* Names are read again: a node was named or renamed. */
void event_log_rename(struct event_log *log);

/* The exit status: what was given, or 1 when not everything was written, which has been said. */
int event_log_close(struct event_log *log, int status);

extern const char *const event_texts[EVENTS_NR];

/* The document of the format, JSON Schema. */
extern const char event_schema_start[] __asm__("data_event_schema_json_start");
extern const char event_schema_end[] __asm__("data_event_schema_json_end");

#endif
