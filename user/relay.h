/* SPDX-License-Identifier: GPL-2.0-only */
/* Hands fireflies that were received on to others, as they are. */
#ifndef TIDEMARK_RELAY_H
#define TIDEMARK_RELAY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <linux/types.h>

#define RELAY_MOST 16

struct relay {
	int fd; /* -1: not open */
	size_t n;
	struct sockaddr_in6 to[RELAY_MOST]; /* family 0: a name that is still looked up */
	__u64 sent, failed;
};

/* Those it hands on to from now on. 0 or -errno. */
int relay_open(struct relay *r, const struct sockaddr_in6 *to, size_t n);
void relay_close(struct relay *r);

void relay_send(struct relay *r, const char *bytes, size_t n);

#endif
