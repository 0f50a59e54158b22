// SPDX-License-Identifier: GPL-2.0-only
/* Marks as text: a table, JSON lines, and JSON lines read back. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "cgroup.h"
#include "markio.h"
#include "units.h"

enum {
	ID,
	PROTO,
	SRC,
	SRC_PORTS,
	DST,
	DST_PORTS,
	NODE,
	UID,
	COMM,
	CGROUP,
	EXPERIMENT,
	ACTIVITY,
	HOW,
	INHERIT,
	FOR,
	FLOWS,
	EXCLUDE,
	IDS,
	PICK
};

static const struct out_column columns[] = {
	[ID] = { "id", "ID", 6, 0, OUT_RIGHT },
	[PROTO] = { "proto", "PROTO", 5, 0, 0 },
	[SRC] = { "src", "FROM", 47, 12, 0 },
	[SRC_PORTS] = { .key = "src_ports" },
	[DST] = { "dst", "TO", 47, 12, 0 },
	[DST_PORTS] = { .key = "dst_ports" },
	[NODE] = { "node", "NODE", 16, 6, OUT_OPTIONAL },
	[UID] = { "uid", "UID", 7, 0, OUT_RIGHT | OUT_OPTIONAL },
	[COMM] = { "comm", "PROCESS", 15, 6, OUT_OPTIONAL },
	[CGROUP] = { "cgroup", "CGROUP", 32, 8, OUT_OPTIONAL },
	[EXPERIMENT] = { "experiment", "EXPERIMENT", 16, 8, 0 },
	[ACTIVITY] = { "activity", "ACTIVITY", 24, 8, 0 },
	[HOW] = { "how", "HOW", 22, 0, OUT_OPTIONAL },
	[INHERIT] = { .key = "inherit" },
	[FOR] = { "for_ns", "LEFT", 6, 0, OUT_RIGHT | OUT_OPTIONAL },
	[FLOWS] = { "flows", "FLOWS", 8, 0, OUT_RIGHT | OUT_OPTIONAL },
	[EXCLUDE] = { .key = "exclude" },
	[IDS] = { .key = "ids" },
	[PICK] = { .key = "pick" },
	{},
};

struct out *marks_out(FILE *file, bool json)
{
	return out_open(file, columns, json ? OUT_JSON : 0);
}

static void out_ends(struct out *out, unsigned column, unsigned ports_column,
		     const struct endpoint *e)
{
	char address[ENDPOINT_TEXT_MAX], ports[ENDPOINT_TEXT_MAX];

	endpoint_print(e, address, ports);
	if (*address)
		out_str(out, column, address);
	if (*ports)
		out_str(out, ports_column, ports);
}

static void out_owner(struct out *out, const struct mark *m)
{
	char path[4096];

	if (*m->node)
		out_str(out, NODE, m->node);
	if (m->by_uid)
		out_u64(out, UID, m->uid);
	if (*m->comm)
		out_str(out, COMM, m->comm);
	if (!m->cgroup)
		return;
	if (cgroup_path(m->cgroup, path, sizeof(path)))
		snprintf(path, sizeof(path), "%llu", m->cgroup); /* removed meanwhile */
	out_str(out, CGROUP, path);
}

/* Several ids are one text, as several fit no column: "2/9,3/14". */
static void out_gives(struct out *out, const struct registry *registry, const struct mark *m)
{
	char experiment[REGISTRY_NAME_MAX], activity[REGISTRY_NAME_MAX], ids[RULE_IDS_MAX * 8];
	int n = 0;

	if (m->exclude) {
		out_bool(out, EXCLUDE, true);
		return;
	}
	for (unsigned i = 0; i < m->ids_n; i++)
		n += snprintf(ids + n, sizeof(ids) - n, "%s%u/%u", i ? "," : "",
			      m->ids[i] >> RULE_ID_SHIFT, m->ids[i] & MARK_ACTIVITY_MAX);
	if (n) {
		out_str(out, IDS, ids);
		out_str(out, PICK, m->at_random ? "random" : "round-robin");
	} else {
		registry_names(registry, m->experiment, m->activity, experiment, activity);
		out_str(out, EXPERIMENT, experiment);
		out_str(out, ACTIVITY, activity);
	}
	out_str(out, HOW, mark_hows[m->how]);
}

