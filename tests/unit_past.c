// SPDX-License-Identifier: GPL-2.0-only
/* Pasts and futures of packets against brute force: random messages, skewed clocks, two hosts. */
#define _GNU_SOURCE 1
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../user/bytes.h"
#include "../user/query.h"
#include "../user/segment.h"
#include "tap.h"

#define NODES 5 /* 0 to 2 on one host, the others on another */
#define PACKETS 260
#define BEGAN 1700000000000000000ULL

/* One packet at one node. */
struct seen {
	unsigned node, message;
	bool out, tells; /* it is a message, and not an acknowledgement */
	__u64 stamp;
};

struct message {
	unsigned from, to, first; /* packet that sent it first */
	__u64 stamp;
	__u64 came; /* the stamp of its receiving */
	bool tcp, syn, flying, lost;
	__u32 seq;
	unsigned bytes;
};

static struct seen all[PACKETS];
static struct message messages[PACKETS];
static unsigned all_n, messages_n;
static __u64 clocks[NODES], bursts[NODES], bursts_to[NODES], now;
static __u32 sequences[NODES][NODES];
static __s64 skew[2];
static bool told; /* hosts tell each other their stamps */
static struct segments *records[2];
static char dirs[2][64];
static __u32 state;

static __u32 draw(__u32 n)
{
	state = state * 1664525 + 1013904223;
	return (__u32)((__u64)(state >> 8) * n >> 24);
}

static unsigned host_of(unsigned node)
{
	return node > 2;
}

static void frame_make(unsigned char *f, const struct message *m, unsigned number, bool ack)
{
	unsigned from = ack ? m->to : m->from, to = ack ? m->from : m->to;
	unsigned bytes = ack ? 0 : m->bytes, head = m->tcp ? 20 : 8;

	memset(f, 0, 14 + 20 + head + bytes);
	put_u32(f + 6, number); /* what the oracle knows it by */
	f[12] = 8;
	f[14] = 0x45;
	f[16] = (unsigned char)((20 + head + bytes) >> 8);
	f[17] = (unsigned char)(20 + head + bytes);
	f[22] = 64;
	f[23] = m->tcp ? 6 : 17;
	f[26] = f[30] = 10;
	f[29] = (unsigned char)(from + 1);
	f[33] = (unsigned char)(to + 1);
	f[34] = f[36] = 4;
	f[35] = (unsigned char)from;
	f[37] = (unsigned char)to;
	if (m->tcp) {
		__u32 seq = ack ? sequences[from][to] : m->seq;

		for (int i = 0; i < 4; i++)
			f[38 + i] = (unsigned char)(seq >> (24 - 8 * i));
		f[46] = 0x50;
		f[47] = m->syn && !ack ? 2 : 16;
	} else {
		f[39] = (unsigned char)(8 + bytes);
		put_u32(f + 42, m->first); /* datagrams differ in what they say */
	}
}

static void packet_write(unsigned node, const struct message *m, bool out, bool ack, __u64 stamp)
{
	unsigned char frame[128];
	struct packet p = { .wall_ns = now + (__u64)skew[host_of(node)], .stamp = stamp };
	unsigned from = ack ? m->to : m->from,
		 other = node == from ? (ack ? m->from : m->to) : from;

	if (all_n == PACKETS)
		return;
	frame_make(frame, m, all_n, ack);
	p.kept = p.wire = 14U + 20 + (m->tcp ? 20 : 8) + (ack ? 0 : m->bytes);
	p.flags = out ? PACKET_OUT | PACKET_FORWARD : 0;
	p.track.flow.node = node + 1;
	p.track.flow.proto = m->tcp ? 6 : 17;
	p.track.ethertype = 0x0800;
	p.track.device = 2;
	memcpy(p.track.flow.local, "\0\0\0\0\0\0\0\0\0\0\377\377\n\0\0", 16);
	memcpy(p.track.flow.remote, p.track.flow.local, 16);
	p.track.flow.local[15] = (__u8)(node + 1);
	p.track.flow.remote[15] = (__u8)(other + 1);
	p.track.flow.local_port = (__u16)(0x400 + node);
	p.track.flow.remote_port = (__u16)(0x400 + other);
	all[all_n++] = (struct seen){ node, (unsigned)(m - messages), out, !ack, stamp };
	if (segments_write(records[host_of(node)], &p, frame))
		exit(1);
}

static __u64 tick(unsigned node, __u64 carried)
{
	__u64 wall = (now + (__u64)skew[host_of(node)]) & ~0xffffULL;

	if (carried > clocks[node])
		clocks[node] = carried;
	clocks[node] = clocks[node] + 1 > wall ? clocks[node] + 1 : wall;
	bursts[node] = 0;
	return clocks[node];
}

