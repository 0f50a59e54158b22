// SPDX-License-Identifier: GPL-2.0-only
/* Stamps in TCP segments: exact bytes and checksums, who is believed, what overtakes what. */
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "rig.h"
#include "tap.h"

#define MS 1000000ULL
#define SECOND (1000 * MS)
#define YEAR (365ULL * 24 * 3600 * SECOND)
#define NOW_OFFSET (1700000000LL * 1000000000)

static struct rig r;
static struct frame f;

/* Node 1 is 8.0.0.1; the peer, elsewhere, is 8.0.0.2. */
static const struct conn other = { .local = 1, .remote = 3, .local_port = 1001, .remote_port = 80 };

static const __u8 usual[12] = { 1, 1, 8, 10 };

static __u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * SECOND + now.tv_nsec + NOW_OFFSET;
}

static void begin(void)
{
	rig_reset(&r);
	r.settings->realtime_offset_ns = NOW_OFFSET;
	r.settings->max_ahead_ns = CLOCK_MAX_AHEAD_NS;
	r.settings->flag_ahead_ns = CLOCK_FLAG_AHEAD_NS;
	r.clocks[0].now = 0;
	rig_peer(&r, "8.0.0.2");
	rig_peer(&r, "fd00:0:86dd::2");
}

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

/* Of the TCP segment and its pseudo header: all ones if its checksum is right. */
static __u32 tcp_sum(const __u8 *bytes, unsigned n)
{
	unsigned addresses = f.v6 ? 8 : 12, length = f.v6 ? 32 : 8;
	__u32 sum = sum_of(bytes + f.l3 + addresses, length, IPPROTO_TCP + n - f.l4);

	return sum_of(bytes + f.l4, n - f.l4, sum);
}

/* A segment with these options; NULL: the usual timestamps. Its verdict is to go on. */
static bool segment(bool v6, enum dir dir, __u8 flags, __u32 seq, unsigned payload,
		    const __u8 *options, unsigned options_n)
{
	unsigned n = options ? options_n : sizeof(usual);
	bool out = dir == DIR_OUT;

	frame_ip(&f, v6, out ? 1 : 2, out ? 2 : 1);
	frame_tcp(&f, out ? 1000 : 80, out ? 80 : 1000, seq, flags, n);
	memcpy(f.bytes + f.l4 + 20, options ? options : usual, n);
	frame_payload(&f, payload);
	frame_end(&f);
	put16(f.bytes + f.l4 + 16, ~tcp_sum(f.bytes, f.n));
	return rig_run(&r, &f, dir == DIR_OUT ? OUT : IN) == -1;
}

static const __u8 *with_stamp(__u64 stamp)
{
	static __u8 options[24] = { 1, 1, 8, 10, [12] = 253, 12, 0x74, 0x69 };

	clock_to_wire(stamp, options + 16);
	return options;
}

static bool stamped(enum dir dir, __u32 seq, unsigned payload, __u64 stamp)
{
	return segment(false, dir, ACK, seq, payload, with_stamp(stamp), 24);
}

static bool plain(enum dir dir, __u32 seq, unsigned payload)
{
	return segment(false, dir, ACK, seq, payload, NULL, 0);
}

static const struct event *last(void)
{
	static const struct event none;

	rig_drain(&r);
	return r.events_n ? &r.events[r.events_n - 1] : &none;
}

/* What was blank is the stamp, most significant byte first (T40); nothing else changed. */
static void expect_filled(__u64 stamp, const char *sentence)
{
	unsigned at = f.l4 + 20 + 16, differ = 0;
	__u8 want[8];

	clock_to_wire(stamp, want);
	for (unsigned i = 0; i < f.n; i++)
		differ += r.out[i] != f.bytes[i] && (i < at || i >= at + 8) && i != f.l4 + 16 &&
			  i != f.l4 + 17;
	if (!ok(stamp && r.out_n == f.n && !memcmp(r.out + at, want, 8) && !differ &&
			tcp_sum(r.out, r.out_n) == 0xffff,
		"%s", sentence))
		printf("# length %u, want %u; %u other bytes; sum %#x; stamp %016llx, want %016llx\n",
		       r.out_n, f.n, differ, tcp_sum(r.out, r.out_n), clock_from_wire(r.out + at),
		       stamp);
	r.changed = 0;
}