int mark_print(struct out *out, const struct registry *registry, const struct mark *m)
{
	char number[4];

	out_u64(out, ID, m->id);
	snprintf(number, sizeof(number), "%u", m->proto);
	out_str(out, PROTO,
		m->proto == IPPROTO_TCP	  ? "tcp"
		: m->proto == IPPROTO_UDP ? "udp"
		: m->proto		  ? number
					  : "any");
	out_ends(out, SRC, SRC_PORTS, &m->src);
	out_ends(out, DST, DST_PORTS, &m->dst);
	out_owner(out, m);
	out_gives(out, registry, m);
	if (m->inherit)
		out_bool(out, INHERIT, true);
	if (m->for_ns)
		out_span(out, FOR, m->for_ns);
	out_u64(out, FLOWS, m->flows);
	return out_row(out);
}

void out_mark(struct out *out, unsigned experiment_column, unsigned activity_column,
	      unsigned how_column, const struct registry *registry, __u32 mark)
{
	char experiment[REGISTRY_NAME_MAX], activity[REGISTRY_NAME_MAX];

	registry_names(registry, mark_experiment(mark), mark_activity(mark), experiment, activity);
	out_str(out, experiment_column, experiment);
	out_str(out, activity_column, activity);
	out_str(out, how_column, mark_hows[mark_how(mark)]);
}

int mark_proto_parse(const char *text, __u8 *proto)
{
	__u64 number;

	if (!strcmp(text, "tcp"))
		*proto = IPPROTO_TCP;
	else if (!strcmp(text, "udp"))
		*proto = IPPROTO_UDP;
	else if (!strcmp(text, "any"))
		*proto = 0;
	else if (number_parse(text, 255, &number) || !number)
		return -EINVAL;
	else
		*proto = number;
	return 0;
}

int mark_how_parse(const char *text, enum mark_how *how)
{
	for (int i = 0; i < MARK_HOWS_NR; i++)
		if (!strcmp(text, mark_hows[i])) {
			*how = i;
			return 0;
		}
	return -EINVAL;
}

int mark_cgroup_parse(const char *text, struct mark *m)
{
	return cgroup_id(text, &m->cgroup, &m->cgroup_level);
}

int mark_uid_parse(const char *text, struct mark *m)
{
	__u64 uid;

	if (number_parse(text, 0xfffffffe, &uid)) {
		/* The file, not getpwnam(): that loads libraries a static program has not. */
		FILE *file = fopen("/etc/passwd", "re");
		struct passwd *user = NULL;

		while (file && (user = fgetpwent(file)) && strcmp(user->pw_name, text))
			;
		if (file)
			fclose(file);
		if (!user)
			return -EINVAL;
		uid = user->pw_uid;
	}
	m->uid = uid;
	m->by_uid = true;
	return 0;
}

/* ---- read back ---------------------------------------------------------------------- */

struct reading {
	const struct registry *registry;
	json_t *line;
	struct mark *mark;
	char *words;
	size_t size;
};

/* A string, or a number as text; NULL: not there. */
static const char *text_of(const struct reading *r, const char *key, char number[24], bool *bad)
{
	json_t *value = json_object_get(r->line, key);

	if (json_is_integer(value)) {
		snprintf(number, 24, "%lld", (long long)json_integer_value(value));
		return number;
	}
	*bad = value && !json_is_string(value);
	return json_string_value(value);
}

typedef int (*text_fn)(const struct reading *r, const char *text);

static int read_proto(const struct reading *r, const char *text)
{
	snprintf(r->words, r->size, "not a protocol; tcp, udp, any or a number");
	return mark_proto_parse(text, &r->mark->proto);
}

