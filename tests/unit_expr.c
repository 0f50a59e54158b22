// SPDX-License-Identifier: GPL-2.0-only
/* Expressions: what is understood, where an error is, and that three ways to ask agree. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../user/expr.h"
#include "tap.h"

#define NOW 1700000000000000000ULL

static void refused(const char *text, int column, const char *word)
{
	struct expr_error error = {};
	struct expr *expr = NULL;
	int err = expr_parse(text, NOW, &expr, &error);

	ok(err == -EINVAL && error.column == column && strstr(error.why, word),
	   "`%s` is refused at column %d: %s", text, column, word);
	if (!err || error.column != column)
		printf("# err %d, column %d: %s\n", err, error.column, error.why);
	expr_free(expr);
}

static struct expr *parsed(const char *text)
{
	struct expr_error error = {};
	struct expr *expr = NULL;

	if (expr_parse(text, NOW, &expr, &error))
		printf("# %s: column %d: %s\n", text, error.column, error.why);
	return expr;
}

static struct track example(void)
{
	struct track t = {
		.ethertype = 0x0800,
		.flow = { .local_port = 40000, .remote_port = 443, .node = 7, .proto = 6 },
		.vlan = { TRACK_TAGGED | 5 },
		.device = 2,
		.pid = 812,
		.comm = "nginx"
	};
	static const __u8 local[16] = { [10] = 0xff, 0xff, 10, 0, 0, 2 },
			  remote[16] = { [10] = 0xff, 0xff, 192, 168, 7, 9 };

	memcpy(t.flow.local, local, 16);
	memcpy(t.flow.remote, remote, 16);
	t.mark = MARK_MARKED | mark_label(100, 5, 3);
	return t;
}

static bool holds(const char *text, const struct track *track, bool forward)
{
	struct expr_packet q = { .track = track,
				 .node = "web",
				 .device = "eth0",
				 .class_name = "all",
				 .forward = forward,
				 .wall_ns = NOW - 60000000000,
				 .stamp = 0x17979cfe36350000,
				 .wire = 100 };
	struct expr *expr = parsed(text);
	bool yes = expr && expr_match(expr, &q);

	expr_free(expr);
	return yes;
}

static void forms(void)
{
	static const char *const yes[] = {
		"host 10.0.0.2",
		"src 10.0.0.2",
		"src host 10.0.0.2 and dst port 443",
		"10.0.0.2 or 10.0.0.3",
		"host 1.2.3.4 or 10.0.0.2",
		"not host 1.2.3.4",
		"! host 1.2.3.4 && tcp",
		"net 10",
		"net 192.168",
		"net 10.0.0.0/8",
		"net 10.0.0.0 mask 255.0.0.0",
		"tcp port 443",
		"tcp port https",
		"port 80 or 443",
		"portrange 400-500",
		"tcp portrange 443-443",
		"ip proto 6",
		"ip proto \\tcp",
		"ip and tcp",
		"ip host 10.0.0.2",
		"vlan",
		"vlan 5",
		"mark",
		"mark 100",
		"mark 100/5",
		"(mark)",
		"mark and tcp",
		"not mark atlas",
		"node web",
		"node \"web\"",
		"node 7",
		"device eth0",
		"device 2",
		"class all",
		"comm nginx",
		"pid 812",
		"conn 10.0.0.2:40000 192.168.7.9:443",
		"conn 192.168.7.9:443 10.0.0.2:40000",
		"before 2030-01-01",
		"after 5m ago",
		"after 1699999000.5",
		"less 100",
		"greater 100",
		"stamp 17979cfe36350000",
		"src or dst port 443",
		"src or dst 10.0.0.2",
		"ip src or dst 10.0.0.2",
		"(tcp)",
		"tcp and (port 80 or port 443)",
		/* `and` and `or` bind alike, from the left, as in tcpdump */
		"tcp or udp and not icmp6",
		"outer host 10.0.0.2",
		"ether proto 0x800",
		"ether proto \\ip",
		"port (80 or 443)",
		"src host (10.0.0.3 or (10.0.0.1 or 10.0.0.2))",
		"not port (80 or 81) and tcp",
		"ip proto 17 or 6",
		"proto 17 or 10.0.0.2",
	};
	static const char *const no[] = {
		"host 10.0.0.3",
		"dst 10.0.0.2",
		"src port 443",
		"src and dst port 443",
		"src or dst 10.0.0.3",
		"net 11",
		"udp",
		"udp port 443",
		"icmp",
		"ip6",
		"arp",
		"vlan 6",
		"mpls",
		"vni",
		"mark 100/6",
		"mark 101",
		"mark atlas",
		"mark 0/5",
		"mark 0",
		"node db",
		"node 8",
		"comm ngin",
		"pid 1",
		"inner host 10.0.0.2",
		"before 1h ago",
		"after 10s ago",
		"less 99",
		"conn 10.0.0.2:443 192.168.7.9:40000",
		"net ::/0",
		"tcp or udp and icmp",
		"class other",
		"host ::",
		"port (80 or 81)",
		"dst host (10.0.0.1 or 10.0.0.2)",
		"ip proto 1 or 17",
		"ether proto arp",
	};
	struct track t = example();

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		ok(holds(yes[i], &t, true), "`%s` is true of the packet", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		ok(!holds(no[i], &t, true), "`%s` is not", no[i]);
	ok(holds("dst 10.0.0.2 and src port 443", &t, false),
	   "source and destination are the other way round in the other direction");
}

