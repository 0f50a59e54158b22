// SPDX-License-Identifier: GPL-2.0-only
/* What the daemon answers of itself and its datapath. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "show.h"
#include "units.h"

#define FLOWS_DEFAULT 1000
#define FLOWS_MOST 100000

static void healthz(struct http_call *call, void *ctx)
{
	const struct api *api = ctx;

	http_reply_json(call, 200,
			json_pack("{s:s,s:I}", "status", "ok", "events",
				  (json_int_t)tracer_events(api->daemon->tracer)));
}

static void daemon_get(struct http_call *call, void *ctx)
{
	const struct api *api = ctx;

	http_reply_json(call, 200, daemon_json(api->daemon));
}

static void openapi(struct http_call *call, void *ctx)
{
	(void)ctx;
	http_reply(call, 200, "application/json", openapi_start, openapi_end - openapi_start);
}

static void metrics_get(struct http_call *call, void *ctx)
{
	const struct api *api = ctx;
	struct text text = {};

	if (!api->metrics) {
		http_refuse(call, 404, "metrics are off (metrics: off)");
		return;
	}
	metrics_write(&text, api->metrics);
	if (text.err)
		http_refuse(call, 500, "out of memory");
	else
		http_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", text.at,
			   text.len);
	text_free(&text);
}

/* Lines of JSON become an array in an object, of at most so many; `more` says if that cut it. */
static void lines_reply(struct http_call *call, const char *name, const char *lines, size_t len,
			__u64 most)
{
	const char *line = lines, *past = lines + len, *end;
	struct text text = {};
	__u64 n = 0;

	text_add_str(&text, "{\"");
	text_add_str(&text, name);
	text_add_str(&text, "\":[");
	for (; line < past && n < most; line = end + 1, n++) {
		end = memchr(line, '\n', past - line);
		if (!end)
			break;
		if (n)
			text_add_char(&text, ',');
		text_add(&text, line, end - line);
	}
	text_add_str(&text, "],\"more\":");
	text_add_str(&text, line < past ? "true}" : "false}");
	if (text.err) {
		http_refuse(call, 500, "out of memory");
		return;
	}
	http_reply(call, 200, "application/json", text.at, text.len);
	text_free(&text);
}

static void section_get(struct http_call *call, const struct api *api, const char *name)
{
	size_t len = 0;
	char *lines = NULL;
	FILE *file = open_memstream(&lines, &len);
	int status = file ? show_json(api->daemon->t, name, file) : 1;

	if (file && fclose(file))
		status = 1;
	if (status)
		http_refuse(call, 500, "cannot read %s", name);
	else
		lines_reply(call, name, lines, len, ~0ULL);
	free(lines);
}

static void nodes_get(struct http_call *call, void *ctx)
{
	section_get(call, ctx, "nodes");
}

static void counters_get(struct http_call *call, void *ctx)
{
	section_get(call, ctx, "counters");
}

static void record_get(struct http_call *call, void *ctx)
{
	section_get(call, ctx, "record");
}

static void flows_get(struct http_call *call, void *ctx)
{
	const struct api *api = ctx;
	static const char *const names[] = { "node", "limit", NULL };
	const char *node, *limit;
	__u64 most = FLOWS_DEFAULT;
	size_t len = 0;
	char *lines = NULL;
	FILE *file;
	int status;

	if (!http_query_known(call, names))
		return;
	node = http_query(call, "node");
	limit = http_query(call, "limit");
	if (limit && (number_parse(limit, FLOWS_MOST, &most) || !most)) {
		http_refuse(call, 400, "limit=%s: not a number from 1 to %d", limit, FLOWS_MOST);
		return;
	}
	if (node && node_by_name(api->daemon->t, node, NULL, NULL)) {
		http_refuse(call, 404, "node=%s: no such node; GET /v1/nodes lists them", node);
		return;
	}
	file = open_memstream(&lines, &len);
	status = file ? flows_json(api->daemon->t, node, most + 1, file) : 1;
	if (file && fclose(file))
		status = 1;
	if (status)
		http_refuse(call, 500, "cannot read flows");
	else
		lines_reply(call, "flows", lines, len, most);
	free(lines);
}

const struct http_route api_routes[] = {
	{ "GET", "/healthz", healthz, true },
	{ "GET", "/metrics", metrics_get, false },
	{ "GET", "/openapi.json", openapi, false },
	{ "GET", "/v1/daemon", daemon_get, false },
	{ "GET", "/v1/nodes", nodes_get, false },
	{ "GET", "/v1/flows", flows_get, false },
	{ "GET", "/v1/counters", counters_get, false },
	{ "GET", "/v1/record", record_get, false },
	{},
};
