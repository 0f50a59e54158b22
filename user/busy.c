// SPDX-License-Identifier: GPL-2.0-only
/* Which devices carry traffic right now: two looks at their counts of packets. */
#define _GNU_SOURCE
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "busy.h"
#include "physical.h"
#include "rtnl.h"

#define BETWEEN_NS 2000000ULL

struct busy_count {
	__u64 cookie;
	int ifindex;
	__u64 packets;
	__u64 ns; /* monotonic */
};

static int packets_found(const struct nlmsghdr *msg, void *ctx)
{
	struct attr_walk walk = attr_walk_message(msg, sizeof(struct ifinfomsg));
	const struct rtattr *attr;
	__u64 counts[2]; /* received, sent: struct rtnl_link_stats64 begins so */

	while ((attr = attr_next(&walk)))
		if (attr_type(attr) == IFLA_STATS64 && RTA_PAYLOAD(attr) >= sizeof(counts)) {
			memcpy(counts, RTA_DATA(attr), sizeof(counts));
			*(__u64 *)ctx = counts[0] + counts[1];
		}
	return 0;
}

static __u64 packets_of(int fd, int ifindex)
{
	static __u32 seq;
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
	} req = {
		.head = { .nlmsg_len = sizeof(req),
			  .nlmsg_type = RTM_GETLINK,
			  .nlmsg_flags = NLM_F_ACK,
			  .nlmsg_seq = ++seq },
		.info = { .ifi_index = ifindex },
	};
	__u64 packets = 0;

	rtnl_ask(fd, &req.head, packets_found, &packets);
	return packets;
}

static void count_add(struct busy *busy, const struct busy_count *count)
{
	size_t room = busy->room ? 2 * busy->room : 64;
	struct busy_count *grown;

	if (busy->n == busy->room) {
		grown = reallocarray(busy->counts, room, sizeof(*grown));
		if (!grown)
			return;
		busy->counts = grown;
		busy->room = room;
	}
	busy->counts[busy->n++] = *count;
}

static void links_look(struct busy *busy, __u64 cookie, const struct link *links, size_t n)
{
	int fd = rtnl_open();

	for (size_t i = 0; i < n && fd >= 0; i++) {
		struct busy_count count = { .cookie = cookie, .ifindex = links[i].ifindex };

		count.packets = packets_of(fd, links[i].ifindex);
		count.ns = physical_monotonic_ns();
		count_add(busy, &count);
	}
	if (fd >= 0)
		close(fd);
}

void busy_look(struct busy *busy, __u64 cookie)
{
	struct link *links;
	size_t n;

	if (link_list(&links, &n))
		return;
	links_look(busy, cookie, links, n);
	free(links);
}

/* They are asked for in the order in which they were looked at, mostly. */
static const struct busy_count *count_find(struct busy *busy, __u64 cookie, int ifindex)
{
	for (size_t i = 0; i < busy->n; i++) {
		size_t at = (busy->at + i) % busy->n;

		if (busy->counts[at].cookie != cookie || busy->counts[at].ifindex != ifindex)
			continue;
		busy->at = at;
		return &busy->counts[at];
	}
	return NULL;
}

static bool is_busy(int fd, const struct busy_count *before)
{
	__u64 passed = physical_monotonic_ns() - before->ns;
	struct timespec rest = { .tv_nsec = BETWEEN_NS - passed };

	if (passed < BETWEEN_NS) {
		nanosleep(&rest, NULL);
		passed = BETWEEN_NS;
	}
	return packets_of(fd, before->ifindex) - before->packets >= passed / BETWEEN_NS;
}

void busy_ask(struct busy *busy, __u64 cookie, const struct link *links, size_t n, bool *is)
{
	const struct busy_count *before = NULL;
	struct busy now = {};
	int fd;

	memset(is, 0, n * sizeof(*is));
	for (size_t i = 0; i < n && busy && (!i || before); i++)
		before = count_find(busy, cookie, links[i].ifindex);
	if (!before) { /* not all of them */
		links_look(&now, cookie, links, n);
		busy = &now;
	}
	fd = rtnl_open();
	for (size_t i = 0; i < n && fd >= 0; i++) {
		before = count_find(busy, cookie, links[i].ifindex);
		is[i] = before && is_busy(fd, before);
	}
	if (fd >= 0)
		close(fd);
	busy_free(&now);
}

void busy_free(struct busy *busy)
{
	free(busy->counts);
	*busy = (struct busy){};
}