/* SCTP, UDP-Lite and DCCP have ports; what came without its ports has none, not 0. */
static void ports(void)
{
	struct track t = example();

	t.flow.proto = 132;
	ok(holds("port 443 and sctp port 443 and sctp dst port https", &t, true), "SCTP has ports");
	ok(!holds("tcp port 443 or udp port 443 or dccp port 443", &t, true), "its own");
	t.flow.proto = 136;
	ok(holds("udplite port 443", &t, true), "so does UDP-Lite");
	t.flow.proto = 33;
	ok(holds("dccp port 443", &t, true), "and DCCP");
	t.flow.proto = 6;
	t.flow.remote_port = 0;
	ok(holds("port 0", &t, true) && holds("dst port 0", &t, true) &&
		   holds("tcp portrange 0-5", &t, true) && !holds("src port 0", &t, true),
	   "a port may be 0");
	t.unported = TRACK_UNPORTED;
	ok(!holds("port 0", &t, true) && !holds("portrange 0-65535", &t, true),
	   "which it is not where nobody knows it");
	t.inner = t.flow;
	ok(holds("port 0", &t, true) && holds("inner port 0", &t, true),
	   "but inside of a tunnel it may be known");
	t.unported |= TRACK_INNER_UNPORTED;
	ok(!holds("port 0", &t, true), "or not");
}

/* Experiments and activities have names, of any case and with blanks. */
static void marks(void)
{
	struct track t = example();

	t.mark = MARK_MARKED | mark_label(2, 26, 3);
	ok(holds("mark atlas", &t, true) && holds("mark 2/26", &t, true), "2 is Atlas");
	ok(holds("mark \"atlas/Data Challenge\"", &t, true) &&
		   holds("mark ATLAS/\"data challenge\"", &t, true),
	   "and an activity may have blanks in its name");
	ok(!holds("mark cms", &t, true) && !holds("mark atlas/Staging", &t, true),
	   "others are not meant");
	t.mark = MARK_MARKED | mark_label(0, 5, 3);
	ok(holds("mark 0", &t, true) && holds("mark 0/5", &t, true) && !holds("mark 0/0", &t, true),
	   "0 is a number as others are");
}

/* A number that is ICMP's in one IP is nobody's in the other. */
static void families(void)
{
	struct track t = example();

	t.flow.proto = 2;
	ok(holds("igmp", &t, true) && holds("ip and proto 2", &t, true), "igmp is 2 of IPv4");
	t.ethertype = 0x86dd;
	ok(!holds("igmp", &t, true) && holds("proto 2", &t, true), "and not of IPv6");
	t.flow.proto = 1;
	ok(!holds("icmp", &t, true), "nor is icmp");
	t.flow.proto = 58;
	ok(holds("icmp6", &t, true), "icmp6 is 58 of IPv6");
	t.ethertype = 0x0800;
	ok(!holds("icmp6", &t, true), "and not of IPv4");
	t.flow.proto = 4;
	t.inner = t.flow;
	t.inner.proto = 1;
	ok(holds("icmp", &t, true) && holds("inner icmp", &t, true) &&
		   !holds("outer icmp", &t, true),
	   "in a tunnel, the inner addresses say which it is");
	memset(t.inner.local, 0x20, 16);
	ok(!holds("icmp", &t, true), "of IPv6, it is not");
}

