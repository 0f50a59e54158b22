// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's HTTP server: routes in tables, who may ask, replies in JSON. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>

#include "http.h"
#include "listen.h"
#include "log.h"
#include "loop.h"

#define TABLES 8
#define TOKEN_MOST 256
#define HEADERS_MOST (16 << 10)
#define IDLE_SECONDS 20

/* Descriptors that connections may bring us to; what is needed for the rest stays free. */
#define FDS_MOST 512

struct table {
	const struct http_route *routes;
	void *ctx;
};

struct http {
	struct event_base *base;
	struct evhttp *server;
	struct evhttp_bound_socket *bound[HTTP_LISTENERS];
	char *unlink[HTTP_LISTENERS]; /* paths of sockets */
	unsigned bound_n;
	struct table tables[TABLES];
	unsigned tables_n;
	char token[TOKEN_MOST];
	struct listen_owner owner;
	struct waiter *relief;
	__u64 requests, refused;
};

struct http_call {
	struct http *http;
	struct evhttp_request *request;
	const char *rest;
	struct evkeyvalq query;
	bool queried, replied;
};

/* ---- handlers' side -------------------------------------------------------------------- */

const char *http_rest(const struct http_call *call)
{
	return call->rest;
}

const char *http_query(struct http_call *call, const char *name)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(call->request);
	const char *text = uri ? evhttp_uri_get_query(uri) : NULL;

	if (!call->queried) {
		if (!text || evhttp_parse_query_str(text, &call->query))
			return NULL;
		call->queried = true;
	}
	return evhttp_find_header(&call->query, name);
}

bool http_query_known(struct http_call *call, const char *const *names)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(call->request);
	const char *text = uri ? evhttp_uri_get_query(uri) : NULL;
	const struct evkeyval *pair;

	if (!text || !*text)
		return true;
	/* A byte of zero would end a value early. */
	if (strstr(text, "%00") || (!call->queried && evhttp_parse_query_str(text, &call->query))) {
		http_refuse(call, 400, "%s: parameters are NAME=VALUE, with & between them", text);
		return false;
	}
	call->queried = true;
	TAILQ_FOREACH(pair, &call->query, next)
	{
		const char *const *name = names;

		while (*name && strcmp(*name, pair->key))
			name++;
		if (!*name) {
			http_refuse(call, 400, "%s: no such parameter; /openapi.json has them",
				    pair->key);
			return false;
		}
		if (evhttp_find_header(&call->query, pair->key) != pair->value) {
			http_refuse(call, 400, "%s: is there twice", pair->key);
			return false;
		}
	}
	return true;
}

const char *http_body(struct http_call *call, size_t *len)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(call->request);

	*len = evbuffer_get_length(body);
	return *len ? (const char *)evbuffer_pullup(body, -1) : "";
}

void http_reply(struct http_call *call, int status, const char *type, const void *body, size_t len)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(call->request);
	struct evbuffer *out = evhttp_request_get_output_buffer(call->request);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	if (evhttp_request_get_command(call->request) != EVHTTP_REQ_HEAD)
		evbuffer_add(out, body, len);
	if (status >= 400)
		call->http->refused++;
	evhttp_send_reply(call->request, status, NULL, NULL);
	call->replied = true;
}

void http_reply_json(struct http_call *call, int status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	if (text)
		http_reply(call, status, "application/json", text, strlen(text));
	else
		http_reply(call, 500, "application/json", "{\"message\":\"out of memory\"}", 27);
	free(text);
	json_decref(json);
}

void http_refuse(struct http_call *call, int status, const char *format, ...)
{
	char words[512];
	va_list args;

	va_start(args, format);
	vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	http_reply_json(call, status, json_pack("{s:s+}", "message", words, ""));
}

/* ---- answers that come later ------------------------------------------------------------- */

struct http_later {
	struct http *http;
	struct evhttp_request *request;
	http_later_fn gone, taken;
	void *ctx;
};

static void later_closed(struct evhttp_connection *connection, void *ctx)
{
	struct http_later *later = ctx;

	(void)connection;
	later->gone(later->ctx);
	free(later);
}

struct http_later *http_later(struct http_call *call, http_later_fn gone, void *ctx)
{
	struct http_later *later = calloc(1, sizeof(*later));

