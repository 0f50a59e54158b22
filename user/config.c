// SPDX-License-Identifier: GPL-2.0-only
/* The configuration file: read by libcyaml, with the place of everything that is refused. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "config_api.h"
#include "config_mark.h"
#include "config_peers.h"
#include "config_record.h"
#include "config_trace.h"
#include "log.h"
#include "units.h"

/* A line of ours is short; a file of a megabyte is no configuration. */
#define CONFIG_MOST (1 << 20)
#define PIPE_WAIT_MS 5000
#define DEPTH_MOST 100

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1,
								4096) };

#define SECTION(key, member, fields)                                                          \
	CYAML_FIELD_MAPPING_PTR(key, CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config, \
				member, fields)

static const cyaml_schema_field_t fields[] = {
	CYAML_FIELD_SEQUENCE("nodes", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config,
			     nodes, &string, 0, 65536),
	SECTION("trace", trace, config_trace_fields),
	SECTION("metrics", metrics, config_metrics_fields),
	SECTION("api", api, config_api_fields),
	SECTION("mark", mark, config_mark_fields),
	SECTION("peers", peers, config_peers_fields),
	SECTION("record", record, config_record_fields),
	CYAML_FIELD_END,
};

static const cyaml_schema_value_t schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config, fields),
};

static int nodes_check(struct config_file *file);

static int (*const checks[])(struct config_file *file) = {
	nodes_check,	   config_trace_check, config_api_check,
	config_mark_check, config_peers_check, config_record_check,
};

/* ---- where things stand ------------------------------------------------------------- */

/* libcyaml keeps no positions; libyaml's own tree of the same text does. */
struct config_places {
	yaml_document_t document;
};

static const yaml_node_t *node_at(const struct config_places *places, int index)
{
	return yaml_document_get_node((yaml_document_t *)&places->document, index);
}

static bool says(const yaml_node_t *node, const char *word, size_t len)
{
	return node && node->type == YAML_SCALAR_NODE && node->data.scalar.length == len &&
	       !memcmp(node->data.scalar.value, word, len);
}

static const yaml_node_t *child_at(const struct config_places *places, const yaml_node_t *node,
				   const char *word, size_t len)
{
	if (node->type == YAML_MAPPING_NODE) {
		for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
		     pair < node->data.mapping.pairs.top; pair++)
			if (says(node_at(places, pair->key), word, len))
				return node_at(places, pair->value);
	} else if (node->type == YAML_SEQUENCE_NODE) {
		yaml_node_item_t *items = node->data.sequence.items.start;
		long i = strtol(word, NULL, 10);

		if (i >= 0 && i < node->data.sequence.items.top - items)
			return node_at(places, items[i]);
	}
	return NULL;
}

/* The node of the path, or as far as it goes. */
static const yaml_node_t *place_find(const struct config_places *places, const char *path)
{
	const yaml_node_t *node = node_at(places, 1), *child;

	for (size_t len; node && *path; path += len + (path[len] == '.')) {
		len = strcspn(path, ".");
		child = child_at(places, node, path, len);
		if (!child)
			break;
		node = child;
	}
	return node;
}

static void refuse_at(const struct config_file *file, yaml_mark_t mark, const char *words)
{
	log_error("%s:%zu:%zu: %s", file->name, mark.line + 1, mark.column + 1, words);
}

int config_refuse(const struct config_file *file, const char *path, const char *format, ...)
{
	const yaml_node_t *node = place_find(file->places, path);
	char words[1024];
	va_list args;
	int n;

	n = snprintf(words, sizeof(words), "%s: ", path);
	va_start(args, format);
	vsnprintf(words + n, sizeof(words) - n, format, args);
	va_end(args);
	refuse_at(file, node ? node->start_mark : (yaml_mark_t){}, words);
	return 2;
}

int config_span(const struct config_file *file, const char *path, const char *text, __u64 *ns)
{
	if (!text || (!span_parse(text, ns) && *ns))
		return 0;
	return config_refuse(file, path, "%s: not a span of time; write 90s, 15m, 2h, 7d", text);
}

int config_size(const struct config_file *file, const char *path, const char *text, __u64 *bytes)
{
	if (!text || (!size_parse(text, bytes) && *bytes))
		return 0;
	return config_refuse(file, path, "%s: not a size; write 15k, 64m, 10g", text);
}

/* ---- keys nobody knows ---------------------------------------------------------------- */

