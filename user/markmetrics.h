/* SPDX-License-Identifier: GPL-2.0-only */
/* Marked traffic as metrics: a series for each flow, bounded, and sums for each mark. */
#ifndef TIDEMARK_MARKMETRICS_H
#define TIDEMARK_MARKMETRICS_H

#include "reports.h"
#include "text.h"

#define MARKMETRICS_FLOWS_DEFAULT 500

struct markmetrics;
struct registry;
struct fireflies;

/* At most so many flows at once have series of their own; `other` is the sum of the rest. */
struct markmetrics *markmetrics_open(const struct tidemark *t, unsigned flows);
void markmetrics_close(struct markmetrics *m);

/* A reports_fn; its context is a struct markmetrics. */
void markmetrics_tell(enum report_type type, struct reported *flow, void *ctx);

/* All families. The registry gives names; fireflies may be NULL. */
void markmetrics_write(struct text *text, struct markmetrics *m, const struct reports *reports,
		       const struct fireflies *fireflies, const struct registry *registry);

#endif
