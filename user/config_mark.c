// SPDX-License-Identifier: GPL-2.0-only
/* Section `mark`: read and checked. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_rules.h"
#include "lookup.h"
#include "markmetrics.h"
#include "stun.h"

#define OPTIONAL CYAML_FLAG_OPTIONAL
#define POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define NEEDED CYAML_FLAG_POINTER
#define SECOND_NS 1000000000ULL
#define REFRESH_NS (600 * SECOND_NS)

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1,
								4096) };

#define STRING(key, flags, type, member) CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, 4096)
#define STRINGS(key, type, member, most) \
	CYAML_FIELD_SEQUENCE(key, POINTER, type, member, &string, 0, most)

static const cyaml_schema_field_t address_fields[] = {
	STRINGS("map", struct config_address, map, PUBLICADDR_MAP_MAX),
	STRINGS("stun", struct config_address, stun, PUBLICADDR_SERVERS_MAX),
	STRINGS("http", struct config_address, http, PUBLICADDR_SERVERS_MAX),
	STRING("refresh", POINTER, struct config_address, refresh),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t fireflies_fields[] = {
	CYAML_FIELD_BOOL_PTR("destination", POINTER, struct config_fireflies, destination),
	CYAML_FIELD_BOOL_PTR("ongoing", POINTER, struct config_fireflies, ongoing),
	CYAML_FIELD_BOOL_PTR("header", POINTER, struct config_fireflies, header),
	CYAML_FIELD_UINT("port", OPTIONAL, struct config_fireflies, port),
	STRINGS("collectors", struct config_fireflies, collectors, FIREFLIES_COLLECTORS_MAX),
	STRING("form", POINTER, struct config_fireflies, form),
	CYAML_FIELD_MAPPING_PTR("address", POINTER, struct config_fireflies, address,
				address_fields),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t pipe_fields[] = {
	STRING("path", NEEDED, struct config_pipe, path),
	CYAML_FIELD_UINT_PTR("uid", POINTER, struct config_pipe, uid),
	CYAML_FIELD_UINT_PTR("gid", POINTER, struct config_pipe, gid),
	CYAML_FIELD_BOOL("anybody", OPTIONAL, struct config_pipe, anybody),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t pipe = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_pipe, pipe_fields),
};

const cyaml_schema_field_t config_mark_fields[] = {
	STRING("registry", POINTER, struct config_mark, registry),
	STRING("flows", POINTER, struct config_mark, flows),
	STRING("period", POINTER, struct config_mark, period),
	STRING("idle", POINTER, struct config_mark, idle),
	CYAML_FIELD_UINT_PTR("series", POINTER, struct config_mark, series),
	CYAML_FIELD_MAPPING_PTR("fireflies", POINTER, struct config_mark, fireflies,
				fireflies_fields),
	CYAML_FIELD_SEQUENCE("pipes", POINTER, struct config_mark, pipes, &pipe, 0, 16),
	STRINGS("receive", struct config_mark, receive, 16),
	STRINGS("relay", struct config_mark, relay, 16),
	STRING("how", POINTER, struct config_mark, how_text),
	CYAML_FIELD_BOOL_PTR("packets", POINTER, struct config_mark, packets),
	CYAML_FIELD_SEQUENCE("rules", POINTER, struct config_mark, rules, &config_rule_schema, 0,
			     RULES_MAX),
	STRINGS("exclude", struct config_mark, exclude, RULES_MAX / 9),
	CYAML_FIELD_END,
};

static int address_refuse(const struct config_file *file, const char *path, const char *text,
			  bool named)
{
	return config_refuse(file, path,
			     "%s: not an address; write 192.0.2.1:10514 or [2001:db8::1]:10514%s",
			     text, named ? ", or a host's name" : "");
}

/* `named`: names will do, whose address is to be found, and is all zero here. */
static int ends_check(const struct config_file *file, const char *path, char *const *texts,
		      unsigned n, __u16 port, bool named, struct sockaddr_in6 *out)
{
	char at[64], name[LOOKUP_NAME_MAX];
	__u16 named_port;

	for (unsigned i = 0; i < n; i++) {
		snprintf(at, sizeof(at), "%s.%u", path, i);
		if (!fireflies_address(texts[i], port, &out[i]))
			continue;
		memset(&out[i], 0, sizeof(out[i]));
		if (!named || lookup_parse(texts[i], port, name, &named_port))
			return address_refuse(file, at, texts[i], named);
	}
	return 0;
}

static int behind_nat_check(const struct config_file *file, struct config_mark *mark,
			    const struct config_address *address)
{
	struct publicaddr_options *o = mark->addresses = calloc(1, sizeof(*o));
	char path[64];

	if (!o)
		return config_refuse(file, "mark", "out of memory");
	for (unsigned i = 0; i < address->map_count; i++) {
		snprintf(path, sizeof(path), "mark.fireflies.address.map.%u", i);
		if (publicaddr_pair_parse(address->map[i], &o->map[i]))
			return config_refuse(file, path,
					     "%s: not two addresses of one family; write it like "
					     "10.0.0.5=192.0.2.5",
					     address->map[i]);
	}
	for (unsigned i = 0; i < address->http_count; i++) {
		snprintf(path, sizeof(path), "mark.fireflies.address.http.%u", i);
		if (!publicaddr_url_valid(address->http[i]))
			return config_refuse(file, path, "%s: not http://HOST[:PORT][/PATH]",
					     address->http[i]);
		snprintf(o->http[i], sizeof(o->http[i]), "%s", address->http[i]);
	}
	o->map_n = address->map_count;
	o->stun_n = address->stun_count;
	o->http_n = address->http_count;
	o->refresh_ns = REFRESH_NS;
	if (ends_check(file, "mark.fireflies.address.stun", address->stun, address->stun_count,
		       STUN_PORT, true, o->stun))
		return 2;
	return config_span(file, "mark.fireflies.address.refresh", address->refresh,
			   &o->refresh_ns);
}

