// SPDX-License-Identifier: GPL-2.0-only
/* A clock whose compare-and-swap always loses: the way out of it that cannot lose. */
#include <linux/types.h>
#include <stdbool.h>

static __u64 other_takes(__u64 *now);

/* Another CPU is always a moment earlier. */
#define __sync_val_compare_and_swap(at, old, new) ((void)(old), (void)(new), other_takes(at))

#include "../bpf/clock.h"
#include "tap.h"

static __u64 others[64];
static unsigned others_n;
static __u64 other_carries; /* what it merges, 0: it ticks */

static __u64 other_takes(__u64 *now)
{
	*now = clock_next(*now, other_carries, 0);
	others[others_n++] = *now;
	return *now;
}

static bool given(__u64 stamp)
{
	for (unsigned i = 0; i < others_n; i++)
		if (others[i] == stamp)
			return true;
	return false;
}

static __u64 now;

static __u64 take(__u64 carried, __u64 physical_ns)
{
	others_n = 0;
	return clock_take(&now, carried, physical_ns);
}

int main(void)
{
	__u64 got;

	now = 1000;
	got = take(0, 0);
	ok(others_n > 1 && others_n < 64, "T28: it tries again %u times, and then no more",
	   others_n);
	ok(got > others[others_n - 1] && !given(got),
	   "T28: a tick that always loses has a stamp of its own");
	is_int(now, got, "T28: which nobody gets after it");
	now = 1000;
	got = take(5000000, 0);
	ok(got > 5000000 && !given(got) && now == got,
	   "T29: a merge that always loses is above both");
	now = 1000;
	other_carries = 9000000;
	got = take(5000, 0);
	ok(got > 9000000 && !given(got) && now == got, "T29: also when others merge more");
	now = 1000;
	other_carries = 0;
	got = take(0, 77 << CLOCK_COUNTER_BITS);
	ok(got >= 77 << CLOCK_COUNTER_BITS && !given(got) && now == got,
	   "T29: also when time has moved");
	return done();
}
