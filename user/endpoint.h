/* SPDX-License-Identifier: GPL-2.0-only */
/* Ends of flows as users write them: addresses, prefixes, ports. */
#ifndef TIDEMARK_ENDPOINT_H
#define TIDEMARK_ENDPOINT_H

#include <linux/types.h>
#include <stdbool.h>

#define ENDPOINT_TEXT_MAX 64

/* Starts as {}: any address, any port. */
struct endpoint {
	__u8 address[16]; /* IPv4 as ::ffff:a.b.c.d */
	__u8 bits;	  /* of it that count, of 128 */
	bool addressed, ported;
	__u16 low, high; /* ports, both included; 0 and 0: any */
};

/*
 * ADDR, ADDR:PORT, [V6]:PORT, PREFIX/LEN, :PORT or :LOW-HIGH. Given again, an endpoint
 * gets what it has not: an address, or ports. -EINVAL, and @words says what is wrong.
 */
int endpoint_parse(const char *text, struct endpoint *e, const char **words);

/* One address and one port. */
bool endpoint_is_exact(const struct endpoint *e);

/* Can one packet be from the one to the other? Not with an IPv4 and an IPv6 address. */
bool endpoints_meet(const struct endpoint *a, const struct endpoint *b);
bool addresses_meet(const __u8 a[16], const __u8 b[16]);

bool endpoint_same(const struct endpoint *a, const struct endpoint *b);

/* The address part and the port part as one; or what cannot be written so in two. */
void endpoint_print(const struct endpoint *e, char address[ENDPOINT_TEXT_MAX],
		    char ports[ENDPOINT_TEXT_MAX]);

#endif
