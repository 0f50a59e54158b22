/* SPDX-License-Identifier: GPL-2.0-only */
/* What TCP knows of a connection, as JSON in three forms. */
#ifndef TIDEMARK_FIREFLYTCP_H
#define TIDEMARK_FIREFLYTCP_H

#include <jansson.h>

#include "firefly.h"

/* A new object, or NULL where no socket is known. Fields not known are not there. */
json_t *firefly_tcp(const struct reported *flow, enum firefly_form form);

/* The same numbers for others: bytes a second, smoothed round trip, its variance. */
__u64 tcp_delivery_rate(const struct report_tcp *tcp);
static inline __u32 tcp_rtt_us(const struct report_tcp *tcp)
{
	return tcp->srtt_us >> 3;
}

static inline __u32 tcp_rttvar_us(const struct report_tcp *tcp)
{
	return tcp->mdev_us >> 2;
}

#endif