static void test_write(bool v6)
{
	__u64 stamp;

	begin();
	segment(v6, DIR_OUT, ACK, 100, 33, with_stamp(0), 24);
	stamp = last()->stamp;
	expect_filled(stamp, v6 ? "IPv6: the stamp on the wire is the stamp in the log (T40)"
				: "the stamp on the wire is the stamp in the log (T40)");
	segment(v6, DIR_OUT, ACK, 133, 10, with_stamp(0), 24);
	expect_filled(stamp, "more of the burst, with room for a stamp, has the burst's");
	is_int(r.events_n, 1, "and is no event");
	segment(v6, DIR_OUT, ACK, 100, 33, with_stamp(0), 24);
	ok(last()->type == EVENT_retransmit && last()->stamp > stamp,
	   "T35: a retransmission has a new larger stamp");
	expect_filled(last()->stamp, "which is in it");
	segment(v6, DIR_OUT, ACK, 143, 0, with_stamp(0), 24);
	expect_filled(last()->stamp, "what is no event carries the last of its flow");
	is_int(r.events_n, 2, "and leaves no record");
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

static void test_write_handshake(void)
{
	__u64 stamp;

	begin();
	segment(false, DIR_OUT, SYN, 99, 0, with_stamp(0), 24);
	is_int(last()->type, EVENT_connect, "a SYN is an event");
	stamp = last()->stamp;
	expect_filled(stamp, "whose stamp it carries");
	segment(false, DIR_IN, SYN | ACK, 499, 0, with_stamp(stamp + SECOND), 24);
	ok(r.clocks[0].now > stamp + SECOND, "the SYN-ACK's clock is merged");
	segment(false, DIR_OUT, ACK, 100, 0, with_stamp(0), 24);
	expect_filled(stamp, "the third segment tells the SYN's stamp again");
	begin();
	segment(false, DIR_IN, SYN, 499, 0, with_stamp(now_ns() + SECOND), 24);
	r.clocks[0].now = 12345 << 16;
	segment(false, DIR_OUT, SYN | ACK, 99, 0, with_stamp(0), 24);
	expect_filled(12345 << 16, "a SYN-ACK carries the clock as it stands");
	segment(false, DIR_IN, ACK, 500, 0, with_stamp(now_ns()), 24);
	ok(last()->type == EVENT_accept && last()->cause && last()->flags & EVENT_IN_BAND &&
		   r.clocks[0].now > last()->cause,
	   "who accepts knows the SYN's stamp as its cause");
}

/* Data and FIN in one segment are two events, and there is room for one stamp. */
static void test_write_last(void)
{
	__u64 stamp;

	begin();
	segment(false, DIR_OUT, ACK | FIN, 100, 10, with_stamp(0), 24);
	rig_drain(&r);
	stamp = r.events[0].stamp;
	ok(r.events_n == 2 && r.events[0].type == EVENT_send && r.events[0].bytes == 10 &&
		   r.events[1].type == EVENT_close,
	   "data sent with a FIN is sent, then the connection closed");
	expect_filled(stamp, "the segment carries the stamp of its data, so its send is known");
	ok(r.events[1].stamp == stamp + 1 && r.clocks[0].now == stamp + 1,
	   "the close has the next stamp");
	segment(false, DIR_OUT, ACK, 111, 0, with_stamp(0), 24);
	expect_filled(stamp + 1, "and is what the flow carries from then on");
	segment(false, DIR_OUT, ACK | FIN, 100, 10, with_stamp(0), 24);
	ok(last()->type == EVENT_retransmit && r.events_n == 3, "sent again, it closes nothing");
	expect_filled(last()->stamp, "and carries that stamp");
	begin();
	stamp = now_ns() + SECOND;
	segment(false, DIR_IN, ACK | FIN, 500, 10, with_stamp(stamp), 24);
	rig_drain(&r);
	ok(r.events_n == 2 && r.events[0].type == EVENT_recv && r.events[0].cause == stamp,
	   "who receives it knows the data's cause");
	ok(r.events[1].type == EVENT_close && r.events[1].cause == stamp &&
		   r.events[1].stamp > stamp + 1,
	   "and is above the close that came with it, which is one above that");
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

static void test_not_ours(void)
{
	begin();
	stamped(DIR_OUT, 100, 10, 77);
	is_int(r.changed, 0, "a stamp that is there is left as it is: a forwarder is no sender");
	begin();
	r.settings->in_band = 0;
	stamped(DIR_OUT, 100, 10, 0);
	is_int(r.changed, 0, "with the feature off a blank stays blank");
	rig_reset(&r);
	rig_peer(&r, "8.0.0.3");
	stamped(DIR_OUT, 100, 10, 0);
	is_int(r.changed, 0, "and so it does towards who is no peer");
	begin();
	f.v6 = false;
	frame_ip(&f, false, 1, 2);
	frame_tcp(&f, 1000, 80, 100, ACK, 24);
	memcpy(f.bytes + f.l4 + 20, with_stamp(0), 24);
	frame_payload(&f, 10);
	frame_end(&f);
	rig_run(&r, &f, OUT | ATTACH_FAR);
	rig_run(&r, &f, OUT | ATTACH_PROMISC);
	is_int(r.changed, 0, "and at devices that are not the node's own");
}

static void test_read(bool v6)
{
	__u64 stamp;

	begin();
	stamp = now_ns() + 100 * MS;
	segment(v6, DIR_IN, ACK, 500, 10, with_stamp(stamp), 24);
	ok(last()->type == EVENT_recv && last()->cause == stamp && last()->stamp == stamp + 1 &&
		   last()->flags == EVENT_IN_BAND,
	   v6 ? "IPv6: what is received names the stamp it carried, and is above it"
	      : "what is received names the stamp it carried, and is above it");
	segment(v6, DIR_IN, ACK, 510, 10, with_stamp(stamp), 24);
	segment(v6, DIR_IN, ACK, 520, 10, NULL, 0);
	last();
	is_int(r.events_n, 1,
	       "the same stamp again, or none, goes on with the burst: no second event");
	is_int(run_bytes(r.clocks[0].run), 30, "which counts their bytes");
	is_int(r.clocks[0].now, stamp + 1, "and the clock stands");
	segment(v6, DIR_IN, ACK, 530, 10, with_stamp(stamp + 5), 24);
	ok(last()->cause == stamp + 5 && r.events_n == 2, "another stamp is another event");
	conn_udp(&r, &other, DIR_OUT, 10);
	segment(v6, DIR_IN, ACK, 540, 10, NULL, 0);
	ok(last()->type == EVENT_recv && last()->cause == stamp + 5,
	   "after something else the rest of the burst still has its cause");
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

/* The options may stand anywhere among the others. */
static void test_read_order(void)
{
	static const __u8 first[24] = { 253, 12, 0x74, 0x69, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1, 8, 10 };
	static const __u8 alone[12] = { 253, 12, 0x74, 0x69, 0, 0, 0, 0, 0, 0, 0, 7 };
	static const __u8 theirs[20] = { 253,  8,    0xab, 0xcd, 1, 2, 3, 4, 253, 12,
					 0x74, 0x69, 0,	   0,	 0, 0, 0, 0, 0,	  8 };

	begin();
	segment(false, DIR_IN, ACK, 500, 10, first, sizeof(first));
	is_int(last()->cause, 9, "before the timestamps");
	begin();
	segment(false, DIR_IN, ACK, 500, 10, alone, sizeof(alone));
	is_int(last()->cause, 7, "without timestamps");
	begin();
	segment(false, DIR_IN, ACK, 500, 10, theirs, sizeof(theirs));
	is_int(last()->cause, 8, "behind another experiment of the same kind");
}

/* Nobody's clock moves: the receipt is stamped as if nothing had come with it. */
static void unmoved(const char *reason, const char *sentence)
{
	const struct event *e = last();
	char moved[256] = "";

	snprintf(moved, sizeof(moved), "%s", rig_moved(&r));
	if (!ok(e->type == EVENT_recv && !e->cause && e->stamp <= now_ns() &&
			r.clocks[0].now <= now_ns() && (!reason || strstr(moved, reason)) &&
			(reason || !strstr(moved, "stamp")),
		"%s", sentence))
		printf("# moved \"%s\", cause %llx, clock %llx\n", moved, e->cause,
		       r.clocks[0].now);
}

static void hostile(__u64 stamp, const char *reason, const char *sentence)
{
	begin();
	stamped(DIR_IN, 500, 10, stamp);
	unmoved(reason, sentence);
	is_int(last()->rejected, stamp, "and the record keeps what came");
}

static void spoiled(unsigned at, __u8 value, const char *reason, const char *sentence)
{
	__u8 options[24];

	begin();
	memcpy(options, with_stamp(now_ns() + YEAR), sizeof(options));
	options[at] = value;
	segment(false, DIR_IN, ACK, 500, 10, options, sizeof(options));
	unmoved(reason, sentence);
}

static void test_hostile(void)
{
	hostile(~0ULL, "stamp_rejected 1", "T18: all ones moves no clock");
	hostile(now_ns() + YEAR, "stamp_rejected 1", "a year ahead moves no clock");
	begin();
	r.settings->max_ahead_ns = 0;
	stamped(DIR_IN, 500, 10, ~0ULL);
	unmoved("stamp_rejected 1", "T18: nor with no bound at all");
	spoiled(14, 0x99, NULL, "another experiment's number is not read");
	spoiled(13, 11, "stamp_bad 1", "T37: an option that is too short is ignored and counted");
	spoiled(13, 13, "stamp_bad 1", "T37: and one that is longer than the header");
	spoiled(13, 0, NULL, "an option without length ends the options");
	begin();
	stamped(DIR_IN, 500, 10, 0);
	unmoved(NULL, "a blank is no stamp");
	rig_reset(&r);
	r.settings->realtime_offset_ns = NOW_OFFSET;
	r.clocks[0].now = 0;
	rig_peer(&r, "8.0.0.3");
	stamped(DIR_IN, 500, 10, now_ns() + SECOND);
	unmoved(NULL, "a stamp of who is no peer is not read");
	begin();
	r.settings->in_band = 0;
	stamped(DIR_IN, 500, 10, now_ns() + SECOND);
	unmoved(NULL, "with the feature off nothing is read, whoever is in the map");
}

static void test_bounds(void)
{
	__u64 stamp;

	begin();
	stamp = now_ns() + 400 * MS;
	stamped(DIR_IN, 500, 10, stamp);
	ok(last()->cause == stamp && !(last()->flags & EVENT_FLAGGED) &&
		   !strstr(rig_moved(&r), "flagged"),
	   "T16: within half a second, accepted and not flagged");
	begin();
	r.settings->max_ahead_ns = 500 * MS;
	stamp = now_ns() + 499 * MS;
	stamped(DIR_IN, 500, 10, stamp);
	is_int(last()->cause, stamp, "T16: 499 ms ahead with a bound of 500 ms is accepted");
	begin();
	r.settings->max_ahead_ns = 500 * MS;
	stamp = now_ns() + SECOND;
	stamped(DIR_IN, 500, 10, stamp);
	unmoved("stamp_rejected 1", "T17: one second ahead with that bound is rejected");
	is_int(last()->rejected, stamp, "T17: and the record keeps the remote value");
	begin();
	stamp = now_ns() + 7200 * SECOND;
	stamped(DIR_IN, 500, 10, stamp);
	ok(last()->cause == stamp && last()->flags & EVENT_FLAGGED &&
		   strstr(rig_moved(&r), "stamp_flagged 1") && r.clocks[0].now > stamp,
	   "T19: two hours ahead is merged by default, and flagged");
}

/* Data that begins something and has no stamp must not be given an older one for its cause. */
static void test_unknown(void)
{
	static const __u8 sacks[40] = { 1, 1, 8, 10, [12] = 1, 1, 5, 26, 0, 0, 0, 1, 0, 0, 0, 2,
					0, 0, 0, 3,  0,	       0, 0, 4,	 0, 0, 0, 5, 0, 0, 0, 6 };
	__u64 stamp;

	begin();
	stamp = now_ns() + SECOND;
	segment(false, DIR_IN, SYN, 499, 0, with_stamp(stamp), 24);
	plain(DIR_IN, 500, 10);
	ok(last()->type == EVENT_recv && !last()->cause && last()->stamp > stamp,
	   "data without stamps after a SYN with one: no cause, but above it");
	stamped(DIR_IN, 510, 10, stamp + 5);
	is_int(last()->cause, stamp + 5, "once data has a stamp, it is the cause");
	segment(false, DIR_IN, ACK, 520, 10, sacks, sizeof(sacks));
	ok(last()->seq == 520 && !last()->cause && last()->flags & EVENT_NO_ROOM,
	   "a segment whose header is full has an unknown cause, and is an event of its own");
}

/* T36: stamps one way only. */
static void test_stripped(void)
{
	begin();
	stamped(DIR_OUT, 100, 10, 0);
	r.changed = 0;
	plain(DIR_IN, 500, 10);
	ok(last()->type == EVENT_recv && !last()->cause && last()->seq == 500,
	   "T36: what comes without a stamp has no cause, and its sequence number for a repair");
}

/* [500, 510) was received; [510, 520) is missing. */
static void hole(__u64 stamp)
{
	begin();
	stamped(DIR_IN, 500, 10, stamp);
	plain(DIR_IN, 520, 10);
}

static void test_overtaking(void)
{
	__u64 stamp = now_ns();

	hole(stamp);
	is_int(run_bytes(r.clocks[0].run), 10, "data beyond a hole is not received yet");
	is_int(rig_count(&r, DIR_IN).reason.ahead, 1, "but counted as being ahead");
	stamped(DIR_IN, 510, 10, stamp + 3);
	ok(last()->type == EVENT_recv && last()->seq == 510 && last()->bytes == 20 &&
		   last()->cause == stamp + 3 && r.events_n == 2,
	   "when the hole is filled both are, with the cause of what filled it");
	plain(DIR_IN, 520, 10);
	is_int(rig_count(&r, DIR_IN).reason.duplicate, 1, "and then it is a duplicate");

	hole(stamp);
	stamped(DIR_IN, 530, 10, stamp + SECOND);
	ok(r.clocks[0].now > stamp + SECOND, "a stamp that overtook is merged at once");
	rig_drain(&r);
	is_int(r.events[r.events_n - 1].type, EVENT_none, "without being a receipt");
	stamped(DIR_IN, 510, 10, stamp + 3);
	ok(last()->bytes == 30 && last()->cause == stamp + SECOND && last()->stamp > last()->cause,
	   "T35: what is delivered with it has the largest cause");
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

static void test_second_hole(void)
{
	__u64 stamp = now_ns();

	hole(stamp);
	plain(DIR_IN, 540, 10);
	plain(DIR_IN, 510, 10);
	is_int(run_bytes(r.clocks[0].run), 20,
	       "with a second hole, what is behind the first waits");
	plain(DIR_IN, 530, 10);
	is_int(run_bytes(r.clocks[0].run), 20, "for what it does not know to be there already");
	segment(false, DIR_OUT, ACK, 100, 0, NULL, 0);
	put32(f.bytes + f.l4 + 8, 550);
	rig_run(&r, &f, OUT);
	is_int(run_bytes(r.clocks[0].run), 20, "the receiver acknowledges all of it:");
	plain(DIR_IN, 550, 5);
	is_int(run_bytes(r.clocks[0].run), 55, "then the next segment brings everything");
	plain(DIR_IN, 555, 5);
	is_int(run_bytes(r.clocks[0].run), 60, "once");
	hole(stamp);
	put32(f.bytes + f.l4 + 8, 0);
	segment(false, DIR_OUT, ACK, 100, 0, NULL, 0);
	put32(f.bytes + f.l4 + 8, 519);
	rig_run(&r, &f, OUT);
	plain(DIR_IN, 530, 5);
	is_int(run_bytes(r.clocks[0].run), 10, "an acknowledgement within the hole fills nothing");
	is_str(rig_wrong(&r) ?: "", "", "all accounted for");
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	test_write(false);
	test_write(true);
	test_write_handshake();
	test_write_last();
	test_not_ours();
	test_read(false);
	test_read(true);
	test_read_order();
	test_hostile();
	test_bounds();
	test_unknown();
	test_stripped();
	test_overtaking();
	test_second_hole();
	rig_close(&r);
	return done();
}
