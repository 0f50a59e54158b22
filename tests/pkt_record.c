// SPDX-License-Identifier: GPL-2.0-only
/* Recording in the kernel: what is kept, what is cut, byte for byte, with the right track. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../user/assign.h"
#include "../user/class.h"
#include "../user/rings.h"
#include "rig.h"
#include "tap.h"
#include "tidemark.skel.h"

#define KEPT 4096

static struct rig r;
static struct frame f;
static struct tidemark t;
static struct ring_buffer **rings;
static struct class_list classes;
static __u32 slots[CLASSES];

/* What came out of the rings since the last look. */
static struct {
	unsigned n, gso;
	__u64 bytes;
	struct packet last;
	__u8 frame[FRAME_MAX];
} got;

static int record(void *ctx, void *data, size_t size)
{
	const struct packet *packet = data;

	(void)ctx;
	if (size < sizeof(*packet) + packet->kept || packet->kept > sizeof(got.frame))
		return 0;
	got.n++;
	got.bytes += packet->kept;
	got.gso += (packet->flags & PACKET_GSO) != 0;
	got.last = *packet;
	memcpy(got.frame, packet + 1, packet->kept);
	return 0;
}

static unsigned drain(void)
{
	memset(&got, 0, sizeof(got));
	for (unsigned cpu = 0; cpu < t.cpus; cpu++)
		ring_buffer__consume(rings[cpu]);
	return got.n;
}

static int rings_make_all(size_t bytes)
{
	int err = rings_put(t.map[MAP_packets], t.cpus, bytes);

	for (unsigned cpu = 0; cpu < t.cpus && !err; cpu++) {
		ring_buffer__free(rings[cpu]);
		rings[cpu] = rings_reader(t.map[MAP_packets], cpu, record, NULL);
		err = rings[cpu] ? 0 : -errno;
	}
	return err;
}

static struct tally tally(__u32 slot)
{
	static struct tally each[1024];
	struct tally sum = {};

	bpf_map_lookup_elem(t.map[MAP_tallies], &slot, each);
	for (unsigned cpu = 0; cpu < t.cpus; cpu++)
		for (size_t i = 0; i < sizeof(sum) / sizeof(__u64); i++)
			((__u64 *)&sum)[i] += ((__u64 *)&each[cpu])[i];
	return sum;
}

/* Begin again with these classes; the last argument is NULL. */
static void classes_are(const char *first, ...)
{
	char words[256] = "";
	va_list args;

	rig_reset(&r);
	drain();
	class_free(&classes);
	va_start(args, first);
	for (const char *text = first; text; text = va_arg(args, const char *))
		if (class_parse(&classes, text, words, sizeof(words)))
			printf("# %s: %s\n", text, words);
	va_end(args);
	if (class_finish(&classes, CLASS_WHOLE, NULL) ||
	    class_publish(&t, &classes, UINT32_MAX, slots))
		printf("# classes: refused\n");
	class_generation(&t);
}

static __u32 slot_of(const char *name)
{
	__u32 slot = CLASS_NONE;

	class_slot(&t, name, &slot);
	return slot;
}

/* ---- bytes and tracks ------------------------------------------------------------------ */

static bool same_bytes(void)
{
	return drain() == 1 && got.last.kept == f.n && got.last.wire == f.n &&
	       !memcmp(got.frame, f.bytes, f.n);
}

static void samples(void)
{
	const char *name;
	unsigned end;

	for (unsigned i = 0; (name = frame_sample(&f, i, &end)); i++) {
		classes_are(NULL);
		rig_run(&r, &f, OUT);
		ok(same_bytes() && got.last.flags == (PACKET_OUT | PACKET_FORWARD),
		   "%s is stored byte for byte", name);
	}
	classes_are(NULL);
	frame_sample(&f, 0, &end);
	rig_run_bytes(&r, &f, 30, IN);
	ok(drain() == 1 && got.last.kept == 30 && !got.last.flags,
	   "what is cut short within its headers too");
	r.settings->recording = 0;
	rig_run(&r, &f, OUT);
	is_int(drain(), 0, "nothing when nobody records");
}

static bool is_v4(const __u8 at[16], __u32 address)
{
	static const __u8 prefix[12] = { [10] = 0xff, [11] = 0xff };
	__u32 want = htonl(address);

	return !memcmp(at, prefix, 12) && !memcmp(at + 12, &want, 4);
}

