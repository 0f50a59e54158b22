// SPDX-License-Identifier: GPL-2.0-only
/* The options of `trace` that name sinks. */
#define _GNU_SOURCE 1
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "log.h"
#include "sinks.h"
#include "tracer.h"
#include "units.h"

enum {
	OPT_WRITE = 0x300,
	OPT_FILE_SIZE,
	OPT_FILE_AGE,
	OPT_BUDGET,
	OPT_SOCKET,
	OPT_OTLP,
	OPT_QUEUE,
	OPT_OTLP_CA,
	OPT_OTLP_CERT,
	OPT_OTLP_KEY
};

static const struct argp_option options[] = {
	{ "write", OPT_WRITE, "DIR", 0,
	  "Keep the events in files in DIR: a new one by size and age, compressed once closed, the "
	  "oldest deleted to stay within the budget",
	  4 },
	{ "file-size", OPT_FILE_SIZE, "SIZE", 0, "Of one such file (default 64m)", 4 },
	{ "file-age", OPT_FILE_AGE, "SPAN", 0, "The most one is written to (default 1h)", 4 },
	{ "budget", OPT_BUDGET, "SIZE", 0, "Of all of them (default 1g)", 4 },
	{ "socket", OPT_SOCKET, "PATH", 0,
	  "Stream the events to whoever of us or of root connects to this unix socket", 4 },
	{ "otlp", OPT_OTLP, "URL", 0,
	  "Send the events to an OpenTelemetry collector, http://HOST:4318 or https://HOST:4318",
	  4 },
	{ "otlp-ca", OPT_OTLP_CA, "FILE", 0,
	  "Whose certificates are believed there, in PEM (default: whom this machine believes)",
	  4 },
	{ "otlp-cert", OPT_OTLP_CERT, "FILE", 0, "Our certificate, if it wants one, in PEM", 4 },
	{ "otlp-key", OPT_OTLP_KEY, "FILE", 0, "And its key, in PEM, mode 0600", 4 },
	{ "queue", OPT_QUEUE, "DIR", 0,
	  "Where events wait for that collector (default otlp in the state directory)", 4 },
	{},
};

static void refuse(const char *option, const char *arg, const char *remedy)
{
	log_error("--%s %s: %s", option, arg, remedy);
	exit(2);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct sinks_options *o = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		o->write.file_bytes = SINK_FILE_BYTES;
		o->write.file_age_ns = SINK_FILE_AGE_NS;
		o->write.budget_bytes = SINK_BUDGET_BYTES;
		o->otlp.queue_bytes = SINK_QUEUE_BYTES;
		return 0;
	case OPT_WRITE:
		o->write.dir = arg;
		return 0;
	case OPT_FILE_SIZE:
		if (size_parse(arg, &o->write.file_bytes) || o->write.file_bytes < 4096)
			refuse("file-size", arg, "not a size from 4k on; write 64m, 1g");
		return 0;
	case OPT_FILE_AGE:
		if (span_parse(arg, &o->write.file_age_ns) || !o->write.file_age_ns)
			refuse("file-age", arg, "not a span of time; write 90s, 15m, 2h");
		return 0;
	case OPT_BUDGET:
		if (size_parse(arg, &o->write.budget_bytes) || !o->write.budget_bytes)
			refuse("budget", arg, "not a size; write 64m, 10g");
		return 0;
	case OPT_SOCKET:
		o->socket.path = arg;
		return 0;
	case OPT_OTLP:
		o->otlp.url = arg;
		if (sink_otlp_url(&o->otlp))
			refuse("otlp", arg,
			       "not an address to export to; http://HOST:4318, https://HOST:4318");
		return 0;
	case OPT_OTLP_CA:
		o->otlp.ca = arg;
		return 0;
	case OPT_OTLP_CERT:
		o->otlp.cert = arg;
		return 0;
	case OPT_OTLP_KEY:
		o->otlp.key = arg;
		return 0;
	case OPT_QUEUE:
		o->otlp.queue = arg;
		return 0;
	case ARGP_KEY_END:
		if (o->write.budget_bytes < 2 * o->write.file_bytes)
			refuse("budget", "", "must hold two files at least (--file-size)");
		if (sink_otlp_files(&o->otlp))
			refuse("otlp", o->otlp.url ? o->otlp.url : "", sink_otlp_files(&o->otlp));
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp sinks_argp = { .options = options, .parser = parse };

static int opened(struct tracer *tracer, struct sink *sink)
{
	if (sink)
		tracer_add(tracer, sink);
	return sink ? 0 : 1;
}

int sinks_open(struct tracer *tracer, const struct sinks_options *o, struct event_base *base,
	       const char *state_dir)
{
	struct lines *lines = tracer_lines(tracer);
	int status = 0;

	if (o->write.dir)
		status = opened(tracer, sink_write_open(&o->write, lines));
	if (!status && o->socket.path)
		status = opened(tracer, sink_socket_open(&o->socket, base, lines));
	if (!o->otlp.queue)
		mkdir(state_dir, 0700); /* may be there; if it cannot be made, opening says it */
	if (!status && o->otlp.url)
		status = opened(tracer, sink_otlp_open(&o->otlp, base, state_dir));
	return status;
}