/* Two words that differ by a letter or by how words are joined are meant to be one. */
static bool alike(const char *a, size_t a_len, const char *b)
{
	size_t b_len = strlen(b), head = 0, tail = 0, least = a_len < b_len ? a_len : b_len;
	bool same = a_len == b_len;

	for (size_t i = 0; i < a_len && same; i++)
		same = a[i] == b[i] || (a[i] == '-' && b[i] == '_') || (a[i] ^ 0x20) == b[i];
	while (head < least && a[head] == b[head])
		head++;
	while (tail < least - head && a[a_len - 1 - tail] == b[b_len - 1 - tail])
		tail++;
	return same || (head + tail + 2 >= (a_len > b_len ? a_len : b_len) && head + tail >= 2);
}

static int key_refuse(const struct config_file *file, const yaml_node_t *key,
		      const cyaml_schema_field_t *known)
{
	const char *word = (const char *)key->data.scalar.value;
	size_t len = key->data.scalar.length, n;
	char words[1024];

	n = snprintf(words, sizeof(words), "%.*s: no such key", (int)(len < 64 ? len : 64), word);
	for (const cyaml_schema_field_t *f = known; f->key; f++)
		if (alike(word, len, f->key)) {
			snprintf(words + n, sizeof(words) - n, "; did you mean %s?", f->key);
			refuse_at(file, key->start_mark, words);
			return 2;
		}
	n += snprintf(words + n, sizeof(words) - n, "; here there can be");
	for (const cyaml_schema_field_t *f = known; f->key && n < sizeof(words); f++)
		n += snprintf(words + n, sizeof(words) - n, "%s%s", f == known ? " " : ", ",
			      f->key);
	refuse_at(file, key->start_mark, words);
	return 2;
}

static int keys_check(const struct config_file *file, const yaml_node_t *node,
		      const cyaml_schema_value_t *value);

static int mapping_check(const struct config_file *file, const yaml_node_t *node,
			 const cyaml_schema_field_t *known)
{
	const cyaml_schema_field_t *f;
	int status = 0;

	for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
	     pair < node->data.mapping.pairs.top && !status; pair++) {
		const yaml_node_t *key = node_at(file->places, pair->key);

		if (!key || key->type != YAML_SCALAR_NODE)
			return 0; /* libcyaml says it */
		for (f = known; f->key; f++)
			if (says(key, f->key, strlen(f->key)))
				break;
		for (yaml_node_pair_t *before = node->data.mapping.pairs.start;
		     f->key && before < pair; before++)
			if (says(node_at(file->places, before->key), f->key, strlen(f->key))) {
				refuse_at(file, key->start_mark, "this key was there already");
				return 2;
			}
		status = f->key ? keys_check(file, node_at(file->places, pair->value), &f->value)
				: key_refuse(file, key, known);
	}
	for (f = known; f->key && !status; f++) {
		char words[160];

		if (f->value.flags & CYAML_FLAG_OPTIONAL ||
		    child_at(file->places, node, f->key, strlen(f->key)))
			continue;
		snprintf(words, sizeof(words), "%s is missing here", f->key);
		refuse_at(file, node->start_mark, words);
		status = 2;
	}
	return status;
}

