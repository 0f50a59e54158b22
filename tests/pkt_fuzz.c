// SPDX-License-Identifier: GPL-2.0-only
/* Spoiled packets without end: none is changed or decided over, and every one is counted. */
#include <stdlib.h>
#include <time.h>

#include "rig.h"
#include "tap.h"

static struct rig r;
static struct frame f;
static __u64 state;

/* splitmix64: one seed repeats a run exactly. */
static __u64 next(void)
{
	__u64 z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
	return next() % n;
}

static __u64 number(const char *name, __u64 otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

/* Values that sit on edges more often than random ones do. */
static __u8 edge(void)
{
	static const __u8 edges[] = {
		0, 1, 4, 6, 17, 43, 44, 51, 60, 0x45, 0x60, 0x7f, 0x80, 0xff
	};

	return below(2) ? edges[below(sizeof(edges))] : next();
}

static void swap(unsigned a, unsigned b, unsigned n)
{
	__u8 other[16];

	if (b + n > f.n)
		return;
	memcpy(other, f.bytes + a, n);
	memcpy(f.bytes + a, f.bytes + b, n);
	memcpy(f.bytes + b, other, n);
}

/* The other end speaks. */
static void turn(void)
{
	unsigned n = f.v6 ? 16 : 4, at = f.l3 + (f.v6 ? 8 : 12);

	if (!f.l3)
		return;
	swap(at, at + n, n);
	swap(f.l4, f.l4 + 2, 2);
}

/* Behind a datagram, or over the first options of a segment. */
static void option(void)
{
	static const __u8 tcp[12] = { 253, 12, 0x74, 0x69, 1, 2, 3, 4, 5, 6, 7, 8 };
	static const __u8 udp[14] = { 0, 0, 127, 12, 0x74, 0x69, 1, 2, 3, 4, 5, 6, 7, 8 };
	unsigned n = below(2) ? 14 : below(80), at = f.n + (f.n - f.l4) % 2;
	__u32 sum = n;

	if (!f.l4 || f.n < f.l4)
		return;
	if (!f.udp) {
		if (f.l4 + 32 <= f.n)
			memcpy(f.bytes + f.l4 + 20, tcp, sizeof(tcp));
		f.bytes[f.l4 + 24] = edge();
		return;
	}
	memset(f.bytes + f.n, 0, n + 1);
	memcpy(f.bytes + at, udp, n < sizeof(udp) ? n : sizeof(udp));
	f.bytes[at + 6] = edge();
	f.n = at + n;
	if (f.v6)
		put16(f.bytes + f.l3 + 4, f.n - f.l3 - 40);
	else
		put16(f.bytes + f.l3 + 2, f.n - f.l3);
	for (unsigned i = 0; i + 1 < n; i += 2)
		sum += f.bytes[at + i] << 8 | f.bytes[at + i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	if (below(4))
		put16(f.bytes + at, ~sum);
}

/* With nothing but a stamp and its checksum in a place that was left for them. */
static bool changed(void)
{
	unsigned bytes = 0;

	if (r.out_n != f.n)
		return true;
	for (unsigned i = 0; i < f.n; i++)
		bytes += r.out[i] != f.bytes[i];
	r.changed = 0;
	return bytes > 10;
}

static void mutate_once(void)
{
	unsigned at, n;

	switch (below(9)) {
	case 0:
	case 1: /* a byte of the headers, where most is decided */
		f.bytes[below(f.n < 80 ? f.n : 80)] = edge();
		break;
	case 2:
		f.bytes[below(f.n)] ^= 1 << below(8);
		break;
	case 3: /* an end that is missing */
		f.n = 1 + below(f.n);
		break;
	case 4: /* or too much of it */
		n = below(100);
		memset(f.bytes + f.n, edge(), n);
		f.n += n;
		break;
	case 5: /* bytes that are missing in between */
		at = below(f.n);
		n = below(f.n - at);
		memmove(f.bytes + at, f.bytes + at + n, f.n - at - n);
		f.n -= n;
		break;
	case 6: /* or there twice */
		at = below(f.n);
		n = below(f.n - at);
		memmove(f.bytes + at + n, f.bytes + at, f.n - at);
		f.n += n;
		break;
	case 7: /* a stamp, or what looks like one */
		option();
		break;
	default: /* ports, sequence numbers and flags, so that flows meet */
		if (f.l4 && f.l4 + 14 <= f.n) {
			f.bytes[f.l4 + 1] = below(4);
			f.bytes[f.l4 + 7] = below(64);
			f.bytes[f.l4 + 13] = next();
		}
		break;
	}
	if (f.n > 3400)
		f.n = 3400;
}

static __u32 how(void)
{
	static const __u32 ways[] = {
		IN,
		OUT,
		IN | 1,
		OUT | 1,
		IN | 2 | ATTACH_FAR,
		OUT | 2 | ATTACH_FAR,
		IN | 3 | ATTACH_PROMISC,
		OUT | 3 | ATTACH_L3,
		IN | ATTACH_L3,
		0,
		OUT | RIG_CLOCKS,
		OUT | ATTACH_CLOCK_MASK,
	};

	return ways[below(sizeof(ways) / sizeof(ways[0]))];
}

static void make(unsigned samples)
{
	unsigned end;

	frame_sample(&f, below(samples), &end);
	if (below(2))
		turn();
	for (unsigned i = below(4); i; i--)
		mutate_once();
	if (below(8) == 0) {
		f.gso_segs = 1 + below(below(2) ? 3 : 64);
		f.gso_size = 1 + below(1500);
	}
	if (below(64) == 0)
		r.clocks[below(RIG_CLOCKS)].flags ^= CLOCK_EVERY_PACKET;
}

static void blame(const char *what, __u64 i, __u64 seed)
{
	printf("# run %llu of seed %llu: %s\n#", i, seed, what);
	for (unsigned k = 0; k < f.n; k++)
		printf(" %02x", f.bytes[k]);
	putchar('\n');
}

int main(void)
{
	const __u64 seed = number("PKT_SEED", time(NULL)), runs = number("PKT_RUNS", 500000);
	const struct rig_sizes sizes = { .ring_bytes = 1 << 16 };
	unsigned samples = 0, end, refused = 0, drained = 0;
	const char *wrong = NULL;
	struct counters in, out;
	__u64 i;
	int verdict = -1;

	if (rig_open(&r, &sizes))
		return skip_all("this kernel does not load the packet programs");
	while (frame_sample(&f, samples, &end))
		samples++;
	state = seed;
	rig_peer(&r, "0.0.0.0/0");
	rig_peer(&r, "::/0");
	r.settings->flag_ahead_ns = 1ULL << 55;
	r.settings->max_ahead_ns = 1ULL << 60;
	r.settings->unstamped_n = 1;
	r.settings->unstamped[0] = 3;
	r.settings->stamp_one_in = 2;
	printf("# PKT_SEED=%llu PKT_RUNS=%llu\n", seed, runs);
	for (i = 0; i < runs && !wrong; i++) {
		make(samples);
		verdict = rig_run(&r, &f, how());
		if (verdict == RIG_REFUSED)
			refused++;
		else if (verdict != -1)
			wrong = "a verdict";
		else if (r.changed && changed())
			wrong = "the packet changed";
		/* Often before the ring is full, and sometimes after. */
		if (below(4096) == 0)
			wrong = wrong ? wrong : rig_wrong(&r);
	}
	wrong = wrong ? wrong : rig_wrong(&r);
	if (!ok(!wrong, "%llu spoiled packets leave untouched, each counted where it ended", runs))
		blame(wrong, i - 1, seed);
	drained = r.events_all;
	in = rig_count(&r, DIR_IN);
	out = rig_count(&r, DIR_OUT);
	ok(r.runs[DIR_IN] + r.runs[DIR_OUT] + refused == i && refused < i / 4,
	   "the kernel ran most of them (%u refused)", refused);
	ok(in.reason.event + out.reason.event <= drained, "every record counted could be read");
#define X(name, stage, meaning)                                                                    \
	if (STAGE_##stage <= STAGE_clock &&                                                        \
	    !strstr(" flow_refused stamp_no_space stamp_silent stamp_older stamp_mtu ",            \
		    " " #name " "))                                                                \
		ok(in.reason.name + out.reason.name || runs < 100000, "reached: %s (%llu)", #name, \
		   in.reason.name + out.reason.name);
	REASONS(X)
#undef X
	rig_close(&r);
	return done();
}
