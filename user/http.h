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
const char *http_body(struct http_call *call, size_t *len);

void http_reply(struct http_call *call, int status, const char *type, const void *body, size_t len);

/* Takes the reference. */
void http_reply_json(struct http_call *call, int status, json_t *json);

/* {"message": ...} */
__attribute__((format(printf, 3, 4))) void http_refuse(struct http_call *call, int status,
						       const char *format, ...);

/* Requests so far, and those refused (a status of 400 or more). */
__u64 http_requests(const struct http *http);
__u64 http_refused(const struct http *http);

#endif
