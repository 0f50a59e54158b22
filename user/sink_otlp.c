// SPDX-License-Identifier: GPL-2.0-only
/* `--otlp URL`: events as log records to an OpenTelemetry collector, OTLP/HTTP in JSON. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "event.h"
#include "log.h"
#include "loop.h"
#include "physical.h"
#include "poster.h"
#include "sinks.h"
#include "spool.h"
#include "text.h"
#include "units.h"
#include "version.h"

#define BATCH_RECORDS 512
#define BATCH_NS (1000ULL * 1000 * 1000)
#define BACKOFF_NS (1000ULL * 1000 * 1000)
#define BACKOFF_MOST_NS (60ULL * 1000 * 1000 * 1000)
#define LAST_NS (3ULL * 1000 * 1000 * 1000)

#define SEVERITY_INFO 9
#define SEVERITY_WARN 13

struct otlp_sink {
	struct sink sink;
	struct event_base *base;
	struct poster *poster;
	struct spool *spool;
	char *where, *queue, *host, *path, *ca, *cert, *key, **headers;
	unsigned headers_n;
	__u16 port;
	__u64 queue_bytes;
	struct text batch; /* records, between commas */
	__u64 batch_n, batch_ns, untold;
	__u64 now_ns, wait_ns, backoff_ns;
	__u64 asking; /* records of the request under way */
	bool asks, said;
};

/* ---- records ----------------------------------------------------------------------------------- */

int sink_otlp_url(struct sink_otlp_options *o)
{
	const char *at = o->url, *slash, *colon, *end;
	__u64 port = 4318;
	char number[6];

	o->secure = !strncmp(at, "https://", 8);
	if (!o->secure && strncmp(at, "http://", 7))
		return -EINVAL;
	at += o->secure ? 8 : 7;
	slash = at + strcspn(at, "/");
	end = memchr(at, ']', slash - at);
	colon = memchr(end ? end : at, ':', slash - (end ? end : at));
	end = colon ? colon : slash;
	if (colon) {
		if (slash - colon < 2 || slash - colon > (long)sizeof(number))
			return -EINVAL;
		memcpy(number, colon + 1, slash - colon - 1);
		number[slash - colon - 1] = 0;
		if (number_parse(number, 65535, &port) || !port)
			return -EINVAL;
	}
	if (*at == '[' && end > at && end[-1] == ']') {
		at++;
		end--;
	}
	if (end == at || end - at >= (long)sizeof(o->host) || strlen(slash) >= sizeof(o->path) ||
	    strpbrk(o->url, " \r\n\t@?#"))
		return -EINVAL;
	memcpy(o->host, at, end - at);
	o->host[end - at] = 0;
	snprintf(o->path, sizeof(o->path), "%s", strlen(slash) > 1 ? slash : "/v1/logs");
	o->port = port;
	return 0;
}

const char *sink_otlp_files(const struct sink_otlp_options *o)
{
	if (!o->ca && !o->cert && !o->key)
		return NULL;
	if (!o->url || !o->secure)
		return "certificates are for https://";
	return !o->cert == !o->key ? NULL : "a certificate and its key go together";
}

static void key_add(struct text *text, const char *key)
{
	if (text->at[text->len - 1] != '[')
		text_add_char(text, ',');
	text_add_str(text, "{\"key\":\"");
	text_add_str(text, key);
	text_add_str(text, "\",\"value\":{\"");
}

/* 64-bit numbers are strings in the protocol's JSON. */
static void attribute_add(struct text *text, const char *key, const json_t *value)
{
	key_add(text, key);
	if (json_is_integer(value)) {
		text_add_str(text, "intValue\":\"");
		text_add_s64(text, json_integer_value(value));
		text_add_char(text, '"');
	} else if (json_is_boolean(value)) {
		text_add_str(text, "boolValue\":");
		text_add_str(text, json_is_true(value) ? "true" : "false");
	} else {
		text_add_str(text, "stringValue\":");
		text_add_json(text, json_string_value(value) ? json_string_value(value) : "",
			      json_string_length(value));
	}
	text_add_str(text, "}}");
}

static void record_begin(struct otlp_sink *s, __u64 wall_ns, bool warn, const char *body)
{
	struct text *text = &s->batch;

	if (text->len)
		text_add_char(text, ',');
	text_add_str(text, "{\"timeUnixNano\":\"");
	text_add_u64(text, wall_ns);
	text_add_str(text, "\",\"observedTimeUnixNano\":\"");
	text_add_u64(text, physical_now_ns());
	text_add_str(text, "\",\"severityNumber\":");
	text_add_u64(text, warn ? SEVERITY_WARN : SEVERITY_INFO);
	text_add_str(text, warn ? ",\"severityText\":\"WARN\"" : ",\"severityText\":\"INFO\"");
	text_add_str(text, ",\"body\":{\"stringValue\":");
	text_add_json(text, body, strlen(body));
	text_add_str(text, "},\"attributes\":[");
}

