// SPDX-License-Identifier: GPL-2.0-only
/* Connections that have one name where they were sent and another where they were received: NAT
 * changes addresses and ports, but neither stamps, nor sequence numbers, nor payload. Where those
 * coincide, the two names get a vote, and a name received takes the name sent with most votes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "nat.h"
#include "pairs_ref.h"
#include "sorter.h"

/* More senders or receivers at one key say nothing about who is who. */
#define CROWD 16

struct vote {
	uint64_t received, sent; /* flows */
	uint64_t key;
	uint8_t shared; /* one of the two addresses is the same */
	uint8_t join;
	uint8_t _pad[6];
};

struct rename {
	uint64_t received, sent;
};

struct nat {
	struct sorter *refs;  /* by join, key, role, flow */
	struct sorter *votes; /* by received, sent */
	struct rename *renames;
	size_t n, room;
};

static int by_key(const void *left, const void *right)
{
	const struct ref *a = left, *b = right;

	if (a->join != b->join)
		return a->join < b->join ? -1 : 1;
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->role != b->role)
		return a->role < b->role ? -1 : 1;
	if (a->flow != b->flow)
		return a->flow < b->flow ? -1 : 1;
	return pairs_place_compare(&a->place, &b->place);
}

static int by_flows(const void *left, const void *right)
{
	const struct vote *a = left, *b = right;

	if (a->received != b->received)
		return a->received < b->received ? -1 : 1;
	if (a->sent != b->sent)
		return a->sent < b->sent ? -1 : 1;
	if (a->join != b->join)
		return a->join < b->join ? -1 : 1;
	return a->key < b->key ? -1 : a->key > b->key;
}

struct nat *nat_new(uint64_t budget)
{
	struct nat *nat = calloc(1, sizeof(*nat));

	if (!nat)
		return NULL;
	nat->refs = sorter_new(sizeof(struct ref), by_key, budget / 2);
	nat->votes = sorter_new(sizeof(struct vote), by_flows, budget / 2);
	if (!nat->refs || !nat->votes) {
		nat_free(nat);
		return NULL;
	}
	return nat;
}

void nat_free(struct nat *nat)
{
	if (!nat)
		return;
	sorter_free(nat->refs);
	sorter_free(nat->votes);
	free(nat->renames);
	free(nat);
}

int nat_add(struct nat *nat, const struct ref *ref)
{
	return sorter_add(nat->refs, ref);
}

struct crowd {
	struct ref owns[CROWD], effects[CROWD];
	unsigned owns_n, effects_n;
};

static void crowd_add(struct ref *of, unsigned *n, const struct ref *ref)
{
	if (*n && of[*n - 1].flow == ref->flow)
		return;
	if (*n < CROWD)
		of[*n] = *ref;
	if (*n <= CROWD)
		(*n)++;
}

static int crowd_vote(struct nat *nat, const struct crowd *crowd)
{
	int err = 0;

	if (crowd->owns_n > CROWD || crowd->effects_n > CROWD)
		return 0;
	for (unsigned i = 0; i < crowd->effects_n; i++) {
		for (unsigned k = 0; k < crowd->owns_n && !err; k++) {
			const struct ref *a = &crowd->owns[k], *b = &crowd->effects[i];
			struct vote vote = {
				.received = b->flow,
				.sent = a->flow,
				.key = a->key,
				.join = a->join,
				.shared = a->src == b->src || a->dst == b->dst,
			};

			if (a->place.node != b->place.node)
				err = sorter_add(nat->votes, &vote);
		}
	}
	return err;
}