static int read_end(const struct reading *r, const char *text, struct endpoint *e)
{
	const char *why = "";
	int err = endpoint_parse(text, e, &why);

	snprintf(r->words, r->size, "%s", why);
	return err;
}

static int read_src(const struct reading *r, const char *text)
{
	return read_end(r, text, &r->mark->src);
}

static int read_dst(const struct reading *r, const char *text)
{
	return read_end(r, text, &r->mark->dst);
}

static int read_short(const struct reading *r, const char *text, char *to, size_t size)
{
	snprintf(r->words, r->size, "too long");
	if (strlen(text) >= size)
		return -EINVAL;
	memset(to, 0, size);
	memcpy(to, text, strlen(text));
	return 0;
}

static int read_node(const struct reading *r, const char *text)
{
	return read_short(r, text, r->mark->node, sizeof(r->mark->node));
}

static int read_comm(const struct reading *r, const char *text)
{
	return read_short(r, text, r->mark->comm, sizeof(r->mark->comm));
}

static int read_uid(const struct reading *r, const char *text)
{
	snprintf(r->words, r->size, "no such user in /etc/passwd, and not a number");
	return mark_uid_parse(text, r->mark);
}

static int read_cgroup(const struct reading *r, const char *text)
{
	snprintf(r->words, r->size, "no such cgroup (version 2)");
	return mark_cgroup_parse(text, r->mark);
}

static int read_experiment(const struct reading *r, const char *text)
{
	return registry_experiment(r->registry, text, &r->mark->experiment, r->words, r->size);
}

static int read_activity(const struct reading *r, const char *text)
{
	return registry_activity(r->registry, r->mark->experiment, text, &r->mark->activity,
				 r->words, r->size);
}

static int read_how(const struct reading *r, const char *text)
{
	snprintf(r->words, r->size, "not a way to mark; see `tidemark mark --help`");
	return mark_how_parse(text, &r->mark->how);
}

static int read_for(const struct reading *r, const char *text)
{
	snprintf(r->words, r->size, "not a time in nanoseconds");
	return number_parse(text, 1ULL << 62, &r->mark->for_ns);
}

static int read_nothing(const struct reading *r, const char *text)
{
	(void)r;
	(void)text;
	return 0;
}

/* "atlas/staging,3/14" */
static int read_ids(const struct reading *r, const char *text)
{
	char one[2 * REGISTRY_NAME_MAX], *slash;
	unsigned experiment, activity;

	for (size_t n; *text; text += n + (text[n] == ',')) {
		n = strcspn(text, ",");
		snprintf(r->words, r->size, "not EXPERIMENT/ACTIVITY,..., %u at most",
			 RULE_IDS_MAX);
		if (n >= sizeof(one) || r->mark->ids_n == RULE_IDS_MAX)
			return -EINVAL;
		memcpy(one, text, n);
		one[n] = 0;
		slash = strchr(one, '/');
		if (!slash)
			return -EINVAL;
		*slash = 0;
		if (registry_experiment(r->registry, one, &experiment, r->words, r->size) ||
		    registry_activity(r->registry, experiment, slash + 1, &activity, r->words,
				      r->size))
			return -EINVAL;
		r->mark->ids[r->mark->ids_n++] = experiment << RULE_ID_SHIFT | activity;
	}
	return 0;
}

static int read_pick(const struct reading *r, const char *text)
{
	snprintf(r->words, r->size, "not a choice; round-robin or random");
	r->mark->at_random = !strcmp(text, "random");
	return r->mark->at_random || !strcmp(text, "round-robin") ? 0 : -EINVAL;
}

/* In this order: an activity's name is its experiment's. */
static const struct {
	const char *key;
	text_fn read;
} keys[] = {
	{ "id", read_nothing },	       { "flows", read_nothing }, { "proto", read_proto },
	{ "src", read_src },	       { "src_ports", read_src }, { "dst", read_dst },
	{ "dst_ports", read_dst },     { "node", read_node },	  { "uid", read_uid },
	{ "comm", read_comm },	       { "cgroup", read_cgroup }, { "experiment", read_experiment },
	{ "activity", read_activity }, { "how", read_how },	  { "for_ns", read_for },
	{ "ids", read_ids },	       { "pick", read_pick },
};