/* A run to one receiver has one stamp; what is sent again has the latest. */
static void send(void)
{
	struct message *m = &messages[messages_n];
	unsigned from = draw(NODES), to = draw(NODES);

	if (from == to)
		return;
	*m = (struct message){ .from = from, .to = to, .tcp = draw(2), .flying = true };
	m->first = all_n;
	m->bytes = 8 + draw(20);
	m->lost = draw(6) == 0;
	if (m->tcp && !sequences[from][to]) {
		m->syn = true;
		m->bytes = 0;
		m->lost = false;
		sequences[from][to] = 0xffffff00U + draw(0x80); /* wraps */
	}
	m->seq = sequences[from][to];
	if (m->tcp)
		sequences[from][to] += m->syn ? 1 : m->bytes;
	if (!bursts[from] || bursts_to[from] != to || draw(2))
		bursts[from] = tick(from, 0);
	else
		tick(from, 0);
	bursts[from] = bursts[from] ? bursts[from] : clocks[from];
	bursts_to[from] = to;
	m->stamp = bursts[from];
	messages_n++;
	packet_write(from, m, true, false, m->stamp);
}

static void again(void)
{
	struct message *m = &messages[draw(messages_n)];

	if (!m->tcp || !m->lost)
		return;
	m->lost = false;
	m->flying = true;
	packet_write(m->from, m, true, false, clocks[m->from]);
}

static void arrive(void)
{
	struct message *m = &messages[draw(messages_n)];
	bool knows = told || host_of(m->from) == host_of(m->to);
	__u64 stamp;

	if (!m->flying || m->lost)
		return;
	m->flying = false;
	stamp = tick(m->to, knows ? m->stamp : 0);
	m->came = m->came ? m->came : stamp;
	packet_write(m->to, m, false, false, stamp);
	if (m->tcp && draw(2)) { /* acknowledged: no message, no clock moves */
		packet_write(m->to, m, true, true, clocks[m->to]);
		packet_write(m->from, m, false, true, clocks[m->from]);
	}
}

static void directories(bool make)
{
	char command[160];

	for (int i = 0; i < 2; i++) {
		if (make) {
			strcpy(dirs[i], "/tmp/unit_past.XXXXXX");
			if (!mkdtemp(dirs[i]))
				exit(1);
			continue;
		}
		snprintf(command, sizeof(command), "rm -rf %s", dirs[i]);
		if (system(command))
			exit(1);
	}
}

static void run_make(__u32 seed)
{
	char name[16];

	state = seed;
	all_n = messages_n = 0;
	now = BEGAN;
	told = seed % 2;
	memset(clocks, 0, sizeof(clocks));
	memset(bursts, 0, sizeof(bursts));
	memset(sequences, 0, sizeof(sequences));
	skew[0] = (__s64)draw(2000000) * 1000;
	skew[1] = (__s64)draw(2000000) * -1000;
	directories(true);
	for (unsigned i = 0; i < 2; i++)
		records[i] = segments_open(&(struct segments_options){
			.dir = dirs[i], .host = i ? "south" : "north", .file_bytes = 20000 });
	for (unsigned n = 0; n < NODES; n++) {
		snprintf(name, sizeof(name), "n%u", n);
		segments_device(records[host_of(n)], n + 1, 2, name, "eth0", 1);
	}
	while (all_n < PACKETS) {
		now += draw(200000);
		if (draw(2) || !messages_n)
			send();
		else if (draw(5))
			arrive();
		else
			again();
	}
	for (int i = 0; i < 2; i++)
		segments_close(records[i]);
}

/* What is before what, by nothing but the rules: within a node, and from sending to receiving. */
static bool before(unsigned a, unsigned b)
{
	const struct seen *x = &all[a], *y = &all[b];
	const struct message *m;

	if (x->node == y->node)
		return x->stamp <= y->stamp;
	m = &messages[x->message];
	if (!x->tells || !x->out || m->first != a)
		return false;
	/* The stamp of a SYN that comes may be older than it. */
	if (m->syn)
		return m->came && y->node == m->to && y->stamp > m->came;
	return y->tells && !y->out && x->message == y->message;
}

static void brute(unsigned from, bool future, bool in[PACKETS])
{
	bool moved = true;

	memset(in, 0, PACKETS);
	in[from] = true;
	while (moved) {
		moved = false;
		for (unsigned a = 0; a < all_n; a++)
			for (unsigned b = 0; b < all_n && !in[a]; b++)
				if (in[b] && (future ? before(b, a) : before(a, b)))
					in[a] = moved = true;
	}
}

/* Exit status of the question; `in` is what came back. */
static int ask(const char *text, bool in[PACKETS])
{
	struct query q = { .directories = { dirs[0], dirs[1] }, .directories_n = 2, .text = text };
	struct query_past *past = NULL;
	struct expr_error error;
	struct pcapng_packet p;
	struct gathered g;
	__u64 stamp;
	int status;

	memset(in, 0, PACKETS);
	if (expr_parse(text, 0, &q.expr, &error))
		return -1;
	q.gather.expr = q.expr;
	q.gather.to_ns = ~0ULL;
	q.gather.of_packets = true;
	status = query_past_begin(&q, &past);
	for (unsigned i = 0; i < 2 && !status; i++)
		gather_add(&q.gather, dirs[i], i);
	if (!status)
		gather_begin(&q.gather);
	while (!status && gather_next(&q.gather, &g) == 1)
		if (!segment_packet(g.segment, g.position, &p, &stamp))
			in[get_u32(p.frame + 6)] = true;
	gather_free(&q.gather);
	query_past_end(past);
	expr_free(q.expr);
	return status;
}

