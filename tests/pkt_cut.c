// SPDX-License-Identifier: GPL-2.0-only
/* Every packet cut at every byte: never ports that are not there, always counted. */
#include "rig.h"
#include "tap.h"

static struct rig r;
static struct frame f;

/* The flow's ends, without its counts. */
static const char *ends(void)
{
	static char said[256];

	snprintf(said, sizeof(said), "%s", rig_flows(&r));
	said[strcspn(said, "o")] = 0; /* of "out" */
	return said;
}

static bool complain(unsigned n, const char *want)
{
	const char *wrong = rig_wrong(&r);

	printf("# cut at %u: %s; moved \"%s\", flows \"%s\", want %s\n", n,
	       wrong ? wrong : "accounted for", rig_moved(&r), rig_flows(&r), want);
	return false;
}

/* As it would come off a broken wire: the lengths speak of more than there is. */
static bool cut_short(unsigned end, unsigned *ran)
{
	const char *want;

	for (unsigned n = 0; n < f.n; n++) {
		rig_reset(&r);
		if (rig_run_bytes(&r, &f, n, OUT) == RIG_REFUSED)
			continue;
		++*ran;
		want = "out truncated 1";
		if (!end && n >= 18)
			want = f.bytes[16] == 8 ? "out arp 1" : "out other_ethertype 1";
		if (strcmp(rig_moved(&r), want) || *rig_flows(&r) || rig_wrong(&r))
			return complain(n, want);
	}
	return true;
}

/* As somebody may make it: the lengths are right, and the headers do not fit in. */
static bool cut_true(unsigned end, const char *whole, unsigned *ran)
{
	const char *moved;
	bool good;

	for (unsigned n = f.l3 + (f.v6 ? 40 : 20); n < f.n; n++) {
		if (f.v6)
			put16(f.bytes + f.l3 + 4, n - f.l3 - 40);
		else
			put16(f.bytes + f.l3 + 2, n - f.l3);
		rig_reset(&r);
		if (rig_run_bytes(&r, &f, n, OUT) == RIG_REFUSED)
			continue;
		++*ran;
		moved = rig_moved(&r);
		good = n < end ? !*rig_flows(&r) && (!strcmp(moved, "out truncated 1") ||
						     !strcmp(moved, "out bad_header 1"))
			       : !strcmp(ends(), whole);
		if (!good || rig_wrong(&r))
			return complain(n, n < end ? "no flow" : whole);
	}
	return true;
}

int main(void)
{
	char whole[256];
	const char *name;
	unsigned end, ran;

	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	for (unsigned i = 0; (name = frame_sample(&f, i, &end)); i++) {
		rig_reset(&r);
		ok(rig_run(&r, &f, OUT) == -1 && !rig_wrong(&r), "%s: whole", name);
		snprintf(whole, sizeof(whole), "%s", ends());
		ran = 0;
		ok(cut_short(end, &ran), "%s: cut at each byte, it is counted and no flow", name);
		if (end) {
			ok(*whole && cut_true(end, whole, &ran),
			   "%s: cut with right lengths, it has its ports or none", name);
		}
		ok(ran + 54 >= f.n, "%s: nearly all of %u cuts could be tried", name, f.n);
	}
	rig_close(&r);
	return done();
}
