// SPDX-License-Identifier: GPL-2.0-only
/* The clock's rules, by the vectors every implementation of it must pass (T01 to T40). */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "../bpf/clock.h"
#include "../user/physical.h"
#include "tap.h"

#define TICK (CLOCK_COUNTER_MASK + 1) /* ns */
#define SECOND (1000ULL * 1000 * 1000)
#define HOUR (3600 * SECOND)

/* The stamp (l, c) of the paper, l in ticks. */
static __u64 stamp(__u64 l, __u64 c)
{
	return l * TICK + c;
}

/* Physical time `pt` ticks, somewhere within the tick. */
static __u64 at(__u64 pt)
{
	return pt * TICK + 12345;
}

static __u64 now;

static __u64 tick(__u64 pt)
{
	return clock_take(&now, 0, at(pt));
}

static __u64 merge(__u64 carried, __u64 pt)
{
	return clock_take(&now, carried, at(pt));
}

static void test_rules(void)
{
	now = stamp(4, 7);
	is_int(tick(5), stamp(5, 0), "T01: time has moved: it is the stamp");
	is_int(tick(5), stamp(5, 1), "T02: again in the same tick: one more");

	now = 0;
	is_int(tick(5), stamp(5, 0), "T03: send at 5");
	is_int(tick(6), stamp(6, 0), "T03: send at 6");
	is_int(merge(stamp(10, 5), 10), stamp(10, 6), "T03: receive (10,5) at 10");
	is_int(tick(7), stamp(10, 7), "T03: send at 7");
	is_int(merge(stamp(10, 4), 8), stamp(10, 8), "T03: receive (10,4) at 8");
	is_int(merge(stamp(10, 99), 10), stamp(10, 100), "T03: receive (10,99) at 10");
	is_int(merge(stamp(10, 31), 11), stamp(11, 0), "T03: receive (10,31) at 11");
	is_int(tick(11), stamp(11, 1), "T03: send at 11");

	now = stamp(10, 3);
	is_int(merge(stamp(10, 5), 9), stamp(10, 6), "T04: both ahead of time and equal");
	is_int(merge(stamp(9, 50), 8), stamp(10, 7), "T05: ours is ahead");
	is_int(merge(stamp(20, 50), 8), stamp(20, 51), "T06: theirs is ahead");
	is_int(merge(stamp(20, 90), 21), stamp(21, 0), "T07: time is ahead");
	is_int(merge(stamp(21, 4), 21), stamp(21, 5), "T08: all three are equal: not 0");
	is_int(merge(now, 3), stamp(21, 6), "T09: our own stamp comes back: larger, as far ahead");
}

static __u64 random_state = 88172645463325252ULL;

static __u64 random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* The rules as the paper has them, in two fields. */
struct model {
	__u64 l, c;
};

static void model_send(struct model *m, __u64 pt)
{
	__u64 l = m->l > pt ? m->l : pt;

	m->c = l == m->l ? m->c + 1 : 0;
	m->l = l;
}

static void model_recv(struct model *m, struct model from, __u64 pt)
{
	__u64 l = m->l > from.l ? m->l : from.l;

	if (pt > l)
		l = pt;
	if (l == m->l && l == from.l)
		m->c = (m->c > from.c ? m->c : from.c) + 1;
	else if (l == m->l)
		m->c = m->c + 1;
	else if (l == from.l)
		m->c = from.c + 1;
	else
		m->c = 0;
	m->l = l;
}

static void test_model(void)
{
	struct model m = {}, from;
	__u64 wrong = 0, pt = 0;

	now = 0;
	for (int i = 0; i < 10000000; i++) {
		__u64 r = random_next();

		if (r % 65536 == 0) /* elsewhere; overflows are T11 and T12 */
			m = (struct model){ r >> 40, 0 }, now = stamp(m.l, m.c), pt = m.l;
		pt = pt + (r >> 16) % 4 - (pt ? 1 : 0); /* now and then backward */
		from = (struct model){ pt + (r >> 20) % 5, (r >> 24) % 7 };
		if (r >> 63) {
			model_send(&m, pt);
			tick(pt);
		} else {
			model_recv(&m, from, pt);
			merge(stamp(from.l, from.c), pt);
		}
		wrong += now != stamp(m.l, m.c);
	}
	is_int(wrong, 0, "T10: ten million random steps are as in two fields");
}

