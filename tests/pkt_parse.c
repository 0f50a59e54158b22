// SPDX-License-Identifier: GPL-2.0-only
/* Every header the parser knows, whole and spoiled: the flow it finds, the reason it counts. */
#include "rig.h"
#include "tap.h"

static struct rig r;
static struct frame f;

/* What one packet (or the last of several) left behind. `flows` NULL: none may be there. */
static void left(int verdict, const char *moved, const char *flows, const char *sentence)
{
	const char *got_flows = rig_flows(&r), *got_moved = rig_moved(&r), *wrong = rig_wrong(&r);
	bool good = verdict == -1 && !wrong && !strcmp(got_moved, moved) &&
		    !strcmp(got_flows, flows ? flows : "");

	if (!ok(good, "%s", sentence))
		printf("# verdict %d, %s\n# moved \"%s\"\n# want  \"%s\"\n# flows \"%s\"\n"
		       "# want  \"%s\"\n",
		       verdict, wrong ? wrong : "accounted for", got_moved, moved, got_flows,
		       flows ? flows : "");
}

static void expect(__u32 how, const char *moved, const char *flows, const char *sentence)
{
	rig_reset(&r);
	left(rig_run(&r, &f, how), moved, flows, sentence);
}

static void udp_end(unsigned payload)
{
	frame_udp(&f, 7, 9);
	frame_payload(&f, payload);
	frame_end(&f);
}

#define NEW_OUT "out flow_new 1 event 1"
#define UDP4 "udp 8.0.0.1:7-8.0.0.2:9 out 1 "
#define UDP6 "udp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 1 "

static void vlan(__u16 outer, __u16 middle, __u16 inner)
{
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	if (outer)
		frame_vlan(&f, outer);
	if (middle)
		frame_vlan(&f, middle);
	if (inner)
		frame_vlan(&f, inner);
}

static void other(__u16 ethertype, const char *moved, const char *sentence)
{
	vlan(0, 0, 0);
	frame_other(&f, ethertype, 46);
	expect(OUT, moved, NULL, sentence);
}

static void test_link(void)
{
	frame_ip(&f, false, 1, 2);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP4 "52 in 0 0", "IPv4 in Ethernet, sent");
	expect(IN, "in flow_new 1 event 1", "udp 8.0.0.2:9-8.0.0.1:7 out 0 0 in 1 52",
	       "IPv4 in Ethernet, received: the destination is the local end");
	frame_ip(&f, true, 1, 2);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP6 "72 in 0 0", "IPv6 in Ethernet");

	vlan(0x8100, 0, 0);
	frame_v4(&f, 0);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP4 "56 in 0 0", "one VLAN tag");
	vlan(0x88a8, 0, 0);
	frame_v6(&f);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP6 "76 in 0 0", "one service tag");
	vlan(0x88a8, 0x8100, 0);
	frame_v6(&f);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP6 "80 in 0 0", "a VLAN tag in a service tag");
	vlan(0x8100, 0x8100, 0);
	frame_v4(&f, 0);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP4 "60 in 0 0", "a VLAN tag in a VLAN tag");
	vlan(0x9100, 0x8100, 0);
	frame_v4(&f, 0);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP4 "60 in 0 0", "a VLAN tag in one of before 802.1ad");
	vlan(0x9200, 0, 0);
	frame_v4(&f, 0);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP4 "56 in 0 0", "and of another number");
	vlan(0x9300, 0, 0);
	frame_v4(&f, 0);
	udp_end(10);
	expect(OUT, "out other_ethertype 1", NULL, "0x9300 is no tag");
	vlan(0x88a8, 0x8100, 0x8100);
	frame_v4(&f, 0);
	udp_end(10);
	expect(OUT, "out too_many_headers 1", NULL, "a third tag is not followed, and counted");

	other(ETH_P_ARP, "out arp 1", "ARP");
	other(0x88cc, "out other_ethertype 1", "LLDP");
	other(0x8847, "out too_many_headers 1", "MPLS whose labels do not end");
	other(0x0026, "out other_ethertype 1", "an IEEE 802.3 length instead of an ethertype");
	vlan(0x8100, 0, 0);
	frame_other(&f, ETH_P_ARP, 28);
	expect(OUT, "out arp 1", NULL, "ARP in a VLAN");
	vlan(0x8100, 0, 0);
	frame_other(&f, 0x88cc, 28);
	expect(OUT, "out other_ethertype 1", NULL, "LLDP in a VLAN");
}