static void tracks_l2(void)
{
	const struct track *track = &got.last.track;
	__u8 *arp;

	classes_are(NULL);
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_vlan(&f, ETH_P_8021AD);
	frame_vlan(&f, ETH_P_8021Q);
	f.bytes[15] = 7;
	frame_v4(&f, 0);
	frame_udp(&f, 7, 9);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(same_bytes() && track->vlan[0] == (7 | TRACK_TAGGED) &&
		   track->vlan[1] == (42 | TRACK_TAGGED) && track->ethertype == ETH_P_IP,
	   "both tags of QinQ, the outer first");
	ok(is_v4(track->flow.local, 0x08000001) && track->flow.local_port == 7 &&
		   is_v4(track->flow.remote, 0x08000002) && track->flow.remote_port == 9 &&
		   track->flow.proto == IPPROTO_UDP && track->flow.node == 1,
	   "and the flow in them");

	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_other(&f, ETH_P_ARP, 28);
	arp = f.bytes + 14;
	put16(arp, 1);
	put16(arp + 2, ETH_P_IP);
	put16(arp + 4, 0x0604);
	put32(arp + 14, 0x0a000001);
	put32(arp + 24, 0x0a000002);
	rig_run(&r, &f, IN);
	ok(same_bytes() && track->ethertype == ETH_P_ARP && !track->flow.proto &&
		   is_v4(track->flow.remote, 0x0a000001) && is_v4(track->flow.local, 0x0a000002),
	   "ARP: who asks, and for whom");

	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_other(&f, 0x8847, 8);
	put32(f.bytes + 14, 77 << 12);
	put32(f.bytes + 18, 78 << 12 | 0x100);
	frame_v4(&f, 0);
	frame_tcp(&f, 7, 9, 1, SYN, 0);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(same_bytes() && track->mpls == (77 | TRACK_LABELLED) && track->flow.remote_port == 9,
	   "IP in MPLS: the outer label, and the flow");
	ok(strstr(rig_flows(&r), "tcp 8.0.0.1:7-8.0.0.2:9"), "which is in the table");
}

static bool classed(const char *name)
{
	return same_bytes() && got.last.track.class == slot_of(name);
}

/* What a filter asks of ports, tags and families, in the kernel. */
static void filters(void)
{
	classes_are("assoc:filter=sctp port 42405,precedence=3",
		    "old:filter=vlan 7 and udp port 0,precedence=2",
		    "igmp:filter=igmp,precedence=1", "rest:", NULL);
	frame_ip(&f, false, 1, 2);
	frame_l4(&f, 132, 20); /* ports of 0xa5 */
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(classed("assoc"), "SCTP is classed by its ports");
	frame_ip(&f, false, 1, 2);
	frame_l4(&f, 136, 20);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(classed("rest"), "UDP-Lite of the same ports is not SCTP");
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_vlan(&f, 0x9100);
	f.bytes[15] = 7;
	frame_v4(&f, 0);
	frame_udp(&f, 0, 9);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(classed("old"), "an older tag is a tag, and port 0 a port");
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_vlan(&f, 0x9100);
	f.bytes[15] = 7;
	frame_v4(&f, 0);
	frame_fragment(&f, 1480, false, 77);
	frame_l4(&f, IPPROTO_UDP, 40);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(classed("rest") && got.last.track.unported == TRACK_UNPORTED,
	   "a fragment whose first did not come has no port, not 0");
	for (unsigned v6 = 0; v6 < 2; v6++) {
		frame_ip(&f, v6, 1, 2);
		frame_l4(&f, 2, 20);
		frame_end(&f);
		rig_run(&r, &f, OUT);
		ok(classed(v6 ? "rest" : "igmp"), "IGMP is %s of IPv%u", v6 ? "nothing" : "2",
		   v6 ? 6 : 4);
	}
}

static void inner_is(const char *name, __u32 vni, bool v6)
{
	const struct flow_key *inner = &got.last.track.inner;

	ok(same_bytes() && inner->proto == IPPROTO_UDP && inner->local_port == 70 &&
		   inner->remote_port == 90 && !inner->node && got.last.track.vni == vni &&
		   (v6 ? inner->local[0] == 0xfd : is_v4(inner->local, 0x08000005)),
	   "%s: the flow inside", name);
}