static void test_overflow(void)
{
	__u64 before, wrong = 0;

	now = stamp(5, 65535);
	is_int(tick(5), stamp(6, 0), "T11: a counter that is full carries into the time");
	now = stamp(5, 0);
	is_int(merge(stamp(9, 65535), 5), stamp(10, 0), "T12: and so when theirs is full");
	now = stamp(5, 0);
	for (int i = 0; i < 1 << 20; i++) {
		before = now;
		wrong += tick(5) <= before;
	}
	is_int(wrong, 0, "T13: a million events in one tick, each above the one before");
	is_int(now - stamp(5, 0), 1 << 20, "T13: and a nanosecond ahead each");
}

static void test_steps(void)
{
	const __u64 hour = HOUR / TICK, begin = 100 * hour;
	__u64 wrong = 0, before;

	now = 0;
	tick(begin);
	for (int i = 0; i < 1000; i++) {
		before = now;
		wrong += tick(begin - hour) != before + 1;
	}
	ok(!wrong && now == stamp(begin, 1000), "T14: time steps back an hour: the counter counts");

	tick(begin + hour);
	ok(clock_ahead_ns(now, at(begin)) > CLOCK_FLAG_AHEAD_NS, "T15: forward and back: flagged");
	is_int(tick(begin), stamp(begin + hour, 1), "T15: it stays where it has been");
	is_int(tick(begin + hour + 1), stamp(begin + hour + 1, 0), "T15: until time is there too");
	is_int(clock_ahead_ns(now, at(begin + hour + 1)), 0, "T15: and is not flagged any more");

	now = 0;
	tick(begin);
	before = now;
	tick(begin - SECOND / TICK);
	is_int(now, before + 1, "T20: a leap second stepped over: no decrease");
}

static void test_admission(void)
{
	const __u64 pt = 1000 * HOUR;

	ok(clock_admits(pt + 499 * SECOND / 1000, pt, SECOND / 2), "T16: 499 ms ahead of 500");
	ok(!clock_admits(pt + SECOND, pt, SECOND / 2), "T17: a second ahead of 500 ms: not merged");
	ok(clock_admits(pt + SECOND / 2, pt, SECOND / 2), "T17: exactly as far as allowed: merged");
	ok(clock_admits(pt - 2 * HOUR, pt, SECOND / 2), "T17: behind is always allowed");
	ok(clock_admits(pt + 23 * HOUR, pt, CLOCK_MAX_AHEAD_NS) &&
		   !clock_admits(pt + 25 * HOUR, pt, CLOCK_MAX_AHEAD_NS),
	   "T17: by default a day");
	ok(!clock_admits(~0ULL, pt, 0) && !clock_admits(~0ULL, ~0ULL, CLOCK_MAX_AHEAD_NS),
	   "T18: all ones is refused, whatever the bound and the time");
	ok(!clock_admits(~CLOCK_COUNTER_MASK, pt, 0), "T18: and all of that last tick");
	ok(clock_admits(~CLOCK_COUNTER_MASK - 1, pt, 0) &&
		   clock_next(1, ~CLOCK_COUNTER_MASK - 1, pt) == ~CLOCK_COUNTER_MASK,
	   "T18: what is admitted does not wrap");
}

