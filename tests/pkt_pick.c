// SPDX-License-Identifier: GPL-2.0-only
/* Stage mark: rules that hand out several ids, rules that exclude, and packets left as they are. */
#define _GNU_SOURCE
#include <string.h>

#include "pkt_mark.h"
#include "tap.h"

static struct rig r;
static struct tidemark t;

#define IDS 3

static struct mark handing_out(bool at_random)
{
	struct mark m = { .ids_n = IDS, .at_random = at_random };

	for (unsigned i = 0; i < IDS; i++)
		m.ids[i] = (100 + i) << RULE_ID_SHIFT | (i + 1);
	m.experiment = 100;
	m.activity = 1;
	return m;
}

static struct conn numbered(unsigned i)
{
	return (struct conn){
		.local = 1, .remote = 2, .local_port = 1000 + i, .remote_port = 80, .v6 = true
	};
}

/* Experiment of what is sent, 0: none. */
static unsigned experiment_of(unsigned i)
{
	struct conn c = numbered(i);
	struct flow f;

	conn_udp(&r, &c, DIR_OUT, 10);
	if (conn_flow(&r, &c, IPPROTO_UDP, &f) == RIG_NOWHERE || !(f.mark & MARK_MARKED))
		return 0;
	return mark_experiment(f.mark) == 99 + mark_activity(f.mark) ? mark_experiment(f.mark)
								     : 511;
}

static void test_turns(void)
{
	struct mark m = handing_out(false), other = { .experiment = 1, .activity = 1 };
	unsigned right = 0, kept = 0;

	marking_reset(&r, &t);
	marking_add(&t, &m);
	for (unsigned i = 0; i < 3 * IDS; i++)
		right += experiment_of(i) == 100 + i % IDS;
	is_int(right, 3 * IDS, "ids are handed out one after the other, to each flow one");
	other.dst.ported = true;
	other.dst.low = other.dst.high = 9999;
	marking_add(&t, &other); /* every flow is asked again */
	for (unsigned i = 0; i < 3 * IDS; i++)
		kept += experiment_of(i) == 100 + i % IDS;
	is_int(kept, 3 * IDS, "a flow that is asked again keeps its own");
	m.ids[0] = m.ids[1];
	marking_add(&t, &m);
	ok(experiment_of(0) != 100, "but not one that is no longer handed out");
}

static void test_random(void)
{
	struct mark m = handing_out(true);
	unsigned got[IDS] = {}, in_turn = 0, n = 300, before = 0;

	marking_reset(&r, &t);
	marking_add(&t, &m);
	for (unsigned i = 0; i < n; i++) {
		unsigned e = experiment_of(i);

		if (e >= 100 && e < 100 + IDS)
			got[e - 100]++;
		in_turn += i && e == 100 + (before - 100 + 1) % IDS;
		before = e;
	}
	is_int(got[0] + got[1] + got[2], n, "at random each flow has one of them");
	ok(got[0] > n / 9 && got[1] > n / 9 && got[2] > n / 9, "all of them come (%u %u %u)",
	   got[0], got[1], got[2]);
	ok(in_turn < n * 2 / 3, "in no order");
}

static void test_exclude(void)
{
	struct mark one = { .experiment = 100, .activity = 1 };
	struct mark nothing = { .exclude = true };
	const char *words;

	marking_reset(&r, &t);
	if (endpoint_parse("fd00:0:86dd::2", &one.dst, &words) ||
	    endpoint_parse("fd00::/16", &nothing.dst, &words))
		return;
	marking_add(&t, &one);
	is_int(experiment_of(0), 100, "before it is excluded a flow is marked");
	marking_add(&t, &nothing);
	is_int(experiment_of(0), 0, "excluded, it loses its mark, however specific the other rule");
	is_int(experiment_of(1), 0, "and others get none");
	nothing.dst.bits = 128;
	nothing.dst.address[15] = 9;
	is_int(marks_remove(&t, (mark_choice)mark_same, &nothing), 0, "another is not there");
	memset(nothing.dst.address + 2, 0, 14);
	nothing.dst.bits = 16;
	is_int(marks_remove(&t, (mark_choice)mark_same, &nothing), 1, "the exclusion goes");
	is_int(experiment_of(1), 100, "and the rule holds again");
}

/* With the label in the frame or without: what came out is what went in. */
static bool unchanged(unsigned i)
{
	struct conn c = numbered(i);
	struct frame f;

	(void)c;
	frame_begin(&f, 1, 2);
	frame_ethernet(&f);
	frame_v6(&f);
	frame_udp(&f, 1000 + i, 80);
	frame_payload(&f, 10);
	frame_end(&f);
	rig_run(&r, &f, OUT);
	return r.out_n == f.n && !memcmp(r.out, f.bytes, f.n);
}

static void test_unwritten(void)
{
	struct mark m = { .experiment = 100, .activity = 1 };

	for (int how = 0; how < MARK_HOWS_NR; how++) {
		marking_reset(&r, &t);
		m.how = how;
		marking_add(&t, &m);
		t.settings->marks_flags |= MARKS_UNWRITTEN;
		ok(unchanged(how), "%s: packets that are to stay as they are do", mark_hows[how]);
		is_int(experiment_of(how), 100, "and their flows are marked");
		t.settings->marks_flags &= ~MARKS_UNWRITTEN;
		ok(!unchanged(how), "until that is taken back");
	}
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	marking_open(&r, &t);
	test_turns();
	test_random();
	test_exclude();
	test_unwritten();
	rig_close(&r);
	return done();
}
