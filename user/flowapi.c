// SPDX-License-Identifier: GPL-2.0-only
/* Flows over HTTP: flowd-go's POST /flow, and what it lacks: list, get, delete. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "../bpf/mark.h"
#include "fireflies.h"
#include "flowapi.h"
#include "marks.h"
#include "registry.h"

/* flowd-go's numbers for what it also takes as words from us. */
enum { FLOWD_START = 2, FLOWD_END = 3 };
enum { FLOWD_TCP = 0, FLOWD_UDP = 1 };

static int bad(char words[FLOWIN_WORDS], const char *what)
{
	snprintf(words, FLOWIN_WORDS, "%s", what);
	return -EBADMSG;
}

/* The number a key has, or that of its word; -1: neither. */
static json_int_t choice(json_t *json, const char *const words[], json_int_t first, unsigned n)
{
	json_int_t value = json_integer_value(json);

	if (json_is_integer(json))
		return value >= first && value < first + n ? value : -1;
	for (unsigned i = 0; json_is_string(json) && i < n; i++)
		if (!strcasecmp(json_string_value(json), words[i]))
			return first + i;
	return -1;
}

static int end_parse(json_t *json, __u8 address[16], __u16 *port)
{
	const char *text = json_string_value(json);
	struct sockaddr_in6 at;

	if (!text || fireflies_address(text, 0, &at) || !at.sin6_port)
		return -EBADMSG;
	memcpy(address, &at.sin6_addr, 16);
	*port = ntohs(at.sin6_port);
	return 0;
}

/* A number, or a name of the registry. */
static const char *id_text(json_t *json, char number[24])
{
	if (json_is_string(json))
		return json_string_value(json);
	if (!json_is_integer(json))
		return NULL;
	snprintf(number, 24, "%lld", (long long)json_integer_value(json));
	return number;
}

static int object_parse(const struct flowin *in, json_t *json, struct firefly *out,
			char words[FLOWIN_WORDS])
{
	static const char *const states[] = { "start", "end" }, *const protos[] = { "tcp", "udp" };
	json_t *proto = json_object_get(json, "Protocol");
	char experiment[24], activity[24];
	const char *e = id_text(json_object_get(json, "Experiment"), experiment);
	const char *a = id_text(json_object_get(json, "Activity"), activity);
	json_int_t state = choice(json_object_get(json, "State"), states, FLOWD_START, 2);
	json_int_t protocol = proto ? choice(proto, protos, FLOWD_TCP, 2) : FLOWD_TCP;

	memset(out, 0, sizeof(*out));
	if (state < 0)
		return bad(words, "State: not 2 (start) or 3 (end)");
	if (protocol < 0)
		return bad(words, "Protocol: not 0 (tcp) or 1 (udp)");
	out->state = state == FLOWD_START ? REPORT_start : REPORT_end;
	out->proto = protocol == FLOWD_TCP ? IPPROTO_TCP : IPPROTO_UDP;
	if (end_parse(json_object_get(json, "Src"), out->src, &out->src_port))
		return bad(words, "Src: not ADDRESS:PORT or [V6]:PORT");
	if (end_parse(json_object_get(json, "Dst"), out->dst, &out->dst_port))
		return bad(words, "Dst: not ADDRESS:PORT or [V6]:PORT");
	if (!addresses_meet(out->src, out->dst))
		return bad(words, "Src and Dst: one is IPv4, the other IPv6");
	if (!e || !a)
		return bad(words, "Experiment and Activity: numbers, or names of the registry");
	if (registry_experiment(in->registry, e, &out->experiment, words, FLOWIN_WORDS) ||
	    registry_activity(in->registry, out->experiment, a, &out->activity, words,
			      FLOWIN_WORDS))
		return -EBADMSG;
	return 0;
}

int flowapi_parse(const struct flowin *in, const char *body, size_t n, struct firefly *out,
		  char words[FLOWIN_WORDS])
{
	json_error_t error;
	json_t *json = json_loadb(body, n, JSON_REJECT_DUPLICATES, &error);
	int err;

	if (!json)
		return bad(words, error.text);
	err = json_is_object(json) ? object_parse(in, json, out, words)
				   : bad(words, "not an object");
	json_decref(json);
	return err;
}

