// SPDX-License-Identifier: GPL-2.0-only
/* Spoiled packets without end: none is changed or decided over, and every one is counted. */
#include <stdlib.h>
#include <time.h>

#include "rig.h"
#include "spoil.h"
#include "tap.h"

static struct rig r;
static struct frame f;
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

	return ways[spoil_below(sizeof(ways) / sizeof(ways[0]))];
}

static void make(void)
{
	spoil_make(&f);
	if (spoil_below(8) == 0) {
		f.gso_segs = 1 + spoil_below(spoil_below(2) ? 3 : 64);
		f.gso_size = 1 + spoil_below(1500);
	}
	if (spoil_below(64) == 0)
		r.clocks[spoil_below(RIG_CLOCKS)].flags ^=
			spoil_below(2) ? CLOCK_EVERY_PACKET : CLOCK_BURST_FLOW;
}

static void blame(const char *what, __u64 i, __u64 seed)
{
	printf("# run %llu of seed %llu: %s\n", i, seed, what);
	spoil_print(&f);
}

int main(void)
{
	const __u64 seed = spoil_number("PKT_SEED", time(NULL)),
		    runs = spoil_number("PKT_RUNS", 500000);
	const struct rig_sizes sizes = { .ring_bytes = 1 << 16 };
	unsigned refused = 0, drained = 0;
	const char *wrong = NULL;
	struct counters in, out;
	__u64 i;
	int verdict = -1;

	if (rig_open(&r, &sizes))
		return skip_all("this kernel does not load the packet programs");
	spoil_seed(seed);
	rig_peer(&r, "0.0.0.0/0");
	rig_peer(&r, "::/0");
	r.settings->flag_ahead_ns = 1ULL << 55;
	r.settings->max_ahead_ns = 1ULL << 60;
	r.settings->unstamped_n = 1;
	r.settings->unstamped[0] = 3;
	r.settings->stamp_one_in = 2;
	printf("# PKT_SEED=%llu PKT_RUNS=%llu\n", seed, runs);
	for (i = 0; i < runs && !wrong; i++) {
		make();
		verdict = rig_run(&r, &f, how());
		if (verdict == RIG_REFUSED)
			refused++;
		else if (verdict != -1)
			wrong = "a verdict";
		else if (r.changed && changed())
			wrong = "the packet changed";
		/* Often before the ring is full, and sometimes after. */
		if (spoil_below(4096) == 0)
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
	    !strstr(" flow_refused stamp_no_space stamp_silent stamp_older stamp_mtu "             \
		    "stamp_sampled ",                                                              \
		    " " #name " "))                                                                \
		ok(in.reason.name + out.reason.name || runs < 100000, "reached: %s (%llu)", #name, \
		   in.reason.name + out.reason.name);
	REASONS(X)
#undef X
	rig_close(&r);
	return done();
}
