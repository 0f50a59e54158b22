// SPDX-License-Identifier: GPL-2.0-only
/* Time Machine's configuration: blocks of statements, each a keyword and its values. */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expr.h"
#include "log.h"
#include "timemachine.h"
#include "units.h"

#define VALUES 3

enum token { END, OPEN, CLOSE, SEMICOLON, WORD, STRING, BAD };

struct reader {
	const char *name; /* of the file */
	const char *at;
	int line;
	enum token token;
	char text[4096]; /* of a word or string */
	struct timemachine *tm;
	struct class_list *classes;
	char filter[4096]; /* main's, which comes before every class's */
	int filter_line;
	bool main_seen;
	int class_line[CLASSES];
};

struct statement {
	int line, n;
	char key[64];
	char value[VALUES][4096];
};

/* What is asked of the values of a keyword, and why one does nothing here. */
struct keyword {
	const char *name;
	int (*set)(struct reader *r, const struct statement *s);
	const char *why; /* it means nothing */
};

__attribute__((format(printf, 3, 4))) static int fail(const struct reader *r, int line,
						      const char *format, ...)
{
	char words[512];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	log_error("%s:%d: %s", r->name, line, words);
	return -EINVAL;
}

/* ---- tokens --------------------------------------------------------------------------- */

static void comment_skip(struct reader *r)
{
	const char *end;

	if (*r->at == '#') {
		r->at += strcspn(r->at, "\n");
		return;
	}
	end = strstr(r->at + 2, "*/");
	end = end ? end + 2 : strchr(r->at, 0);
	for (; r->at < end; r->at++)
		r->line += *r->at == '\n';
}

static enum token text_take(struct reader *r, enum token token, size_t n)
{
	if (n >= sizeof(r->text))
		return BAD;
	memcpy(r->text, r->at, n);
	r->text[n] = 0;
	r->at += n;
	return token;
}

static enum token string_take(struct reader *r)
{
	size_t n = strcspn(++r->at, "\"\n");
	enum token token;

	if (r->at[n] != '"')
		return BAD;
	token = text_take(r, STRING, n);
	r->at++;
	return token;
}

static bool is_of_word(int c)
{
	return isalnum(c) || (c && strchr("_.:/-", c));
}

static enum token next(struct reader *r)
{
	size_t n = 0;

	for (;;) {
		if (*r->at == '\n')
			r->line++;
		if (isspace((unsigned char)*r->at))
			r->at++;
		else if (*r->at == '#' || (r->at[0] == '/' && r->at[1] == '*'))
			comment_skip(r);
		else
			break;
	}
	switch (*r->at) {
	case 0:
		return r->token = END;
	case '{':
		r->at++;
		return r->token = OPEN;
	case '}':
		r->at++;
		return r->token = CLOSE;
	case ';':
		r->at++;
		return r->token = SEMICOLON;
	case '"':
		return r->token = string_take(r);
	}
	while (is_of_word((unsigned char)r->at[n]))
		n++;
	return r->token = n ? text_take(r, WORD, n) : BAD;
}

static int unexpected(const struct reader *r, const char *wanted)
{
	static const char *const names[] = {
		[END] = "the end",
		[OPEN] = "{",
		[CLOSE] = "}",
		[SEMICOLON] = ";",
		[WORD] = "",
		[STRING] = "",
		[BAD] = "what is neither word nor string in quotes on one line",
	};
	bool text = r->token == WORD || r->token == STRING;

	return fail(r, r->line, "%s instead of %s", text ? r->text : names[r->token], wanted);
}

/* From its keyword, which is at hand, to the semicolon. */
static int statement_read(struct reader *r, struct statement *s)
{
	s->n = 0;
	s->line = r->line;
	if (r->token != WORD || strlen(r->text) >= sizeof(s->key))
		return unexpected(r, "a keyword");
	strcpy(s->key, r->text);
	while (next(r) == WORD || r->token == STRING) {
		if (s->n == VALUES)
			return unexpected(r, "a semicolon");
		strcpy(s->value[s->n++], r->text);
	}
	return r->token == SEMICOLON ? 0 : unexpected(r, "a semicolon");
}