static void against_brute_force(void)
{
	static bool want[PACKETS], got[PACKETS];
	unsigned asked = 0, wrong = 0, far = 0;

	for (__u32 seed = 1; seed <= 12; seed++) {
		run_make(seed);
		for (int i = 0; i < 10; i++, asked++) {
			unsigned event = draw(all_n);
			bool future = i & 1, nodes[NODES] = {};
			char text[80];

			snprintf(text, sizeof(text), "%s of %016llx@n%u",
				 future ? "future" : "past", all[event].stamp, all[event].node);
			brute(event, future, want);
			wrong += ask(text, got) != 0 || memcmp(want, got, sizeof(want)) != 0;
			for (unsigned p = 0; p < all_n; p++)
				nodes[all[p].node] |= want[p];
			far += nodes[0] + nodes[1] + nodes[2] + nodes[3] + nodes[4] > 3;
		}
		if (seed < 12)
			directories(false);
	}
	ok(!wrong, "%u pasts and futures are what brute force finds, %u wrong", asked, wrong);
	ok(far > asked / 2, "and %u of them reach over more than three nodes", far);
}

/* Several in one expression: what is between two events, and any other way to join them. */
static void joined(void)
{
	static bool of[3][PACKETS], got[PACKETS], none[PACKETS];
	unsigned asked = 0, wrong = 0, between = 0;

	for (__u32 seed = 21; seed <= 26; seed++) {
		directories(false);
		run_make(seed);
		for (int i = 0; i < 12; i++, asked++) {
			static const char *const forms[] = { "%s and %s", "%s or %s and %s",
							     "%s and not (%s or %s)",
							     "not %s and %s" };
			char leaf[3][64], text[256];
			bool same = true;

			for (unsigned k = 0; k < 3; k++) {
				unsigned event = draw(all_n);
				bool future = i % 4 ? draw(2) : k & 1;

				snprintf(leaf[k], sizeof(leaf[k]), "%s of %016llx@n%u",
					 future ? "future" : "past", all[event].stamp,
					 all[event].node);
				brute(event, future, of[k]);
			}
			snprintf(text, sizeof(text), forms[i % 4], leaf[0], leaf[1], leaf[2]);
			wrong += ask(text, got) != 0;
			for (unsigned p = 0; p < all_n; p++) {
				const bool want[] = { of[0][p] && of[1][p],
						      (of[0][p] || of[1][p]) && of[2][p],
						      of[0][p] && !(of[1][p] || of[2][p]),
						      !of[0][p] && of[1][p] };

				same &= want[i % 4] == got[p];
			}
			wrong += !same;
			between += i % 4 == 0 && memcmp(got, none, sizeof(got)) != 0;
		}
	}
	ok(!wrong, "%u expressions of several are what brute force finds, %u wrong", asked, wrong);
	ok(between > 3, "%u times there is something between two events", between);
}

static void named(void)
{
	static bool in[PACKETS];
	unsigned n = 0;
	char text[64];

	is_int(ask("past of 0000000000000001", in), 2, "a stamp nobody has is refused");
	snprintf(text, sizeof(text), "past of %016llx@elsewhere", all[0].stamp);
	is_int(ask(text, in), 2, "and one of a node that has it not");
	snprintf(text, sizeof(text), "past of %016llx and tcp and not tcp", all[9].stamp);
	is_int(ask(text, in), 0, "without a node where one has it");
	for (unsigned i = 0; i < PACKETS; i++)
		n += in[i];
	is_int(n, 0, "and it is a word as others are");
}

static void ambiguous(void)
{
	static bool in[PACKETS];
	const struct message *m = &messages[0];
	char text[64];

	directories(true);
	all_n = 0;
	messages[0] = (struct message){ .from = 0, .to = 4, .bytes = 9 };
	for (unsigned i = 0; i < 2; i++) {
		records[i] = segments_open(
			&(struct segments_options){ .dir = dirs[i], .host = i ? "b" : "a" });
		segments_device(records[i], i ? 5 : 1, 2, i ? "y" : "x", "eth0", 1);
		packet_write(i ? 4 : 0, m, true, false, 0x18f3000000000000ULL);
		segments_close(records[i]);
	}
	snprintf(text, sizeof(text), "past of %016llx", 0x18f3000000000000ULL);
	is_int(ask(text, in), 2, "an event of two nodes is asked which");
	strcat(text, "@b/y");
	is_int(ask(text, in), 0, "and told by host and node");
	ok(in[1] && !in[0], "is that one's");
	directories(false);
}

int main(void)
{
	against_brute_force();
	joined();
	named();
	directories(false);
	ambiguous();
	return done();
}
