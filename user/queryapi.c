// SPDX-License-Identifier: GPL-2.0-only
/* Queries over HTTP: asked, listed, cancelled. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"
#include "queryapi.h"
#include "units.h"

#define SECOND_NS 1000000000ULL
#define WORDS_MOST 1024

/* An answer on its way: frames from a guest, chunks to the client. */
struct streamed {
	struct http_later *later;
	struct event_base *base;
	const char *type;
	int fd;
	struct waiter *reads, *looks;
	bool begun;
	unsigned char head[FRAME_HEAD], bytes[FRAME_MOST];
	size_t have; /* of the head, then of the frame */
	char words[WORDS_MOST];
};

static void streamed_free(struct streamed *s)
{
	waiter_free(s->reads);
	waiter_free(s->looks);
	close(s->fd); /* its guest ends the query */
	free(s);
}

static void client_gone(void *ctx)
{
	streamed_free(ctx);
}

/* What is not printable has no place in a header. */
static void words_take(struct streamed *s, const unsigned char *bytes, size_t n)
{
	static const char before[] = "tidemark: query: ";
	size_t len = strlen(s->words);

	if (n >= sizeof(before) && !memcmp(bytes, before, sizeof(before) - 1))
		bytes += sizeof(before) - 1, n -= sizeof(before) - 1;
	for (size_t i = 0; i < n && len + 2 < sizeof(s->words); i++)
		s->words[len++] = bytes[i] >= ' ' && bytes[i] < 127 ? (char)bytes[i] : ' ';
	while (len && s->words[len - 1] == ' ')
		len--;
	s->words[len] = 0;
}

static void begin(struct streamed *s)
{
	if (!s->begun)
		http_later_begin(s->later, 200, s->type, s->words);
	s->begun = true;
}

/* A status that comes behind the data can only be told by an answer that is not whole. */
static void finish(struct streamed *s, int status)
{
	if (!status || s->begun) {
		begin(s);
		if (status)
			http_later_abort(s->later);
		else
			http_later_end(s->later);
	} else {
		http_later_refuse(s->later,
				  status == 2				    ? 400
				  : strstr(s->words, "queries run already") ? 503
									    : 500,
				  *s->words ? s->words : "no answer");
	}
	streamed_free(s);
}

static void more(int fd, void *ctx);

static void taken(void *ctx)
{
	struct streamed *s = ctx;

	s->reads = loop_readable(s->base, s->fd, false, more, s);
}

/* A frame is whole. */
static void frame_take(struct streamed *s, char kind, size_t n)
{
	if (kind == FRAME_END) {
		finish(s, s->bytes[0]);
	} else if (kind == FRAME_WORDS) {
		words_take(s, s->bytes, n);
	} else if (n) {
		begin(s);
		waiter_free(s->reads); /* until the client has taken it */
		s->reads = NULL;
		http_later_send(s->later, s->bytes, n, taken);
	}
}

static void more(int fd, void *ctx)
{
	struct streamed *s = ctx;
	bool headed = s->have >= FRAME_HEAD;
	char kind = 0;
	ssize_t got;
	__u32 n = 0;

	if (headed && frame_read(s->head, &kind, &n)) {
		finish(s, 1);
		return;
	}
	got = headed ? read(fd, s->bytes + s->have - FRAME_HEAD, n - (s->have - FRAME_HEAD))
		     : read(fd, s->head + s->have, FRAME_HEAD - s->have);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		finish(s, 1);
		return;
	}
	s->have += (size_t)got;
	if (s->have < FRAME_HEAD || frame_read(s->head, &kind, &n) || s->have < FRAME_HEAD + n)
		return;
	s->have = 0;
	frame_take(s, kind, n);
}

static void look(int fd, void *ctx)
{
	struct streamed *s = ctx;

	(void)fd;
	if (!http_later_gone(s->later))
		return;
	http_later_abort(s->later);
	streamed_free(s);
}

/* ---- routes ------------------------------------------------------------------------------- */

static bool word_take(struct http_call *call, const char *name, char *to, size_t size)
{
	const char *value = http_query(call, name);

	if (value && strlen(value) >= size) {
		http_refuse(call, 400, "%s: longer than %zu bytes", name, size - 1);
		return false;
	}
	snprintf(to, size, "%s", value ? value : "");
	return true;
}

