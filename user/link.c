// SPDX-License-Identifier: GPL-2.0-only
/* Network devices of a namespace, and which of them are its voice. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "link.h"
#include "rtnl.h"

#define DUMP_TRIES 8

static void link_parse_info(const struct rtattr *info, struct link *out)
{
	struct attr_walk walk = attr_walk_nested(info);
	const struct rtattr *attr;

	while ((attr = attr_next(&walk))) {
		if (attr_type(attr) == IFLA_INFO_KIND)
			attr_text(attr, out->kind, sizeof(out->kind));
		else if (attr_type(attr) == IFLA_INFO_SLAVE_KIND)
			attr_text(attr, out->port_kind, sizeof(out->port_kind));
	}
}

static int link_parse_attr(const struct rtattr *attr, struct link *out)
{
	__u32 value = 0;
	int err = 0;

	switch (attr_type(attr)) {
	case IFLA_IFNAME:
		attr_text(attr, out->name, sizeof(out->name));
		break;
	case IFLA_MASTER:
		err = attr_u32(attr, &value);
		out->master = value;
		break;
	case IFLA_LINK:
		err = attr_u32(attr, &value);
		out->lower = value;
		break;
	case IFLA_LINK_NETNSID:
		out->lower_elsewhere = true;
		break;
	case IFLA_LINKINFO:
		link_parse_info(attr, out);
		break;
	}
	return err;
}

int link_parse(const struct nlmsghdr *msg, struct link *out)
{
	const struct rtattr *attr;
	struct ifinfomsg head;
	struct attr_walk walk;
	int err;

	if (msg->nlmsg_type != RTM_NEWLINK && msg->nlmsg_type != RTM_DELLINK)
		return -EBADMSG;
	if (msg->nlmsg_len < NLMSG_LENGTH(sizeof(head)))
		return -EBADMSG;
	memcpy(&head, NLMSG_DATA(msg), sizeof(head));
	/*
	 * A bridge tells of its ports in messages of the same types: DELLINK with AF_BRIDGE says
	 * that a device left the bridge, not that it has gone.
	 */
	if (head.ifi_family != AF_UNSPEC || head.ifi_index <= 0)
		return -EBADMSG;
	*out = (struct link){ .ifindex = head.ifi_index,
			      .type = head.ifi_type,
			      .flags = head.ifi_flags };
	walk = attr_walk_message(msg, sizeof(head));
	while ((attr = attr_next(&walk))) {
		err = link_parse_attr(attr, out);
		if (err)
			return err;
	}
	/* A physical device names itself as the one it sits on. */
	if (out->lower == out->ifindex && !out->lower_elsewhere)
		out->lower = 0;
	return out->name[0] ? 0 : -EBADMSG;
}

struct links {
	struct link *all;
	size_t n, room;
};

static int link_collect(const struct nlmsghdr *msg, void *ctx)
{
	struct links *links = ctx;
	struct link *more;

	if (links->n == links->room) {
		links->room = links->room ? 2 * links->room : 16;
		more = reallocarray(links->all, links->room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		links->all = more;
	}
	if (!link_parse(msg, &links->all[links->n]))
		links->n++;
	return 0;
}

int link_list(struct link **out, size_t *n)
{
	struct {
		struct nlmsghdr head;
		struct ifinfomsg info;
		struct rtattr attr;
		__u32 mask;
	} req = {
		.head = { .nlmsg_len = sizeof(req),
			  .nlmsg_type = RTM_GETLINK,
			  .nlmsg_flags = NLM_F_DUMP },
		.attr = { .rta_len = RTA_LENGTH(sizeof(req.mask)), .rta_type = IFLA_EXT_MASK },
		.mask = RTEXT_FILTER_SKIP_STATS,
	};
	struct links links = {};
	int fd, err = -EINTR;

	fd = rtnl_open();
	if (fd < 0)
		return fd;
	for (int i = 0; err == -EINTR && i < DUMP_TRIES; i++) {
		links.n = 0;
		req.head.nlmsg_seq++;
		err = rtnl_ask(fd, &req.head, link_collect, &links);
	}
	close(fd);
	if (err) {
		free(links.all);
		return err;
	}
	*out = links.all;
	*n = links.n;
	return 0;
}

static bool kind_is_one_of(const char *kind, const char *const *kinds)
{
	for (; *kinds; kinds++) {
		if (!strcmp(kind, *kinds))
			return true;
	}
	return false;
}

/* A view of the device below: what passes one passes the other. */
static bool link_is_view(const struct link *link)
{
	static const char *const kinds[] = {
		"vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", NULL
	};

	return kind_is_one_of(link->kind, kinds);
}

static size_t link_find(const struct link *links, size_t n, int ifindex)
{
	size_t i;

	for (i = 0; i < n && links[i].ifindex != ifindex; i++)
		;
	return i;
}

/*
 * Its master is attached instead. Not so in a vrf, which is a routing table that happens to look
 * like a device: packets go through its ports, and then once more through it.
 */
static bool link_is_enslaved(const struct link *links, size_t n, const struct link *link)
{
	size_t master;

	if (!link->master)
		return false;
	if (link->port_kind[0])
		return strcmp(link->port_kind, "vrf");
	master = link_find(links, n, link->master);
	return master == n || strcmp(links[master].kind, "vrf");
}

/*
 * Are its packets seen anywhere below it? Only devices that are attached see: a VLAN over a bridge
 * port takes its packets away before the bridge has them, so it has to be attached itself.
 */
static bool link_is_seen_below(const struct link *links, size_t n, const struct link *link)
{
	size_t depth, below;

	for (depth = 0; depth < n && link_is_view(link); depth++) {
		if (!link->lower || link->lower_elsewhere)
			return false;
		below = link_find(links, n, link->lower);
		if (below == n)
			return false;
		link = &links[below];
		if (!link_is_view(link))
			return !link_is_enslaved(links, n, link);
	}
	return false;
}

bool link_speaks(const struct link *links, size_t n, size_t i)
{
	const struct link *link = &links[i];

	/* These show copies of what other devices carried, or no packets at all. */
	if (!strcmp(link->kind, "vrf") || !strcmp(link->kind, "ifb") ||
	    link->type == ARPHRD_NETLINK)
		return false;
	return !link_is_enslaved(links, n, link) && !link_is_seen_below(links, n, link);
}

bool link_is_port(const struct link *link)
{
	if (!strcmp(link->port_kind, "bridge") || !strcmp(link->port_kind, "openvswitch"))
		return true;
	/* A tap and a tun are of one kind; only the tap is Ethernet. */
	return !strcmp(link->kind, "tun") && link_has_ethernet(link);
}

bool link_has_ethernet(const struct link *link)
{
	return link->type == ARPHRD_ETHER || link->type == ARPHRD_LOOPBACK;
}