/* The outer packet is there up to its transport header; what it carries is added. */
static void inner_add(bool ethernet, bool v6)
{
	static struct frame in;

	frame_begin(&in, 5, 6);
	if (ethernet)
		frame_ethernet(&in);
	if (v6)
		frame_v6(&in);
	else
		frame_v4(&in, 0);
	frame_udp(&in, 70, 90);
	frame_payload(&in, 10);
	frame_end(&in);
	memcpy(f.bytes + f.n, in.bytes, in.n);
	f.n += in.n;
	frame_end(&f);
}

static void outer(unsigned i, bool v6)
{
	static const __u16 port[] = { 4789, 8472, 6081 };

	frame_ip(&f, v6, 1, 2);
	if (i < 3) {
		frame_udp(&f, 50000, port[i]);
		frame_payload(&f, 8);
		put32(f.bytes + f.n - 8, i == 2 ? 0x01006558 : 0x08000000);
		put32(f.bytes + f.n - 4, 99 << 8);
		if (i == 2)
			frame_payload(&f, 4);
	}
}

static void tunnels(void)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		classes_are(NULL);
		for (unsigned i = 0; i < 3; i++) {
			outer(i, v6);
			inner_add(true, !v6);
			rig_run(&r, &f, OUT);
			inner_is(i == 2 ? "GENEVE with an option"
				 : i	? "VXLAN, old port"
					: "VXLAN",
				 99 | TRACK_NUMBERED, !v6);
		}
		outer(9, v6);
		frame_l4(&f, 47, 8);
		put32(f.bytes + f.n - 8, 0x20000800);
		inner_add(false, false);
		rig_run(&r, &f, OUT);
		inner_is("GRE with a key", 0, false);
		outer(9, v6);
		frame_l4(&f, 4, 0);
		inner_add(false, false);
		rig_run(&r, &f, OUT);
		inner_is("IPv4 in IP", 0, false);
		outer(9, v6);
		frame_l4(&f, 41, 0);
		inner_add(false, true);
		rig_run(&r, &f, OUT);
		inner_is("IPv6 in IP", 0, true);
	}
	frame_ip(&f, false, 1, 2);
	frame_udp(&f, 50000, 4790);
	frame_payload(&f, 100);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	ok(same_bytes() && !got.last.track.inner.proto && !got.last.track.vni,
	   "another port is no tunnel");
}

static void fragments(void)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		classes_are(NULL);
		frame_ip(&f, v6, 1, 2);
		frame_fragment(&f, 800, false, 9);
		frame_l4(&f, IPPROTO_UDP, 100);
		frame_end(&f);
		rig_run(&r, &f, OUT);
		ok(same_bytes() && !got.last.track.flow.local_port &&
			   (v6 ? got.last.track.flow.local[0] == 0xfd
			       : is_v4(got.last.track.flow.local, 0x08000001)),
		   "IPv%d: a fragment without its first is stored with its addresses", v6 ? 6 : 4);
	}
}

/* ---- cutoff ----------------------------------------------------------------------------- */

static unsigned headers(bool v6)
{
	return 14 + (v6 ? 40 : 20) + 32;
}

static void cutoff(bool v6)
{
	struct conn c = {
		.local = 1, .remote = 2, .local_port = 40000, .remote_port = 80, .v6 = v6
	};
	__u64 before = 0, kept = 0, all = 0;
	unsigned want = 0, n = 0, size;
	int v = v6 ? 6 : 4;

	classes_are("all:cutoff=2000", NULL);
	for (__u32 i = 0; i < 40; i++) {
		enum dir dir = i % 3 ? DIR_IN : DIR_OUT;

		size = headers(v6) + 50 + i;
		want += before < 2000;
		kept += before < 2000 ? size : 0;
		before += size;
		conn_tcp(&r, &c, dir, ACK, 1000 + 100 * i, 50 + i);
	}
	n = drain();
	all = got.bytes;
	ok(n == want && all == kept && want > 5 && want < 30,
	   "IPv%d: a flow is cut at the packet that crosses the line, not before or after", v);
	for (unsigned i = 0; i < 3; i++) {
		static const __u8 flags[] = { FIN | ACK, RST, SYN };
		static const char *const names[] = { "FIN", "RST", "SYN" };

		if (i == 2) {
			conn_tcp(&r, &c, DIR_OUT, ACK, 95000, 10);
			is_int(drain(), 0, "and nothing else");
		}

		conn_tcp(&r, &c, DIR_IN, flags[i], 90000 + i, 0);
		ok(drain() == 1, "IPv%d: a %s is kept all the same", v, names[i]);
	}
	ok(tally(slots[0]).cut_packets >= 40 - want + 1, "what was cut is counted");
	classes_are("all:cutoff=0", NULL);
	conn_tcp(&r, &c, DIR_OUT, ACK, 1, 10);
	conn_udp(&r, &c, DIR_OUT, 10);
	is_int(drain(), 0, "a cutoff of nothing keeps nothing");
	conn_tcp(&r, &c, DIR_OUT, SYN, 5000, 0);
	is_int(drain(), 1, "but the SYN");
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_other(&f, 0x88cc, 50);
	rig_run(&r, &f, IN);
	is_int(drain(), 1, "what has no flow is never cut");
}

