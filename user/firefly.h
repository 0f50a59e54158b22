/* SPDX-License-Identifier: GPL-2.0-only */
/* Fireflies: datagrams that tell a flow's destination, and collectors, whose traffic it is. */
#ifndef TIDEMARK_FIREFLY_H
#define TIDEMARK_FIREFLY_H

#include <stdbool.h>
#include <stddef.h>

#include "reports.h"

#define FIREFLY_PORT 10514
#define FIREFLY_BYTES_MAX 4096
#define FIREFLY_APPLICATION_MAX 64

/* How much of TCP's own knowledge goes along, under "netlink". */
enum firefly_form {
	FIREFLY_LEAN,
	FIREFLY_FULL,
	FIREFLY_COMPATIBLE, /* flat, with flowd's names and units */
};

/* What one says. Times are of the wall clock, addresses as in struct flow_key. */
struct firefly {
	enum report_type state;
	__u64 start_ns;
	__u64 end_ns; /* of an end */
	__u64 now_ns;
	__u8 src[16], dst[16];
	__u16 src_port, dst_port;
	__u8 proto; /* IPPROTO_TCP or _UDP */
	bool has_usage;
	__u32 experiment, activity;
	__u64 received, sent; /* bytes, by the source */
	char application[FIREFLY_APPLICATION_MAX];
};

/* Lean, full, compatible; -EINVAL. */
int firefly_form_parse(const char *word, enum firefly_form *form);

/* A flow as the node sees it: its own end is the source, see docs/fireflies.md. -EINVAL: none
 * of the protocols or ports there are words for.
 */
int firefly_of(enum report_type state, const struct reported *flow, struct firefly *out);

/* The JSON alone, or with its syslog header in front. Bytes, or -EINVAL, -ENOMEM, -ENOSPC. */
int firefly_json(const struct firefly *f, const struct reported *flow, enum firefly_form form,
		 char *out, size_t size);
int firefly_message(const struct firefly *f, const struct reported *flow, enum firefly_form form,
		    const char *host, char *out, size_t size);

/*
 * A message from elsewhere, with or without header. -EBADMSG, and `words` says what is wrong
 * with it. `usage` and what it knows of TCP are not read.
 */
int firefly_parse(const char *bytes, size_t n, struct firefly *out, char *words, size_t size);

/* A host as syslog's header may have it: no other characters than a name has. */
void firefly_host(char *out, size_t size);

#endif