static const char *format_take(struct http_call *call, struct ask *ask)
{
	static const struct {
		const char *name, *type;
		enum ask_format format;
	} formats[] = {
		{ "json", "application/x-ndjson", ASK_json },
		{ "pcapng", "application/x-pcapng", ASK_pcapng },
		{ "count", "text/plain", ASK_count },
		{ "flows", "application/x-ndjson", ASK_flows_json },
		{ "table", "text/plain; charset=utf-8", ASK_table },
	};
	const char *name = http_query(call, "format");

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (!strcmp(name ? name : "json", formats[i].name)) {
			ask->format = formats[i].format;
			return formats[i].type;
		}
	http_refuse(call, 400, "format=%s: not json, pcapng, count, flows or table", name);
	return NULL;
}

static const char *ask_take(struct http_call *call, struct ask *ask)
{
	static const char *const names[] = { "q",     "format", "by",	  "since",
					     "until", "limit",	"follow", NULL };
	const char *limit, *follow;

	if (!http_query_known(call, names))
		return NULL;
	limit = http_query(call, "limit");
	follow = http_query(call, "follow");
	if (!word_take(call, "q", ask->text, sizeof(ask->text)) ||
	    !word_take(call, "by", ask->by, sizeof(ask->by)) ||
	    !word_take(call, "since", ask->since, sizeof(ask->since)) ||
	    !word_take(call, "until", ask->until, sizeof(ask->until)))
		return NULL;
	if (limit && (number_parse(limit, ~0ULL >> 1, &ask->limit) || !ask->limit)) {
		http_refuse(call, 400, "limit=%s: not a number of packets", limit);
		return NULL;
	}
	if (*ask->by && strcmp(ask->by, "time") && strcmp(ask->by, "hlc")) {
		http_refuse(call, 400, "by=%s: not time or hlc", ask->by);
		return NULL;
	}
	ask->follow = follow && strcmp(follow, "0") && strcmp(follow, "false");
	return format_take(call, ask);
}

static void query_get(struct http_call *call, void *ctx)
{
	const struct queryapi *api = ctx;
	struct ask ask = {};
	const char *type = ask_take(call, &ask);
	struct streamed *s;
	char who[128];
	int fd;

	if (!type)
		return;
	if (http_head(call)) {
		http_reply(call, 200, type, "", 0);
		return;
	}
	http_who(call, who, sizeof(who));
	fd = serve_ask(api->serve, &ask, who);
	s = fd >= 0 ? calloc(1, sizeof(*s)) : NULL;
	if (!s) {
		if (fd >= 0)
			close(fd);
		http_refuse(call, fd == -EINVAL ? 400 : 503, "%s",
			    fd == -EINVAL ? "the expression is not UTF-8" : strerror(-fd));
		return;
	}
	s->fd = fd;
	s->base = api->base;
	s->type = type;
	s->later = http_later(call, client_gone, s);
	if (!s->later) {
		streamed_free(s);
		return;
	}
	s->looks = loop_every(s->base, SECOND_NS, look, s);
	taken(s);
	if (!s->reads || !s->looks)
		finish(s, 1);
}

static void queries_get(struct http_call *call, void *ctx)
{
	const struct queryapi *api = ctx;

	http_reply_json(call, 200, json_pack("{s:o}", "queries", serve_list(api->serve)));
}

static void query_delete(struct http_call *call, void *ctx)
{
	const struct queryapi *api = ctx;
	__u64 id;

	if (number_parse(http_rest(call), 0xffffffff, &id) || !id)
		http_refuse(call, 400, "%s: not a number of a query", http_rest(call));
	else if (serve_cancel(api->serve, (__u32)id))
		http_refuse(call, 404, "%llu: no such query runs; GET /v1/queries lists them", id);
	else
		http_reply_json(call, 200, json_pack("{s:I}", "cancelled", (json_int_t)id));
}

const struct http_route queryapi_routes[] = {
	{ "GET", "/v1/query", query_get, false },
	{ "GET", "/v1/queries", queries_get, false },
	{ "DELETE", "/v1/queries/*", query_delete, false },
	{},
};
