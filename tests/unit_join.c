// SPDX-License-Identifier: GPL-2.0-only
/* Joining the halves of bursts and putting events in order. */
#include <stdlib.h>
#include <string.h>

#include "bpf/clock.h"
#include "tap.h"
#include "user/join.h"

#define MS 1000000ULL
#define GIVEN 4096

static struct joined given[GIVEN];
static unsigned given_n;

static int give(const struct joined *joined, void *ctx)
{
	(void)ctx;
	if (given_n < GIVEN)
		given[given_n] = *joined;
	given_n++;
	return 0;
}

static struct event whole(__u64 stamp, __u32 clock)
{
	return (struct event){
		.stamp = stamp, .type = EVENT_connect, .clock = clock, .node = clock, .packets = 1
	};
}

static struct event opening(__u64 stamp, __u32 clock, __u16 generation, __u64 ended)
{
	struct event e = whole(stamp, clock);

	e.type = EVENT_send;
	e.generation = generation;
	e.bytes = 10;
	e.ended = ended;
	return e;
}

static struct join *begin(void)
{
	given_n = 0;
	return join_new(give, NULL);
}

static void test_halves(void)
{
	struct join *join = begin();
	struct event a = opening(100, 0, 7, 0), b = opening(200, 0, 8, run_make(7, 5, 999)),
		     end = { .type = EVENT_none, .ended = run_make(8, 2, 30) };

	join_add(join, &a, 0);
	join_give(join, 200 * MS);
	is_int(given_n, 0, "an open burst waits longer than the window");
	join_add(join, &b, 200 * MS);
	join_give(join, 200 * MS);
	is_int(given_n, 1, "it is given when its end has come");
	is_int(given[0].packets, 5, "with all its packets");
	is_int(given[0].bytes, 999, "and bytes");
	join_add(join, &end, 201 * MS);
	join_drain(join);
	is_int(given_n, 2, "a record that only ends is no event");
	is_int(given[1].packets, 2, "but ends");
	join_free(join);
}

static void test_end_first(void)
{
	struct join *join = begin();
	struct event next = opening(200, 3, 8, run_make(7, 5, 999)), a = opening(100, 3, 7, 0);

	join_add(join, &next, 0);
	join_add(join, &a, MS);
	join_give(join, 130 * MS);
	is_int(given_n, 1, "an end that came before its beginning finds it");
	is_int(given[0].packets, 5, "and completes it");
	join_drain(join);
	join_free(join);

	join = begin();
	next = opening(200, 3, 8, run_make(7, 5, 999));
	join_add(join, &next, 0);
	join_drain(join);
	is_int(given_n, 1, "the end of a burst nobody saw begin is nothing");
	join_free(join);
}

static void test_overdue(void)
{
	struct join *join = begin();
	struct event a = opening(100, 0, 7, 0);

	join_add(join, &a, 0);
	join_give(join, 260 * MS);
	is_int(given_n, 1, "a burst whose end was lost is given in the end");
	is_int(given[0].packets, 1, "as far as it is known");
	join_free(join);
}

/* Any order of arrival within the window comes out sorted. */
static void test_order(void)
{
	struct join *join = begin();
	bool sorted = true;

	srand(1);
	for (unsigned i = 0; i < 3000; i++) {
		struct event e = whole(1000 + i * 10 + rand() % 500, i % 5);

		join_add(join, &e, i * MS / 100);
	}
	for (unsigned t = 0; t < 200; t++)
		join_give(join, t * MS);
	is_int(given_n, 3000, "everything is given");
	for (unsigned i = 1; i < given_n; i++)
		sorted &= given[i - 1].event.stamp <= given[i].event.stamp;
	ok(sorted, "in the order of stamps");
	join_free(join);
}

/* A clock hours ahead neither waits for ever nor fills the memory. */
static void test_ahead(void)
{
	struct join *join = begin();
	unsigned far = 0, disorder = 0;

	for (unsigned t = 0; t < 2000; t++) {
		struct event near = whole(1000 + t, 0), ahead = whole(1000000000ULL + t, 1);

		join_add(join, &near, t * MS);
		join_add(join, &ahead, t * MS);
		join_give(join, t * MS);
	}
	ok(given_n > 3400 && given_n < 4000, "both clocks' events are given, within the window");
	for (unsigned i = 0, last = 0; i < given_n; i++) {
		far += given[i].event.clock;
		if (given[i].event.clock)
			continue;
		disorder += given[i].event.stamp < last;
		last = given[i].event.stamp;
	}
	ok(far > 1700, "those of the one ahead too");
	is_int(disorder, 0, "and the other's keep their order");
	join_drain(join);
	is_int(given_n, 4000, "nothing is lost or given twice");
	join_free(join);
}

int main(void)
{
	test_halves();
	test_end_first();
	test_overdue();
	test_order();
	test_ahead();
	return done();
}
