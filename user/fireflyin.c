// SPDX-License-Identifier: GPL-2.0-only
/* A UDP socket for fireflies, with or without syslog header. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fireflyin.h"
#include "log.h"
#include "loop.h"
#include "relay.h"

#define BATCH 64
#define ROOM_BYTES (4 << 20)

struct fireflyin {
	struct flowin *in;
	struct relay *relay;
	struct sockaddr_in6 at;
	char name[64];
	int fd;
	struct waiter *ready;
};

/*
 * Of the flow's source, by whom it is a sender: its node, if it is one of ours, marks what
 * it sends. Ongoing ones say what a lost start would have said.
 */
static void ready(int fd, void *ctx)
{
	struct fireflyin *f = ctx;
	struct firefly flows[BATCH];
	char bytes[FIREFLY_BYTES_MAX], words[FLOWIN_WORDS];
	unsigned n = 0;
	ssize_t got;

	for (unsigned i = 0; i < BATCH; i++) {
		got = recv(fd, bytes, sizeof(bytes), MSG_TRUNC);
		if (got < 0)
			break;
		if (got > (ssize_t)sizeof(bytes)) {
			flowin_refuse(f->in, f->name, "longer than 4096 bytes");
			continue;
		}
		if (firefly_parse(bytes, got, &flows[n], words, sizeof(words))) {
			flowin_refuse(f->in, f->name, words);
			continue;
		}
		relay_send(f->relay, bytes, got);
		if (flows[n].state == REPORT_ongoing)
			flows[n].state = REPORT_start;
		n++;
	}
	flowin_take(f->in, flows, n);
}

struct fireflyin *fireflyin_open(struct event_base *base, const struct sockaddr_in6 *at,
				 const char *name, struct flowin *in, struct relay *relay)
{
	struct fireflyin *f = calloc(1, sizeof(*f));
	int off = 0, room = ROOM_BYTES;

	if (!f) {
		log_error("%s: %s", name, strerror(ENOMEM));
		return NULL;
	}
	f->in = in;
	f->relay = relay;
	f->at = *at;
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (f->fd >= 0) {
		setsockopt(f->fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
		setsockopt(f->fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
		if (!bind(f->fd, (const void *)at, sizeof(*at)))
			f->ready = loop_readable(base, f->fd, false, ready, f);
		else
			log_error("%s: %s", name, strerror(errno));
	}
	if (f->ready)
		return f;
	fireflyin_close(f);
	return NULL;
}

bool fireflyin_is(const struct fireflyin *f, const struct sockaddr_in6 *at)
{
	return !memcmp(&f->at, at, sizeof(*at));
}

void fireflyin_close(struct fireflyin *f)
{
	if (!f)
		return;
	waiter_free(f->ready);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}