static void options(void)
{
	struct conn c = { .local = 1, .remote = 2, .local_port = 40000, .remote_port = 80 },
		    other = { .local = 1, .remote = 2, .local_port = 40000, .remote_port = 443 };
	struct record_call call = { .on = 1 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));
	int suspend = bpf_program__fd(r.skel->progs.record_suspend);

	classes_are("all:snap=100", NULL);
	conn_udp(&r, &c, DIR_OUT, 500);
	ok(drain() == 1 && got.last.kept == 100 && got.last.wire == 542,
	   "snap keeps the beginning, and says how long it was");

	classes_are("all:cutoff=100,sample=1", NULL);
	for (int i = 0; i < 10; i++)
		conn_udp(&r, &c, DIR_OUT, 200);
	is_int(drain(), 10, "of what is cut, one in one is kept");
	is_int(tally(slots[0]).sampled_packets, 9, "and counted as sampled");
	classes_are("all:cutoff=100,sample=1:flows", NULL);
	for (int i = 0; i < 10; i++)
		conn_udp(&r, &c, DIR_OUT, 200);
	is_int(drain(), 10, "or one flow in one, whole");

	classes_are("all:cutoff=100", NULL);
	for (int i = 0; i < 5; i++)
		conn_udp(&r, &c, DIR_OUT, 200);
	is_int(drain(), 1, "cut after its first packet");
	call.key = got.last.track.flow;
	ok(!bpf_prog_test_run_opts(suspend, &opts) && call.found == 1,
	   "a flow whose cutoff is suspended");
	conn_udp(&r, &c, DIR_OUT, 200);
	conn_udp(&r, &c, DIR_IN, 200);
	conn_udp(&r, &other, DIR_OUT, 200);
	conn_udp(&r, &other, DIR_OUT, 200);
	is_int(drain(), 3, "is kept in both directions, and others are not");
	class_generation(&t);
	conn_udp(&r, &c, DIR_OUT, 200);
	is_int(drain(), 1, "a reload of classes does not forget it");
	call.on = 0;
	bpf_prog_test_run_opts(suspend, &opts);
	conn_udp(&r, &c, DIR_OUT, 200);
	is_int(drain(), 0, "resumed, it is cut again");
	call.key.local_port++;
	ok(!bpf_prog_test_run_opts(suspend, &opts) && !call.found, "no such flow: said so");
}

/* ---- classes ---------------------------------------------------------------------------- */

static void precedence(void)
{
	struct conn web = { .local = 1, .remote = 2, .local_port = 40000, .remote_port = 80 },
		    tls = { .local = 1, .remote = 2, .local_port = 40000, .remote_port = 443 },
		    ssh = { .local = 1, .remote = 2, .local_port = 40000, .remote_port = 22 };

	classes_are("rest:", "web:filter=port 80 or port 443,precedence=5",
		    "tls:filter=port 443,precedence=9", NULL);
	conn_udp(&r, &web, DIR_OUT, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("web"), "a filter's class");
	conn_udp(&r, &tls, DIR_IN, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("tls"), "the higher precedence");
	conn_udp(&r, &ssh, DIR_OUT, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("rest"), "the class without a filter");
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_other(&f, 0x88cc, 50);
	rig_run(&r, &f, IN);
	ok(drain() == 1 && got.last.track.class == slot_of("rest"), "what is no IP has one too");

	classes.at[0].cutoff = 0; /* tls, first by precedence */
	class_publish(&t, &classes, UINT32_MAX, slots);
	class_generation(&t);
	conn_udp(&r, &tls, DIR_OUT, 10);
	conn_udp(&r, &web, DIR_OUT, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("web"),
	   "a reload reaches flows that were asked already");

	classes_are("web:filter=port 80", NULL);
	conn_udp(&r, &ssh, DIR_OUT, 10);
	is_int(drain(), 0, "what no class wants is not kept");
	ok(tally(CLASS_NONE).cut_packets > 0, "but counted");
}