/* libcyaml takes any word it does not know for true. */
static int bool_check(const struct config_file *file, const yaml_node_t *node)
{
	static const char *const words[] = { "true", "false", "yes", "no", "on", "off" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (says(node, words[i], strlen(words[i])))
			return 0;
	refuse_at(file, node->start_mark, "not a switch; true or false");
	return 2;
}

/* In our words: libcyaml's are about its own events. */
static int kind_check(const struct config_file *file, const yaml_node_t *node,
		      const cyaml_schema_value_t *value)
{
	const char *wrong = NULL;
	__u64 n;

	if (value->type == CYAML_MAPPING && node->type != YAML_MAPPING_NODE)
		wrong = "keys with values are wanted here, like `{dir: /var/lib/tidemark}`";
	else if (value->type == CYAML_SEQUENCE && node->type != YAML_SEQUENCE_NODE)
		wrong = "a list is wanted here, like `[a, b]`";
	else if (value->type == CYAML_STRING && node->type != YAML_SCALAR_NODE)
		wrong = "one value is wanted here, not several";
	else if (value->type == CYAML_UINT &&
		 (node->type != YAML_SCALAR_NODE ||
		  number_parse((const char *)node->data.scalar.value, UINT32_MAX, &n)))
		wrong = "a number is wanted here";
	if (wrong)
		refuse_at(file, node->start_mark, wrong);
	return wrong ? 2 : 0;
}

/* As deep as the schema, so that no file makes it deep. */
static int keys_check(const struct config_file *file, const yaml_node_t *node,
		      const cyaml_schema_value_t *value)
{
	int status = 0;

	if (!node)
		return 0;
	if (value->type == CYAML_BOOL)
		return bool_check(file, node);
	status = kind_check(file, node, value);
	if (status)
		return status;
	if (node->type == YAML_MAPPING_NODE && value->type == CYAML_MAPPING)
		return mapping_check(file, node, value->mapping.fields);
	if (node->type == YAML_SEQUENCE_NODE && value->type == CYAML_SEQUENCE)
		for (yaml_node_item_t *item = node->data.sequence.items.start;
		     item < node->data.sequence.items.top && !status; item++)
			status = keys_check(file, node_at(file->places, *item),
					    value->sequence.entry);
	return status;
}

/* ---- reading -------------------------------------------------------------------------- */

/* What libcyaml said first, and where. */
struct complaint {
	char words[256];
	unsigned line, column;
};

static void complaint_hear(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
	struct complaint *complaint = ctx;
	char words[256];
	const char *at;

	if (level < CYAML_LOG_ERROR)
		return;
	vsnprintf(words, sizeof(words), format, args);
	words[strcspn(words, "\n")] = 0;
	if (!*complaint->words && *words != ' ' && !strstr(words, "Backtrace:")) {
		at = strncmp(words, "Load: ", 6) ? words : words + 6;
		snprintf(complaint->words, sizeof(complaint->words), "%s", at);
	}
	at = strstr(words, "(line: ");
	if (at && !complaint->line)
		sscanf(at, "(line: %u, column: %u)", &complaint->line, &complaint->column);
}

static struct config_places *places_make(const struct config_file *file, const char *text,
					 size_t len)
{
	struct config_places *places = calloc(1, sizeof(*places));
	yaml_parser_t parser;

	if (!places || !yaml_parser_initialize(&parser)) {
		log_error("%s: out of memory", file->name);
		free(places);
		return NULL;
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, &places->document)) {
		refuse_at(file, parser.problem_mark, parser.problem ? parser.problem : "not YAML");
		free(places);
		places = NULL;
	}
	yaml_parser_delete(&parser);
	return places;
}

static const cyaml_config_t *cyaml_with(struct complaint *complaint, cyaml_config_t *config)
{
	*config = (cyaml_config_t){
		.log_fn = complaint_hear,
		.log_ctx = complaint,
		.mem_fn = cyaml_mem,
		.log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_NO_ALIAS,
	};
	return config;
}

static int config_fill(struct config_file *file, const char *text, size_t len)
{
	const yaml_node_t *root = node_at(file->places, 1);
	struct complaint complaint = {};
	cyaml_config_t config;
	cyaml_err_t err;
	int status = 0;

	if (root && root->type != YAML_MAPPING_NODE) {
		refuse_at(file, root->start_mark, "not sections; write `nodes: [netns:web]`");
		return 2;
	}
	status = keys_check(file, root, &schema);
	if (status)
		return status;
	err = cyaml_load_data((const uint8_t *)text, len, cyaml_with(&complaint, &config), &schema,
			      (cyaml_data_t **)&file->config, NULL);
	if (err) {
		log_error("%s:%u:%u: %s", file->name, complaint.line, complaint.column,
			  *complaint.words ? complaint.words : cyaml_strerror(err));
		return 2;
	}
	if (!file->config) /* an empty file */
		file->config = calloc(1, sizeof(*file->config));
	if (!file->config) {
		log_error("%s: out of memory", file->name);
		return 1;
	}
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]) && !status; i++)
		status = checks[i](file);
	return status;
}

/* libyaml takes time that goes with the square of this. Brackets in words count, too. */
static int depth_check(const struct config_file *file, const char *text, size_t len)
{
	yaml_mark_t mark = {};
	int depth = 0;

	for (size_t i = 0; i < len; i++) {
		depth += text[i] == '[' || text[i] == '{';
		depth -= depth && (text[i] == ']' || text[i] == '}');
		if (depth > DEPTH_MOST) {
			refuse_at(file, mark, "nested too deeply for a configuration");
			return 2;
		}
		mark.column = text[i] == '\n' ? 0 : mark.column + 1;
		mark.line += text[i] == '\n';
	}
	return 0;
}

