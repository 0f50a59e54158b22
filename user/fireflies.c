// SPDX-License-Identifier: GPL-2.0-only
/* Where fireflies go: sockets for collectors, and one in each node for its destinations. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../bpf/mark.h"
#include "fireflies.h"
#include "log.h"
#include "netns.h"
#include "node.h"
#include "units.h"

#define OUTLETS_MAX 64

/* A socket of a node, for a short time. IPv6, which speaks IPv4 as well. */
struct outlet {
	__u32 node;
	int fd; /* or -errno: not tried again until the next flush */
};

struct fireflies {
	const struct tidemark *t;
	struct fireflies_options o;
	int collectors[FIREFLIES_COLLECTORS_MAX];
	struct outlet outlets[OUTLETS_MAX];
	size_t outlets_n;
	char host[64];
	struct fireflies_counts counts;
};

int fireflies_address(const char *text, __u16 port, struct sockaddr_in6 *out)
{
	char address[64], *end = NULL;
	const char *at = text;
	struct in_addr v4;
	__u64 number = port;
	size_t n;

	if (*text == '[') {
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		n = end - ++at;
		end = end[1] ? end + 2 : NULL;
	} else {
		end = strchr(text, ':');
		if (end && strchr(end + 1, ':')) /* bare IPv6 */
			end = NULL;
		n = end ? (size_t)(end - text) : strlen(text);
		end = end ? end + 1 : NULL;
	}
	if (n >= sizeof(address) || (end && (number_parse(end, 65535, &number) || !number)))
		return -EINVAL;
	memcpy(address, at, n);
	address[n] = 0;
	memset(out, 0, sizeof(*out));
	out->sin6_family = AF_INET6;
	out->sin6_port = htons(number);
	if (inet_pton(AF_INET6, address, &out->sin6_addr) == 1)
		return 0;
	if (*text == '[' || inet_pton(AF_INET, address, &v4) != 1)
		return -EINVAL;
	out->sin6_addr.s6_addr[10] = out->sin6_addr.s6_addr[11] = 0xff;
	memcpy(out->sin6_addr.s6_addr + 12, &v4, sizeof(v4));
	return 0;
}

static int socket_make(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), off = 0;

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	return fd;
}

static bool same_end(const struct sockaddr_in6 *a, const struct sockaddr_in6 *b)
{
	return a->sin6_port == b->sin6_port &&
	       !memcmp(&a->sin6_addr, &b->sin6_addr, sizeof(a->sin6_addr));
}

/* Of equal ones the first is told. */
static bool is_twice(const struct fireflies *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (same_end(&f->o.collectors[i], &f->o.collectors[n]))
			return true;
	return false;
}

void fireflies_collector(struct fireflies *f, size_t n, const struct sockaddr_in6 *at)
{
	f->o.collectors[n] = *at;
	/* Without a route yet, it is tried again with each message. */
	if (at->sin6_family && connect(f->collectors[n], (const void *)at, sizeof(*at)))
		log_debug("collector %zu: %s", n + 1, strerror(errno));
}

static int collectors_open(struct fireflies *f, const struct fireflies_options *o)
{
	f->o.collectors_n = 0;
	for (size_t i = 0; i < o->collectors_n; i++) {
		int fd = socket_make();

		if (fd < 0)
			return fd;
		f->collectors[f->o.collectors_n++] = fd;
		fireflies_collector(f, i, &o->collectors[i]);
	}
	return 0;
}

struct fireflies *fireflies_open(const struct tidemark *t, const struct fireflies_options *o)
{
	struct fireflies *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return NULL;
	f->t = t;
	f->o = *o;
	if (!f->o.port)
		f->o.port = FIREFLY_PORT;
	firefly_host(f->host, sizeof(f->host));
	err = collectors_open(f, o);
	if (!err)
		return f;
	fireflies_close(f);
	errno = -err;
	return NULL;
}

void fireflies_flush(struct fireflies *f)
{
	for (size_t i = 0; i < f->outlets_n; i++)
		if (f->outlets[i].fd >= 0)
			close(f->outlets[i].fd);
	f->outlets_n = 0;
}