static void test_v4(void)
{
	vlan(0, 0, 0);
	frame_v4(&f, 40);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP4 "92 in 0 0", "IPv4 with 40 bytes of options");
	f.bytes[f.l3] = 0x44;
	expect(OUT, "out bad_header 1", NULL, "an IPv4 header of 16 bytes cannot be");
	f.bytes[f.l3] = 0x4f;
	put16(f.bytes + f.l3 + 2, 59);
	expect(OUT, "out bad_header 1", NULL, "a total length below the header's cannot be");
	put16(f.bytes + f.l3 + 2, 60);
	expect(OUT, "out truncated 1", NULL, "a total length that leaves no transport header");
	put16(f.bytes + f.l3 + 2, 68);
	expect(OUT, NEW_OUT, UDP4 "92 in 0 0", "what is behind the total length is not payload");
	is_str(rig_events(&r), "send 7>9 0B 1p", "of which the event shows nothing either");
	put16(f.bytes + f.l3 + 2, 79);
	expect(OUT, "out truncated 1", NULL, "a total length one byte beyond the packet");
	put16(f.bytes + f.l3 + 2, 0);
	expect(OUT, NEW_OUT, UDP4 "92 in 0 0", "total length 0 (BIG TCP): the buffer's length");
	is_str(rig_events(&r), "send 7>9 10B 1p", "and payload up to its end");
	f.bytes[f.l3] = 0x6f;
	expect(OUT, "out bad_header 1", NULL, "version 6 under IPv4's ethertype");

	frame_ip(&f, false, 1, 2);
	frame_tcp(&f, 7, 9, 1, ACK, 0);
	frame_end(&f);
	frame_payload(&f, 6);
	expect(OUT, "out flow_new 1", "tcp 8.0.0.1:7-8.0.0.2:9 out 1 60 in 0 0",
	       "a padded ACK has no payload: no message");
}

static void test_v6(void)
{
	frame_ip(&f, true, 1, 2);
	udp_end(10);
	f.bytes[f.l3] = 0x45;
	expect(OUT, "out bad_header 1", NULL, "version 4 under IPv6's ethertype");
	f.bytes[f.l3] = 0x60;
	put16(f.bytes + f.l3 + 4, 19);
	expect(OUT, "out truncated 1", NULL, "a payload length one byte beyond the packet");
	put16(f.bytes + f.l3 + 4, 9);
	expect(OUT, NEW_OUT, UDP6 "72 in 0 0", "a payload length short of the packet");
	is_str(rig_events(&r), "send 7>9 1B 1p", "ends the payload");
	put16(f.bytes + f.l3 + 4, 0);
	expect(OUT, NEW_OUT, UDP6 "72 in 0 0", "payload length 0: the buffer's");
	is_str(rig_events(&r), "send 7>9 10B 1p", "with all its payload");

	frame_ip(&f, true, 1, 2);
	frame_tcp(&f, 7, 9, 1, ACK, 0);
	frame_payload(&f, 3000);
	frame_end(&f);
	put16(f.bytes + f.l3 + 4, 0);
	f.gso_segs = 3;
	f.gso_size = 1000;
	expect(OUT, NEW_OUT, "tcp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 3 3222 in 0 0",
	       "payload length 0 of a GSO packet (BIG TCP): three packets on the wire");
	is_str(rig_events(&r), "send 7>9 3000B 3p", "in one burst");

	frame_ip(&f, true, 1, 2);
	f.bytes[f.next_at] = IPPROTO_NONE;
	frame_end(&f);
	expect(OUT, "out flow_new 1", "59 [fd00:0:86dd::1]:0-[fd00:0:86dd::2]:0 out 1 54 in 0 0",
	       "IPv6 with nothing behind it");
}

static void chain(unsigned n, unsigned bytes)
{
	frame_ip(&f, true, 1, 2);
	for (unsigned i = 0; i < n; i++)
		frame_extension(&f, i ? IPPROTO_DSTOPTS : IPPROTO_HOPOPTS, bytes);
	udp_end(10);
}

