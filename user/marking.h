/* SPDX-License-Identifier: GPL-2.0-only */
/* What the daemon does with marks: tells of flows, and takes what others say flows are for. */
#ifndef TIDEMARK_MARKING_H
#define TIDEMARK_MARKING_H

#include "config_mark.h"
#include "http.h"
#include "text.h"

struct event_base;
struct marking;

/* NULL: said why. What is needed of the configuration is copied. */
struct marking *marking_open(struct tidemark *t, struct event_base *base,
			     const struct config_mark *config);

/* Another configuration; flows that are told of go on. -errno, said. */
int marking_set(struct marking *m, const struct config_mark *config);

/* What is left is told. */
void marking_close(struct marking *m);

void marking_metrics(struct text *text, struct marking *m);

/* Routes for http_routes(), with a struct marking. */
extern const struct http_route marking_routes[];

#endif
