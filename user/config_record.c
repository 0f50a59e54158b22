// SPDX-License-Identifier: GPL-2.0-only
/* Section `record`: what is kept of packets, where, and who may ask for it. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_record.h"
#include "listen.h"
#include "secret.h"
#include "text.h"
#include "units.h"

#define OPTIONAL CYAML_FLAG_OPTIONAL
#define POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)
#define NEEDED CYAML_FLAG_POINTER
#define SECOND_NS 1000000000ULL

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1,
								4096) };

#define STRING(key, flags, type, member) CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, 4096)
#define STRINGS(key, type, member, most) \
	CYAML_FIELD_SEQUENCE(key, POINTER, type, member, &string, 0, most)

/* The keys of a class that `record --class` has too, with their values as it reads them. */
#define CLASS_KEYS(X) \
	X(filter)     \
	X(precedence) \
	X(cutoff)     \
	X(snap)       \
	X(sample)     \
	X(mem)        \
	X(disk)       \
	X(filesize)   \
	X(age)        \
	X(flows)

static const cyaml_schema_field_t class_fields[] = {
	STRING("name", NEEDED, struct config_class, name),
#define X(key) STRING(#key, POINTER, struct config_class, key),
	CLASS_KEYS(X)
#undef X
		CYAML_FIELD_END,
};

static const cyaml_schema_value_t class = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_class, class_fields),
};

static const cyaml_schema_field_t socket_fields[] = {
	STRING("path", NEEDED, struct config_record_socket, path),
	CYAML_FIELD_UINT_PTR("uid", POINTER, struct config_record_socket, uid),
	CYAML_FIELD_UINT_PTR("gid", POINTER, struct config_record_socket, gid),
	CYAML_FIELD_END,
};

static const cyaml_schema_field_t tls_fields[] = {
	STRING("listen", NEEDED, struct config_record_tls, listen),
	STRING("cert", NEEDED, struct config_record_tls, cert),
	STRING("key", NEEDED, struct config_record_tls, key),
	STRING("ca", NEEDED, struct config_record_tls, ca),
	CYAML_FIELD_END,
};

const cyaml_schema_field_t config_record_fields[] = {
	STRING("dir", NEEDED, struct config_record, dir),
	STRING("cutoff", POINTER, struct config_record, cutoff),
	CYAML_FIELD_SEQUENCE("classes", POINTER, struct config_record, classes, &class, 0, CLASSES),
	STRINGS("nodes", struct config_record, nodes, 64),
	STRINGS("interfaces", struct config_record, interfaces, DATAPATH_INTERFACES),
	STRING("ring", POINTER, struct config_record, ring),
	STRING("stats", POINTER, struct config_record, stats),
	CYAML_FIELD_BOOL("zstd", OPTIONAL, struct config_record, zstd),
	CYAML_FIELD_MAPPING_PTR("socket", POINTER, struct config_record, socket, socket_fields),
	CYAML_FIELD_MAPPING_PTR("tls", POINTER, struct config_record, tls, tls_fields),
	CYAML_FIELD_UINT_PTR("queries", POINTER, struct config_record, queries),
	STRING("key_file", POINTER, struct config_record, key_file),
	STRINGS("old_key_files", struct config_record, old_key_files, SERVE_KEYS_MOST - 1),
	CYAML_FIELD_END,
};

/* ---- classes --------------------------------------------------------------------------- */

/* Of these nodes only: said in front of each class's own filter. */
static char *filter_of(const struct config_record *record, const char *filter)
{
	struct text text = {};
	unsigned n = record->nodes_count + record->interfaces_count;

	for (unsigned i = 0; i < n; i++) {
		text_add_str(&text, i ? " or node " : "(node ");
		text_add_str(&text, i < record->nodes_count
					    ? record->nodes[i]
					    : record->interfaces[i - record->nodes_count]);
	}
	if (n)
		text_add_char(&text, ')');
	if (n && filter)
		text_add_str(&text, " and (");
	if (filter)
		text_add_str(&text, filter);
	if (n && filter)
		text_add_char(&text, ')');
	text_add_char(&text, 0);
	return text.err ? NULL : text.at;
}

static int class_key(const struct config_file *file, struct class_spec *spec, unsigned i,
		     const char *key, const char *value)
{
	char path[64], words[256];

	if (!value || !class_set(spec, key, value, words, sizeof(words)))
		return 0;
	snprintf(path, sizeof(path), "record.classes.%u.%s", i, key);
	return config_refuse(file, path, "%s", words);
}

