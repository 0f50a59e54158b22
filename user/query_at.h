/* SPDX-License-Identifier: GPL-2.0-only */
/* `tidemark query --at`: a daemon is asked instead of a directory. */
#ifndef TIDEMARK_QUERY_AT_H
#define TIDEMARK_QUERY_AT_H

#include <argp.h>

#include "ask.h"
#include "channel.h"

struct at_options {
	const char *at, *name;
	struct tls_files tls;
	bool list;
	__u32 cancel;

	struct sockaddr_storage address; /* of `at` */
	socklen_t address_len;
};

/* A child parser; its input is a struct at_options. */
extern const struct argp at_argp;

/* Is it a daemon that is asked? */
bool at_asked(const struct at_options *o);

/* `write`: a file for the data, NULL or - for stdout. An exit status. */
int query_at(const struct at_options *o, struct ask *ask, const char *write, bool json);

#endif
