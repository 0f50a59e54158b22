// SPDX-License-Identifier: GPL-2.0-only
/* One socket, a datagram for each who wants it. Nobody waits: what cannot be sent is counted. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

int relay_open(struct relay *r, const struct sockaddr_in6 *to, size_t n)
{
	int off = 0;

	relay_close(r);
	if (!n)
		return 0;
	r->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (r->fd < 0)
		return -errno;
	setsockopt(r->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	memcpy(r->to, to, n * sizeof(*to));
	r->n = n;
	return 0;
}

void relay_close(struct relay *r)
{
	if (r->n)
		close(r->fd);
	r->n = 0;
	r->fd = -1;
}

void relay_send(struct relay *r, const char *bytes, size_t n)
{
	const struct sockaddr_in6 *to;
	ssize_t sent;

	for (size_t i = 0; i < r->n; i++) {
		to = &r->to[i];
		if (!to->sin6_family) {
			r->failed++;
			continue;
		}
		/* That nobody was there the last time is told once, and is no reason not to try. */
		sent = sendto(r->fd, bytes, n, 0, (const void *)to, sizeof(*to));
		if (sent < 0 && errno == ECONNREFUSED)
			sent = sendto(r->fd, bytes, n, 0, (const void *)to, sizeof(*to));
		if (sent < 0)
			r->failed++;
		else
			r->sent++;
	}
}
