// SPDX-License-Identifier: GPL-2.0-only
/* The life of connections: states, what is new and what is not, who may enter the table. */
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "rig.h"
#include "tap.h"
#include "tidemark.skel.h"

static struct rig r;
static struct flow f;

static const struct conn web = { .local = 1, .remote = 2, .local_port = 1000, .remote_port = 80 };

/* One TCP segment, after which the flow is where and what it should be. */
static void step(enum dir dir, __u8 flags, __u32 seq, unsigned payload, enum rig_where where,
		 enum flow_state state, const char *sentence)
{
	int verdict = conn_tcp(&r, &web, dir, flags, seq, payload);
	enum rig_where got = conn_flow(&r, &web, IPPROTO_TCP, &f);

	if (!ok(verdict == -1 && got == where && f.state == state, "%s", sentence))
		printf("# verdict %d, in table %d, want %d; state %d, want %d\n", verdict, got,
		       where, f.state, state);
}

static void out(__u8 flags, __u32 seq, unsigned payload)
{
	conn_tcp(&r, &web, DIR_OUT, flags, seq, payload);
}

static void in(__u8 flags, __u32 seq, unsigned payload)
{
	conn_tcp(&r, &web, DIR_IN, flags, seq, payload);
}

static void fine(const char *sentence)
{
	const char *wrong = rig_wrong(&r);

	is_str(wrong ? wrong : "", "", sentence);
}

/* Bytes of messages in the burst that is open on the first clock. */
static __u32 burst_bytes(void)
{
	return run_bytes(r.clocks[0].run);
}

static void test_connect(void)
{
	rig_reset(&r);
	step(DIR_OUT, SYN, 100, 0, RIG_EMBRYONIC, FLOW_SYN, "a SYN sent: embryonic");
	is_int(f.opener, FLOW_OPENER_LOCAL, "opened by us");
	step(DIR_IN, SYN | ACK, 500, 0, RIG_EMBRYONIC, FLOW_SYN_ACK, "an answer proves nothing");
	step(DIR_OUT, ACK, 101, 0, RIG_FLOWS, FLOW_ESTABLISHED, "the third segment admits it");
	step(DIR_OUT, ACK | PSH, 101, 10, RIG_FLOWS, FLOW_ESTABLISHED, "data out");
	step(DIR_IN, ACK, 501, 0, RIG_FLOWS, FLOW_ESTABLISHED, "its acknowledgement");
	step(DIR_IN, ACK | PSH, 501, 20, RIG_FLOWS, FLOW_ESTABLISHED, "data in");
	step(DIR_OUT, ACK | FIN, 111, 0, RIG_FLOWS, FLOW_CLOSING, "a FIN");
	step(DIR_OUT, ACK | FIN, 111, 0, RIG_FLOWS, FLOW_CLOSING, "the same FIN again");
	step(DIR_IN, ACK | FIN, 521, 0, RIG_FLOWS, FLOW_CLOSED, "the other FIN");
	step(DIR_OUT, ACK, 112, 0, RIG_FLOWS, FLOW_CLOSED, "the last acknowledgement");
	is_str(rig_events(&r),
	       "connect 1000>80 0B 1p; send 1000>80 10B 1p; recv 80>1000 20B 1p ended 1p 10B; "
	       "close 1000>80 0B 1p ended 1p 20B; close 80>1000 0B 1p",
	       "and these are its events");
	is_str(rig_moved(&r), "in event 2 out flow_new 1 flow_admitted 1 event 3", "counted once");
	is_int(f.dir[DIR_OUT].packets, 6, "packets sent");
	is_int(f.dir[DIR_OUT].bytes, 6 * 66 + 10, "bytes sent, with headers");
	is_int(f.dir[DIR_IN].packets, 4, "packets received");
	is_int(f.dir[DIR_OUT].tcp_flags, SYN | ACK | PSH | FIN, "flags sent");
	is_int(f.dir[DIR_IN].tcp_flags, SYN | ACK | PSH | FIN, "flags received");
	is_int(f.isn, 100, "where it began");
	fine("all accounted for");
}

