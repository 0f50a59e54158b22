/* SPDX-License-Identifier: GPL-2.0-only */
/* Recording and queries, as metrics and as the daemon's status has them. */
#ifndef TIDEMARK_RECMETRICS_H
#define TIDEMARK_RECMETRICS_H

#include <jansson.h>

#include "serve.h"
#include "text.h"
#include "tidemark.h"

void recmetrics_write(struct text *text, const struct tidemark *t, const struct serve *serve);

/* {dir, classes, queries, ...} */
json_t *recmetrics_json(const struct tidemark *t, const struct serve *serve, const char *dir);

#endif
