/* SPDX-License-Identifier: GPL-2.0-only */
/* The state of the world at a stamp: which events are in it, and which messages are on their way. */
#ifndef TIDEMARK_INFLIGHT_H
#define TIDEMARK_INFLIGHT_H

#include "order.h"

struct inflight;

/* cut: the last stamp that is inside. NULL without memory. */
struct inflight *inflight_new(const struct order *order, uint64_t cut);

/* Every event, in order. 1 if it is inside, 0 if not, -ENOMEM. */
int inflight_event(struct inflight *inflight, const struct order_event *event);

/* Afterwards, in words on stderr: what was sent inside and not received there. */
void inflight_say(const struct inflight *inflight);

void inflight_free(struct inflight *inflight);

#endif