static void test_accept(void)
{
	rig_reset(&r);
	step(DIR_IN, SYN, 100, 0, RIG_EMBRYONIC, FLOW_SYN, "a SYN received: embryonic");
	is_int(f.opener, FLOW_OPENER_REMOTE, "opened by the other");
	step(DIR_OUT, SYN | ACK, 500, 0, RIG_EMBRYONIC, FLOW_SYN_ACK, "our answer changes nothing");
	step(DIR_OUT, SYN | ACK, 500, 0, RIG_EMBRYONIC, FLOW_SYN_ACK, "nor does repeating it");
	is_int(f.retransmits[DIR_OUT], 1, "which is a retransmission");
	step(DIR_IN, ACK, 101, 10, RIG_FLOWS, FLOW_ESTABLISHED, "the third, with data, admits it");
	is_str(rig_events(&r), "accept 80>1000 0B 1p; recv 80>1000 10B 1p",
	       "accepted, then received");
	fine("all accounted for");
}

static void test_syn_again(void)
{
	rig_reset(&r);
	out(SYN, 100, 0);
	out(SYN, 100, 0);
	is_str(rig_events(&r), "connect 1000>80 0B 1p; retransmit 1000>80 0B 1p",
	       "a SYN sent again is a retransmission");
	rig_reset(&r);
	in(SYN, 100, 0);
	in(SYN, 100, 0);
	is_str(rig_events(&r), "", "a SYN received again is nothing");
	rig_reset(&r);
	out(SYN, 100, 30);
	in(SYN | ACK, 500, 0);
	out(ACK, 131, 10);
	is_str(rig_events(&r), "connect 1000>80 0B 1p; send 1000>80 30B 1p",
	       "TCP Fast Open: data in the SYN is a message");
	is_int(burst_bytes(), 40, "which the data behind it continues");
	rig_reset(&r);
	out(SYN, 100, 0);
	in(SYN, 500, 0);
	out(SYN | ACK, 100, 0);
	in(SYN | ACK, 500, 0);
	out(ACK, 101, 5);
	in(ACK, 501, 5);
	is_str(rig_events(&r),
	       "connect 1000>80 0B 1p; send 1000>80 5B 1p; accept 80>1000 0B 1p ended 1p 5B; "
	       "recv 80>1000 5B 1p",
	       "opened by both at once, its data is seen all the same");
	fine("all accounted for");
}

static void test_older(void)
{
	rig_reset(&r);
	step(DIR_OUT, ACK, 5000, 100, RIG_EMBRYONIC, FLOW_OPEN, "a connection older than we are");
	is_int(f.opener, FLOW_OPENER_UNKNOWN, "opened by we know not whom");
	step(DIR_IN, ACK, 9000, 50, RIG_FLOWS, FLOW_OPEN, "is admitted when both have spoken");
	step(DIR_OUT, ACK, 5000, 100, RIG_FLOWS, FLOW_OPEN, "and known well enough");
	is_str(rig_events(&r),
	       "send 1000>80 100B 1p; recv 80>1000 50B 1p ended 1p 100B; "
	       "retransmit 1000>80 0B 1p ended 1p 50B",
	       "to tell messages from repetition");
	step(DIR_OUT, ACK | FIN, 5100, 0, RIG_FLOWS, FLOW_CLOSING, "and to see its end");
	fine("all accounted for");
}

/* Data out: [from, from + n) after what was sent before, and how many bytes were new then. */
static void sends(__u32 from, unsigned n, __u32 total, const char *sentence)
{
	out(ACK, from, n);
	is_int(burst_bytes(), total, sentence);
}