static bool yes(const bool *choice)
{
	return !choice || *choice;
}

static int fireflies_check(const struct config_file *file, struct config_mark *mark)
{
	const struct config_fireflies *f = mark->fireflies;
	struct fireflies_options *o = &mark->tell;

	if (f->port > 65535)
		return config_refuse(file, "mark.fireflies.port", "not a port from 1 to 65535");
	if (f->form && firefly_form_parse(f->form, &o->form))
		return config_refuse(file, "mark.fireflies.form",
				     "%s: not a form; lean, full or compatible", f->form);
	o->destination = yes(f->destination);
	o->ongoing = yes(f->ongoing);
	o->no_header = !yes(f->header);
	o->port = f->port ? f->port : FIREFLY_PORT;
	o->collectors_n = f->collectors_count;
	if (!o->destination && !o->collectors_n)
		return config_refuse(file, "mark.fireflies",
				     "nobody to send to; destination: true, or collectors");
	mark->reports.ignore_port = o->port;
	if (ends_check(file, "mark.fireflies.collectors", f->collectors, f->collectors_count,
		       FIREFLY_PORT, true, o->collectors))
		return 2;
	return f->address ? behind_nat_check(file, mark, f->address) : 0;
}

static int pipes_check(const struct config_file *file, const struct config_mark *mark)
{
	char path[64];

	for (unsigned i = 0; i < mark->pipes_count; i++) {
		snprintf(path, sizeof(path), "mark.pipes.%u.path", i);
		if (*mark->pipes[i]->path != '/')
			return config_refuse(file, path, "%s: not an absolute path",
					     mark->pipes[i]->path);
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(mark->pipes[i]->path, mark->pipes[k]->path))
				return config_refuse(file, path, "%s: twice", mark->pipes[i]->path);
	}
	return 0;
}

/* What comes in, and to whom it goes on: not to where it came in, time and again. */
static int receive_check(const struct config_file *file, struct config_mark *mark)
{
	int status;

	if (mark->relay_count && !mark->receive_count)
		return config_refuse(file, "mark.relay",
				     "nothing is received; `receive` says where");
	if (!mark->receive_count)
		return 0;
	mark->receivers = calloc(mark->receive_count, sizeof(*mark->receivers));
	mark->relays = calloc(mark->relay_count + 1, sizeof(*mark->relays));
	if (!mark->receivers || !mark->relays)
		return config_refuse(file, "mark.receive", "out of memory");
	status = ends_check(file, "mark.receive", mark->receive, mark->receive_count, FIREFLY_PORT,
			    false, mark->receivers);
	if (!status)
		status = ends_check(file, "mark.relay", mark->relay, mark->relay_count,
				    FIREFLY_PORT, true, mark->relays);
	for (unsigned i = 0; !status && i < mark->relay_count; i++)
		for (unsigned k = 0; k < mark->receive_count; k++)
			if (!memcmp(&mark->relays[i], &mark->receivers[k], sizeof(*mark->relays)))
				return config_refuse(file, "mark.relay", "%s: is received here",
						     mark->relay[i]);
	return status;
}

int config_mark_check(struct config_file *file)
{
	static const struct reports_options usual = REPORTS_OPTIONS_DEFAULT;
	struct config_mark *mark = file->config->mark;
	int status;

	if (!mark)
		return 0;
	mark->reports = usual;
	if (mark->flows && !strcmp(mark->flows, "tcp"))
		mark->reports.whose = REPORTS_TCP;
	else if (mark->flows && strcmp(mark->flows, "marked"))
		return config_refuse(file, "mark.flows", "%s: not a choice; marked or tcp",
				     mark->flows);
	status = config_span(file, "mark.period", mark->period, &mark->reports.period_ns);
	if (!status)
		status = config_span(file, "mark.idle", mark->idle, &mark->reports.idle_ns);
	if (!status && mark->reports.period_ns < SECOND_NS / 10)
		status = config_refuse(file, "mark.period", "%s: shorter than 100ms", mark->period);
	if (!status && mark->fireflies)
		status = fireflies_check(file, mark);
	if (!status)
		status = pipes_check(file, mark);
	if (!status)
		status = config_rules_check(file, mark);
	return status ? status : receive_check(file, mark);
}

void config_mark_free(struct config_mark *mark)
{
	if (!mark)
		return;
	free(mark->addresses);
	free(mark->receivers);
	free(mark->relays);
	mark->addresses = NULL;
	mark->receivers = NULL;
	mark->relays = NULL;
	free(mark->marks);
	mark->marks = NULL;
}