	if (!later) {
		http_refuse(call, 500, "out of memory");
		return NULL;
	}
	*later = (struct http_later){ call->http, call->request, gone, NULL, ctx };
	evhttp_connection_set_closecb(evhttp_request_get_connection(call->request), later_closed,
				      later);
	call->replied = true;
	return later;
}

void http_later_begin(struct http_later *later, int status, const char *type, const char *words)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(later->request);

	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	if (*words)
		evhttp_add_header(headers, "Tidemark-Words", words);
	evhttp_send_reply_start(later->request, status, NULL);
}

static void later_taken(struct evhttp_connection *connection, void *ctx)
{
	struct http_later *later = ctx;

	(void)connection;
	later->taken(later->ctx);
}

void http_later_send(struct http_later *later, const void *bytes, size_t len, http_later_fn taken)
{
	struct evbuffer *chunk = evbuffer_new();

	later->taken = taken;
	if (chunk && !evbuffer_add(chunk, bytes, len))
		evhttp_send_reply_chunk_with_cb(later->request, chunk, later_taken, later);
	if (chunk)
		evbuffer_free(chunk);
}

static struct evhttp_connection *later_forget(struct http_later *later)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(later->request);

	evhttp_connection_set_closecb(connection, NULL, NULL);
	return connection;
}

void http_later_end(struct http_later *later)
{
	later_forget(later);
	evhttp_send_reply_end(later->request);
	free(later);
}

void http_later_refuse(struct http_later *later, int status, const char *words)
{
	struct http_call call = { .http = later->http, .request = later->request };

	later_forget(later);
	free(later);
	http_refuse(&call, status, "%s", words);
}

void http_later_abort(struct http_later *later)
{
	evhttp_connection_free(later_forget(later));
	free(later);
}

static int fd_of(struct evhttp_request *request)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);

	return bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
}

bool http_later_gone(const struct http_later *later)
{
	struct pollfd at = { .fd = fd_of(later->request), .events = POLLRDHUP };

	return poll(&at, 1, 0) > 0 && at.revents;
}

bool http_head(const struct http_call *call)
{
	return evhttp_request_get_command(call->request) == EVHTTP_REQ_HEAD;
}

void http_who(const struct http_call *call, char *who, size_t size)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(call->request);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	char *address = NULL;
	ev_uint16_t port = 0;

	evhttp_connection_get_peer(connection, &address, &port);
	if (address && *address && port)
		snprintf(who, size, "%s port %u", address, port);
	else if (!getsockopt(fd_of(call->request), SOL_SOCKET, SO_PEERCRED, &peer, &len))
		snprintf(who, size, "uid %u pid %d", peer.uid, peer.pid);
	else
		snprintf(who, size, "?");
}

__u64 http_requests(const struct http *http)
{
	return http->requests;
}

__u64 http_refused(const struct http *http)
{
	return http->refused;
}

/* ---- who may ask ------------------------------------------------------------------------ */

static const char *method_name(enum evhttp_cmd_type command)
{
	switch (command) {
	case EVHTTP_REQ_GET:
	case EVHTTP_REQ_HEAD:
		return "GET";
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_PUT:
		return "PUT";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	default:
		return "";
	}
}

/* As long for a wrong first letter as for a wrong last one. */
static bool token_same(const char *given, const char *want)
{
	size_t len = strlen(given), want_len = strlen(want);
	unsigned char differ = len != want_len;

	for (size_t i = 0; i < len; i++)
		differ |= given[i] ^ want[want_len ? i % want_len : 0];
	return !differ;
}

static bool token_shown(const struct http_call *call)
{
	const char *given = evhttp_find_header(evhttp_request_get_input_headers(call->request),
					       "Authorization");

	if (!*call->http->token)
		return true;
	return given && !strncasecmp(given, "Bearer ", 7) &&
	       token_same(given + 7, call->http->token);
}

/*
 * A page in a browser on this host may be made to ask us under a name of the page's own
 * (DNS rebinding). Whoever means us names us by address, or as localhost.
 */
static bool host_is_ours(const struct http_call *call)
{
	const char *host = evhttp_request_get_host(call->request);

	if (!host || !strcasecmp(host, "localhost"))
		return true;
	return !host[strspn(host, "0123456789.")] || *host == '[' || strchr(host, ':');
}