static void test_extensions(void)
{
	static const struct {
		__u8 proto;
		const char *name;
	} kinds[] = {
		{ IPPROTO_HOPOPTS, "hop-by-hop options" },
		{ IPPROTO_ROUTING, "a routing header" },
		{ IPPROTO_DSTOPTS, "destination options" },
		{ IPPROTO_AH, "an authentication header" },
		{ 135, "a mobility header" },
	};
	char sentence[80], want[120];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (unsigned bytes = 8; bytes <= 264; bytes += 256) {
			if (kinds[i].proto == IPPROTO_AH && bytes == 8)
				continue; /* is 12 at least */
			frame_ip(&f, true, 1, 2);
			frame_extension(&f, kinds[i].proto, bytes);
			udp_end(10);
			snprintf(want, sizeof(want), UDP6 "%u in 0 0", 72 + bytes);
			snprintf(sentence, sizeof(sentence), "%s of %u bytes", kinds[i].name,
				 bytes);
			expect(OUT, NEW_OUT, want, sentence);
		}
	frame_ip(&f, true, 1, 2);
	frame_extension(&f, IPPROTO_AH, 24);
	frame_tcp(&f, 7, 9, 1, ACK, 12);
	frame_payload(&f, 5);
	frame_end(&f);
	expect(OUT, NEW_OUT, "tcp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 1 115 in 0 0",
	       "AH counts its length in words");
	is_str(rig_events(&r), "send 7>9 5B 1p", "and what follows is found exactly");
	f.bytes[f.l3 + 40 + 1] = 255;
	expect(OUT, "out truncated 1", NULL, "an extension longer than the packet");

	frame_ip(&f, true, 1, 2);
	frame_extension(&f, IPPROTO_HOPOPTS, 8);
	frame_extension(&f, IPPROTO_DSTOPTS, 16);
	frame_extension(&f, IPPROTO_ROUTING, 24);
	frame_fragment(&f, 0, false, 5);
	frame_extension(&f, IPPROTO_AH, 16);
	frame_extension(&f, IPPROTO_DSTOPTS, 8);
	udp_end(10);
	expect(OUT, NEW_OUT, UDP6 "152 in 0 0", "RFC 8200's whole order, with an atomic fragment");

	chain(8, 8);
	expect(OUT, NEW_OUT, UDP6 "136 in 0 0", "eight extension headers");
	chain(9, 8);
	expect(OUT, "out too_many_headers 1", NULL, "a ninth is not followed, and counted");
	chain(8, 400);
	expect(OUT, NEW_OUT, UDP6 "3272 in 0 0", "eight long ones, ports 3 kB into the packet");
	chain(1, 8);
	put16(f.bytes + f.l3 + 4, 7);
	expect(OUT, "out truncated 1", NULL, "a payload that ends inside an extension");

	vlan(0, 0, 0);
	frame_v4(&f, 0);
	frame_extension(&f, IPPROTO_AH, 24);
	udp_end(10);
	expect(OUT, "out flow_new 1", "51 8.0.0.1:0-8.0.0.2:0 out 1 76 in 0 0",
	       "in IPv4, AH is a protocol like others");
}

static void fragment(bool v6, unsigned offset, bool more, __u32 id)
{
	frame_ip(&f, v6, 1, 2);
	frame_fragment(&f, offset, more, id);
	if (offset) {
		frame_l4(&f, IPPROTO_UDP, 96);
		frame_end(&f);
	} else {
		udp_end(88);
		put16(f.bytes + f.udp + 4, 8 + 88 + 192);
	}
}