static int class_check(const struct config_file *file, struct config_record *record, unsigned i)
{
	const struct config_class *c = &record->classes[i];
	struct class_spec *spec = &record->list->at[record->list->n];
	char path[64], words[256];
	char *filter;
	int status = 0;

	snprintf(path, sizeof(path), "record.classes.%u.name", i);
	if (strchr(c->name, ':') || class_parse(record->list, c->name, words, sizeof(words)))
		return config_refuse(file, path, "%s",
				     strchr(c->name, ':') ? "letters, digits, - and _ only"
							  : words);
#define X(key)       \
	if (!status) \
		status = class_key(file, spec, i, #key, c->key);
	CLASS_KEYS(X)
#undef X
	if (status)
		return status;
	filter = filter_of(record, c->filter);
	if (!filter || class_set(spec, "filter", filter, words, sizeof(words)))
		status = config_refuse(file, path, "out of memory");
	free(filter);
	return status;
}

static int classes_check(const struct config_file *file, struct config_record *record)
{
	static char all[] = "all";
	struct config_class whole = { .name = all };
	unsigned count = record->classes_count;
	struct config_class *given = record->classes;
	int status = 0;

	record->cutoff_bytes = CLASS_WHOLE;
	if (record->cutoff && strcmp(record->cutoff, "no") &&
	    size_parse(record->cutoff, &record->cutoff_bytes))
		return config_refuse(file, "record.cutoff", "%s: not a size; write 15k, 1m, or no",
				     record->cutoff);
	record->list = calloc(1, sizeof(*record->list));
	if (!record->list)
		return config_refuse(file, "record", "out of memory");
	record->list->wait = true;
	if (!count) { /* a class that takes everything, of these nodes */
		record->classes = &whole;
		count = 1;
	}
	for (unsigned i = 0; i < count && !status; i++)
		status = class_check(file, record, i);
	record->classes = given;
	/* Whether filters are expressions; which nodes there are is asked for when it starts. */
	if (!status && class_finish(record->list, record->cutoff_bytes, NULL))
		status = config_refuse(file, "record.classes", "a filter is wrong");
	return status;
}

/* ---- the rest -------------------------------------------------------------------------- */

static int absolute(const struct config_file *file, const char *path, const char *name)
{
	if (!name || *name == '/')
		return 0;
	return config_refuse(file, path, "%s: not an absolute path", name);
}

static int serve_check(const struct config_file *file, struct config_record *record)
{
	const struct config_record_tls *tls = record->tls;
	struct serve_options *o = &record->serve;
	int status = 0;

	o->dir = record->dir;
	o->queries = record->queries ? *record->queries : SERVE_QUERIES;
	if (o->queries < 1 || o->queries > SERVE_QUERIES_MOST)
		return config_refuse(file, "record.queries", "not a number from 1 to %d",
				     SERVE_QUERIES_MOST);
	if (record->socket) {
		struct sockaddr_storage at;
		socklen_t len;
		bool open;
		char address[4200];

		o->path = record->socket->path;
		o->uid = record->socket->uid;
		o->gid = record->socket->gid;
		snprintf(address, sizeof(address), "unix:%s", o->path);
		if (listen_parse(address, &at, &len, &open))
			return config_refuse(file, "record.socket.path",
					     "%s: not an absolute path of up to 107 letters",
					     o->path);
	}
	if (!tls)
		return 0;
	o->listen = tls->listen;
	o->tls = (struct tls_files){ tls->cert, tls->key, tls->ca };
	if (query_address_parse(tls->listen, &o->at, &o->at_len) || o->at.ss_family == AF_UNIX)
		return config_refuse(file, "record.tls.listen",
				     "%s: not an address; names are not looked up, write "
				     "192.0.2.1:%d or [::]:%d",
				     tls->listen, QUERY_PORT, QUERY_PORT);
	status = absolute(file, "record.tls.cert", tls->cert);
	if (!status)
		status = absolute(file, "record.tls.key", tls->key);
	return status ? status : absolute(file, "record.tls.ca", tls->ca);
}

static int interfaces_check(struct config_file *file, const struct config_record *record)
{
	struct datapath_options *o = &file->options;
	char path[40];

	for (unsigned i = 0; i < record->interfaces_count; i++) {
		bool had = false;

		for (size_t k = 0; k < o->interfaces_n && !had; k++)
			had = !strcmp(o->interfaces[k], record->interfaces[i]);
		if (had)
			continue;
		snprintf(path, sizeof(path), "record.interfaces.%u", i);
		if (o->interfaces_n == DATAPATH_INTERFACES)
			return config_refuse(file, path, "too many interfaces");
		o->interfaces[o->interfaces_n++] = record->interfaces[i];
	}
	return 0;
}

/* Read here already: a daemon that cannot have its key is to say so before anything changes. */
static int keys_check(const struct config_file *file, struct config_record *record)
{
	struct serve_options *o = &record->serve;
	int status = absolute(file, "record.key_file", record->key_file);

	record->options.key_file = record->key_file;
	o->keys_n = 0;
	if (record->key_file)
		o->keys[o->keys_n++] = record->key_file;
	for (unsigned i = 0; i < record->old_key_files_count; i++)
		o->keys[o->keys_n++] = record->old_key_files[i];
	for (unsigned i = 0; i < o->keys_n && !status; i++) {
		status = absolute(file, "record.old_key_files", o->keys[i]);
		if (!status && secret_read_with(o->keys[i]))
			status = 2;
	}
	return status;
}

int config_record_check(struct config_file *file)
{
	struct config_record *record = file->config->record;
	struct recorder_options *o;
	__u64 ring = 0;
	int status;

	if (!record)
		return 0;
	o = &record->options;
	o->dir = record->dir;
	o->zstd = record->zstd;
	o->stats_ns = RECORDER_STATS_NS;
	status = absolute(file, "record.dir", record->dir);
	if (!status)
		status = keys_check(file, record);
	if (!status)
		status = config_span(file, "record.stats", record->stats, &o->stats_ns);
	if (!status)
		status = config_size(file, "record.ring", record->ring, &ring);
	if (!status && record->ring && (ring < 1 << 16 || ring > 1 << 30))
		status = config_refuse(file, "record.ring", "%s: not a size from 64k to 1g",
				       record->ring);
	o->ring_bytes = ring;
	if (!status)
		status = classes_check(file, record);
	if (!status)
		status = interfaces_check(file, record);
	return status ? status : serve_check(file, record);
}

void config_record_free(struct config_record *record)
{
	if (!record || !record->list)
		return;
	class_free(record->list);
	free(record->list);
	record->list = NULL;
}