/* Two hosts pass a message every second: one steps a leap second, one smears it over the day. */
static void test_smear(void)
{
	const __u64 day = 24 * HOUR, begin = 1000 * day;
	__u64 stepped = 0, smeared = 0, most = 0, wrong = 0;

	for (__u64 t = 0; t < 2 * day; t += SECOND) {
		__u64 a = begin + t - (t >= day ? SECOND : 0), before;
		__u64 b = begin + t -
			  (t < day / 2	      ? 0
			   : t >= 3 * day / 2 ? SECOND
					      : (t - day / 2) / (day / SECOND));

		before = stepped;
		wrong += clock_take(&stepped, 0, a) <= before;
		before = smeared;
		clock_take(&smeared, stepped, b);
		wrong += smeared <= before || smeared <= stepped;
		clock_take(&stepped, smeared, a);
		wrong += stepped <= smeared;
		if (clock_ahead_ns(stepped, a) > most)
			most = clock_ahead_ns(stepped, a);
		if (clock_ahead_ns(smeared, b) > most)
			most = clock_ahead_ns(smeared, b);
	}
	is_int(wrong, 0, "T21: one host steps, one smears: order holds");
	ok(most > SECOND / 3 && most <= SECOND, "T21: at most a second ahead (%llu ns)", most);
}

static __u64 read_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static void test_physical(void)
{
	struct settings settings = {};
	struct tidemark t = { .settings = &settings };
	__u64 boot, real;

	physical_publish(&t);
	boot = read_ns(CLOCK_BOOTTIME);
	real = read_ns(CLOCK_REALTIME);
	ok(llabs((__s64)(boot + settings.realtime_offset_ns - real)) < (__s64)SECOND / 2,
	   "T22: physical time is REALTIME, whatever offset TAI was given");
	is_int(settings.steps_back, 0, "T14: published once, time has not stepped");
	settings.realtime_offset_ns += HOUR;
	physical_publish(&t);
	is_int(settings.steps_back, 1, "T14: set back an hour: one step is counted");
	settings.realtime_offset_ns -= HOUR;
	physical_publish(&t);
	is_int(settings.steps_back, 1, "T14: set forward: none");

	/* MONOTONIC stood still for an hour, BOOTTIME did not. */
	now = 0;
	clock_take(&now, 0, boot + settings.realtime_offset_ns);
	clock_take(&now, 0, boot + HOUR + settings.realtime_offset_ns);
	is_int(now, (boot + HOUR + settings.realtime_offset_ns) & ~CLOCK_COUNTER_MASK,
	       "T24: after an hour's suspend the stamp is right at once");
}

#define TAKES 400000

static struct taker {
	pthread_t thread;
	__u64 *took;
	__u64 wrong;
	bool merges;
} takers[64];

static __u64 shared __attribute__((aligned(64)));
static pthread_barrier_t together;

static void *take(void *arg)
{
	struct taker *t = arg;
	__u64 last = 0, carried = 0, seen;

	pthread_barrier_wait(&together);
	for (int i = 0; i < TAKES; i++) {
		seen = __atomic_load_n(&shared, __ATOMIC_RELAXED);
		if (t->merges && i % 3 == 0)
			carried = seen + i % 50;
		else
			carried = 0;
		t->took[i] = clock_take(&shared, carried, t->merges ? at(i / 64) : 0);
		t->wrong += t->took[i] <= last || t->took[i] <= carried || t->took[i] <= seen;
		last = t->took[i];
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return x < y ? -1 : x > y;
}

static void test_threads(bool merges, const char *id, const char *what)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	__u64 *all, wrong = 0, twice = 0, start = stamp(100, 0);

	n = n < 4 ? 4 : n > 64 ? 64 : n; /* more than there are CPUs: preempted in the middle */
	all = calloc(n * TAKES, sizeof(*all));
	shared = start;
	pthread_barrier_init(&together, NULL, n);
	for (long i = 0; i < n; i++) {
		takers[i] = (struct taker){ .took = all + i * TAKES, .merges = merges };
		pthread_create(&takers[i].thread, NULL, take, &takers[i]);
	}
	for (long i = 0; i < n; i++) {
		pthread_join(takers[i].thread, NULL);
		wrong += takers[i].wrong;
	}
	pthread_barrier_destroy(&together);
	qsort(all, n * TAKES, sizeof(*all), compare);
	for (long i = 1; i < n * TAKES; i++)
		twice += all[i] == all[i - 1];
	is_int(twice, 0, what);
	ok(!wrong, "%s: each above what it had seen (%ld threads)", id, n);
	ok(shared >= start + (__u64)n * TAKES && shared == all[n * TAKES - 1],
	   "%s: in the end, as many were taken as were given", id);
	free(all);
}