static void test_fragments(bool v6)
{
	const char *ends = v6 ? "[fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9" : "8.0.0.1:7-8.0.0.2:9";
	unsigned size = v6 ? 158 : 130;
	char flows[120], sentence[120];
#define FRAGMENTS(n) \
	(snprintf(flows, sizeof(flows), "udp %s out %u %u in 0 0", ends, n, (n)*size), flows)
#define SENTENCE(text) \
	(snprintf(sentence, sizeof(sentence), "IPv%c: " text, v6 ? '6' : '4'), sentence)

	fragment(v6, 0, true, 77);
	expect(OUT, NEW_OUT, FRAGMENTS(1), SENTENCE("a first fragment has ports"));
	is_str(rig_events(&r), "send 7>9 280B 1p", SENTENCE("and the whole datagram's length"));
	fragment(v6, 96, true, 77);
	left(rig_run(&r, &f, OUT), "out fragment 1 flow_new 1 event 1", FRAGMENTS(2),
	     SENTENCE("a later one takes the first one's ports"));
	fragment(v6, 192, false, 77);
	left(rig_run(&r, &f, OUT), "out fragment 2 flow_new 1 event 1", FRAGMENTS(3),
	     SENTENCE("so does the last, and neither is a message"));
	fragment(v6, 96, true, 78);
	left(rig_run(&r, &f, OUT), "out fragment 2 fragment_unknown 1 flow_new 1 event 1",
	     FRAGMENTS(3), SENTENCE("one of another datagram does not"));
	f.src = 3;
	fragment(v6, 96, true, 77);
	f.bytes[f.l3 + (v6 ? 23 : 15)] = 3;
	left(rig_run(&r, &f, OUT), "out fragment 2 fragment_unknown 2 flow_new 1 event 1",
	     FRAGMENTS(3), SENTENCE("nor one from another host"));
	fragment(v6, 96, true, 77);
	r.node = 9;
	left(rig_run(&r, &f, OUT), "out fragment 2 fragment_unknown 3 flow_new 1 event 1",
	     FRAGMENTS(3), SENTENCE("nor one that another node sends"));
	f.bytes[v6 ? f.l3 + 40 : f.l3 + 9] = IPPROTO_TCP;
	r.node = 0;
	left(rig_run(&r, &f, OUT), "out fragment 2 fragment_unknown 4 flow_new 1 event 1",
	     FRAGMENTS(3), SENTENCE("nor one of another protocol"));

	fragment(v6, 96, false, 77);
	expect(OUT, "out fragment_unknown 1", NULL, SENTENCE("a later one first is unknown"));
	fragment(v6, 0, true, 79);
	frame_ip(&f, v6, 1, 2);
	frame_fragment(&f, 0, true, 79);
	frame_l4(&f, IPPROTO_TCP, 16);
	frame_end(&f);
	expect(OUT, "out truncated 1", NULL,
	       SENTENCE("a first fragment too small for TCP's header"));
#undef FRAGMENTS
#undef SENTENCE
}

/* RFC 8200, 4.5: extensions behind the fragment header are in the first fragment only. */
static void test_fragment_extension(void)
{
	frame_ip(&f, true, 1, 2);
	frame_fragment(&f, 0, true, 5);
	frame_extension(&f, IPPROTO_DSTOPTS, 8);
	udp_end(80);
	expect(OUT, NEW_OUT, UDP6 "158 in 0 0", "an extension behind the first's fragment header");
	frame_ip(&f, true, 1, 2);
	frame_fragment(&f, 96, false, 5);
	frame_l4(&f, IPPROTO_DSTOPTS, 96);
	frame_end(&f);
	left(rig_run(&r, &f, OUT), "out fragment 1 flow_new 1 event 1",
	     "udp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 2 316 in 0 0",
	     "does not keep the later from being joined");
}

static void test_tcp(void)
{
	static const char flow[] = "tcp 8.0.0.1:7-8.0.0.2:9 out 1 104 in 0 0";

	frame_ip(&f, false, 1, 2);
	frame_tcp(&f, 7, 9, 1, ACK | PSH, 40);
	frame_payload(&f, 10);
	frame_end(&f);
	expect(OUT, NEW_OUT, flow, "TCP with 40 bytes of options");
	is_str(rig_events(&r), "send 7>9 10B 1p", "which are not payload");
	f.bytes[f.l4 + 12] = 4 << 4;
	expect(OUT, "out bad_header 1", NULL, "a TCP header of 16 bytes cannot be");
	f.bytes[f.l4 + 12] = 15 << 4;
	put16(f.bytes + f.l3 + 2, 20 + 59);
	expect(OUT, "out truncated 1", NULL, "TCP options that do not end in the datagram");
	put16(f.bytes + f.l3 + 2, 20 + 60);
	expect(OUT, "out flow_new 1", flow, "or end with it: no payload, no message");
}

