// SPDX-License-Identifier: GPL-2.0-only
/* Stamps behind UDP datagrams: read from bytes of our own making, written by a real socket. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/wire.h"
#include "../user/attach.h"
#include "rig.h"
#include "tap.h"
#include "tidemark.skel.h"

static struct rig r;
static struct frame f;
static struct tidemark t;

static __u32 sum_of(const __u8 *at, unsigned n, __u32 sum)
{
	for (unsigned i = 0; i + 1 < n; i += 2)
		sum += at[i] << 8 | at[i + 1];
	if (n & 1)
		sum += at[n - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* ---- read -------------------------------------------------------------------------------- */

/* From the peer: a datagram of so many bytes, and behind it these. */
static void datagram(bool v6, unsigned payload, const __u8 *surplus, unsigned n)
{
	frame_ip(&f, v6, 2, 1);
	frame_udp(&f, 80, 1000);
	frame_payload(&f, payload);
	frame_end(&f);
	memcpy(f.bytes + f.n, surplus, n);
	f.n += n;
	if (v6)
		put16(f.bytes + f.l3 + 4, f.n - f.l3 - 40);
	else
		put16(f.bytes + f.l3 + 2, f.n - f.l3);
}

/* Options with their checksum, for a datagram whose length is odd or even. */
static unsigned options(__u8 at[80], bool odd, const __u8 *bytes, unsigned n)
{
	unsigned pad = odd, all = pad + 2 + n;

	memset(at, 0, 80);
	memcpy(at + pad + 2, bytes, n);
	put16(at + pad, ~sum_of(at + pad, 2 + n, all));
	return all;
}

static const __u8 *stamp_option(__u64 stamp)
{
	static __u8 bytes[12] = { 127, 12, 0x74, 0x69 };

	clock_to_wire(stamp, bytes + 4);
	return bytes;
}

static const struct event *last(void)
{
	static const struct event none;

	rig_drain(&r);
	return r.events_n ? &r.events[r.events_n - 1] : &none;
}

static void begin(void)
{
	rig_reset(&r);
	rig_peer(&r, "8.0.0.2");
	rig_peer(&r, "fd00:0:86dd::2");
}

#define STAMP (RIG_BEGIN + 1000)

static void reads(bool v6, unsigned payload, const __u8 *bytes, unsigned n, const char *sentence)
{
	__u8 surplus[80];

	begin();
	datagram(v6, payload, surplus, options(surplus, payload & 1, bytes, n));
	rig_run(&r, &f, IN);
	if (!ok(last()->type == EVENT_recv && last()->cause == STAMP && last()->bytes == payload &&
			last()->flags & EVENT_IN_BAND && last()->hash,
		"%s", sentence))
		printf("# moved \"%s\": cause %llx, %u bytes\n", rig_moved(&r), last()->cause,
		       last()->bytes);
}

