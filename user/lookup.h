/* SPDX-License-Identifier: GPL-2.0-only */
/* Names of hosts, asked for while the daemon works; nobody waits for an answer. */
#ifndef TIDEMARK_LOOKUP_H
#define TIDEMARK_LOOKUP_H

#include <linux/types.h>
#include <netinet/in.h>

#define LOOKUP_NAME_MAX 254

struct event_base;
struct lookups;

/* `NAME` or `NAME:PORT` of letters, digits, hyphens, dots; -EINVAL if it is no name. */
int lookup_parse(const char *text, __u16 usual, char name[LOOKUP_NAME_MAX], __u16 *port);

/* An address, when there is the first and whenever there is another one. */
typedef void (*lookup_fn)(const struct sockaddr_in6 *at, void *ctx);

/* NULL and errno. /etc/hosts and the name servers of /etc/resolv.conf. */
struct lookups *lookups_open(struct event_base *base);
void lookups_close(struct lookups *all);

/* Asked at once, again every few minutes, and every few seconds until it is known. -errno */
int lookups_add(struct lookups *all, const char *name, __u16 port, lookup_fn fn, void *ctx);

#endif