/*
 * Nor may a page of somebody else's post to us: a browser sends a form anywhere unasked, but says
 * whose page it is on. Pages of ours there are none; who calls the API himself says no Origin.
 */
static bool page_is_ours(const struct http_call *call)
{
	const struct evkeyvalq *headers = evhttp_request_get_input_headers(call->request);
	const char *origin = evhttp_find_header(headers, "Origin");
	const char *host = evhttp_find_header(headers, "Host");

	return !origin ||
	       (host && !strncasecmp(origin, "http://", 7) && !strcasecmp(origin + 7, host));
}

/* 0, or the status to refuse with. */
static int may_ask(const struct http_call *call, const struct http_route *route)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(call->request);
	int fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
	struct sockaddr_storage at = {};
	socklen_t len = sizeof(at);

	if (getsockname(fd, (struct sockaddr *)&at, &len))
		return 403;
	if (at.ss_family == AF_UNIX)
		return listen_may(&call->http->owner, fd) ? 0 : 403;
	if (!route->anybody && !token_shown(call))
		return 401;
	return *call->http->token || (host_is_ours(call) && page_is_ours(call)) ? 0 : 403;
}

/* ---- routes ------------------------------------------------------------------------------ */

static bool route_takes(const struct http_route *route, const char *path, const char **rest)
{
	size_t len = strlen(route->path);

	*rest = "";
	if (len > 1 && route->path[len - 1] == '*') {
		if (strncmp(path, route->path, len - 1))
			return false;
		*rest = path + len - 1;
		return true;
	}
	return !strcmp(path, route->path);
}

static void call_route(struct http_call *call, const struct http_route *route, void *ctx)
{
	int status = may_ask(call, route);

	if (status == 401) {
		evhttp_add_header(evhttp_request_get_output_headers(call->request),
				  "WWW-Authenticate", "Bearer");
		http_refuse(call, status,
			    "the token is missing or wrong; Authorization: Bearer ...");
	} else if (status) {
		http_refuse(call, status,
			    "not for you: another user, another name of this host, or a page of "
			    "another site");
	} else {
		route->fn(call, ctx);
		if (!call->replied)
			http_refuse(call, 500, "no answer");
	}
}

static void call_dispatch(struct http_call *call, const char *method, const char *path)
{
	char allowed[64] = "";

	for (unsigned t = 0; t < call->http->tables_n; t++) {
		const struct table *table = &call->http->tables[t];

		for (const struct http_route *route = table->routes; route->path; route++) {
			if (!route_takes(route, path, &call->rest))
				continue;
			if (!strcmp(route->method, method)) {
				call_route(call, route, table->ctx);
				return;
			}
			if (!strstr(allowed, route->method))
				snprintf(allowed + strlen(allowed),
					 sizeof(allowed) - strlen(allowed), "%s%s",
					 *allowed ? ", " : "", route->method);
		}
	}
	if (!*allowed) {
		http_refuse(call, 404, "%s: no such path; GET /openapi.json lists them", path);
		return;
	}
	evhttp_add_header(evhttp_request_get_output_headers(call->request), "Allow", allowed);
	http_refuse(call, 405, "%s takes %s only", path, allowed);
}

static void asked(struct evhttp_request *request, void *ctx)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	struct http_call call = { .http = ctx, .request = request };
	const char *raw = uri ? evhttp_uri_get_path(uri) : NULL;
	char *path = raw && *raw == '/' ? evhttp_uridecode(raw, 0, NULL) : NULL;

	call.http->requests++;
	if (path)
		call_dispatch(&call, method_name(evhttp_request_get_command(request)), path);
	else
		http_refuse(&call, 400, "not a path");
	free(path);
	if (call.queried)
		evhttp_clear_headers(&call.query);
}

int http_routes(struct http *http, const struct http_route *routes, void *ctx)
{
	if (http->tables_n == TABLES)
		return -ENOSPC;
	http->tables[http->tables_n++] = (struct table){ routes, ctx };
	return 0;
}

/* ---- listening ---------------------------------------------------------------------------- */

static void listeners_enable(struct http *http, bool enable)
{
	for (unsigned i = 0; i < http->bound_n; i++) {
		struct evconnlistener *listener = evhttp_bound_socket_get_listener(http->bound[i]);

		if (enable)
			evconnlistener_enable(listener);
		else
			evconnlistener_disable(listener);
	}
}