static void test_read(void)
{
	static __u8 among[] = { 1, 1, 3, 4, 9, 9, 127, 12, 0x74, 0x69, 0,
				0, 0, 0, 0, 0, 0, 0,   1,  0,	 0,    0 };

	reads(false, 100, stamp_option(STAMP), 12, "a stamp behind a datagram is its cause");
	reads(true, 100, stamp_option(STAMP), 12, "IPv6 too");
	reads(false, 33, stamp_option(STAMP), 12, "behind an odd length there is a zero between");
	reads(false, 0, stamp_option(STAMP), 12, "an empty datagram has one too");
	clock_to_wire(STAMP, among + 10);
	reads(false, 10, among, sizeof(among), "among other options it is found");
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

static void again(__u64 stamp)
{
	__u8 surplus[80];

	datagram(false, 10, surplus, options(surplus, false, stamp_option(stamp), 12));
	rig_run(&r, &f, IN);
}

/* Every datagram speaks for itself. */
static void test_order(void)
{
	begin();
	again(STAMP);
	again(STAMP);
	ok(last()->cause == STAMP && r.events_n == 1, "two of one burst are one event");
	again(STAMP + 9);
	again(STAMP + 5);
	ok(last()->cause == STAMP + 5 && last()->stamp > STAMP + 9 && r.events_n == 3,
	   "T35: one that was overtaken has its own cause, and a later stamp");
	datagram(false, 10, NULL, 0);
	rig_run(&r, &f, IN);
	ok(last()->cause == 0 && r.events_n == 4,
	   "T36: one without a stamp has no cause, and joins no burst that has");
}

static void ignores(const __u8 *surplus, unsigned n, unsigned payload, const char *reason,
		    const char *sentence)
{
	begin();
	datagram(false, payload, surplus, n);
	rig_run(&r, &f, IN);
	if (!ok(last()->type == EVENT_recv && !last()->cause && r.clocks[0].now == RIG_BEGIN + 1 &&
			last()->bytes == payload &&
			(reason ? strstr(rig_moved(&r), reason) != NULL
				: !strstr(rig_moved(&r), "stamp")),
		"%s", sentence))
		printf("# moved \"%s\", cause %llx\n", rig_moved(&r), last()->cause);
}

static void test_ignore(void)
{
	__u8 surplus[80], short_one[12] = { 127, 11, 0x74, 0x69 },
			  other[12] = { 127, 12, 0x74, 0x99 };
	unsigned n = options(surplus, false, stamp_option(STAMP), 12);

	surplus[9] ^= 1;
	ignores(surplus, n, 10, "stamp_bad 1", "T37: with a bad checksum it is ignored, counted");
	memset(surplus, 0, 2);
	ignores(surplus, n, 10, "stamp_bad 1", "and without any");
	n = options(surplus, false, short_one, 12);
	ignores(surplus, n, 10, "stamp_bad 1", "T37: one that is too short");
	n = options(surplus, false, stamp_option(STAMP), 10);
	ignores(surplus, n, 10, NULL, "one cut off");
	n = options(surplus, false, other, 12);
	ignores(surplus, n, 10, NULL, "another experiment");
	n = options(surplus, false, stamp_option(~0ULL), 12);
	ignores(surplus, n, 10, "stamp_rejected 1", "T18: all ones");
	is_int(last()->rejected, -1, "is kept in the record");
	memset(surplus, 0x55, sizeof(surplus));
	ignores(surplus, 80, 10, NULL, "whatever else somebody puts there");
	n = options(surplus, false, stamp_option(STAMP), 12);
	rig_reset(&r);
	rig_peer(&r, "8.0.0.3");
	datagram(false, 10, surplus, n);
	rig_run(&r, &f, IN);
	ok(!last()->cause && r.clocks[0].now == RIG_BEGIN + 1, "who is no peer is not read");
	begin();
	r.settings->in_band = 0;
	rig_run(&r, &f, IN);
	ok(!last()->cause && r.clocks[0].now == RIG_BEGIN + 1, "nor anybody with the feature off");
	is_int(last()->bytes, 10, "but what is behind the datagram is no payload");
}

/* ---- written ------------------------------------------------------------------------------ */

/* u0 is watched and sends; what it sends is taken off u1. */
static int sender4, sender6, tap_fd;

static int sh(const char *command)
{
	return system(command) ? -1 : 0;
}

static int sender(int family)
{
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(9) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(9) };

	inet_pton(AF_INET, "10.4.0.2", &v4.sin_addr);
	inet_pton(AF_INET6, "fd04::2", &v6.sin6_addr);
	if (family == AF_INET ? connect(fd, (void *)&v4, sizeof(v4))
			      : connect(fd, (void *)&v6, sizeof(v6)))
		return -1;
	return fd;
}