static void errors(void)
{
	refused("hots 1", 1, "no word");
	refused("tcp and", 8, "ends too early");
	refused("tcp udp", 5, "`and` or `or`");
	refused("(tcp or udp", 12, "`)`");
	refused("port 70000", 6, "up to 65535");
	refused("icmp port 7", 11, "no ports");
	refused("net 10.0.0.1/8", 5, "behind its prefix");
	refused("host nowhere.example", 6, "not looked up");
	refused("vlan 4096", 6, "up to 4095");
	refused("mark 512", 6, "EXPERIMENT");
	refused("tcp and mark nosuch/3", 14, "nosuch: no such experiment");
	refused("mark atlas/nosuch", 6, "no such activity of atlas");
	refused("mark 2/64", 6, "up to 63");
	refused("mark \"atlas/Data", 6, "quote");
	refused("and tcp", 1, "missing");
	refused("tcp and or udp", 9, "missing");
	refused("tcp)", 4, "no `(`");
	refused("()", 2, "missing");
	refused("tcp & udp", 5, "&&");
	refused("TCP", 1, "lower case, `tcp`");
	refused("tcp[13] == 2", 1, "bytes");
	refused("vlan x", 6, "up to 4095");
	refused("port 80-90", 6, "portrange");
	refused("port 80,443", 6, "80 or 443");
	refused("host 10.0.0.1:80", 6, "and port");
	refused("http", 1, "write `port`");
	refused("arp port 80", 10, "no ports");
	refused("ether host 1:2:3:4:5:6", 7, "MAC");
	refused("more than this", 1, "no word");
	refused("conn 10.0.0.1:80 10.0.0.2", 18, "endpoint");
	refused("tcp and past 17979cfe36350000", 14, "`of`");
	refused("past of 12", 9, "16 hexadecimal");
	refused("before yesterday", 8, "a time is");
	refused("portrange 90-80", 11, "ends before");
	refused("not", 4, "too early");
	refused("port (80 or 443", 16, "`)`");
	refused("port ()", 7, "a value");
	refused("src or dst", 11, "an address");
	refused("tcp src or dst and udp", 16, "no address");
	refused("host (tcp)", 7, "a value");
	refused("before 2026-02-30", 8, "a time is");
	refused("after 2025-02-29", 7, "a time is");
	refused("comm averyverylongname", 6, "too long");
}

static void bounds(void)
{
	struct expr *expr = parsed("tcp and after 1600000000 and not after 1700000000");
	__u64 from, to;

	expr_bounds(expr, &from, &to);
	ok(from == 1600000000000000000ULL && to == 1699999999999999999ULL,
	   "an expression says in which time alone its packets are");
	expr_free(expr);
	expr = parsed("tcp or after 1600000000");
	expr_bounds(expr, &from, &to);
	ok(!from && to == ~0ULL, "an alternative without a time is of all times");
	expr_free(expr);
}

static __u32 node_id(const char *name, void *ctx)
{
	(void)ctx;
	return strcmp(name, "web") ? 0 : 7;
}

/* Compiled for the kernel, an expression means the same. */
static void compiled(void)
{
	static const char *const texts[] = {
		"",
		"tcp",
		"not tcp",
		"udp or tcp port 443",
		"host 10.0.0.2 and not (net 192.168 or vlan 9)",
		"conn 10.0.0.2:40000 192.168.7.9:443",
		"node web and comm nginx",
		"mark 100/5",
		"mark atlas/\"data challenge\" or mark 100",
		"net 2001:db8::/32 or (vlan 5 and pid 812)",
		"portrange 1-442 or icmp",
		"sctp port 443 or igmp or icmp6",
		"dccp or port 0",
	};
	struct filter_op ops[FILTER_OPS_MAX];
	struct expr_error error;
	struct track t = example();
	struct expr *expr;
	__u32 n;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		bool want;

		expr = parsed(texts[i]);
		want = !expr || holds(texts[i], &t, true);
		ok(!expr_compile(expr, node_id, NULL, ops, &n, &error) &&
			   filter_run(ops, n, &t) == want,
		   "`%s` compiled says %s too", texts[i], want ? "yes" : "no");
		expr_free(expr);
	}
	expr = parsed("tcp and src host 10.0.0.2");
	ok(expr_compile(expr, node_id, NULL, ops, &n, &error) == -EINVAL && error.column == 18,
	   "a class cannot ask for a source");
	expr_free(expr);
	expr = parsed("node db");
	ok(expr_compile(expr, node_id, NULL, ops, &n, &error) == -EINVAL,
	   "nor for an unknown node");
	expr_free(expr);
	expr = parsed(
		"port 1 or 2 or 3 or 4 or 5 or 6 or 7 or 8 or 9 or 10 or 11 or 12 or 13 or 14 "
		"or 15 or 16 or 17");
	ok(expr_compile(expr, node_id, NULL, ops, &n, &error) == -E2BIG && !n,
	   "nor more than there is room for");
	expr_free(expr);
}

int main(void)
{
	forms();
	ports();
	families();
	marks();
	errors();
	bounds();
	compiled();
	return done();
}
