// SPDX-License-Identifier: GPL-2.0-only
/* Section `trace`: the datapath's clocks and tables, and where its events go. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "config_trace.h"
#include "units.h"

#define SOCKET_PATH_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)

#define OPTIONAL CYAML_FLAG_OPTIONAL
#define POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define NEEDED CYAML_FLAG_POINTER

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1,
								4096) };

#define STRING(key, flags, type, member) CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, 4096)

static const cyaml_schema_field_t write_fields[] = {
	STRING("dir", NEEDED, struct sink_write_options, dir),
	STRING("file_size", POINTER, struct sink_write_options, file_size),
	STRING("file_age", POINTER, struct sink_write_options, file_age),
	STRING("budget", POINTER, struct sink_write_options, budget),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t socket_fields[] = {
	STRING("path", NEEDED, struct sink_socket_options, path),
	CYAML_FIELD_UINT_PTR("uid", POINTER, struct sink_socket_options, uid),
	CYAML_FIELD_UINT_PTR("gid", POINTER, struct sink_socket_options, gid),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t otlp_fields[] = {
	STRING("url", NEEDED, struct sink_otlp_options, url),
	STRING("ca", POINTER, struct sink_otlp_options, ca),
	STRING("cert", POINTER, struct sink_otlp_options, cert),
	STRING("key", POINTER, struct sink_otlp_options, key),
	STRING("queue", POINTER, struct sink_otlp_options, queue),
	STRING("queue_size", POINTER, struct sink_otlp_options, queue_size),
	CYAML_FIELD_SEQUENCE("headers", POINTER, struct sink_otlp_options, headers, &string, 0, 16),
	CYAML_FIELD_END,
};

const cyaml_schema_field_t config_trace_fields[] = {
	STRING("clock", POINTER, struct config_trace, clock),
	STRING("attach", POINTER, struct config_trace, attach),
	STRING("ring", POINTER, struct config_trace, ring),
	CYAML_FIELD_SEQUENCE("skew", POINTER, struct config_trace, skew, &string, 0, 4096),
	CYAML_FIELD_UINT("flows", OPTIONAL, struct config_trace, flows),
	CYAML_FIELD_UINT("nodes", OPTIONAL, struct config_trace, nodes),
	CYAML_FIELD_BOOL("every_packet", OPTIONAL, struct config_trace, every_packet),
	STRING("burst", POINTER, struct config_trace, burst),
	CYAML_FIELD_BOOL("keep", OPTIONAL, struct config_trace, keep),
	CYAML_FIELD_MAPPING_PTR("write", POINTER, struct config_trace, write, write_fields),
	CYAML_FIELD_MAPPING_PTR("socket", POINTER, struct config_trace, socket, socket_fields),
	CYAML_FIELD_MAPPING_PTR("otlp", POINTER, struct config_trace, otlp, otlp_fields),
	CYAML_FIELD_END,
};

static int skews_check(struct config_file *file, const struct config_trace *trace)
{
	struct datapath_options *o = &file->options;
	char path[32];

	o->skews = calloc(trace->skew_count ? trace->skew_count : 1, sizeof(*o->skews));
	if (!o->skews)
		return config_refuse(file, "trace.skew", "out of memory");
	for (unsigned i = 0; i < trace->skew_count; i++) {
		struct node_skew *skew = &o->skews[o->skews_n++];

		snprintf(path, sizeof(path), "trace.skew.%u", i);
		if (skew_parse(trace->skew[i], skew->name, sizeof(skew->name), &skew->ns))
			return config_refuse(
				file, path,
				"%s: not a node and a shift; write it like web=+3s or db=-2h",
				trace->skew[i]);
		if (o->clock_per_host)
			return config_refuse(
				file, path,
				"there is one clock for the host (clock: host); nothing to shift");
	}
	return 0;
}

static int datapath_check(struct config_file *file, const struct config_trace *trace)
{
	struct datapath_options *o = &file->options;
	__u64 ring = 0;
	int status;

	if (trace->clock && strcmp(trace->clock, "node") && strcmp(trace->clock, "host"))
		return config_refuse(file, "trace.clock", "%s: not a kind of clock; node or host",
				     trace->clock);
	o->clock_per_host = trace->clock && !strcmp(trace->clock, "host");
	if (trace->attach && attach_how_parse(trace->attach, &o->attach_how))
		return config_refuse(file, "trace.attach",
				     "%s: not a way to attach; auto, clsact or tcx", trace->attach);
	if (trace->flows > 1 << 26)
		return config_refuse(file, "trace.flows", "more than fits a kernel map");
	if (trace->nodes > 1 << 20)
		return config_refuse(file, "trace.nodes", "more than fits a kernel map");
	status = config_size(file, "trace.ring", trace->ring, &ring);
	if (status)
		return status;
	if (trace->ring && (ring < 4096 || ring > 1 << 30))
		return config_refuse(file, "trace.ring", "%s: not a size from 4k to 1g",
				     trace->ring);
	o->sizes.flows = trace->flows;
	o->sizes.nodes = trace->nodes;
	o->sizes.ring_bytes = ring;
	o->every_packet = trace->every_packet;
	if (trace->burst && strcmp(trace->burst, "node") && strcmp(trace->burst, "flow"))
		return config_refuse(file, "trace.burst", "%s: not a kind of burst; node or flow",
				     trace->burst);
	o->burst_flow = trace->burst && !strcmp(trace->burst, "flow");
	if (o->burst_flow && o->every_packet)
		return config_refuse(file, "trace.burst",
				     "with every_packet there are no bursts; choose one");
	return skews_check(file, trace);
}

static int absolute(const struct config_file *file, const char *path, const char *name)
{
	if (!name || *name == '/')
		return 0;
	return config_refuse(file, path, "%s: not an absolute path", name);
}

static int write_check(const struct config_file *file, struct sink_write_options *write)
{
	int status = absolute(file, "trace.write.dir", write->dir);

	write->file_bytes = SINK_FILE_BYTES;
	write->file_age_ns = SINK_FILE_AGE_NS;
	write->budget_bytes = SINK_BUDGET_BYTES;
	if (!status)
		status = config_size(file, "trace.write.file_size", write->file_size,
				     &write->file_bytes);
	if (!status)
		status = config_span(file, "trace.write.file_age", write->file_age,
				     &write->file_age_ns);
	if (!status)
		status = config_size(file, "trace.write.budget", write->budget,
				     &write->budget_bytes);
	if (!status && write->file_bytes < 4096)
		return config_refuse(file, "trace.write.file_size", "less than 4k");
	if (!status && write->budget_bytes < 2 * write->file_bytes)
		return config_refuse(file, "trace.write.budget",
				     "must hold two files at least, %llu bytes",
				     (unsigned long long)(2 * write->file_bytes));
	return status;
}

static int otlp_check(const struct config_file *file, struct sink_otlp_options *otlp)
{
	char path[40];
	int status;

	if (sink_otlp_url(otlp))
		return config_refuse(file, "trace.otlp.url",
				     "%s: not an address to export to; http://HOST:4318 or "
				     "https://HOST:PORT/v1/logs",
				     otlp->url);
	if (sink_otlp_files(otlp))
		return config_refuse(file, "trace.otlp", "%s", sink_otlp_files(otlp));
	status = absolute(file, "trace.otlp.ca", otlp->ca);
	if (!status)
		status = absolute(file, "trace.otlp.cert", otlp->cert);
	if (!status)
		status = absolute(file, "trace.otlp.key", otlp->key);
	if (status)
		return status;
	for (unsigned i = 0; i < otlp->headers_count; i++) {
		snprintf(path, sizeof(path), "trace.otlp.headers.%u", i);
		if (!strchr(otlp->headers[i], ':') || strpbrk(otlp->headers[i], "\r\n"))
			return config_refuse(file, path, "not a header; write Name: value");
	}
	otlp->queue_bytes = SINK_QUEUE_BYTES;
	status = absolute(file, "trace.otlp.queue", otlp->queue);
	return status ? status
		      : config_size(file, "trace.otlp.queue_size", otlp->queue_size,
				    &otlp->queue_bytes);
}

int config_trace_check(struct config_file *file)
{
	struct config_trace *trace = file->config->trace;
	int status;

	if (!trace)
		return 0;
	status = datapath_check(file, trace);
	if (!status && trace->write)
		status = write_check(file, trace->write);
	if (!status && trace->socket)
		status = absolute(file, "trace.socket.path", trace->socket->path);
	if (!status && trace->socket && strlen(trace->socket->path) >= SOCKET_PATH_MAX)
		return config_refuse(file, "trace.socket.path",
				     "longer than the %zu letters that a socket's name can have",
				     SOCKET_PATH_MAX - 1);
	if (!status && trace->otlp)
		status = otlp_check(file, trace->otlp);
	return status;
}