static bool wire_make(void)
{
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct link link = { .type = ARPHRD_ETHER, .name = "u0" };
	int one = 1;

	if (sh("ip link add u0 type veth peer name u1 && "
	       "ip addr add 10.4.0.1/24 dev u0 && ip addr add fd04::1/64 dev u0 nodad && "
	       "ip link set u1 addrgenmode none && ip link set u0 up && ip link set u1 up && "
	       "ip neigh add 10.4.0.2 lladdr 02:00:00:00:00:01 dev u0 && "
	       "ip neigh add fd04::2 lladdr 02:00:00:00:00:01 dev u0"))
		return false;
	link.ifindex = if_nametoindex("u0");
	tidemark_init(&t, "pkt", NULL);
	t.map[MAP_pipelines] = bpf_map__fd(r.skel->maps.pipelines);
	t.map[MAP_attachments] = bpf_map__fd(r.skel->maps.attachments);
	t.settings = r.settings;
	r.settings->attach_how = ATTACHED_CLSACT;
	if (attach_device(&t, 1, 0, 0, &link, false))
		return false;
	at.sll_ifindex = if_nametoindex("u1");
	tap_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
	setsockopt(tap_fd, SOL_PACKET, PACKET_AUXDATA, &one, sizeof(one));
	if (tap_fd < 0 || bind(tap_fd, (void *)&at, sizeof(at)))
		return false;
	sender4 = sender(AF_INET);
	sender6 = sender(AF_INET6);
	return sender4 >= 0 && sender6 >= 0;
}