/* Every key of the event's line is an attribute of the record, under the same name. */
static void record_add(struct otlp_sink *s, const struct sink_event *event)
{
	json_t *line = json_loadb(event->line, event->len, 0, NULL), *value;
	const char *type = json_string_value(json_object_get(line, "type")), *key;
	const char *src = json_string_value(json_object_get(line, "src"));
	const char *dst = json_string_value(json_object_get(line, "dst"));
	char body[256];

	snprintf(body, sizeof(body), src && dst ? "%s %s > %s" : "%s", type ? type : "", src, dst);
	record_begin(s, event->wall_ns, !event->joined, body);
	json_object_foreach(line, key, value) {
		attribute_add(&s->batch, key, value);
	}
	text_add_str(&s->batch, "]}");
	json_decref(line);
	s->batch_n++;
}

/* Of which nodes they were is forgotten with the batches themselves. */
static void untold_add(struct otlp_sink *s)
{
	char count[80];

	record_begin(s, physical_now_ns(), true, "gap");
	snprintf(count, sizeof(count),
		 "{\"key\":\"type\",\"value\":{\"stringValue\":\"gap\"}},{\"key\":\"count\",");
	text_add_str(&s->batch, count);
	snprintf(count, sizeof(count), "\"value\":{\"intValue\":\"%" PRIu64 "\"}},",
		 (uint64_t)s->untold);
	text_add_str(&s->batch, count);
	text_add_str(&s->batch, "{\"key\":\"reason\",\"value\":{\"stringValue\":"
				"\"no room in the queue of the export, or refused\"}}]}");
	s->batch_n++;
	s->untold = 0;
}

static void batch_wrap(const struct otlp_sink *s, struct text *whole)
{
	char host[HOST_NAME_MAX + 1] = "localhost";

	gethostname(host, sizeof(host) - 1);
	text_add_str(whole, "{\"resourceLogs\":[{\"resource\":{\"attributes\":["
			    "{\"key\":\"service.name\",\"value\":{\"stringValue\":\"tidemark\"}},"
			    "{\"key\":\"host.name\",\"value\":{\"stringValue\":");
	text_add_json(whole, host, strlen(host));
	text_add_str(whole, "}}]},\"scopeLogs\":[{\"scope\":{\"name\":\"tidemark\",\"version\":");
	text_add_json(whole, VERSION, strlen(VERSION));
	text_add_str(whole, "},\"logRecords\":[");
	text_add(whole, s->batch.at, s->batch.len);
	text_add_str(whole, "]}]}]}");
}

static void lose(struct otlp_sink *s, __u64 lost)
{
	s->sink.stats.lost += lost;
	s->untold += lost;
}

static void trouble(struct otlp_sink *s, const char *what)
{
	s->sink.stats.errors++;
	if (!s->said)
		log_warn("%s: %s; events wait in %s", s->where, what, s->queue);
	s->said = true;
}

static void batch_end(struct otlp_sink *s)
{
	struct text whole = {};
	__u64 lost = 0;
	int err;

	/* Not while batches are thrown out: it could be the next. */
	if (s->untold && spool_bytes(s->spool) <= s->queue_bytes / 2)
		untold_add(s);
	if (!s->batch_n)
		return;
	batch_wrap(s, &whole);
	if (s->batch.err || whole.err)
		lost = s->batch_n;
	else {
		err = spool_put(s->spool, whole.at, whole.len, s->batch_n, &lost);
		if (err)
			trouble(s, strerror(-err));
	}
	if (lost)
		lose(s, lost);
	text_free(&whole);
	if (s->batch.err)
		text_free(&s->batch);
	s->batch.len = 0;
	s->batch_n = 0;
	s->sink.stats.queued = spool_bytes(s->spool);
}

/* ---- sending ------------------------------------------------------------------------------------- */

static void answered(int status, const char *why, void *ctx)
{
	struct otlp_sink *s = ctx;
	char what[320];

	s->asks = false;
	if (status >= 200 && status < 300) {
		spool_drop(s->spool);
		s->backoff_ns = s->wait_ns = 0;
		if (s->said)
			log_info("%s: takes events again", s->where);
		s->said = false;
	} else {
		if (status)
			snprintf(what, sizeof(what), "answers %d", status);
		else
			snprintf(what, sizeof(what), "does not answer (%s)", why);
		trouble(s, what);
		/* It will not like this batch better another time. */
		if (status >= 400 && status < 500 && status != 408 && status != 429) {
			lose(s, s->asking);
			spool_drop(s->spool);
		}
		spool_keep(s->spool);
		s->backoff_ns = s->backoff_ns ? 2 * s->backoff_ns : BACKOFF_NS;
		if (s->backoff_ns > BACKOFF_MOST_NS)
			s->backoff_ns = BACKOFF_MOST_NS;
		s->wait_ns = physical_monotonic_ns() + s->backoff_ns;
	}
	s->sink.stats.queued = spool_bytes(s->spool);
}

