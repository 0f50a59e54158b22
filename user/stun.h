/* SPDX-License-Identifier: GPL-2.0-only */
/* STUN, RFC 8489: the one question "from where do you see me?" and its answer. */
#ifndef TIDEMARK_STUN_H
#define TIDEMARK_STUN_H

#include <stddef.h>

#include <linux/types.h>

#define STUN_PORT 3478
#define STUN_REQUEST_BYTES 28
#define STUN_ID_BYTES 12

/* A Binding request with this transaction id. */
void stun_request(__u8 out[STUN_REQUEST_BYTES], const __u8 id[STUN_ID_BYTES]);

/*
 * Our address out of the answer to the request of that id, IPv4 as ::ffff:a.b.c.d.
 * -EBADMSG: no answer to it, or none that RFC 8489 allows; -ENOENT: it says no address;
 * -ECONNREFUSED: it is an error response.
 */
int stun_answer(const __u8 *bytes, size_t n, const __u8 id[STUN_ID_BYTES], __u8 address[16]);

#endif