static void l4(bool v6, __u8 proto, const char *moved, const char *flows, const char *sentence)
{
	frame_ip(&f, v6, 1, 2);
	frame_l4(&f, proto, 20);
	frame_end(&f);
	expect(OUT, moved, flows, sentence);
	is_str(rig_events(&r), "", "and no event");
}

static void test_others(void)
{
	frame_ip(&f, false, 1, 2);
	frame_udp(&f, 7, 9);
	frame_end(&f);
	expect(OUT, NEW_OUT, UDP4 "42 in 0 0", "an empty datagram is a message too");
	frame_ip(&f, false, 1, 2);
	frame_icmp(&f, 8, 99);
	frame_end(&f);
	expect(OUT, "out flow_new 1", "1 8.0.0.1:99-8.0.0.2:99 out 1 42 in 0 0",
	       "ICMP echo: its identifier twice");
	frame_ip(&f, false, 2, 1);
	frame_icmp(&f, 0, 99);
	frame_end(&f);
	left(rig_run(&r, &f, IN), "in flow_admitted 1 out flow_new 1",
	     "+1 8.0.0.1:99-8.0.0.2:99 out 1 42 in 1 42", "its reply: the same flow");
	frame_ip(&f, false, 1, 2);
	frame_icmp(&f, 3, 99);
	frame_end(&f);
	expect(OUT, "out flow_new 1", "1 8.0.0.1:0-8.0.0.2:0 out 1 42 in 0 0",
	       "ICMP unreachable has none");
	frame_ip(&f, true, 1, 2);
	frame_icmp(&f, 128, 99);
	frame_end(&f);
	expect(OUT, "out flow_new 1", "58 [fd00:0:86dd::1]:99-[fd00:0:86dd::2]:99 out 1 62 in 0 0",
	       "ICMPv6 echo");
	frame_ip(&f, true, 2, 1);
	frame_icmp(&f, 129, 99);
	frame_end(&f);
	left(rig_run(&r, &f, IN), "in flow_admitted 1 out flow_new 1",
	     "+58 [fd00:0:86dd::1]:99-[fd00:0:86dd::2]:99 out 1 62 in 1 62", "and its reply");
	frame_ip(&f, true, 1, 2);
	frame_icmp(&f, 135, 99);
	frame_end(&f);
	expect(OUT, "out flow_new 1", "58 [fd00:0:86dd::1]:0-[fd00:0:86dd::2]:0 out 1 62 in 0 0",
	       "a neighbour solicitation");
	l4(false, 132, "out flow_new 1", "132 8.0.0.1:42405-8.0.0.2:42405 out 1 54 in 0 0",
	   "SCTP has ports");
	l4(true, 136, "out flow_new 1",
	   "136 [fd00:0:86dd::1]:42405-[fd00:0:86dd::2]:42405 out 1 74 in 0 0", "UDP-Lite, too");
	l4(false, 33, "out flow_new 1", "33 8.0.0.1:42405-8.0.0.2:42405 out 1 54 in 0 0",
	   "and DCCP");
	frame_ip(&f, false, 1, 2);
	frame_l4(&f, 132, 7);
	frame_end(&f);
	expect(OUT, "out truncated 1", NULL, "SCTP cut short before its tag");
	l4(true, 50, "out flow_new 1", "50 [fd00:0:86dd::1]:0-[fd00:0:86dd::2]:0 out 1 74 in 0 0",
	   "ESP");
	l4(false, 47, "out flow_new 1", "47 8.0.0.1:0-8.0.0.2:0 out 1 54 in 0 0", "GRE");
}