int config_parse(struct config_file *file, const char *name, const char *text, size_t len)
{
	int status;

	memset(file, 0, sizeof(*file));
	file->name = name;
	status = depth_check(file, text, len);
	if (!status)
		file->places = places_make(file, text, len);
	if (!status)
		status = file->places ? config_fill(file, text, len) : 2;
	if (status)
		config_free(file);
	return status;
}

/*
 * Up to CONFIG_MOST bytes and one more. A pipe is read too (`-c <(...)`), but nobody may ever
 * write to one: so it is waited for, a while.
 */
static ssize_t bytes_read(int fd, char *text)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t got;
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	while (len <= CONFIG_MOST) {
		if (!S_ISREG(st.st_mode) && poll(&ready, 1, PIPE_WAIT_MS) == 0)
			return -ETIMEDOUT;
		got = read(fd, text + len, CONFIG_MOST + 1 - len);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			return got < 0 ? -errno : (ssize_t)len;
		len += got;
	}
	return -EFBIG;
}

/* Whole, or NULL, said; the caller's to free. */
static char *file_read(const char *name, const char *remedy, size_t *len)
{
	int fd = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	char *text;
	ssize_t got;

	if (fd < 0) {
		log_error("%s: %s%s", name, strerror(errno), remedy);
		return NULL;
	}
	text = malloc(CONFIG_MOST + 1);
	got = text ? bytes_read(fd, text) : -ENOMEM;
	close(fd);
	if (got >= 0) {
		*len = got;
		return text;
	}
	log_error("%s: %s", name,
		  got == -ETIMEDOUT ? "a pipe to which nobody has written for five seconds; give a "
				      "file"
		  : got == -EFBIG   ? "larger than a megabyte, so no configuration"
				    : strerror(-got));
	free(text);
	return NULL;
}

int config_load(struct config_file *file, const char *name)
{
	size_t len = 0;
	char *text = file_read(name, "; tools/tidemark.yaml is a sample", &len);
	int status;

	memset(file, 0, sizeof(*file));
	if (!text)
		return 2;
	status = config_parse(file, name, text, len);
	free(text);
	return status;
}

int config_load_foreign(struct config_file *file, const char *name, config_translate translate,
			void *ctx, FILE *show)
{
	struct text ours = {};
	size_t len = 0;
	char *text = file_read(name, "", &len);
	int status;

	memset(file, 0, sizeof(*file));
	if (!text)
		return 2;
	status = translate(name, text, len, ctx, &ours);
	free(text);
	if (!status && show)
		fwrite(ours.at, 1, ours.len, show);
	if (!status) {
		status = config_parse(file, name, ours.at, ours.len);
		if (status)
			log_error("%s: these lines are of what it comes to, which "
				  "--print-config shows",
				  name);
	}
	text_free(&ours);
	return status;
}

void config_free(struct config_file *file)
{
	struct complaint complaint = {};
	cyaml_config_t config;

	if (file->config)
		config_mark_free(file->config->mark);
	if (file->config)
		config_record_free(file->config->record);
	if (file->config)
		cyaml_free(cyaml_with(&complaint, &config), &schema, file->config, 0);
	if (file->places)
		yaml_document_delete(&file->places->document);
	free(file->places);
	free(file->options.selectors);
	free(file->options.skews);
	free(file->options.peers.peers);
	memset(file, 0, sizeof(*file));
}

/* ---- section nodes -------------------------------------------------------------------- */

/* What -n takes, and interface:DEVICE for what -i takes. */
static int nodes_check(struct config_file *file)
{
	const struct config *config = file->config;
	struct datapath_options *o = &file->options;
	char path[32], words[512];

	o->selectors = calloc(config->nodes_count + 1, sizeof(*o->selectors));
	if (!o->selectors)
		return config_refuse(file, "nodes", "out of memory");
	for (unsigned i = 0; i < config->nodes_count; i++) {
		const char *node = config->nodes[i];

		snprintf(path, sizeof(path), "nodes.%u", i);
		if (!strncmp(node, "interface:", 10)) {
			if (o->interfaces_n == DATAPATH_INTERFACES)
				return config_refuse(file, path, "too many interfaces");
			o->interfaces[o->interfaces_n++] = node + 10;
		} else if (selector_parse(node, &o->selectors[o->selectors_n++], words,
					  sizeof(words))) {
			return config_refuse(file, path, "%s", words);
		}
	}
	return 0;
}
