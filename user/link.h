/* SPDX-License-Identifier: GPL-2.0-only */
/* Network devices of a namespace, and which of them are its voice. */
#ifndef TIDEMARK_LINK_H
#define TIDEMARK_LINK_H

#include <linux/netlink.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#define LINK_NAME_MAX 16

/** A network device, as rtnetlink tells of it. */
struct link {
	int ifindex;
	int master;	      /* ifindex of the device it is enslaved to, 0 if none */
	int lower;	      /* ifindex it sits on, or of its veth peer; 0 if none */
	bool lower_elsewhere; /* and @lower is an ifindex of another namespace */
	__u16 type;	      /* ARPHRD_* */
	__u32 flags;	      /* IFF_* */
	char name[LINK_NAME_MAX];
	char kind[LINK_NAME_MAX];      /* "veth", "bridge", ...; "" for lo and hardware */
	char port_kind[LINK_NAME_MAX]; /* kind of its master, "" if it has none */
};

/**
 * All devices of the namespace the thread is in; the caller frees @links. A table that keeps
 * changing while it is read is asked for again a few times, then -EINTR.
 */
int link_list(struct link **links, size_t *n);

/** Reads an RTM_NEWLINK or RTM_DELLINK. -EBADMSG if it is none, or not about a device. */
int link_parse(const struct nlmsghdr *msg, struct link *out);

/**
 * Is this device a voice of the namespace itself, one that traffic should be taken from?
 * Every message should be seen once: not at a port and again at its bridge, not at a VLAN and
 * again at the card below. @links are all devices of the namespace.
 */
bool link_speaks(const struct link *links, size_t n, size_t i);

/** Does it speak for somebody behind it (bridge port, tap)? Its ingress is that one's egress. */
bool link_is_port(const struct link *link);

/** Do its packets start with an Ethernet header? Else with the IP header. */
bool link_has_ethernet(const struct link *link);

#endif