static void test_devices(void)
{
	frame_begin(&f, 1, 2);
	frame_v4(&f, 0); /* 0x45 is odd: see frame_v6() */
	udp_end(10);
	expect(IN | ATTACH_L3, "in flow_new 1 event 1", "udp 8.0.0.2:9-8.0.0.1:7 out 0 0 in 1 38",
	       "IPv4 of a device without Ethernet");
	expect(IN, "in bad_header 1", NULL, "and as if it had Ethernet, nonsense is not believed");
	frame_begin(&f, 1, 2);
	frame_v6(&f);
	udp_end(10);
	expect(OUT | ATTACH_L3, NEW_OUT, UDP6 "58 in 0 0", "IPv6 of a device without Ethernet");
	frame_begin(&f, 1, 2);
	frame_v4(&f, 0);
	udp_end(10);
	put16(f.bytes + 12, 0x0907);
	expect(OUT | ATTACH_L3, "out other_ethertype 1", NULL, "another protocol there");

	frame_ip(&f, false, 1, 2);
	udp_end(10);
	expect(IN | ATTACH_FAR, NEW_OUT, UDP4 "52 in 0 0",
	       "what comes in at a port the node behind it sends");
	expect(OUT | ATTACH_FAR, "in flow_new 1 event 1", "udp 8.0.0.2:9-8.0.0.1:7 out 0 0 in 1 52",
	       "what goes out there it receives");
	expect(ATTACH_EGRESS, "out no_node 1", NULL, "a packet through no attachment has no node");
	expect(OUT | RIG_CLOCKS, "out flow_new 1 clock_bad 1", UDP4 "52 in 0 0",
	       "a clock that is not there");
}

/* The kernel sets pkt_type by the destination, also in a test run. */
static void test_mirror(void)
{
	frame_ip(&f, false, 1, 2);
	udp_end(10);
	f.bytes[5] = 7;
	expect(IN, "in other_host 1", NULL, "flooded here, meant for another machine");
	expect(OUT, NEW_OUT, UDP4 "52 in 0 0", "sent to another machine");
	expect(OUT | ATTACH_FAR, "in flow_new 1 event 1", "udp 8.0.0.2:9-8.0.0.1:7 out 0 0 in 1 52",
	       "a port passes it to the node behind");
	f.bytes[0] = 1;
	expect(IN, "in flow_new 1 event 1", "udp 8.0.0.2:9-8.0.0.1:7 out 0 0 in 1 52",
	       "multicast is meant for us");
	f.bytes[0] = 0;
	expect(IN | ATTACH_PROMISC, "in flow_new 1 event 1", UDP4 "52 in 0 0",
	       "a mirror port sees it, the lower address local");
	frame_ip(&f, false, 2, 1);
	frame_udp(&f, 9, 7);
	frame_end(&f);
	f.bytes[5] = 7;
	left(rig_run(&r, &f, IN | ATTACH_PROMISC), "in flow_new 1 flow_admitted 1 event 2",
	     "+udp 8.0.0.1:7-8.0.0.2:9 out 1 52 in 1 42", "and the answer in the same flow");
	f.bytes[5] = 0;
	expect(IN | ATTACH_PROMISC, "in flow_new 1 event 1",
	       "udp 8.0.0.1:7-8.0.0.2:9 out 0 0 in 1 42", "what is for the port itself is its own");
	frame_ip(&f, true, 1, 1);
	udp_end(0);
	f.bytes[5] = 7;
	expect(IN | ATTACH_PROMISC, "in flow_new 1 event 1",
	       "udp [fd00:0:86dd::1]:7-[fd00:0:86dd::1]:9 out 1 62 in 0 0",
	       "of one address, the lower port is local");
}

static void test_gso(void)
{
	frame_ip(&f, false, 1, 2);
	frame_tcp(&f, 7, 9, 1, ACK, 12);
	frame_payload(&f, 2900);
	frame_end(&f);
	expect(OUT, NEW_OUT, "tcp 8.0.0.1:7-8.0.0.2:9 out 1 2966 in 0 0", "a jumbo packet is one");
	f.gso_segs = 2;
	f.gso_size = 1448;
	expect(OUT, NEW_OUT, "tcp 8.0.0.1:7-8.0.0.2:9 out 2 3032 in 0 0",
	       "a GSO packet is as many as its segments, each with headers");
	is_str(rig_events(&r), "send 7>9 2900B 2p", "and one burst of so many messages");
	frame_ip(&f, true, 1, 2);
	udp_end(3000);
	f.gso_segs = 10;
	f.gso_size = 300;
	expect(OUT, NEW_OUT, "udp [fd00:0:86dd::1]:7-[fd00:0:86dd::2]:9 out 10 3620 in 0 0",
	       "UDP GSO too");
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	test_link();
	test_v4();
	test_v6();
	test_extensions();
	test_fragments(false);
	test_fragments(true);
	test_fragment_extension();
	test_tcp();
	test_others();
	test_devices();
	test_mirror();
	test_gso();
	rig_close(&r);
	return done();
}
