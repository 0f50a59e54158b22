/* SPDX-License-Identifier: GPL-2.0-only */
/* The daemon's HTTP server: routes in tables, who may ask, replies in JSON. */
#ifndef TIDEMARK_HTTP_H
#define TIDEMARK_HTTP_H

#include <jansson.h>
#include <linux/types.h>
#include <stdbool.h>
#include <sys/socket.h>

#define HTTP_LISTENERS 8
#define HTTP_BODY_MOST (1 << 20)

struct event_base;
struct http;
struct http_call;

/* A handler replies exactly once, before it returns. */
typedef void (*http_fn)(struct http_call *call, void *ctx);

/*
 * Tables of these end with one without a path. A path that ends in / followed by * takes
 * everything below it: http_rest() says what. HEAD goes where GET goes.
 */
struct http_route {
	const char *method, *path;
	http_fn fn;
	bool anybody; /* needs no token */
};

struct http_address {
	struct sockaddr_storage at;
	socklen_t len;
	bool open; /* others than this host's users can reach it */
};

/* ADDRESS:PORT, [ADDRESS]:PORT or unix:PATH. -EINVAL. */
int http_address_parse(const char *text, struct http_address *address);

struct http_options {
	char **listen;
	unsigned listen_n;
	const char *token; /* a file, or NULL: what TCP clients must show */
	const unsigned *uid, *gid;
};

/* Listens. NULL: said why, and nothing listens. */
struct http *http_open(struct event_base *base, const struct http_options *o);
void http_close(struct http *http);

/* Tables are looked through in the order they were added; they and ctx stay the caller's. */
int http_routes(struct http *http, const struct http_route *routes, void *ctx);

/* ---- for handlers --------------------------------------------------------------------- */

const char *http_rest(const struct http_call *call);
const char *http_query(struct http_call *call, const char *name); /* decoded, or NULL */

/*
 * False: there is a parameter that is none of these, comes twice or cannot be read, and it was
 * refused. A question that is not understood must not be answered as another one.
 */
bool http_query_known(struct http_call *call, const char *const *names);
const char *http_body(struct http_call *call, size_t *len);

void http_reply(struct http_call *call, int status, const char *type, const void *body, size_t len);

/* Takes the reference. */
void http_reply_json(struct http_call *call, int status, json_t *json);

/* {"message": ...} */
__attribute__((format(printf, 3, 4))) void http_refuse(struct http_call *call, int status,
						       const char *format, ...);

/*
 * Or it answers later, bit by bit. `gone` is called once if the client leaves before the end;
 * then there is no struct http_later any more. NULL: no memory, or refused.
 */
struct http_later;
typedef void (*http_later_fn)(void *ctx);
struct http_later *http_later(struct http_call *call, http_later_fn gone, void *ctx);
void http_later_begin(struct http_later *later, int status, const char *type, const char *words);

/* `taken`: when the client has room for more. */
void http_later_send(struct http_later *later, const void *bytes, size_t len, http_later_fn taken);

/* Each of these ends it; the last one so that the client sees that it is not whole. */
void http_later_end(struct http_later *later);
void http_later_refuse(struct http_later *later, int status, const char *words);
void http_later_abort(struct http_later *later);

/* Has the client hung up? evhttp does not look while it has nothing to send. */
bool http_later_gone(const struct http_later *later);

/* Of a call: is it for the headers alone? And who asks, as text. */
bool http_head(const struct http_call *call);
void http_who(const struct http_call *call, char *who, size_t size);

/* Requests so far, and those refused (a status of 400 or more). */
__u64 http_requests(const struct http *http);
__u64 http_refused(const struct http *http);

#endif