static void test_repetition(void)
{
	rig_reset(&r);
	sends(100, 10, 10, "first data");
	sends(105, 10, 15, "an overlap counts its new bytes");
	sends(90, 30, 20, "also from before the first");
	rig_reset(&r);
	out(ACK, 100, 10);
	out(ACK, 100, 10);
	is_str(rig_moved(&r), "out flow_new 1 retransmit 1 event 2",
	       "sent twice: a retransmission");
	conn_flow(&r, &web, IPPROTO_TCP, &f);
	is_int(f.retransmits[DIR_OUT], 1, "of the flow's too");
	rig_reset(&r);
	in(ACK, 100, 10);
	in(ACK, 100, 10);
	in(ACK, 105, 5);
	is_str(rig_moved(&r), "in flow_new 1 duplicate 2 event 1", "received twice: duplicates");
	is_str(rig_events(&r), "recv 80>1000 10B 1p", "and no event");
	rig_reset(&r);
	out(ACK, 100, 10);
	out(ACK, 109, 0);
	is_str(rig_events(&r), "send 1000>80 10B 1p", "a keep-alive probe is no message");
	out(ACK, 109, 1);
	is_str(rig_events(&r), "send 1000>80 10B 1p; retransmit 1000>80 0B 1p ended 1p 10B",
	       "with a byte of garbage it is a retransmission");
	rig_reset(&r);
	sends(0xfffffff0, 10, 10, "data before the numbers come round");
	sends(0xfffffffa, 20, 30, "across");
	sends(14, 10, 40, "and after");
	out(ACK, 0xfffffff0, 10);
	is_str(rig_moved(&r), "out flow_new 1 retransmit 1 event 2", "old ones stay old");
	fine("all accounted for");
}

/* [100, 110) and [120, 130) were sent: 20 bytes, and a hole of 10 between. */
static void hole(void)
{
	rig_reset(&r);
	out(ACK, 100, 10);
	out(ACK, 120, 10);
}

static void test_hole(void)
{
	hole();
	is_int(burst_bytes(), 20, "bytes left out are no bytes");
	sends(110, 10, 30, "they count when they come");
	out(ACK, 110, 10);
	is_str(rig_moved(&r), "out flow_new 1 retransmit 1 event 2", "and no second time");
	hole();
	sends(110, 4, 24, "a hole filled from its front");
	sends(116, 4, 28, "and from its back");
	sends(114, 2, 30, "and in between");
	out(ACK, 110, 4);
	out(ACK, 116, 4);
	is_str(rig_moved(&r), "out flow_new 1 retransmit 2 event 3", "is closed");
	hole();
	sends(105, 15, 30, "filled by a packet that repeats what was before it");
	hole();
	sends(110, 15, 30, "or what was after it");
	hole();
	sends(100, 30, 30, "or all of it");
	out(ACK, 110, 10);
	is_str(rig_moved(&r), "out flow_new 1 retransmit 1 event 2", "is filled too");
	hole();
	sends(105, 10, 25, "half filled so");
	sends(115, 10, 30, "and the other half");
	hole();
	sends(105, 30, 35, "filled by one that goes on beyond everything");
	hole();
	sends(200, 10, 30, "a second hole widens the first");
	sends(130, 70, 100, "so that filling it counts");
	fine("all accounted for");
}

static void handshake(void)
{
	rig_reset(&r);
	out(SYN, 100, 0);
	in(SYN | ACK, 500, 0);
	out(ACK, 101, 0);
}

static void resets(void (*before)(void), enum dir dir, bool closes, const char *sentence)
{
	unsigned events;

	before();
	rig_drain(&r);
	events = r.events_n;
	conn_tcp(&r, &web, dir, RST | ACK, dir == DIR_OUT ? 101 : 501, 0);
	conn_tcp(&r, &web, dir, RST | ACK, dir == DIR_OUT ? 101 : 501, 0);
	rig_drain(&r);
	conn_flow(&r, &web, IPPROTO_TCP, &f);
	ok(f.state == FLOW_RESET && r.events_n == events + closes &&
		   (!closes || r.events[events].type == EVENT_close) && !rig_wrong(&r),
	   "%s", sentence);
}

static void syn_out(void)
{
	rig_reset(&r);
	out(SYN, 100, 0);
}

static void syn_in(void)
{
	rig_reset(&r);
	in(SYN, 500, 0);
}

static void syn_ack_out(void)
{
	syn_in();
	out(SYN | ACK, 100, 0);
}

