/* SPDX-License-Identifier: GPL-2.0-only */
/* The address by which others know a host behind NAT: given, or asked for by STUN or HTTP. */
#ifndef TIDEMARK_PUBLICADDR_H
#define TIDEMARK_PUBLICADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#define PUBLICADDR_MAP_MAX 32
#define PUBLICADDR_SERVERS_MAX 8
#define PUBLICADDR_URL_MAX 256

struct event_base;

/* Which address is to be replaced by which, both as in struct flow_key. */
struct publicaddr_pair {
	__u8 from[16], to[16];
};

struct publicaddr_options {
	struct publicaddr_pair map[PUBLICADDR_MAP_MAX];
	size_t map_n;
	/* IPv4 as ::ffff:a.b.c.d; sin6_family 0: not known yet, see publicaddr_stun() */
	struct sockaddr_in6 stun[PUBLICADDR_SERVERS_MAX];
	size_t stun_n;
	char http[PUBLICADDR_SERVERS_MAX][PUBLICADDR_URL_MAX]; /* http://HOST[:PORT]/PATH */
	size_t http_n;
	__u64 refresh_ns; /* how often it is asked again */
};

struct publicaddr;

/* NULL and errno. Asks at once and then every refresh_ns; an answer that was got is kept. */
struct publicaddr *publicaddr_open(struct event_base *base, const struct publicaddr_options *o);
void publicaddr_close(struct publicaddr *p);

/* The nth STUN server is there now: it is asked. */
void publicaddr_stun(struct publicaddr *p, size_t n, const struct sockaddr_in6 *at);

/*
 * Replace what the map names; else a private address (RFC 1918, RFC 4193, RFC 6598, link
 * local) by the public one of its family, if it is known.
 */
void publicaddr_apply(const struct publicaddr *p, __u8 address[16]);

/* Known: the public address of IPv4, or of IPv6. */
bool publicaddr_known(const struct publicaddr *p, bool v4, __u8 address[16]);

bool address_is_private(const __u8 address[16]);

/* "PRIVATE=PUBLIC", both of one family. -EINVAL */
int publicaddr_pair_parse(const char *text, struct publicaddr_pair *out);

/* "http://HOST[:PORT]/PATH": is it one? */
bool publicaddr_url_valid(const char *url);

#endif