/* Takes the next datagram to port 9; *partial: its checksum was left to the device. */
static unsigned taken(__u8 *bytes, unsigned size, bool *partial)
{
	char control[64];
	struct iovec io = { bytes, size };
	struct msghdr message = { .msg_iov = &io,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct pollfd poll_fd = { .fd = tap_fd, .events = POLLIN };
	unsigned l4;
	ssize_t n;

	while (poll(&poll_fd, 1, 2000) == 1) {
		message.msg_controllen = sizeof(control);
		n = recvmsg(tap_fd, &message, 0);
		l4 = bytes[12] == 8 ? 34 : 54;
		if (n < l4 + 8 || bytes[l4 == 34 ? 23 : 20] != IPPROTO_UDP || bytes[l4 + 3] != 9)
			continue;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
			if (c->cmsg_level == SOL_PACKET && c->cmsg_type == PACKET_AUXDATA)
				*partial = ((struct tpacket_auxdata *)CMSG_DATA(c))->tp_status &
					   TP_STATUS_CSUMNOTREADY;
		return n;
	}
	return 0;
}

/* Of these bytes from the transport header on, with the pseudo header of the datagram. */
static __u32 udp_sum(const __u8 *b, unsigned l4, unsigned n)
{
	unsigned length = b[l4 + 4] << 8 | b[l4 + 5];

	return sum_of(b + l4, n,
		      sum_of(l4 == 34 ? b + 26 : b + 22, l4 == 34 ? 8 : 32, IPPROTO_UDP + length));
}

/* As the device does: to the end of the packet, whatever is there. */
static void finish(__u8 *b, unsigned l4, unsigned n)
{
	__u16 sum = ~sum_of(b + l4, n - l4, 0);

	put16(b + l4 + 6, sum ? sum : 0xffff);
}

static const char *wrong_with(__u8 *b, unsigned n, const __u8 *payload, unsigned length,
			      bool partial)
{
	unsigned l4 = b[12] == 8 ? 34 : 54, end = l4 + 8 + length, pad = length & 1;
	unsigned total = l4 == 34 ? (b[16] << 8 | b[17]) + 14 : (b[18] << 8 | b[19]) + 54;

	if (n != end + pad + WIRE_UDP_BYTES || total != n)
		return "lengths";
	if ((unsigned)(b[l4 + 4] << 8 | b[l4 + 5]) != 8 + length ||
	    memcmp(b + l4 + 8, payload, length))
		return "the datagram";
	if (l4 == 34 && sum_of(b + 14, 20, 0) != 0xffff)
		return "the checksum of the IP header";
	if ((pad && b[end]) || memcmp(b + end + pad + 2, stamp_option(last()->stamp), 12))
		return "the option";
	if (sum_of(b + end + pad, WIRE_UDP_BYTES, pad + WIRE_UDP_BYTES) != 0xffff)
		return "the checksum of the options";
	if (partial)
		finish(b, l4, n);
	if (!b[l4 + 6] && !b[l4 + 7])
		return "no checksum";
	return udp_sum(b, l4, 8 + length) == 0xffff ? NULL : "the checksum of the datagram";
}

static void sends(int fd, bool want_partial, const char *sentence)
{
	static __u8 payload[2000], got[4000];
	const char *wrong = NULL;
	bool partial = false;
	unsigned n, length;

	begin();
	rig_peer(&r, "10.4.0.0/24");
	rig_peer(&r, "fd04::/64");
	r.clocks[0].flags = CLOCK_EVERY_PACKET;
	for (length = 0; length <= 1400 && !wrong; length += length < 70 ? 1 : 61) {
		for (unsigned i = 0; i < length; i++)
			payload[i] = i * 7 + length;
		if (send(fd, payload, length, 0) != (ssize_t)length)
			break;
		n = taken(got, sizeof(got), &partial);
		wrong = !n ? "nothing came" : wrong_with(got, n, payload, length, partial);
		if (!wrong && partial != want_partial)
			wrong = "who computes the checksum";
	}
	if (!ok(!wrong && length > 1400, "%s", sentence))
		printf("# %u bytes: %s; moved \"%s\"\n", length, wrong, rig_moved(&r));
}

static void offload(bool on)
{
	struct ethtool_value value = { .cmd = ETHTOOL_STXCSUM, .data = on };
	struct ifreq request = { .ifr_name = "u0", .ifr_data = (void *)&value };

	ioctl(sender4, SIOCETHTOOL, &request);
}

/* Sent as it is, and why. */
static void leaves(const char *reason, unsigned length, const char *sentence)
{
	static __u8 payload[2000], got[4000];
	bool partial;
	unsigned n;

	ok(send(sender4, payload, length, 0) == (ssize_t)length &&
		   (n = taken(got, sizeof(got), &partial)) == 42 + length &&
		   strstr(rig_moved(&r), reason),
	   "%s", sentence);
}

static void test_leave(void)
{
	begin();
	rig_peer(&r, "10.4.0.0/24");
	leaves("stamp_mtu 1", 1472, "what has no room in the MTU is sent as it is");
	leaves("stamp_mtu 2", 1459, "by one byte");
	r.settings->unstamped[0] = 9;
	r.settings->unstamped_n = 1;
	leaves("stamp_left_out 1", 10, "and what goes to a port that is to be left alone");
	begin();
	rig_peer(&r, "10.4.0.0/24");
	r.settings->stamp_one_in = 1000000;
	leaves("stamp_sampled 1", 10, "and what is not in the sample");
	ok(last()->flags & EVENT_UNSTAMPED, "whose event says so");
	r.settings->stamp_one_in = 1;
	begin();
	leaves("event 1", 10, "and what goes to who is no peer");
	is_int(rig_count(&r, DIR_OUT).reason.stamp, 0, "which is not even counted");
	begin();
	datagram(false, 10, NULL, 0);
	rig_peer(&r, "8.0.0.1");
	rig_run(&r, &f, OUT);
	ok(!r.changed && strstr(rig_moved(&r), "stamp_tunnel 1"),
	   "what no UDP socket of the node sent is left alone");
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	test_read();
	test_order();
	test_ignore();
	if (!wire_make()) {
		skip("datagrams sent by a socket", "no veth devices here");
	} else {
		sends(sender4, true, "sent: bytes and checksums, left to the device");
		sends(sender6, true, "IPv6: sent, left to the device");
		offload(false);
		sends(sender4, false, "sent: bytes and checksums, finished by the kernel");
		sends(sender6, false, "IPv6: sent, finished by the kernel");
		test_leave();
	}
	rig_close(&r);
	return done();
}
