// SPDX-License-Identifier: GPL-2.0-only
/* What is asked of a daemon about its record, and the frames of its answer. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ask.h"
#include "listen.h"

const char *const ask_formats[] = {
#define X(name) #name,
	ASK_FORMATS(X)
#undef X
		NULL,
};

int ask_format(const char *name, enum ask_format *format)
{
	for (int i = 0; ask_formats[i]; i++)
		if (!strcmp(name, ask_formats[i])) {
			*format = i;
			return 0;
		}
	return -EINVAL;
}

/* ---- as a line ---------------------------------------------------------------------------- */

static void word_add(json_t *to, const char *key, const char *word)
{
	if (*word)
		json_object_set_new(to, key, json_string(word));
}

char *ask_print(const struct ask *ask)
{
	json_t *all = json_object();
	char *text, *line = NULL;

	switch (ask->what) {
	case ASK_LIST:
		json_object_set_new(all, "list", json_true());
		break;
	case ASK_CANCEL:
		json_object_set_new(all, "cancel", json_integer(ask->id));
		break;
	case ASK_QUERY:
		if (json_object_set_new(all, "query", json_string(ask->text)))
			break; /* not UTF-8 */
		word_add(all, "format", ask_formats[ask->format]);
		word_add(all, "by", ask->by);
		word_add(all, "since", ask->since);
		word_add(all, "until", ask->until);
		if (ask->limit)
			json_object_set_new(all, "limit", json_integer((json_int_t)ask->limit));
		if (ask->follow)
			json_object_set_new(all, "follow", json_true());
	}
	text = json_object_size(all) ? json_dumps(all, JSON_COMPACT) : NULL;
	json_decref(all);
	if (text && asprintf(&line, "%s\n", text) < 0)
		line = NULL;
	free(text);
	return line;
}

/* A string that fits, or nothing there. */
static bool word_read(const json_t *all, const char *key, char *to, size_t size)
{
	const json_t *value = json_object_get(all, key);
	size_t n = json_string_length(value);

	*to = 0;
	if (!value)
		return true;
	if (!json_is_string(value) || n >= size || strlen(json_string_value(value)) != n)
		return false;
	memcpy(to, json_string_value(value), n + 1);
	return true;
}

static const char *query_read(const json_t *all, struct ask *ask)
{
	static const char *const known[] = { "query", "format", "by",	  "since",
					     "until", "limit",	"follow", NULL };
	const json_t *limit = json_object_get(all, "limit"), *value;
	char format[16];
	const char *key;

	json_object_foreach((json_t *)all, key, value) {
		int i = 0;

		while (known[i] && strcmp(known[i], key))
			i++;
		if (!known[i])
			return "there is a key that is not known here";
	}
	if (!word_read(all, "query", ask->text, sizeof(ask->text)))
		return "the expression is no text of up to 4096 bytes";
	if (!word_read(all, "format", format, sizeof(format)) ||
	    (*format && ask_format(format, &ask->format)))
		return "a format is table, json, pcapng, count, flows or flows_json";
	if (!word_read(all, "by", ask->by, sizeof(ask->by)) ||
	    (*ask->by && strcmp(ask->by, "time") && strcmp(ask->by, "hlc")))
		return "an order is time or hlc";
	if (!word_read(all, "since", ask->since, sizeof(ask->since)) ||
	    !word_read(all, "until", ask->until, sizeof(ask->until)))
		return "a time is a text like 5m ago or 2026-11-20T22:31:05Z";
	if (limit && (!json_is_integer(limit) || json_integer_value(limit) <= 0))
		return "a limit is a number of packets";
	ask->limit = (__u64)json_integer_value(limit);
	ask->follow = json_is_true(json_object_get(all, "follow"));
	return NULL;
}

int ask_parse(const char *line, size_t len, struct ask *ask, char *words, size_t size)
{
	json_error_t error;
	json_t *all =
		len <= ASK_LINE_MOST ? json_loadb(line, len, JSON_REJECT_DUPLICATES, &error) : NULL;
	const json_t *cancel = json_object_get(all, "cancel");
	const char *why = NULL;

	memset(ask, 0, sizeof(*ask));
	if (!json_is_object(all)) {
		why = "not a line of JSON with an object";
	} else if (json_object_get(all, "list")) {
		ask->what = ASK_LIST;
	} else if (cancel) {
		json_int_t id = json_integer_value(cancel);

		ask->what = ASK_CANCEL;
		ask->id = (__u32)id;
		if (!json_is_integer(cancel) || id < 1 || id > 0xffffffffLL)
			why = "not a number of a query; `tidemark query --list` has them";
	} else if (json_object_get(all, "query")) {
		ask->what = ASK_QUERY;
		why = query_read(all, ask);
	} else {
		why = "neither query, list nor cancel";
	}
	json_decref(all);
	if (why)
		snprintf(words, size, "%s", why);
	return why ? -EINVAL : 0;
}

/* ---- where ---------------------------------------------------------------------------------- */

int query_address_parse(const char *text, struct sockaddr_storage *at, socklen_t *len)
{
	struct in6_addr v6;
	char whole[256];
	bool open;

	if (strlen(text) > 200)
		return -EINVAL;
	if (!listen_parse(text, at, len, &open))
		return 0;
	if (!strncmp(text, "unix:", 5))
		return -EINVAL;
	snprintf(whole, sizeof(whole), inet_pton(AF_INET6, text, &v6) == 1 ? "[%s]:%d" : "%s:%d",
		 text, QUERY_PORT);
	return listen_parse(whole, at, len, &open);
}

/* ---- frames --------------------------------------------------------------------------------- */

void frame_head(unsigned char head[FRAME_HEAD], char kind, __u32 len)
{
	head[0] = kind;
	len = htonl(len);
	memcpy(head + 1, &len, sizeof(len));
}

int frame_read(const unsigned char head[FRAME_HEAD], char *kind, __u32 *len)
{
	memcpy(len, head + 1, sizeof(*len));
	*len = ntohl(*len);
	*kind = (char)head[0];
	if (*kind != FRAME_DATA && *kind != FRAME_WORDS && *kind != FRAME_END)
		return -EINVAL;
	return *len > FRAME_MOST || (*kind == FRAME_END && *len != 1) ? -EINVAL : 0;
}
