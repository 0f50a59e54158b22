// SPDX-License-Identifier: GPL-2.0-only
/* Which devices speak for their namespace; and messages that are not what they claim to be. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "../user/link.h"
#include "tap.h"

enum { LO = 1, ETH, BR, PORT, TAG, TAG2, PORT_TAG, VRF, IN_VRF, TAP, TUN, IFB, AWAY, OVS, MV };

static const struct link world[] = {
	{ .ifindex = LO, .type = ARPHRD_LOOPBACK, .name = "lo" },
	{ .ifindex = ETH, .type = ARPHRD_ETHER, .name = "eth0" },
	{ .ifindex = BR, .type = ARPHRD_ETHER, .name = "br0", .kind = "bridge" },
	{ .ifindex = PORT,
	  .type = ARPHRD_ETHER,
	  .master = BR,
	  .lower = 9,
	  .lower_elsewhere = true,
	  .name = "port",
	  .kind = "veth",
	  .port_kind = "bridge" },
	{ .ifindex = TAG, .type = ARPHRD_ETHER, .lower = ETH, .name = "eth0.1", .kind = "vlan" },
	{ .ifindex = TAG2, .type = ARPHRD_ETHER, .lower = TAG, .name = "eth0.1.2", .kind = "vlan" },
	{ .ifindex = PORT_TAG, .type = ARPHRD_ETHER, .lower = PORT, .name = "p.1", .kind = "vlan" },
	{ .ifindex = VRF, .type = ARPHRD_ETHER, .name = "vrf", .kind = "vrf" },
	{ .ifindex = IN_VRF, .type = ARPHRD_ETHER, .master = VRF, .name = "in", .kind = "veth" },
	{ .ifindex = TAP, .type = ARPHRD_ETHER, .name = "tap0", .kind = "tun" },
	{ .ifindex = TUN, .type = ARPHRD_NONE, .name = "tun0", .kind = "tun" },
	{ .ifindex = IFB, .type = ARPHRD_ETHER, .name = "ifb0", .kind = "ifb" },
	{ .ifindex = AWAY,
	  .type = ARPHRD_ETHER,
	  .lower = ETH,
	  .lower_elsewhere = true,
	  .name = "mv",
	  .kind = "macvlan" },
	{ .ifindex = OVS,
	  .type = ARPHRD_ETHER,
	  .master = 99,
	  .name = "o",
	  .port_kind = "openvswitch" },
	{ .ifindex = MV, .type = ARPHRD_ETHER, .lower = BR, .name = "mb", .kind = "macvlan" },
};

#define WORLD (sizeof(world) / sizeof(*world))

static void test_speaks(void)
{
	static const bool speaks[] = {
		[LO] = true,	[ETH] = true,	   [BR] = true,	  [PORT] = false,  [TAG] = false,
		[TAG2] = false, [PORT_TAG] = true, [VRF] = false, [IN_VRF] = true, [TAP] = true,
		[TUN] = true,	[IFB] = false,	   [AWAY] = true, [OVS] = false,   [MV] = false,
	};

	for (size_t i = 0; i < WORLD; i++)
		ok(link_speaks(world, WORLD, i) == speaks[i + 1], "%s %s", world[i].name,
		   speaks[i + 1] ? "speaks" : "does not speak");
	for (size_t i = 0; i < WORLD; i++) {
		bool port = i + 1 == PORT || i + 1 == TAP || i + 1 == OVS;

		ok(link_is_port(&world[i]) == port, "%s speaks for %s", world[i].name,
		   port ? "somebody behind it" : "nobody else");
	}
	ok(link_has_ethernet(&world[LO - 1]) && !link_has_ethernet(&world[TUN - 1]),
	   "lo has Ethernet headers, a tun has not");
}

static void test_circle(void)
{
	const struct link circle[] = {
		{ .ifindex = 1, .lower = 2, .type = ARPHRD_ETHER, .kind = "vlan" },
		{ .ifindex = 2, .lower = 1, .type = ARPHRD_ETHER, .kind = "vlan" },
	};

	ok(link_speaks(circle, 2, 0), "devices in a circle end the question too");
}

static size_t attr_put(char *at, int type, const void *data, size_t len)
{
	struct rtattr attr = { .rta_len = RTA_LENGTH(len), .rta_type = type };

	memcpy(at, &attr, sizeof(attr));
	memcpy(at + sizeof(attr), data, len);
	return RTA_ALIGN(attr.rta_len);
}

/* A whole message about a veth called "web", enslaved to 7. */
static size_t message_make(char *buf, int family)
{
	struct ifinfomsg info = { .ifi_family = family, .ifi_type = ARPHRD_ETHER, .ifi_index = 5 };
	struct nlmsghdr head = { .nlmsg_type = RTM_NEWLINK };
	size_t len = NLMSG_LENGTH(sizeof(info));
	int master = 7, lower = 3, elsewhere = 0;
	char nest[64];
	size_t inner;

	memset(buf, 0, 512);
	memset(nest, 0, sizeof(nest));
	len += attr_put(buf + len, IFLA_IFNAME, "web", 4);
	len += attr_put(buf + len, IFLA_MASTER, &master, 4);
	len += attr_put(buf + len, IFLA_LINK, &lower, 4);
	len += attr_put(buf + len, IFLA_LINK_NETNSID, &elsewhere, 4);
	inner = attr_put(nest, IFLA_INFO_KIND, "veth", 5);
	inner += attr_put(nest + inner, IFLA_INFO_SLAVE_KIND, "bridge", 7);
	len += attr_put(buf + len, IFLA_LINKINFO | NLA_F_NESTED, nest, inner);
	head.nlmsg_len = len;
	memcpy(buf, &head, sizeof(head));
	memcpy(buf + NLMSG_HDRLEN, &info, sizeof(info));
	return len;
}

