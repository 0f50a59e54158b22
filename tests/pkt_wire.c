// SPDX-License-Identifier: GPL-2.0-only
/* Packets through real devices: what a test run cannot make (headers in pages, no Ethernet). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "../user/attach.h"
#include "rig.h"
#include "tap.h"
#include "tidemark.skel.h"

static struct rig r;
static struct frame f;
static struct tidemark t;

/* The pair of devices pkt0 (watched) and pkt1; a packet socket on each. */
static int near, far;

static int sh(const char *command)
{
	int status = system(command);

	return status ? -1 : 0;
}

static int packet_socket(const char *device)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET,
				  .sll_protocol = htons(ETH_P_ALL),
				  .sll_ifindex = if_nametoindex(device) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	if (fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof(at))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int watch(const char *device, __u16 type, __u32 flags)
{
	struct link link = { .ifindex = if_nametoindex(device), .type = type };

	r.settings->attach_how = ATTACHED_CLSACT;
	snprintf(link.name, sizeof(link.name), "%s", device);
	return attach_device(&t, 1, 0, flags, &link, false);
}

static bool wire_make(void)
{
	if (sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6") ||
	    sh("ip link add pkt0 mtu 9000 type veth peer name pkt1 mtu 9000") ||
	    sh("ip link set pkt0 arp off up && ip link set pkt1 arp off up"))
		return false;
	tidemark_init(&t, "pkt", NULL);
	t.map[MAP_pipelines] = bpf_map__fd(r.skel->maps.pipelines);
	t.map[MAP_attachments] = bpf_map__fd(r.skel->maps.attachments);
	t.settings = r.settings;
	if (watch("pkt0", ARPHRD_ETHER, 0))
		return false;
	near = packet_socket("pkt0");
	far = packet_socket("pkt1");
	return near >= 0 && far >= 0;
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

/* Did the same bytes come out at the other end? Packets of others (none, one hopes) are not. */
static bool arrives(int fd)
{
	static __u8 got[2 * FRAME_MAX];
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct sockaddr_ll from;
	socklen_t size = sizeof(from);
	ssize_t n;

	while (poll(&poll_fd, 1, 2000) == 1) {
		size = sizeof(from);
		n = recvfrom(fd, got, sizeof(got), 0, (struct sockaddr *)&from, &size);
		if (from.sll_pkttype == PACKET_OUTGOING)
			continue;
		return n == f.n && !memcmp(got, f.bytes, n);
	}
	return false;
}

/* Taps are given packets before the pipeline is: it may still be on its way. */
static void await_seen(enum dir dir, __u64 seen)
{
	double until = now_s() + 2;

	while (rig_count(&r, dir).stage.parse.seen < seen && now_s() < until)
		sched_yield();
}

/* Through pkt0, out or in; what is said after. */
static bool carry(enum dir dir)
{
	bool same;

	if (send(dir == DIR_OUT ? near : far, f.bytes, f.n, 0) != f.n)
		return false;
	r.runs[dir]++;
	same = arrives(dir == DIR_OUT ? far : near);
	await_seen(dir, r.runs[dir]);
	return same;
}

static void expect(enum dir dir, const char *moved, const char *flows, const char *sentence)
{
	bool same;

	rig_reset(&r);
	same = carry(dir);
	if (!ok(same && !strcmp(rig_moved(&r), moved) && !strcmp(rig_flows(&r), flows) &&
			!rig_wrong(&r),
		"%s", sentence))
		printf("# %s, moved \"%s\", flows \"%s\", %s\n", same ? "same" : "not the same",
		       rig_moved(&r), rig_flows(&r), rig_wrong(&r));
}

static void multicast(bool v6)
{
	frame_ip(&f, v6, 1, 2);
	f.bytes[0] = 1;
}

/*
 * A packet socket copies what is longer than a page into pages and leaves 14 bytes in the
 * linear part: headers behind that can only be read after they are pulled.
 */
static void test_pages(bool v6)
{
	static const char *const want[] = {
		"tcp 8.0.0.1:7-8.0.0.2:9 out 1 6066 in 0 0",
		"tcp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 1 6086 in 0 0",
	};

	multicast(v6);
	frame_tcp(&f, 7, 9, 1, ACK, 12);
	frame_payload(&f, 6000);
	frame_end(&f);
	expect(DIR_OUT, "out flow_new 1 event 1", want[v6],
	       v6 ? "IPv6 headers in pages, sent" : "IPv4 headers in pages, sent");
	is_str(rig_events(&r), "send 7>9 6000B 1p", "with all their payload");
	multicast(v6);
	frame_udp(&f, 9, 7);
	frame_payload(&f, 6000);
	frame_end(&f);
	expect(DIR_IN, "in flow_new 1 event 1",
	       v6 ? "udp [fd00:0:86dd::2]:7-[fd00:0:86dd::1]:9 out 0 0 in 1 6062"
		  : "udp 8.0.0.2:7-8.0.0.1:9 out 0 0 in 1 6042",
	       v6 ? "IPv6 headers in pages, received" : "IPv4 headers in pages, received");
}

static void test_pages_deep(void)
{
	multicast(true);
	for (int i = 0; i < 8; i++)
		frame_extension(&f, i ? IPPROTO_DSTOPTS : IPPROTO_HOPOPTS, 400);
	frame_tcp(&f, 7, 9, 1, ACK, 40);
	frame_payload(&f, 2000);
	frame_end(&f);
	expect(DIR_OUT, "out flow_new 1 event 1",
	       "tcp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 1 5314 in 0 0",
	       "a transport header 3 kB deep in pages");
	put16(f.bytes + f.l3 + 4, 5300);
	expect(DIR_OUT, "out truncated 1", "", "and pages that end too early");
}

/* The lengths a test run refuses. */
static void test_short(bool v6)
{
	unsigned n, whole;
	bool good = true;

	multicast(v6);
	frame_udp(&f, 7, 9);
	frame_end(&f);
	whole = f.n;
	for (n = ETH_HLEN; n < whole && good; n++) {
		rig_reset(&r);
		f.n = n;
		good = carry(DIR_OUT) && !strcmp(rig_moved(&r), "out truncated 1") &&
		       !*rig_flows(&r) && !rig_wrong(&r);
	}
	if (!ok(good, "IPv%c, cut at each byte behind Ethernet, is counted", v6 ? '6' : '4'))
		printf("# cut at %u: moved \"%s\", flows \"%s\"\n", n - 1, rig_moved(&r),
		       rig_flows(&r));
}

static int tun_open(void)
{
	struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
	const char *path = "/run/netns/tun"; /* where the world has room of its own */
	int fd;

	if (mknod(path, S_IFCHR | 0600, makedev(10, 200)))
		return -1;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	strcpy(request.ifr_name, "pkt2");
	if (fd >= 0 && (ioctl(fd, TUNSETIFF, &request) || sh("ip link set pkt2 up") ||
			watch("pkt2", ARPHRD_NONE, ATTACH_L3))) {
		close(fd);
		return -1;
	}
	return fd;
}

static void tun_expect(int fd, bool v6, const char *flows)
{
	frame_begin(&f, 1, 2);
	if (v6)
		frame_v6(&f);
	else
		frame_v4(&f, 8);
	frame_tcp(&f, 7, 9, 1, ACK, 0);
	frame_payload(&f, 100);
	frame_end(&f);
	rig_reset(&r);
	r.runs[DIR_IN]++;
	if (write(fd, f.bytes, f.n) != f.n)
		r.runs[DIR_IN]--;
	await_seen(DIR_IN, 1);
	is_str(rig_flows(&r), flows, v6 ? "IPv6 from a tun device" : "IPv4 from a tun device");
	is_str(rig_events(&r), "recv 7>9 100B 1p", "has its payload");
	ok(!rig_wrong(&r), "and is accounted for");
}

int main(void)
{
	int tun;

	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	if (!wire_make()) {
		rig_close(&r);
		return skip_all("no veth devices here");
	}
	test_pages(false);
	test_pages(true);
	test_pages_deep();
	test_short(false);
	test_short(true);
	tun = tun_open();
	if (tun < 0) {
		skip("IP from a tun device", "no tun devices here");
	} else {
		tun_expect(tun, false, "tcp 8.0.0.2:9-8.0.0.1:7 out 0 0 in 1 148");
		tun_expect(tun, true, "tcp [fd00:0:86dd::2]:9-[fd00:0:86dd::1]:7 out 0 0 in 1 160");
		close(tun);
	}
	close(near);
	close(far);
	rig_close(&r);
	return done();
}
