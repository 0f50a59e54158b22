// SPDX-License-Identifier: GPL-2.0-only
/* Names of hosts, asked for while the daemon works; nobody waits for an answer. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>

#include "log.h"
#include "lookup.h"
#include "units.h"

#define LOOKUPS_MAX 64
#define AGAIN_KNOWN_SECONDS 300
#define AGAIN_UNKNOWN_SECONDS 5

struct lookup {
	struct lookups *all;
	char name[LOOKUP_NAME_MAX];
	__u16 port;
	lookup_fn fn;
	void *ctx;
	struct event *again;
	struct evdns_getaddrinfo_request *asking;
	bool known, said;
	bool closed; /* an answer is on its way: it frees this */
	struct sockaddr_in6 at;
};

struct lookups {
	struct event_base *base;
	struct evdns_base *dns;
	struct lookup *at[LOOKUPS_MAX];
	unsigned n;
};

int lookup_parse(const char *text, __u16 usual, char name[LOOKUP_NAME_MAX], __u16 *port)
{
	const char *colon = strchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	bool letter = false;
	__u64 number = usual;

	if (!n || n >= LOOKUP_NAME_MAX || *text == '-' || *text == '.')
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		letter |= isalpha((unsigned char)text[i]) != 0;
		if (!isalnum((unsigned char)text[i]) && !strchr("-._", text[i]))
			return -EINVAL;
	}
	if (!letter || (colon && (number_parse(colon + 1, 65535, &number) || !number)))
		return -EINVAL; /* digits and dots alone were meant for an address */
	memcpy(name, text, n);
	name[n] = 0;
	*port = number;
	return 0;
}

static void end_of(const struct evutil_addrinfo *a, __u16 port, struct sockaddr_in6 *out)
{
	memset(out, 0, sizeof(*out));
	out->sin6_family = AF_INET6;
	out->sin6_port = htons(port);
	if (a->ai_family == AF_INET6) {
		out->sin6_addr = ((const struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
		return;
	}
	out->sin6_addr.s6_addr[10] = out->sin6_addr.s6_addr[11] = 0xff;
	memcpy(out->sin6_addr.s6_addr + 12, &((const struct sockaddr_in *)a->ai_addr)->sin_addr, 4);
}

/* Connecting a datagram socket sends nothing; it says whether there is a route. */
static bool is_routed(const struct sockaddr_in6 *at)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), off = 0;
	bool routed;

	if (fd < 0)
		return false;
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	routed = !connect(fd, (const void *)at, sizeof(*at));
	close(fd);
	return routed;
}

static void again(struct lookup *l, int seconds)
{
	const struct timeval wait = { .tv_sec = seconds };

	event_add(l->again, &wait);
}

static void chosen(struct lookup *l, const struct sockaddr_in6 *at)
{
	char text[INET6_ADDRSTRLEN];

	if (l->known && !memcmp(&l->at.sin6_addr, &at->sin6_addr, sizeof(at->sin6_addr)))
		return;
	l->at = *at;
	l->known = true;
	l->said = false;
	log_info("%s is %s", l->name, inet_ntop(AF_INET6, &at->sin6_addr, text, sizeof(text)));
	l->fn(&l->at, l->ctx);
}

static void answered(int error, struct evutil_addrinfo *found, void *ctx)
{
	struct sockaddr_in6 at, first;
	struct lookup *l = ctx;
	bool any = false, routed = false;

	l->asking = NULL;
	if (l->closed) {
		if (found)
			evutil_freeaddrinfo(found);
		free(l);
		return;
	}
	for (struct evutil_addrinfo *a = error ? NULL : found; a && !routed; a = a->ai_next) {
		if (a->ai_family != AF_INET && a->ai_family != AF_INET6)
			continue;
		end_of(a, l->port, &at);
		if (!any)
			first = at;
		any = true;
		routed = is_routed(&at);
	}
	if (found)
		evutil_freeaddrinfo(found);
	if (any) {
		chosen(l, routed ? &at : &first);
	} else if (!l->said) {
		l->said = true; /* an address that is known goes on being used */
		log_warn("%s: %s; asked again", l->name,
			 error ? evutil_gai_strerror(error) : "has no address");
	}
	again(l, any ? AGAIN_KNOWN_SECONDS : AGAIN_UNKNOWN_SECONDS);
}

static void ask(evutil_socket_t fd, short what, void *ctx)
{
	const struct evutil_addrinfo hints = { .ai_family = AF_UNSPEC,
					       .ai_socktype = SOCK_DGRAM,
					       .ai_protocol = IPPROTO_UDP };
	struct evdns_getaddrinfo_request *asking;
	struct lookup *l = ctx;

	(void)fd, (void)what;
	if (l->asking)
		return;
	/* An answer from the hosts file comes before the call returns, and then this is NULL. */
	asking = evdns_getaddrinfo(l->all->dns, l->name, NULL, &hints, answered, l);
	l->asking = asking;
}

struct lookups *lookups_open(struct event_base *base)
{
	struct lookups *all = calloc(1, sizeof(*all));

	if (!all)
		return NULL;
	all->base = base;
	all->dns = evdns_base_new(base, EVDNS_BASE_INITIALIZE_NAMESERVERS |
						EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!all->dns) { /* no resolv.conf: there may be a hosts file */
		all->dns = evdns_base_new(base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
		if (all->dns)
			evdns_base_load_hosts(all->dns, "/etc/hosts");
	}
	if (!all->dns) {
		free(all);
		errno = ENOMEM;
		return NULL;
	}
	return all;
}

int lookups_add(struct lookups *all, const char *name, __u16 port, lookup_fn fn, void *ctx)
{
	struct lookup *l = all->n < LOOKUPS_MAX ? calloc(1, sizeof(*l)) : NULL;

	if (!l)
		return -ENOMEM;
	l->all = all;
	snprintf(l->name, sizeof(l->name), "%s", name);
	l->port = port;
	l->fn = fn;
	l->ctx = ctx;
	l->again = event_new(all->base, -1, 0, ask, l);
	if (!l->again) {
		free(l);
		return -ENOMEM;
	}
	all->at[all->n++] = l;
	again(l, 0);
	return 0;
}

void lookups_close(struct lookups *all)
{
	if (!all)
		return;
	for (unsigned i = 0; i < all->n; i++) {
		struct lookup *l = all->at[i];

		event_free(l->again);
		l->closed = true;
		if (l->asking)
			evdns_getaddrinfo_cancel(l->asking);
		else
			free(l);
	}
	evdns_base_free(all->dns, 1);
	free(all);
}
