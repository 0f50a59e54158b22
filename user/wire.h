/* SPDX-License-Identifier: GPL-2.0-only */
/* Fields of packets as both the event log and the connection table print them. */
#ifndef TIDEMARK_WIRE_H
#define TIDEMARK_WIRE_H

#include <linux/types.h>

#include "out.h"

/* An end as the kernel side keeps it: IPv4 as ::ffff:a.b.c.d; port or OUT_NO_PORT. */
void out_address(struct out *out, unsigned column, const __u8 address[16], int port);

/* TCP flags, one letter each: F(IN) S(YN) R(ST) P(USH) A(CK) U(RGENT) E(CE) C(WR). */
void out_tcp_flags(struct out *out, unsigned column, __u8 flags);

#endif