/* A key is where a message begins, or what it says. */
static int votes_collect(struct nat *nat)
{
	struct sorter_cursor cursor;
	struct crowd *crowd = calloc(1, sizeof(*crowd));
	uint64_t key = 0;
	uint8_t join = 0;
	const struct ref *ref;
	int err = crowd ? sorter_cursor_open(&cursor, nat->refs, 0, 512) : -ENOMEM;

	if (err) {
		free(crowd);
		return err;
	}
	while (!err && (ref = sorter_cursor_next(&cursor, &err))) {
		if (ref->join != join || ref->key != key) {
			err = crowd_vote(nat, crowd);
			crowd->owns_n = crowd->effects_n = 0;
			join = ref->join;
			key = ref->key;
		}
		if (ref->join == JOIN_CLOSE || ref->role == ROLE_AGAIN || ref->carried)
			continue; /* carried: its stamp votes */
		if (ref->role == ROLE_OWN)
			crowd_add(crowd->owns, &crowd->owns_n, ref);
		else
			crowd_add(crowd->effects, &crowd->effects_n, ref);
	}
	if (!err)
		err = crowd_vote(nat, crowd);
	sorter_cursor_close(&cursor);
	free(crowd);
	return err;
}

static int rename_add(struct nat *nat, uint64_t received, uint64_t sent)
{
	if (nat->n == nat->room) {
		size_t room = nat->room * 2 + 64;
		struct rename *renames = reallocarray(nat->renames, room, sizeof(*renames));

		if (!renames)
			return -ENOMEM;
		nat->renames = renames;
		nat->room = room;
	}
	nat->renames[nat->n++] = (struct rename){ received, sent };
	return 0;
}

/* The election of one received name. */
struct poll {
	uint64_t received, sent;	/* being counted */
	uint64_t best, best_of, second; /* scores, and the name that has the best */
	uint64_t score;
	bool any;
};

static void poll_close(struct poll *poll)
{
	if (poll->score > poll->best) {
		poll->second = poll->best;
		poll->best = poll->score;
		poll->best_of = poll->sent;
	} else if (poll->score > poll->second) {
		poll->second = poll->score;
	}
	poll->score = 0;
}

/* One coincidence between strangers is chance, one between connections that share an end is not:
 * it counts double. A draw elects nobody.
 */
static int poll_end(struct nat *nat, struct poll *poll)
{
	int err = 0;

	poll_close(poll);
	if (poll->any && poll->best >= 2 && poll->best > poll->second)
		err = rename_add(nat, poll->received, poll->best_of);
	*poll = (struct poll){};
	return err;
}

static int votes_count(struct nat *nat)
{
	struct sorter_cursor cursor;
	struct vote before = {};
	struct poll poll = {};
	const struct vote *vote;
	int err = sorter_cursor_open(&cursor, nat->votes, 0, 512);

	while (!err && (vote = sorter_cursor_next(&cursor, &err))) {
		if (poll.any && vote->received != poll.received)
			err = poll_end(nat, &poll);
		else if (poll.any && vote->sent != poll.sent)
			poll_close(&poll);
		/* The same key again is the same coincidence. */
		if (!poll.any || by_flows(&before, vote) != 0)
			poll.score += vote->shared ? 2 : 1;
		poll.any = true;
		poll.received = vote->received;
		poll.sent = vote->sent;
		before = *vote;
	}
	if (!err)
		err = poll_end(nat, &poll);
	sorter_cursor_close(&cursor);
	return err;
}

static int by_received(const void *left, const void *right)
{
	const struct rename *a = left, *b = right;

	return a->received < b->received ? -1 : a->received > b->received;
}

int nat_finish(struct nat *nat, struct sorter **renamed, uint64_t budget)
{
	struct sorter_cursor cursor;
	const struct ref *at;
	int err = sorter_sort(nat->refs);

	*renamed = NULL;
	if (!err)
		err = votes_collect(nat);
	if (!err)
		err = sorter_sort(nat->votes);
	if (!err)
		err = votes_count(nat); /* already by received */
	if (err || !nat->n)
		return err;
	*renamed = sorter_new(sizeof(struct ref), ref_compare, budget);
	err = *renamed ? sorter_cursor_open(&cursor, nat->refs, 0, 512) : -ENOMEM;
	if (err)
		return err;
	while (!err && (at = sorter_cursor_next(&cursor, &err))) {
		struct rename key = { .received = at->flow };
		const struct rename *found =
			bsearch(&key, nat->renames, nat->n, sizeof(key), by_received);
		struct ref ref = *at;

		if (found)
			ref.flow = found->sent;
		err = sorter_add(*renamed, &ref);
	}
	sorter_cursor_close(&cursor);
	return err ? err : sorter_sort(*renamed);
}
