/* SPDX-License-Identifier: GPL-2.0-only */
/* Sends fireflies: to the other end of each flow, and to collectors. Never waits for anybody. */
#ifndef TIDEMARK_FIREFLIES_H
#define TIDEMARK_FIREFLIES_H

#include <netinet/in.h>

#include "firefly.h"
#include "publicaddr.h"

#define FIREFLIES_COLLECTORS_MAX 16

struct fireflies_options {
	bool destination; /* to the flow's other end */
	__u16 port;	  /* there; 0: FIREFLY_PORT */
	bool no_header;	  /* bare JSON, without syslog's header */
	bool ongoing;	  /* also while the flow lives */
	enum firefly_form form;
	/* IPv4 as ::ffff:a.b.c.d; sin6_family 0: not known yet, see fireflies_collector() */
	struct sockaddr_in6 collectors[FIREFLIES_COLLECTORS_MAX];
	size_t collectors_n;
	struct publicaddr *addresses; /* the source as others see it, or NULL; the caller's */
};

struct fireflies_counts {
	__u64 sent;
	__u64 failed;	   /* the kernel would not send it: no route, no room */
	__u64 unspeakable; /* flows the format has no words for: ICMP, no ports */
	int last_error;	   /* errno of the last failure */
};

struct fireflies;

/* `ADDR`, `ADDR:PORT`, `[V6]:PORT`. -EINVAL: none; a name perhaps, see lookup.h. */
int fireflies_address(const char *text, __u16 port, struct sockaddr_in6 *out);

/* Equal collectors are taken once. NULL and errno. */
struct fireflies *fireflies_open(const struct tidemark *t, const struct fireflies_options *o);
void fireflies_close(struct fireflies *f);

/* The nth collector is there now. */
void fireflies_collector(struct fireflies *f, size_t n, const struct sockaddr_in6 *at);

/* A reports_fn; its context is a struct fireflies. Flows without a mark are passed over. */
void fireflies_tell(enum report_type state, struct reported *flow, void *ctx);

/*
 * After each reports_step(): lets go of the sockets in other namespaces, which would keep
 * a namespace alive whose container has gone.
 */
void fireflies_flush(struct fireflies *f);

const struct fireflies_counts *fireflies_counts(const struct fireflies *f);

#endif