/* The kernel gives the lowest free descriptor, so its number says how many there are. */
static int fds_used(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? FDS_MOST + 1 : fd;
}

static void relieve(int fd, void *ctx)
{
	struct http *http = ctx;

	(void)fd;
	if (fds_used() > FDS_MOST / 2)
		return;
	waiter_free(http->relief);
	http->relief = NULL;
	listeners_enable(http, true);
}

/*
 * For each connection. Too many wait in the kernel's queue until others have gone: they may
 * not take the descriptors that reading events and saving state need.
 */
static struct bufferevent *accepted(struct event_base *base, void *ctx)
{
	struct http *http = ctx;

	if (!http->relief && fds_used() > FDS_MOST) {
		http->relief = loop_every(base, 1000000000, relieve, http);
		if (http->relief)
			listeners_enable(http, false);
	}
	return bufferevent_socket_new(base, -1, 0);
}

int http_address_parse(const char *text, struct http_address *address)
{
	if (!strncmp(text, "unix:@", 6)) /* no file, whose mode would say who may */
		return -EINVAL;
	return listen_parse(text, &address->at, &address->len, &address->open);
}

static int listener_open(struct http *http, const char *text)
{
	struct http_address address;
	int err = http_address_parse(text, &address), fd;

	if (err) {
		log_error("%s: not an address to listen on", text);
		return err;
	}
	fd = listen_at(text, &address.at, address.len, &http->owner);
	if (fd < 0)
		return fd; /* said */
	http->bound[http->bound_n] = evhttp_accept_socket_with_handle(http->server, fd);
	if (!http->bound[http->bound_n]) {
		close(fd);
		log_error("%s: out of memory", text);
		return -ENOMEM;
	}
	if (address.at.ss_family == AF_UNIX)
		http->unlink[http->bound_n] = strdup(strchr(text, ':') + 1);
	http->bound_n++;
	return 0;
}

/* A secret that others can read is none. */
static int token_read(struct http *http, const char *name)
{
	FILE *file = fopen(name, "re");
	struct stat st;

	if (!file || fstat(fileno(file), &st)) {
		log_error("%s: %s", name, strerror(errno));
	} else if (st.st_mode & 077) {
		log_error("%s: others can read it; chmod 600 %s", name, name);
	} else if (!fgets(http->token, sizeof(http->token), file) || strlen(http->token) < 17) {
		log_error("%s: its first line is no token of 16 letters at least; "
			  "head -c 24 /dev/urandom | base64 >%s",
			  name, name);
	} else {
		http->token[strcspn(http->token, "\r\n")] = 0;
		fclose(file);
		return 0;
	}
	if (file)
		fclose(file);
	return -EINVAL;
}

struct http *http_open(struct event_base *base, const struct http_options *o)
{
	struct http *http = calloc(1, sizeof(*http));
	int err = 0;

	if (!http)
		return NULL;
	http->base = base;
	http->owner = listen_owner(o->uid, o->gid);
	http->server = evhttp_new(base);
	if (!http->server) {
		free(http);
		return NULL;
	}
	evhttp_set_gencb(http->server, asked, http);
	evhttp_set_bevcb(http->server, accepted, http);
	evhttp_set_max_body_size(http->server, HTTP_BODY_MOST);
	evhttp_set_max_headers_size(http->server, HEADERS_MOST);
	evhttp_set_timeout(http->server, IDLE_SECONDS);
	evhttp_set_allowed_methods(http->server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD |
							 EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
							 EVHTTP_REQ_DELETE | EVHTTP_REQ_PATCH);
	if (o->token)
		err = token_read(http, o->token);
	for (unsigned i = 0; i < o->listen_n && !err; i++)
		err = listener_open(http, o->listen[i]);
	if (err) {
		http_close(http);
		return NULL;
	}
	return http;
}

void http_close(struct http *http)
{
	if (!http)
		return;
	waiter_free(http->relief);
	evhttp_free(http->server);
	for (unsigned i = 0; i < http->bound_n; i++)
		if (http->unlink[i]) {
			unlink(http->unlink[i]);
			free(http->unlink[i]);
		}
	free(http);
}