static void one_fin(void)
{
	handshake();
	in(ACK | FIN, 501, 0);
}

static void both_fins(void)
{
	one_fin();
	out(ACK | FIN, 101, 0);
}

static void older(void)
{
	rig_reset(&r);
	in(ACK, 501, 10);
	out(ACK, 101, 10);
}

static void stray(void)
{
	rig_reset(&r);
}

static void test_reset(void)
{
	resets(stray, DIR_IN, false, "RST out of nowhere: no event");
	resets(syn_out, DIR_IN, true, "RST to our SYN: we learn it is refused");
	resets(syn_in, DIR_OUT, false, "RST to their SYN: there never was a connection");
	resets(syn_ack_out, DIR_IN, false, "RST to our SYN-ACK: nor here");
	resets(handshake, DIR_IN, true, "RST received when established: closed, once");
	resets(handshake, DIR_OUT, true, "RST sent when established: closed, once");
	resets(one_fin, DIR_OUT, true, "RST after one FIN: closed by us too");
	resets(older, DIR_IN, true, "RST in a connection older than we are: closed");
	both_fins();
	in(RST, 502, 0);
	is_str(rig_events(&r), "connect 1000>80 0B 1p; close 80>1000 0B 1p; close 1000>80 0B 1p",
	       "RST after both FINs: nothing more to close");
}

/* A port that is closed: whoever knocks on, it is no connection. */
static void test_refused(void)
{
	rig_reset(&r);
	in(SYN, 500, 0);
	out(RST | ACK, 100, 0);
	step(DIR_IN, ACK, 501, 0, RIG_EMBRYONIC, FLOW_RESET, "who was refused is not admitted");
	step(DIR_IN, ACK, 501, 10, RIG_EMBRYONIC, FLOW_RESET, "by saying more");
	rig_reset(&r);
	in(ACK, 500, 0);
	out(RST, 100, 0);
	step(DIR_IN, ACK, 500, 0, RIG_EMBRYONIC, FLOW_RESET, "nor who began without a SYN");
	fine("all accounted for");
}

/* Everything of the connection before is gone, and what comes is a new one. */
static void reused(const char *sentence)
{
	unsigned events;

	rig_drain(&r);
	events = r.events_n;
	out(SYN, 7000, 0);
	in(SYN | ACK, 8000, 0);
	out(ACK, 7001, 10);
	in(ACK, 8001, 10);
	rig_drain(&r);
	conn_flow(&r, &web, IPPROTO_TCP, &f);
	if (!ok(f.state == FLOW_ESTABLISHED && f.opener == FLOW_OPENER_LOCAL &&
			f.dir[DIR_OUT].packets == 2 && f.dir[DIR_IN].packets == 2 &&
			r.events_n == events + 3 && r.events[events].type == EVENT_connect &&
			!rig_wrong(&r),
		"%s", sentence))
		printf("# state %d opener %d, %llu out, %llu in, %u events: %s\n", f.state,
		       f.opener, f.dir[DIR_OUT].packets, f.dir[DIR_IN].packets, r.events_n - events,
		       rig_events(&r));
}

static void test_reuse(void)
{
	both_fins();
	reused("ports used again after both FINs: a new connection");
	handshake();
	in(RST, 501, 0);
	reused("ports used again after a RST: a new connection");
	syn_out();
	out(SYN, 300, 0);
	reused("a SYN with another number is another attempt");
	rig_reset(&r);
	in(ACK | FIN, 400, 0);
	reused("a stray of an older connection does not hide the new one");
	rig_reset(&r);
	in(ACK, 400, 0);
	reused("nor does one that closes nothing");
	handshake();
	out(SYN, 7000, 0);
	conn_flow(&r, &web, IPPROTO_TCP, &f);
	is_int(f.state, FLOW_ESTABLISHED, "a SYN inside a living connection changes nothing");
	is_int(f.isn, 100, "of it");
}