static void flow_post(struct http_call *call, void *ctx)
{
	struct flowin *in = marking_in(ctx);
	char words[FLOWIN_WORDS];
	struct firefly flow;
	json_error_t error;
	size_t n = 0;
	const char *body = http_body(call, &n);
	int err;

	if (flowapi_parse(in, body ?: "", n, &flow, words)) {
		in->counts.refused++;
		http_refuse(call, 400, "%s", words);
		return;
	}
	err = flowin_take(in, &flow, 1);
	if (err)
		http_refuse(call, err == -ENOSPC ? 507 : 500, "%s",
			    err == -ENOSPC ? "no room for more marks; ended flows make some"
					   : strerror(-err));
	else
		http_reply_json(call, 200, json_loadb(body, n, 0, &error));
}

/* ---- what is marked ---------------------------------------------------------------------- */

#define LIST_MOST 100000

struct list {
	const struct flowin *in;
	json_t *array;
	json_int_t id; /* one alone, or 0 */
};

static json_t *end_json(const struct endpoint *e)
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = !memcmp(e->address, mapped, sizeof(mapped));
	char address[INET6_ADDRSTRLEN];

	inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? e->address + 12 : e->address, address,
		  sizeof(address));
	return json_sprintf(v4 ? "%s:%u" : "[%s]:%u", address, e->low);
}

static int list_add(const struct mark *mark, void *ctx)
{
	char experiment[REGISTRY_NAME_MAX], activity[REGISTRY_NAME_MAX];
	struct list *list = ctx;

	if (!endpoint_is_exact(&mark->src) || !endpoint_is_exact(&mark->dst) ||
	    (list->id && mark->id != list->id))
		return 0;
	registry_names(list->in->registry, mark->experiment, mark->activity, experiment, activity);
	json_array_append_new(
		list->array,
		json_pack("{s:i, s:i, s:o, s:o, s:i, s:s, s:i, s:s, s:b}", "Id", mark->id,
			  "Protocol", mark->proto == IPPROTO_UDP ? FLOWD_UDP : FLOWD_TCP, "Src",
			  end_json(&mark->src), "Dst", end_json(&mark->dst), "Experiment",
			  mark->experiment, "ExperimentName", experiment, "Activity",
			  mark->activity, "ActivityName", activity, "Seen", mark->flows != 0));
	return json_array_size(list->array) >= LIST_MOST;
}

static bool id_of(struct http_call *call, json_int_t *id)
{
	char *end;

	*id = strtoll(http_rest(call), &end, 10);
	if (*id > 0 && !*end && end != http_rest(call))
		return true;
	http_refuse(call, 400, "not the id of a flow; GET /flow lists them");
	return false;
}

static void flows_list(struct http_call *call, void *ctx)
{
	struct list list = { .in = marking_in(ctx), .array = json_array() };

	marks_each(list.in->t, list_add, &list);
	http_reply_json(call, 200, json_pack("{s:o}", "flows", list.array));
}

static void flow_get(struct http_call *call, void *ctx)
{
	struct list list = { .in = marking_in(ctx) };

	if (!id_of(call, &list.id))
		return;
	list.array = json_array();
	marks_each(list.in->t, list_add, &list);
	if (json_array_size(list.array))
		http_reply_json(call, 200, json_incref(json_array_get(list.array, 0)));
	else
		http_refuse(call, 404, "no such flow; GET /flow lists them");
	json_decref(list.array);
}

static bool is_that(const struct mark *mark, void *ctx)
{
	return mark->id == *(const json_int_t *)ctx && endpoint_is_exact(&mark->src) &&
	       endpoint_is_exact(&mark->dst);
}

static void flow_delete(struct http_call *call, void *ctx)
{
	struct flowin *in = marking_in(ctx);
	json_int_t id;
	int removed;

	if (!id_of(call, &id))
		return;
	if (tidemark_lock(in->t)) {
		http_refuse(call, 500, "the datapath cannot be changed");
		return;
	}
	removed = marks_remove(in->t, is_that, &id);
	tidemark_unlock(in->t);
	if (removed > 0)
		http_reply_json(call, 200, json_pack("{s:I}", "Id", id));
	else
		http_refuse(call, removed ? 500 : 404, "no such flow; GET /flow lists them");
	in->counts.ended += removed > 0;
}

const struct http_route marking_routes[] = {
	{ "POST", "/flow", flow_post, false },
	{ "GET", "/flow", flows_list, false },
	{ "GET", "/flow/*", flow_get, false },
	{ "DELETE", "/flow/*", flow_delete, false },
	{},
};