#define KEYS (sizeof(keys) / sizeof(keys[0]))

static bool key_is_known(const char *key)
{
	for (size_t i = 0; i < KEYS; i++)
		if (!strcmp(keys[i].key, key))
			return true;
	return !strcmp(key, "inherit") || !strcmp(key, "exclude");
}

static int read_switch(const struct reading *r, const char *key, bool *to)
{
	json_t *value = json_object_get(r->line, key);

	*to = json_is_true(value);
	snprintf(r->words, r->size, "%s: neither true nor false", key);
	return value && !json_is_boolean(value) ? -EINVAL : 0;
}

const char *mark_never(const struct mark *m)
{
	if (!endpoints_meet(&m->src, &m->dst))
		return "src and dst: one is IPv4, the other IPv6; no packet has both";
	if ((!m->src.ported && !m->dst.ported) || !m->proto || m->proto == IPPROTO_TCP ||
	    m->proto == IPPROTO_UDP || m->proto == IPPROTO_ICMP || m->proto == IPPROTO_ICMPV6)
		return NULL;
	return "ports are known of tcp and udp only; leave them out, or the protocol";
}

/* One mark, or several, or none on purpose. */
static int gives_check(const struct reading *r)
{
	bool one = json_object_get(r->line, "experiment") && json_object_get(r->line, "activity");
	struct mark *m = r->mark;
	const char *never;

	snprintf(r->words, r->size, "experiment and activity are needed, or ids, or exclude");
	if (one + (m->ids_n != 0) + m->exclude != 1)
		return -EINVAL;
	never = mark_never(m);
	if (never) {
		snprintf(r->words, r->size, "%s", never);
		return -EINVAL;
	}
	if (m->ids_n) {
		m->experiment = m->ids[0] >> RULE_ID_SHIFT;
		m->activity = m->ids[0] & MARK_ACTIVITY_MAX;
	}
	return 0;
}

static int line_read(struct reading *r)
{
	char number[24], why[256];
	const char *key, *text;
	json_t *value;
	bool bad;

	json_object_foreach(r->line, key, value)
		if (!key_is_known(key)) {
			snprintf(r->words, r->size, "%.64s: no such key", key);
			return -EINVAL;
		}
	for (size_t i = 0; i < KEYS; i++) {
		bad = false;
		text = text_of(r, keys[i].key, number, &bad);
		snprintf(r->words, r->size, "neither text nor a number");
		if (bad || (text && keys[i].read(r, text))) {
			snprintf(why, sizeof(why), "%s", r->words);
			snprintf(r->words, r->size, "%s%s%.80s: %s", keys[i].key, bad ? "" : " ",
				 bad ? "" : text, why);
			return -EINVAL;
		}
	}
	if (read_switch(r, "inherit", &r->mark->inherit) ||
	    read_switch(r, "exclude", &r->mark->exclude))
		return -EINVAL;
	return gives_check(r);
}

int mark_read_json(json_t *line, const struct registry *registry, struct mark *mark, char *words,
		   size_t size)
{
	struct reading r = { registry, line, mark, words, size };

	memset(mark, 0, sizeof(*mark));
	return line_read(&r);
}

int mark_read(const char *line, size_t length, const struct registry *registry, struct mark *mark,
	      char *words, size_t size)
{
	json_error_t error;
	json_t *json;
	int err;

	json = json_loadb(line, length, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(json)) {
		snprintf(words, size, "not a JSON object: %s",
			 json ? "it is something else" : error.text);
		json_decref(json);
		return -EINVAL;
	}
	err = mark_read_json(json, registry, mark, words, size);
	json_decref(json);
	return err;
}