void fireflies_close(struct fireflies *f)
{
	if (!f)
		return;
	fireflies_flush(f);
	for (size_t i = 0; i < f->o.collectors_n; i++)
		close(f->collectors[i]);
	free(f);
}

/* A socket in the node's namespace: only there its peers' addresses mean what they mean to it. */
static int outlet_make(const struct fireflies *f, __u32 id)
{
	struct node node;
	int ns, home, fd;

	if (node_get(f->t, id, &node))
		return -ENOENT;
	if (node.flags & NODE_HOST)
		return socket_make();
	ns = node_open(&node);
	if (ns < 0)
		return ns;
	home = netns_enter(ns);
	close(ns);
	if (home < 0)
		return home;
	fd = socket_make();
	if (netns_leave(home)) {
		log_error("cannot come back from the namespace of %s", node.name);
		abort(); /* we would go on in a place that is not ours */
	}
	return fd;
}

static int outlet_of(struct fireflies *f, __u32 node)
{
	for (size_t i = 0; i < f->outlets_n; i++)
		if (f->outlets[i].node == node)
			return f->outlets[i].fd;
	if (f->outlets_n == OUTLETS_MAX)
		fireflies_flush(f);
	f->outlets[f->outlets_n] = (struct outlet){ node, outlet_make(f, node) };
	return f->outlets[f->outlets_n++].fd;
}

static void sent(struct fireflies *f, int err)
{
	if (!err) {
		f->counts.sent++;
		return;
	}
	f->counts.failed++;
	f->counts.last_error = err;
}

/* A refusal that answers an earlier message is reported on this one, which did not go out. */
static int send_to(int fd, const char *message, int n, const struct sockaddr_in6 *to)
{
	if (send(fd, message, n, MSG_NOSIGNAL) == n)
		return 0;
	if (errno == EDESTADDRREQ || errno == ENOTCONN) {
		if (connect(fd, (const void *)to, sizeof(*to)))
			return errno;
	} else if (errno != ECONNREFUSED) {
		return errno;
	}
	return send(fd, message, n, MSG_NOSIGNAL) == n ? 0 : errno;
}

static void to_collectors(struct fireflies *f, const char *message, int n)
{
	for (size_t i = 0; i < f->o.collectors_n; i++)
		if (!f->o.collectors[i].sin6_family)
			sent(f, EDESTADDRREQ); /* its name has no address yet */
		else if (!is_twice(f, i))
			sent(f, send_to(f->collectors[i], message, n, &f->o.collectors[i]));
}

static void to_destination(struct fireflies *f, __u32 node, const struct sockaddr_in6 *to,
			   const char *message, int n)
{
	int fd;

	for (size_t i = 0; i < f->o.collectors_n; i++)
		if (same_end(&f->o.collectors[i], to))
			return;
	fd = outlet_of(f, node);
	if (fd < 0)
		sent(f, -fd);
	else
		sent(f, sendto(fd, message, n, MSG_NOSIGNAL, (const void *)to, sizeof(*to)) == n
				? 0
				: errno);
}

void fireflies_tell(enum report_type state, struct reported *flow, void *ctx)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	char message[FIREFLY_BYTES_MAX];
	struct fireflies *f = ctx;
	struct firefly what;
	int n;

	if (!(flow->latest.mark & MARK_MARKED) || (state == REPORT_ongoing && !f->o.ongoing))
		return;
	if (firefly_of(state, flow, &what)) {
		f->counts.unspeakable += state == REPORT_start;
		return;
	}
	if (f->o.addresses)
		publicaddr_apply(f->o.addresses, what.src);
	n = f->o.no_header
		    ? firefly_json(&what, flow, f->o.form, message, sizeof(message))
		    : firefly_message(&what, flow, f->o.form, f->host, message, sizeof(message));
	if (n < 0) {
		sent(f, -n);
		return;
	}
	to_collectors(f, message, n);
	if (!f->o.destination)
		return;
	memcpy(&to.sin6_addr, flow->latest.key.remote, sizeof(to.sin6_addr));
	to.sin6_port = htons(f->o.port);
	to_destination(f, flow->latest.key.node, &to, message, n);
}

const struct fireflies_counts *fireflies_counts(const struct fireflies *f)
{
	return &f->counts;
}