static void test_udp(void)
{
	struct conn dns = web;

	dns.v6 = true;
	rig_reset(&r);
	for (int i = 0; i < 3; i++)
		conn_udp(&r, &dns, DIR_OUT, 30);
	is_int(conn_flow(&r, &dns, IPPROTO_UDP, &f), RIG_EMBRYONIC, "UDP one way: embryonic");
	conn_udp(&r, &dns, DIR_IN, 100);
	is_int(conn_flow(&r, &dns, IPPROTO_UDP, &f), RIG_FLOWS, "answered: admitted");
	is_int(f.dir[DIR_OUT].packets, 3, "with what was before");
	is_str(rig_events(&r), "send 1000>80 30B 1p; recv 80>1000 100B 1p ended 3p 90B",
	       "two bursts");
	is_int(f.opener, FLOW_OPENER_LOCAL, "we spoke first");
	fine("all accounted for");
}

static long memlock(struct bpf_map *map)
{
	char path[64], line[128];
	long bytes = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", bpf_map__fd(map));
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "memlock: %ld", &bytes);
	if (file)
		fclose(file);
	return bytes;
}

static struct conn established(unsigned i)
{
	struct conn c = web;

	c.remote = 1000 + i;
	return c;
}

#define ESTABLISHED 1000

/* Every flood's source is new; every fourth SYN is refused by the node, as closed ports do. */
static void flood(unsigned n)
{
	struct conn c = { .local = 1, .local_port = 80 };

	for (unsigned i = 0; i < n; i++) {
		c.remote = 0x10000 + i / 1024;
		c.remote_port = 1 + i % 1024;
		conn_tcp(&r, &c, DIR_IN, SYN, i, 0);
		if (i % 4 == 0)
			conn_tcp(&r, &c, DIR_OUT, RST | ACK, 0, 0);
	}
}

static void test_flood(void)
{
	const char *n = getenv("PKT_FLOOD");
	unsigned syns = n ? strtoul(n, NULL, 0) : 1000000, alive = 0;
	struct bpf_map *flows = r.skel->maps.flows, *embryonic = r.skel->maps.embryonic;
	long bytes;
	struct conn c;

	rig_reset(&r);
	for (unsigned i = 0; i < ESTABLISHED; i++) {
		c = established(i);
		conn_tcp(&r, &c, DIR_OUT, SYN, 100, 0);
		conn_tcp(&r, &c, DIR_IN, SYN | ACK, 500, 0);
		conn_tcp(&r, &c, DIR_OUT, ACK, 101, 0);
	}
	is_int(rig_entries(bpf_map__fd(flows)), ESTABLISHED, "a thousand connections");
	bytes = memlock(flows) + memlock(embryonic);
	flood(syns);
	is_int(rig_count(&r, DIR_IN).reason.flow_new, syns, "a flood of SYNs, all seen");
	is_int(rig_entries(bpf_map__fd(flows)), ESTABLISHED, "not one of them in the table");
	ok(rig_entries(bpf_map__fd(embryonic)) <= bpf_map__max_entries(embryonic),
	   "and of the embryonic, no more than there is room for");
	ok(bytes > 0 && memlock(flows) + memlock(embryonic) == bytes,
	   "in the memory there was before (%ld bytes)", bytes);
	for (unsigned i = 0; i < ESTABLISHED; i++) {
		c = established(i);
		alive += conn_flow(&r, &c, IPPROTO_TCP, &f) == RIG_FLOWS &&
			 f.state == FLOW_ESTABLISHED;
	}
	is_int(alive, ESTABLISHED, "every connection is still there, and established");
	is_int(rig_count(&r, DIR_IN).reason.flow_refused, 0, "none was refused an entry");
	fine("all accounted for");
}

int main(void)
{
	const struct rig_sizes sizes = { .embryonic = 2048 };

	if (rig_open(&r, &sizes))
		return skip_all("this kernel does not load the packet programs");
	test_connect();
	test_accept();
	test_syn_again();
	test_older();
	test_repetition();
	test_hole();
	test_reset();
	test_refused();
	test_reuse();
	test_udp();
	test_flood();
	rig_close(&r);
	return done();
}