/* ---- values --------------------------------------------------------------------------- */

static int one(const struct reader *r, const struct statement *s)
{
	return s->n == 1 ? 0 : fail(r, s->line, "%s: takes one value", s->key);
}

/* `10k`, and `10 k` too; as our own sizes are written. */
static int size_text(const struct reader *r, const struct statement *s, char text[64])
{
	static const char *const words[] = { "no", "unlimited" };
	__u64 bytes;

	snprintf(text, 64, "%.31s%.31s", s->n ? s->value[0] : "", s->n > 1 ? s->value[1] : "");
	for (char *c = text; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	for (size_t i = 0; i < 2; i++)
		if (!strcmp(text, words[i]))
			return 0;
	if (s->n < 1 || s->n > 2 || size_parse(text, &bytes))
		return fail(r, s->line, "%s %s: not a size; Time Machine writes 10k, 64m, 2g",
			    s->key, text);
	return 0;
}

static int text_set(const struct reader *r, const struct statement *s, char *to, size_t size)
{
	if (one(r, s))
		return -EINVAL;
	if (strlen(s->value[0]) >= size)
		return fail(r, s->line, "%s: too long", s->key);
	if (!*to) /* as there: the first counts */
		strcpy(to, s->value[0]);
	return 0;
}

static int device_set(struct reader *r, const struct statement *s)
{
	return text_set(r, s, r->tm->device, sizeof(r->tm->device));
}

static int tracefile_set(struct reader *r, const struct statement *s)
{
	return text_set(r, s, r->tm->read_tracefile, sizeof(r->tm->read_tracefile));
}

static int workdir_set(struct reader *r, const struct statement *s)
{
	return text_set(r, s, r->tm->workdir, sizeof(r->tm->workdir));
}

static int filter_set(struct reader *r, const struct statement *s)
{
	r->filter_line = s->line;
	return text_set(r, s, r->filter, sizeof(r->filter));
}

static int interval_set(struct reader *r, const struct statement *s)
{
	__u64 seconds;

	if (one(r, s))
		return -EINVAL;
	if (number_parse(s->value[0], 86400 * 365, &seconds) || !seconds)
		return fail(r, s->line, "%s %s: not a number of seconds", s->key, s->value[0]);
	r->tm->stats_ns = seconds * 1000000000ULL;
	return 0;
}

/* ---- the class at hand, the last of the list ------------------------------------------------ */

static int class_say(struct reader *r, const struct statement *s, const char *key,
		     const char *value)
{
	char words[256];

	if (!class_set(&r->classes->at[r->classes->n - 1], key, value, words, sizeof(words)))
		return 0;
	return fail(r, s->line, "%s", words);
}

static int class_value(struct reader *r, const struct statement *s)
{
	return one(r, s) ? -EINVAL : class_say(r, s, s->key, s->value[0]);
}

static int class_size(struct reader *r, const struct statement *s)
{
	char text[64];

	return size_text(r, s, text) ? -EINVAL : class_say(r, s, s->key, text);
}

#define ELSEWHERE "files are DIR/CLASS/, named by time"
#define ANSWERS "`tidemark run` and `query --at` answer over sockets"
#define BROCCOLI "Broccoli is no more; " ANSWERS

static const struct keyword main_keys[] = {
	{ "device", device_set, NULL },
	{ "read_tracefile", tracefile_set, NULL },
	{ "workdir", workdir_set, NULL },
	{ "filter", filter_set, NULL },
	{ "log_interval", interval_set, NULL },
	{ "index", NULL, "every key is indexed, on disk" },
	{ "conn_timeout", NULL, "the connection table evicts who was idle longest (--flows)" },
	{ "console", NULL, "orders are commands: record --suspend, --assign, query" },
	{ "daemon", NULL, "systemd or a shell does that" },
	{ "indexdir", NULL, "indexes are beside the packets" },
	{ "queryfiledir", NULL, "results go where query -w says" },
	{ "logfile", NULL, "words go to stderr, statistics to DIR/stats.jsonl" },
	{ "log_level", NULL, "-v says more" },
	{ "rmtconsole", NULL, ANSWERS },
	{ "rmtconsole_port", NULL, ANSWERS },
	{ "rmtconsole_listen_addr", NULL, ANSWERS },
	{ "bro_listen", NULL, BROCCOLI },
	{ "bro_listen_port", NULL, BROCCOLI },
	{ "bro_console_port", NULL, BROCCOLI },
	{ "bro_listen_addr", NULL, BROCCOLI },
	{ "bro_connect_str", NULL, BROCCOLI },
	{ "classdir_format", NULL, ELSEWHERE },
	{ "filename_format", NULL, ELSEWHERE },
	{ "profilepath", NULL, "perf profiles" },
	{ "tweak_capture_thread", NULL, "the kernel captures" },
	{ "max_subscriptions", NULL, "any number of query --follow" },
	{ "max_index_entries", NULL, "indexes are as large as their files" },
	{},
};

static const struct keyword class_keys[] = {
	{ "filter", class_value, NULL },
	{ "precedence", class_value, NULL },
	{ "cutoff", class_size, NULL },
	{ "mem", class_size, NULL },
	{ "disk", class_size, NULL },
	{ "filesize", class_size, NULL },
	{ "pkts_to_disk", NULL, "a thread of its own writes" },
	{ "dyn_timeout", NULL, "each --assign has its span" },
	{ "classdir", NULL, ELSEWHERE },
	{ "classdir_format", NULL, ELSEWHERE },
	{ "filename_format", NULL, ELSEWHERE },
	{},
};

/* ---- blocks ---------------------------------------------------------------------------- */

static int block_read(struct reader *r, const struct keyword *keys, const char *where)
{
	struct statement *s = malloc(sizeof(*s));
	int err = s ? 0 : -ENOMEM;

	while (!err && next(r) != CLOSE) {
		const struct keyword *k = keys;

		if (r->token == SEMICOLON)
			continue;
		err = statement_read(r, s);
		if (err)
			break;
		while (k->name && strcmp(k->name, s->key))
			k++;
		if (!k->name)
			err = fail(r, s->line, "%s: no keyword of %s", s->key, where);
		else if (k->set)
			err = k->set(r, s);
		else
			log_info("%s:%d: %s means nothing here: %s", r->name, s->line, k->name,
				 k->why);
	}
	free(s);
	return err;
}

/* Classes are directories and words in filters. */
static void class_rename(struct reader *r, char *name)
{
	char was[CLASS_NAME_MAX];

	strcpy(was, name);
	for (char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			*c = '_';
	if (strcmp(was, name))
		log_info("%s:%d: class \"%s\" is called %s here", r->name, r->line, was, name);
}

static int class_read(struct reader *r)
{
	struct class_spec *spec = &r->classes->at[r->classes->n];
	int line = r->line;

	if (next(r) != STRING || !*r->text)
		return unexpected(r, "the name of a class in quotes");
	if (strlen(r->text) >= CLASS_NAME_MAX)
		return fail(r, line, "class %s: at most %d characters", r->text,
			    CLASS_NAME_MAX - 1);
	if (r->classes->n == CLASSES)
		return fail(r, line, "class %s: more than %d classes", r->text, CLASSES);
	class_rename(r, r->text);
	for (size_t i = 0; i < r->classes->n; i++)
		if (!strcmp(r->classes->at[i].name, r->text))
			return fail(r, line, "class %s: given twice", r->text);
	memset(spec, 0, sizeof(*spec));
	class_defaults(spec);
	strcpy(spec->name, r->text);
	spec->cutoff = 10000; /* Time Machine's own */
	spec->cutoff_given = true;
	spec->mem_bytes = 5000000;
	spec->disk_bytes = spec->file_bytes = 50000000;
	r->class_line[r->classes->n++] = line;
	if (next(r) != OPEN)
		return unexpected(r, "{");
	return block_read(r, class_keys, "a class");
}

static int main_read(struct reader *r)
{
	if (r->main_seen)
		return fail(r, r->line, "main: given twice");
	r->main_seen = true;
	if (next(r) != OPEN)
		return unexpected(r, "{");
	return block_read(r, main_keys, "main");
}

static int file_read(struct reader *r)
{
	int err = 0;

	while (!err && next(r) != END) {
		if (r->token == SEMICOLON)
			continue;
		if (r->token == WORD && !strcmp(r->text, "main"))
			err = main_read(r);
		else if (r->token == WORD && !strcmp(r->text, "class"))
			err = class_read(r);
		else
			err = unexpected(r, "main or class");
	}
	return err;
}

/* ---- filters ------------------------------------------------------------------------------ */

static __u32 no_node(const char *name, void *ctx)
{
	(void)name;
	(void)ctx;
	return 0;
}

/* tcpdump's language, of which the record knows what is the same for all of a flow. */
static int filter_check(const struct reader *r, int line, const char *what, const char *filter)
{
	struct filter_op ops[FILTER_OPS_MAX];
	struct expr_error error = {};
	struct expr *expr = NULL;
	__u32 n;
	int err = expr_parse(filter, 0, &expr, &error);

	if (!err && expr)
		err = expr_compile(expr, no_node, NULL, ops, &n, &error);
	expr_free(expr);
	if (!err)
		return 0;
	fail(r, line, "%s: filter: %s", what, error.why);
	expr_say(filter, &error);
	return -EINVAL;
}

static int filters_join(struct reader *r)
{
	int err = *r->filter ? filter_check(r, r->filter_line, "main", r->filter) : 0;

	for (size_t i = 0; i < r->classes->n && !err; i++) {
		struct class_spec *spec = &r->classes->at[i];
		char what[CLASS_NAME_MAX + 16], *joined;

		snprintf(what, sizeof(what), "class %s", spec->name);
		if (spec->filter)
			err = filter_check(r, r->class_line[i], what, spec->filter);
		if (err || !*r->filter)
			continue;
		if (asprintf(&joined, spec->filter ? "(%s) and (%s)" : "%s", r->filter,
			     spec->filter) < 0)
			return -ENOMEM;
		free(spec->filter);
		spec->filter = joined;
		err = filter_check(r, r->class_line[i], what, joined);
	}
	return err;
}

int timemachine_parse(const char *name, const char *text, struct timemachine *tm,
		      struct class_list *classes)
{
	struct reader *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	memset(tm, 0, sizeof(*tm));
	*r = (struct reader){ .name = name, .at = text, .line = 1, .tm = tm, .classes = classes };
	err = file_read(r);
	if (!err && !classes->n)
		err = fail(r, r->line, "no class, so nothing would be kept");
	if (!err)
		err = filters_join(r);
	free(r);
	return err;
}

int timemachine_read(const char *path, struct timemachine *tm, struct class_list *classes)
{
	FILE *file = fopen(path, "re");
	char *text = file ? malloc(TIMEMACHINE_TEXT_MOST + 1) : NULL;
	size_t n = text ? fread(text, 1, TIMEMACHINE_TEXT_MOST + 1, file) : 0;
	int err = 0;

	if (!text || ferror(file)) {
		err = errno ? -errno : -EIO;
		log_error("%s: %s", path, strerror(-err));
	} else if (n > TIMEMACHINE_TEXT_MOST) {
		err = -EFBIG;
		log_error("%s: more than a megabyte; this is no configuration", path);
	} else {
		text[n] = 0;
		err = timemachine_parse(path, text, tm, classes);
	}
	free(text);
	if (file)
		fclose(file);
	return err;
}