static void assignments(void)
{
	struct conn c = {
		.local = 1, .remote = 2, .local_port = 40000, .remote_port = 80, .v6 = true
	};

	classes_are("all:", "hosts:filter=port 1", NULL);
	is_int(assign_add(&t, "[fd00:0:86dd::2]/128:hosts:resp"), 0,
	       "a host is given a class, as responder");
	conn_udp(&r, &c, DIR_OUT, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("hosts"), "its flows have it");
	c.local_port++;
	conn_udp(&r, &c, DIR_IN, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("all"), "not those it opens");
	is_int(assign_add(&t, "fd00:0:86dd::/48:hosts:orig"), 0, "its prefix, as opener");
	c.local_port++;
	conn_udp(&r, &c, DIR_IN, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("all"), "the longest prefix decides");
	is_int(assign_remove(&t, "fd00:0:86dd::2"), 0, "taken back");
	conn_udp(&r, &c, DIR_IN, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("hosts"), "the flow is asked again");
	is_int(assign_remove(&t, "fd00:0:86dd::2"), 1, "twice is once too often");
	is_int(assign_add(&t, "10.0.0.1:nothing"), 2, "a class there is not");
	is_int(assign_add(&t, "10.0.0.1/33:hosts"), 2, "a prefix there can not be");
	is_int(assign_remove(&t, "fd00:0:86dd::/48"), 0, "and the prefix");
	conn_udp(&r, &c, DIR_IN, 10);
	ok(drain() == 1 && got.last.track.class == slot_of("all"), "all as before");
}

static void ring_full(void)
{
	struct conn c = { .local = 1, .remote = 2, .local_port = 40000, .remote_port = 80 };
	struct loss_key key = { .node = 1 };
	struct loss loss = {};
	struct tally before, after;
	unsigned n, passed = 0;

	rings_make_all(4096);
	classes_are(NULL);
	key.class = slots[0];
	before = tally(slots[0]);
	for (int i = 0; i < 100; i++)
		passed += conn_udp(&r, &c, DIR_OUT, 10) == -1;
	n = drain();
	after = tally(slots[0]);
	bpf_map_lookup_elem(t.map[MAP_losses], &key, &loss);
	ok(n > 5 && n < 50 && after.lost_packets - before.lost_packets == 100 - n &&
		   after.stored_packets - before.stored_packets == n,
	   "a full ring: each of a hundred is stored or counted as lost");
	is_int(passed, 100, "no packet is held up by it");
	ok(loss.packets == 100 - n && loss.bytes == (100 - n) * 52 && loss.last_ns,
	   "by node and class, with when and how many bytes");
	conn_udp(&r, &c, DIR_OUT, 10);
	is_int(drain(), 1, "emptied, it takes the next");
	rings_make_all(1 << 20);
}

static void stamps(void)
{
	struct conn c = {
		.local = 1, .remote = 2, .local_port = 40000, .remote_port = 80, .segments = 3
	};

	classes_are(NULL);
	conn_tcp(&r, &c, DIR_OUT, ACK | PSH, 1000, 300);
	drain();
	rig_drain(&r);
	ok(r.events_n == 1 && got.last.stamp == r.events[0].stamp,
	   "a packet carries the stamp of the event it is");
	is_int(got.gso, 1, "several segments in one are said to be");
	conn_tcp(&r, &c, DIR_OUT, ACK | PSH, 1300, 300);
	drain();
	ok(got.last.stamp == r.events[0].stamp, "or of the burst it went on with");
	c.local_port++;
	conn_tcp(&r, &c, DIR_IN, ACK, 1, 0);
	drain();
	ok(got.last.stamp >= r.events[0].stamp, "what is no event, the clock's latest");
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	tidemark_init(&t, NULL, NULL);
	for (int i = 0; i < MAPS_NR; i++)
		t.map[i] = bpf_object__find_map_fd_by_name(r.skel->obj, map_names[i]);
	t.settings = r.settings;
	t.cpus = libbpf_num_possible_cpus();
	rings = calloc(t.cpus, sizeof(*rings));
	if (!rings || rings_make_all(1 << 20))
		return 1;
	samples();
	tracks_l2();
	filters();
	tunnels();
	fragments();
	cutoff(false);
	cutoff(true);
	options();
	precedence();
	assignments();
	stamps();
	ring_full();
	ok(!r.changed, "no packet came out other than it went in");
	return done();
}