#define INTERRUPTED 1000000
#define INTERRUPTS 500

static __u64 inside[2 * INTERRUPTS], outside[INTERRUPTED];
static volatile sig_atomic_t insides;

static void interrupt(int signal)
{
	(void)signal;
	if (insides < 2 * INTERRUPTS) {
		inside[insides] = clock_take(&shared, 0, 0);
		insides = insides + 1;
	}
}

/* A signal handler is to a thread what a softirq is to a CPU: it does not return until done. */
static void test_interrupt(void)
{
	const struct sigaction action = { .sa_handler = interrupt, .sa_flags = SA_RESTART };
	struct itimerval often = { .it_interval.tv_usec = 100, .it_value.tv_usec = 100 };
	struct itimerval never = {};
	__u64 *all = calloc(INTERRUPTED + 2 * INTERRUPTS, sizeof(*all)), twice = 0, n = 0;
	__u64 until = read_ns(CLOCK_MONOTONIC) + 20 * SECOND;

	shared = stamp(100, 0);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	/* Round and round, so that an interrupt meets every instruction. */
	while (insides < INTERRUPTS && read_ns(CLOCK_MONOTONIC) < until)
		for (int i = 0; i < 1000; i++)
			outside[n++ % INTERRUPTED] = clock_take(&shared, 0, 0);
	setitimer(ITIMER_REAL, &never, NULL);
	ok(insides >= INTERRUPTS, "T30: interrupted by itself %d times, no deadlock", insides);
	is_int(shared - stamp(100, 0), n + insides, "T30: every stamp taken was given once");
	n = n < INTERRUPTED ? n : INTERRUPTED;
	memcpy(all, outside, n * sizeof(*all));
	memcpy(all + n, inside, insides * sizeof(*all));
	n += insides;
	qsort(all, n, sizeof(*all), compare);
	for (__u64 i = 1; i < n; i++)
		twice += all[i] == all[i - 1];
	is_int(twice, 0, "T30: and to one only");
	free(all);
}

static void test_wire(void)
{
	static const __u8 want[8] = { 0x18, 0xf3, 0xa2, 0xb4, 0xc5, 0xd6, 0x00, 0x07 };
	__u8 wire[8];

	clock_to_wire(0x18f3a2b4c5d60007ULL, wire);
	ok(!memcmp(wire, want, 8), "T40: on the wire the most significant byte comes first");
	is_int(clock_from_wire(want), 0x18f3a2b4c5d60007ULL, "T40: and is read so");
	clock_to_wire(~0ULL - 1, wire);
	is_int(clock_from_wire(wire), ~0ULL - 1, "T40: no bit is lost");
}

static void test_run(void)
{
	__u64 run = run_make(0x12345, 0x6789a, 0xbcdef012);

	is_int(run_generation(run), 0x2345, "a run keeps 16 bits of generation");
	is_int(run_packets(run), 0x789a, "16 of packets");
	is_int(run_bytes(run), 0xbcdef012, "and 32 of bytes");
	is_int(run_make(0xffff, 0xffff, 0xffffffff), ~0ULL, "which fill the word");
	run = run_make(7, 65534, 100);
	ok(run_has_room(run, 1, 0) && !run_has_room(run, 2, 0), "65535 packets have room");
	ok(!run_has_room(run, 0xffffffff, 0), "and no count comes round");
	run = run_make(7, 1, 0xfffffff0);
	ok(run_has_room(run, 1, 15) && !run_has_room(run, 1, 16), "4 GB less one have room");
	ok(!run_has_room(run, 1, 0xffffffff), "and no sum comes round");
	is_int(run_make(7, 1, 5) + (2ULL << 32) + 10, run_make(7, 3, 15), "adding is extending");
}

int main(void)
{
	test_rules();
	test_model();
	test_overflow();
	test_steps();
	test_admission();
	test_smear();
	test_physical();
	test_threads(false, "T28", "T28: of all threads' stamps none was given twice");
	test_threads(true, "T29", "T29: nor while others merge");
	test_interrupt();
	test_wire();
	test_run();
	return done();
}
