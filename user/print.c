// SPDX-License-Identifier: GPL-2.0-only
/* The sink that prints: a table or JSON lines, to stdout or a file that grows. */
#include <stdlib.h>

#include "event.h"
#include "print.h"

struct print {
	struct sink sink;
	struct event_log *log;
};

static int print_event(struct sink *sink, const struct sink_event *event)
{
	struct print *print = (struct print *)sink;

	sink->stats.events++;
	if (event->joined)
		return event_log_write(print->log, event->joined);
	return event_log_gap(print->log, event->node, event->stamp, event->wall_ns, event->lost,
			     GAP_RING);
}

static void print_rename(struct sink *sink)
{
	event_log_rename(((struct print *)sink)->log);
}

static int print_close(struct sink *sink, int status)
{
	status = event_log_close(((struct print *)sink)->log, status);
	free(sink);
	return status;
}

struct sink *print_open(const struct tidemark *t, FILE *file, const char *name, bool json)
{
	struct print *print = calloc(1, sizeof(*print));

	if (!print)
		return NULL;
	print->log = event_log_open(t, file, name, json);
	if (!print->log) {
		free(print);
		return NULL;
	}
	print->sink = (struct sink){
		.kind = "print",
		.where = name,
		.event = print_event,
		.rename = print_rename,
		.close = print_close,
	};
	return &print->sink;
}
