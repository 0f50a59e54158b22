/* SPDX-License-Identifier: GPL-2.0-only */
/* What the daemon answers of itself and its datapath. */
#ifndef TIDEMARK_API_H
#define TIDEMARK_API_H

#include "daemon.h"
#include "http.h"
#include "metrics.h"

struct api {
	const struct daemon *daemon;
	struct metrics_source *metrics; /* NULL: there are none */
};

/* Routes for http_routes(), with a struct api. */
extern const struct http_route api_routes[];

/* The description of the routes, OpenAPI 3. */
extern const char openapi_start[] __asm__("data_openapi_json_start");
extern const char openapi_end[] __asm__("data_openapi_json_end");

#endif