static void test_parse(void)
{
	char buf[512] __attribute__((aligned(4)));
	size_t len = message_make(buf, AF_UNSPEC);
	struct link link;
	int strange = 0;

	ok(!link_parse((void *)buf, &link) && !strcmp(link.name, "web") && link.master == 7 &&
		   link.lower == 3 && link.lower_elsewhere && !strcmp(link.kind, "veth") &&
		   !strcmp(link.port_kind, "bridge"),
	   "a message is read");
	message_make(buf, AF_BRIDGE);
	ok(link_parse((void *)buf, &link) == -EBADMSG,
	   "what a bridge says of its port is not about the device");
	/* Exactly as long as it says, in memory of its own: a read beyond it is caught. */
	for (size_t cut = NLMSG_HDRLEN; cut < len; cut++) {
		char *part = malloc(cut);

		message_make(buf, AF_UNSPEC);
		memcpy(part, buf, cut);
		((struct nlmsghdr *)part)->nlmsg_len = cut;
		if (!link_parse((void *)part, &link))
			strange |= strcmp(link.name, "web");
		free(part);
	}
	ok(!strange, "a message cut at any byte is read as far as it goes");
	srand(1);
	for (int round = 0; round < 200000; round++) {
		char *copy = malloc(len);

		message_make(buf, AF_UNSPEC);
		memcpy(copy, buf, len);
		for (int i = 0; i < 4; i++)
			copy[NLMSG_HDRLEN + rand() % (len - NLMSG_HDRLEN)] = rand();
		if (!link_parse((void *)copy, &link))
			strange |= strlen(link.name) >= LINK_NAME_MAX || link.ifindex <= 0;
		free(copy);
	}
	ok(!strange, "a message with wrong bytes is never read past its end");
}

static const struct link *named(const struct link *links, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (!strcmp(links[i].name, name))
			return &links[i];
	}
	return NULL;
}

static void test_list(void)
{
	static const char *const quiet[] = { "pa", "mv0", NULL };
	struct link *links = NULL;
	const struct link *link;
	size_t n = 0;
	bool good = true;

	if (system("ip link add br0 type bridge && ip link add pa type veth peer name pb && "
		   "ip link set pa master br0 && ip link add va type veth peer name vb && "
		   "ip link add link va name mv0 type macvlan && ip tuntap add tap0 mode tap && "
		   "ip tuntap add tun0 mode tun"))
		ok(false, "the world is made");
	ok(!link_list(&links, &n) && n >= 9, "devices are listed (%zu)", n);
	if (!n)
		return;
	link = named(links, n, "pa");
	ok(link && link->master == named(links, n, "br0")->ifindex && link_is_port(link) &&
		   !strcmp(link->kind, "veth"),
	   "a bridge port is known as one");
	for (size_t i = 0; i < n; i++) {
		bool want = true;

		for (int k = 0; quiet[k]; k++)
			want &= strcmp(links[i].name, quiet[k]) != 0;
		if (link_speaks(links, n, i) != want && !(good = false))
			printf("# %s kind '%s'\n", links[i].name, links[i].kind);
	}
	ok(good, "all of them speak but the bridge port and the macvlan");
	link = named(links, n, "tap0");
	ok(link && link_is_port(link) && link_has_ethernet(link), "a tap is a port");
	link = named(links, n, "tun0");
	ok(link && !link_is_port(link) && !link_has_ethernet(link), "a tun is not");
	free(links);
}

/* More than one answer of the kernel holds. */
static void test_many(void)
{
	struct link *links = NULL;
	size_t n = 0, i, twice = 0;

	if (system("for i in $(seq 300); do echo link add m$i type veth peer name n$i; done | "
		   "ip -batch -"))
		ok(false, "300 pairs are made");
	ok(!link_list(&links, &n) && n >= 609, "600 more are listed (%zu)", n);
	for (i = 1; i < n; i++)
		twice += links[i].ifindex <= links[i - 1].ifindex;
	ok(!twice, "each of them once");
	free(links);
}

int main(void)
{
	test_speaks();
	test_circle();
	test_parse();
	if (unshare(CLONE_NEWNET)) {
		ok(true, "real devices are listed # SKIP needs root");
		return done();
	}
	test_list();
	test_many();
	return done();
}