static void head_write(const struct otlp_sink *s, size_t len, struct text *head)
{
	bool bare = strchr(s->host, ':');

	text_add_str(head, "POST ");
	text_add_str(head, s->path);
	text_add_str(head, bare ? " HTTP/1.1\r\nHost: [" : " HTTP/1.1\r\nHost: ");
	text_add_str(head, s->host);
	text_add_str(head, bare ? "]:" : ":");
	text_add_u64(head, s->port);
	text_add_str(head, "\r\nContent-Type: application/json\r\nContent-Length: ");
	text_add_u64(head, len);
	for (unsigned i = 0; i < s->headers_n; i++) {
		text_add_str(head, "\r\n");
		text_add_str(head, s->headers[i]);
	}
	text_add_str(head, "\r\n\r\n");
}

static void send_first(struct otlp_sink *s)
{
	struct text head = {};
	size_t len;
	char *text = spool_first(s->spool, &len, &s->asking);
	int err;

	if (!text)
		return;
	head_write(s, len, &head);
	err = head.err ? head.err : poster_post(s->poster, head.at, head.len, text, len);
	free(text);
	text_free(&head);
	if (err)
		answered(0, strerror(-err), s);
	else
		s->asks = true;
}

static int otlp_event(struct sink *sink, const struct sink_event *event)
{
	struct otlp_sink *s = (struct otlp_sink *)sink;

	sink->stats.events++;
	if (!s->batch_n)
		s->batch_ns = s->now_ns;
	record_add(s, event);
	if (s->batch_n >= BATCH_RECORDS)
		batch_end(s);
	return 0;
}

static void otlp_tick(struct sink *sink, __u64 now_ns)
{
	struct otlp_sink *s = (struct otlp_sink *)sink;

	s->now_ns = now_ns;
	if ((s->batch_n || s->untold) && now_ns - s->batch_ns >= BATCH_NS) {
		s->batch_ns = now_ns;
		batch_end(s);
	}
	if (!s->asks && now_ns >= s->wait_ns)
		send_first(s);
}

/* ---- from beginning to end ------------------------------------------------------------------------- */

static void otlp_free(struct otlp_sink *s)
{
	poster_free(s->poster);
	if (s->spool)
		spool_close(s->spool);
	for (unsigned i = 0; i < s->headers_n; i++)
		free(s->headers[i]);
	free(s->headers);
	free(s->where);
	free(s->queue);
	free(s->host);
	free(s->path);
	free(s->ca);
	free(s->cert);
	free(s->key);
	text_free(&s->batch);
	free(s);
}

/* What a collector that answers takes within seconds; the rest waits for the next start. */
static int otlp_close(struct sink *sink, int status)
{
	struct otlp_sink *s = (struct otlp_sink *)sink;
	__u64 until = physical_monotonic_ns() + LAST_NS;

	batch_end(s);
	while (spool_bytes(s->spool) && !s->said && physical_monotonic_ns() < until) {
		if (!s->asks)
			send_first(s);
		if (loop_once(s->base, 100 * 1000 * 1000))
			break;
	}
	if (spool_bytes(s->spool))
		log_warn("%s: %llu bytes of events wait in %s for the next start", s->where,
			 (unsigned long long)spool_bytes(s->spool), s->queue);
	if (sink->stats.lost)
		log_warn("%s: %llu events were not exported", s->where,
			 (unsigned long long)sink->stats.lost);
	otlp_free(s);
	return status;
}

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static struct poster *poster_make(struct otlp_sink *s, const struct sink_otlp_options *o)
{
	struct poster_options to = { .host = s->host, .port = s->port, .secure = o->secure };

	s->ca = copy(o->ca);
	s->cert = copy(o->cert);
	s->key = copy(o->key);
	to.tls = (struct tls_files){ .ca = s->ca, .cert = s->cert, .key = s->key };
	return poster_new(s->base, &to, answered, s);
}

struct sink *sink_otlp_open(const struct sink_otlp_options *o, struct event_base *base,
			    const char *state_dir)
{
	struct otlp_sink *s = calloc(1, sizeof(*s));
	char queue[PATH_MAX];

	if (!s)
		return NULL;
	snprintf(queue, sizeof(queue), "%s%s", o->queue ? o->queue : state_dir,
		 o->queue ? "" : "/otlp");
	s->base = base;
	s->where = strdup(o->url);
	s->queue = strdup(queue);
	s->host = strdup(o->host);
	s->path = strdup(o->path);
	s->port = o->port;
	s->queue_bytes = o->queue_bytes;
	s->headers = calloc(o->headers_count + 1, sizeof(*s->headers));
	for (unsigned i = 0; s->headers && i < o->headers_count; i++, s->headers_n++)
		s->headers[i] = strdup(o->headers[i]);
	if (s->where && s->queue && s->host && s->path && s->headers)
		s->poster = poster_make(s, o);
	if (s->poster)
		s->spool = spool_open(s->queue, o->queue_bytes);
	if (!s->spool) {
		otlp_free(s);
		return NULL;
	}
	s->sink = (struct sink){
		.kind = "otlp",
		.where = s->where,
		.lines = true,
		.event = otlp_event,
		.tick = otlp_tick,
		.close = otlp_close,
	};
	s->sink.stats.queued = spool_bytes(s->spool);
	return &s->sink;
}
