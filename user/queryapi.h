/* SPDX-License-Identifier: GPL-2.0-only */
/* Queries over HTTP: asked, listed, cancelled. */
#ifndef TIDEMARK_QUERYAPI_H
#define TIDEMARK_QUERYAPI_H

#include "http.h"
#include "serve.h"

struct event_base;

struct queryapi {
	struct event_base *base;
	struct serve *serve;
};

/* Routes for http_routes(), with a struct queryapi. */
extern const struct http_route queryapi_routes[];

#endif
