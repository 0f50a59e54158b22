// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark query --at`: a daemon is asked instead of a directory. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <jansson.h>

#include "log.h"
#include "out.h"
#include "query.h"
#include "query_at.h"
#include "text.h"
#include "units.h"

#define CONNECT_MS 10000

struct answer {
	const struct at_options *o;
	struct ask *ask;
	struct channel *channel;
	FILE *to;
	struct text list;
	__u64 bytes;
	bool heard; /* anything at all */
	int status; /* -1 until the end was seen */
};

/* ---- the connection ----------------------------------------------------------------------- */

static int at_connect(const struct at_options *o)
{
	const struct timeval patience = { .tv_sec = CONNECT_MS / 1000 };
	int fd = socket(o->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* A send timeout is a connect timeout too. */
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (fd >= 0 && !connect(fd, (const struct sockaddr *)&o->address, o->address_len))
		return fd;
	if (errno == EINPROGRESS)
		errno = ETIMEDOUT;
	log_error("%s: %s%s", o->at, strerror(errno),
		  errno == ENOENT || errno == ECONNREFUSED
			  ? "; does `tidemark run` with a section record listen there?"
			  : "");
	if (fd >= 0)
		close(fd);
	return -1;
}

static struct channel *at_open(const struct at_options *o)
{
	int fd = at_connect(o);
	struct channel *c;
	char words[256];

	if (fd < 0)
		return NULL;
	c = o->tls.cert ? channel_client(fd, &o->tls, o->name, &o->address) : channel_plain(fd);
	if (c && channel_greet(c, words, sizeof(words))) {
		log_error("%s: %s", o->at, words);
		channel_close(c);
		return NULL;
	}
	return c;
}

/* ---- the answer ----------------------------------------------------------------------------- */

static bool bytes_read(struct answer *a, unsigned char *to, size_t n)
{
	ssize_t got;

	for (; n; to += got, n -= (size_t)got) {
		got = channel_read(a->channel, to, n);
		if ((got == -EINTR || got == -EAGAIN) && !query_cancelled)
			got = 0;
		else if (got <= 0)
			return false;
	}
	return true;
}

/* Lines of another host's stderr, made safe for this one's terminal. */
static void words_say(const char *bytes, size_t n)
{
	struct text clean = {};

	log_progress_end();
	for (const char *end; n; n -= (size_t)(end - bytes), bytes = end) {
		end = memchr(bytes, '\n', n);
		text_add_clean(&clean, bytes, end ? (size_t)(end - bytes) : n);
		text_add_char(&clean, '\n');
		end = end ? end + 1 : bytes + n;
	}
	if (!clean.err)
		fwrite(clean.at, 1, clean.len, stderr);
	text_free(&clean);
}

static int data_take(struct answer *a, const unsigned char *bytes, size_t n)
{
	if (a->o->list) {
		text_add(&a->list, bytes, n);
		return a->list.err || a->list.len > 1 << 20 ? -E2BIG : 0;
	}
	if (fwrite(bytes, 1, n, a->to) != n || (a->ask->follow && fflush(a->to)))
		return -errno;
	a->bytes += n;
	log_progress("%llu bytes received", a->bytes);
	return 0;
}

/* 0 at the end; -EPROTO, -ECONNRESET, or what writing it came to. */
static int frames_take(struct answer *a)
{
	unsigned char head[FRAME_HEAD], bytes[FRAME_MOST];
	char kind;
	__u32 n;
	int err = 0;

	while (!err && a->status < 0) {
		if (!bytes_read(a, head, sizeof(head)))
			return query_cancelled ? -EINTR : -ECONNRESET;
		if (frame_read(head, &kind, &n))
			return -EPROTO;
		a->heard = true;
		if (!bytes_read(a, bytes, n))
			return query_cancelled ? -EINTR : -ECONNRESET;
		if (kind == FRAME_END)
			a->status = bytes[0];
		else if (kind == FRAME_WORDS)
			words_say((const char *)bytes, n);
		else
			err = data_take(a, bytes, n);
	}
	return err;
}

/* ---- what runs there -------------------------------------------------------------------------- */

enum { Q_ID, Q_OVER, Q_SINCE, Q_RUNS, Q_SENT, Q_FORMAT, Q_FOLLOW, Q_CANCELLED, Q_WHO, Q_QUERY };

static const struct out_column list_columns[] = {
	[Q_ID] = { "id", "ID", 6, 0, OUT_RIGHT },
	[Q_OVER] = { "over", "OVER", 4, 0, 0 },
	[Q_SINCE] = { .key = "since" },
	[Q_RUNS] = { "running_ns", "RUNS", 6, 0, OUT_RIGHT },
	[Q_SENT] = { "bytes", "SENT", 6, 0, OUT_RIGHT },
	[Q_FORMAT] = { "format", "FORMAT", 10, 0, 0 },
	[Q_FOLLOW] = { .key = "follow" },
	[Q_CANCELLED] = { .key = "cancelled" },
	[Q_WHO] = { "who", "WHO", 60, 12, 0 },
	[Q_QUERY] = { "query", "QUERY", 60, 12, 0 },
	{},
};

static void word_out(struct out *out, unsigned column, const json_t *row, const char *key)
{
	const json_t *word = json_object_get(row, key);

	if (json_is_string(word))
		out_mem(out, column, json_string_value(word), json_string_length(word));
}

static int list_print(struct answer *a, bool json)
{
	json_t *all = json_loadb(a->list.at, a->list.len, 0, NULL), *row;
	struct out *out = out_open(stdout, list_columns, json ? OUT_JSON : 0);
	size_t i;

	if (!json_is_array(all) || !out) {
		log_error("%s: not a list of queries", a->o->at);
		json_decref(all);
		return out ? out_finish(out, 1) : 1;
	}
	json_array_foreach(all, i, row) {
		out_u64(out, Q_ID, json_integer_value(json_object_get(row, "id")));
		word_out(out, Q_OVER, row, "over");
		word_out(out, Q_SINCE, row, "since");
		out_span(out, Q_RUNS, json_integer_value(json_object_get(row, "running_ns")));
		out_bytes(out, Q_SENT, json_integer_value(json_object_get(row, "bytes")));
		word_out(out, Q_FORMAT, row, "format");
		out_bool(out, Q_FOLLOW, json_is_true(json_object_get(row, "follow")));
		out_bool(out, Q_CANCELLED, json_is_true(json_object_get(row, "cancelled")));
		word_out(out, Q_WHO, row, "who");
		word_out(out, Q_QUERY, row, "query");
		out_row(out);
	}
	json_decref(all);
	return out_finish(out, 0);
}

/* ---- all of it -------------------------------------------------------------------------------- */

/* Who is not let in hears nothing. */
static void unheard_say(const struct answer *a)
{
	log_error("%s: the connection has ended; %s", a->o->at,
		  a->o->tls.cert ? "is the certificate one it takes?"
				 : "is this user one who may ask, as `uid` and `gid` of "
				   "`record.socket` say?");
}

static int answer_take(struct answer *a, const char *write)
{
	bool file = write && strcmp(write, "-");
	int err;

	a->to = file ? fopen(write, "we") : stdout;
	if (!a->to) {
		log_error("%s: %s", write, strerror(errno));
		return 1;
	}
	err = frames_take(a);
	log_progress_end();
	if ((file ? fclose(a->to) : fflush(a->to)) && !err)
		err = -errno;
	if (!err)
		return a->status;
	if (err == -EINTR) {
		if (!a->ask->follow)
			log_warn("cancelled; there may be more");
		return a->ask->follow ? 0 : 1;
	}
	if (err == -ECONNRESET && !a->heard)
		unheard_say(a);
	else if (err == -ECONNRESET || err == -EPROTO)
		log_error("%s: %s; there may be more", a->o->at,
			  err == -EPROTO ? "not a daemon of ours" : "the answer is cut short");
	else if (err != -EPIPE)
		log_error("%s: %s", file ? write : "standard output", strerror(-err));
	return 1;
}

int query_at(const struct at_options *o, struct ask *ask, const char *write, bool json)
{
	struct answer a = { .o = o, .ask = ask, .status = -1 };
	char *line;
	int status = 1;

	ask->what = o->list ? ASK_LIST : o->cancel ? ASK_CANCEL : ASK_QUERY;
	ask->id = o->cancel;
	line = ask_print(ask);
	if (!line) {
		log_error("the expression is not UTF-8");
		return 2;
	}
	a.channel = at_open(o);
	if (a.channel && channel_write(a.channel, line, strlen(line)))
		unheard_say(&a);
	else if (a.channel)
		status = answer_take(&a, write);
	if (o->list && !status)
		status = list_print(&a, json);
	text_free(&a.list);
	free(line);
	channel_close(a.channel);
	return status;
}

bool at_asked(const struct at_options *o)
{
	return o->at || o->list || o->cancel;
}

/* ---- options ------------------------------------------------------------------------------------ */

enum { OPT_AT = 0x300, OPT_CERT, OPT_KEY, OPT_CA, OPT_NAME, OPT_LIST, OPT_CANCEL };

static const struct argp_option options[] = {
	{ "at", OPT_AT, "ADDRESS[:PORT]|unix:PATH", 0,
	  "Ask the daemon there instead of a directory; by TLS, or over its unix socket", 10 },
	{ "cert", OPT_CERT, "FILE", 0, "Our certificate, in PEM", 10 },
	{ "key", OPT_KEY, "FILE", 0, "Its key", 10 },
	{ "ca", OPT_CA, "FILE", 0, "Whose certificates are believed", 10 },
	{ "name", OPT_NAME, "NAME", 0,
	  "The server's certificate must be for NAME (default: for the address)", 10 },
	{ "list", OPT_LIST, NULL, 0, "Print the queries that run there", 10 },
	{ "cancel", OPT_CANCEL, "ID", 0, "End one of those", 10 },
	{},
};

static void options_end(struct at_options *o, struct argp_state *state)
{
	bool some = o->tls.cert || o->tls.key || o->tls.ca || o->name;

	if (o->list && o->cancel)
		argp_error(state, "one of --list and --cancel");
	if (!at_asked(o)) {
		if (some)
			argp_error(state, "--cert, --key, --ca and --name go with --at");
		return;
	}
	if (!o->at)
		o->at = "unix:" QUERY_SOCKET;
	if (query_address_parse(o->at, &o->address, &o->address_len))
		argp_error(state,
			   "--at %s: not an address; names are not looked up, write 192.0.2.1, "
			   "[2001:db8::1]:%d or unix:PATH",
			   o->at, QUERY_PORT);
	if (o->address.ss_family == AF_UNIX && some)
		argp_error(state, "--cert, --key, --ca and --name are for TLS, not for unix:PATH");
	if (o->address.ss_family != AF_UNIX && !(o->tls.cert && o->tls.key && o->tls.ca))
		argp_error(state, "--at %s needs --cert, --key and --ca", o->at);
}

static error_t option_parse(int key, char *arg, struct argp_state *state)
{
	struct at_options *o = state->input;
	__u64 id;

	switch (key) {
	case OPT_AT:
		o->at = arg;
		return 0;
	case OPT_CERT:
		o->tls.cert = arg;
		return 0;
	case OPT_KEY:
		o->tls.key = arg;
		return 0;
	case OPT_CA:
		o->tls.ca = arg;
		return 0;
	case OPT_NAME:
		o->name = arg;
		return 0;
	case OPT_LIST:
		o->list = true;
		return 0;
	case OPT_CANCEL:
		if (number_parse(arg, 0xffffffff, &id) || !id)
			argp_error(state, "%s: not a number of a query; --list has them", arg);
		o->cancel = (__u32)id;
		return 0;
	case ARGP_KEY_END:
		options_end(o, state);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp at_argp = { .options = options, .parser = option_parse };
