// SPDX-License-Identifier: GPL-2.0-only
/* Which message is which: the sending and the receiving of each, found in the logs of both ends. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "nat.h"
#include "pairs.h"
#include "pairs_ref.h"
#include "sorter.h"

const char *const pairs_labels[PAIRS_LABELS_NR] = { "unknown", "in-band", "matched" };

struct pairs {
	struct sorter *refs, *edges;
	struct nat *nat;
	uint64_t budget;
	unsigned char key[crypto_shorthash_KEYBYTES];
};

int pairs_place_compare(const struct pairs_place *a, const struct pairs_place *b)
{
	if (a->node != b->node)
		return a->node < b->node ? -1 : 1;
	if (a->hlc != b->hlc)
		return a->hlc < b->hlc ? -1 : 1;
	return a->ord < b->ord ? -1 : a->ord > b->ord;
}

static int edge_compare(const void *left, const void *right)
{
	const struct pairs_edge *a = left, *b = right;
	int order = pairs_place_compare(&a->effect, &b->effect);

	if (order || a->last != b->last)
		return order ? order : a->last < b->last ? -1 : 1;
	return pairs_place_compare(&a->cause, &b->cause);
}

int ref_compare(const void *left, const void *right)
{
	const struct ref *a = left, *b = right;

	if (a->flow != b->flow)
		return a->flow < b->flow ? -1 : 1;
	if (a->join != b->join)
		return a->join < b->join ? -1 : 1;
	if (a->key != b->key)
		return a->key < b->key ? -1 : 1;
	if (a->role != b->role)
		return a->role < b->role ? -1 : 1;
	return pairs_place_compare(&a->place, &b->place);
}

struct pairs *pairs_new(uint64_t budget)
{
	struct pairs *pairs = calloc(1, sizeof(*pairs));

	if (!pairs)
		return NULL;
	pairs->budget = budget;
	pairs->refs = sorter_new(sizeof(struct ref), ref_compare, budget / 2);
	pairs->edges = sorter_new(sizeof(struct pairs_edge), edge_compare, budget / 4);
	pairs->nat = nat_new(budget / 4);
	if (!pairs->refs || !pairs->edges || !pairs->nat ||
	    getrandom(pairs->key, sizeof(pairs->key), 0) != sizeof(pairs->key)) {
		pairs_free(pairs);
		return NULL;
	}
	return pairs;
}

void pairs_free(struct pairs *pairs)
{
	if (!pairs)
		return;
	sorter_free(pairs->refs);
	sorter_free(pairs->edges);
	nat_free(pairs->nat);
	free(pairs);
}

struct sorter *pairs_edges(struct pairs *pairs)
{
	return pairs->edges;
}

/* Keyed, so that nobody can make up addresses that collide. */
static uint64_t text_hash(const struct pairs *pairs, const char *str)
{
	unsigned char hash[crypto_shorthash_BYTES];
	uint64_t value;

	crypto_shorthash(hash, (const unsigned char *)str, strlen(str), pairs->key);
	memcpy(&value, hash, sizeof(value));
	return value;
}

struct pairs_flow pairs_flow(const struct pairs *pairs, const char *proto, const char *src,
			     const char *dst)
{
	uint64_t parts[3] = { text_hash(pairs, proto), text_hash(pairs, src),
			      text_hash(pairs, dst) };
	unsigned char hash[crypto_shorthash_BYTES];
	struct pairs_flow flow = {
		.src = (uint32_t)parts[1],
		.dst = (uint32_t)parts[2],
		.tcp = strcmp(proto, "tcp") == 0,
	};

	crypto_shorthash(hash, (const unsigned char *)parts, sizeof(parts), pairs->key);
	memcpy(&flow.flow, hash, sizeof(flow.flow));
	return flow;
}

static int effect_add(struct pairs *pairs, const struct causal_event *event, struct ref *ref)
{
	int err;

	if (event->flags & CAUSAL_HAS_CAUSE) {
		ref->join = JOIN_STAMP;
		ref->role = ROLE_FIRST;
		ref->key = event->cause;
		err = sorter_add(pairs->refs, ref);
		if (!err && event->flags & CAUSAL_HAS_HASH) {
			ref->join = JOIN_HASH;
			ref->key = event->seq;
			ref->end = event->cause;
			ref->carried = true;
			err = sorter_add(pairs->refs, ref);
			ref->join = JOIN_STAMP;
			ref->carried = false;
		}
		ref->role = ROLE_LAST;
		ref->key = event->cause_last;
		return err || event->cause_last == event->cause ? err
								: sorter_add(pairs->refs, ref);
	}
	/* It may be anybody's invention; but if a send has it, that was the one. */
	if (event->flags & CAUSAL_REJECTED) {
		ref->join = JOIN_STAMP;
		ref->role = ROLE_FIRST;
		ref->key = event->cause;
		err = sorter_add(pairs->refs, ref);
		if (err)
			return err;
	}
	if (!(event->flags & (CAUSAL_HAS_SEQ | CAUSAL_HAS_HASH)))
		return 0;
	ref->key = event->seq;
	ref->role = ROLE_FIRST;
	if (event->flags & CAUSAL_HAS_HASH) {
		ref->join = JOIN_HASH;
		return sorter_add(pairs->refs, ref);
	}
	ref->join = JOIN_SEQUENCE;
	if (event->type == CAUSAL_ACCEPT) {
		/* It has the sequence number of the handshake's end, one further. */
		ref->join = JOIN_OPEN;
		ref->key = (uint32_t)(event->seq - 1);
	}
	err = sorter_add(pairs->refs, ref);
	if (err || event->type == CAUSAL_ACCEPT || event->bytes < 2)
		return err;
	ref->role = ROLE_LAST;
	ref->key = (uint32_t)(event->seq + event->bytes - 1);
	return sorter_add(pairs->refs, ref);
}

/* Where the bytes of a message are, for receivers that have only those to ask by. */
static int cause_add_bytes(struct pairs *pairs, const struct causal_event *event, struct ref *ref)
{
	uint64_t len = event->bytes;
	int err;

	ref->key = event->seq;
	if (event->flags & CAUSAL_HAS_HASH) {
		ref->join = JOIN_HASH;
		return sorter_add(pairs->refs, ref);
	}
	ref->join = event->type == CAUSAL_CONNECT ? JOIN_OPEN : JOIN_SEQUENCE;
	if (event->type == CAUSAL_CONNECT)
		len = 1;
	ref->end = ref->key + len;
	err = sorter_add(pairs->refs, ref);
	/* Past 2^32 it goes on at 0. */
	if (!err && ref->end > 1ULL << 32) {
		ref->key = 0;
		ref->end -= 1ULL << 32;
		err = sorter_add(pairs->refs, ref);
	}
	return err;
}

static int cause_add(struct pairs *pairs, const struct causal_event *event, struct ref *ref)
{
	int err;

	ref->role = event->type == CAUSAL_RETRANSMIT ? ROLE_AGAIN : ROLE_OWN;
	ref->join = JOIN_STAMP;
	ref->key = event->hlc;
	ref->end = event->hlc_last;
	err = sorter_add(pairs->refs, ref);
	if (err || event->type == CAUSAL_RETRANSMIT ||
	    !(event->flags & (CAUSAL_HAS_SEQ | CAUSAL_HAS_HASH)))
		return err;
	ref->role = ROLE_OWN;
	if (event->type != CAUSAL_CLOSE)
		return cause_add_bytes(pairs, event, ref);
	ref->join = JOIN_CLOSE;
	ref->key = event->seq;
	return sorter_add(pairs->refs, ref);
}

int pairs_add(struct pairs *pairs, const struct causal_event *event, uint64_t ord,
	      const struct pairs_flow *flow)
{
	struct ref ref = {
		.flow = flow->flow,
		.src = flow->src,
		.dst = flow->dst,
		.place = { .hlc = event->hlc, .ord = ord, .node = event->node },
		.stamp_end = event->hlc_last,
		.wall_ns = event->wall_ns,
		.bytes = event->bytes,
		.closes = event->type == CAUSAL_CLOSE,
	};

	switch (event->type) {
	case CAUSAL_RECV:
	case CAUSAL_ACCEPT:
		return effect_add(pairs, event, &ref);
	case CAUSAL_CLOSE:
		if (event->flags & CAUSAL_HAS_CAUSE)
			return effect_add(pairs, event, &ref);
		return cause_add(pairs, event, &ref);
	case CAUSAL_SEND:
	case CAUSAL_CONNECT:
		/* A log may give any message a cause; then it is an effect. */
		if (event->flags & CAUSAL_HAS_CAUSE)
			return effect_add(pairs, event, &ref);
		return cause_add(pairs, event, &ref);
	case CAUSAL_RETRANSMIT:
		return cause_add(pairs, event, &ref);
	default:
		return 0;
	}
}

/* ---- one connection's refs, in order ---------------------------------------------- */

#define OVERLAPS 32 /* sends whose bytes overlap (sequence numbers that came round) */
#define ENDS 8	    /* nodes at one end of one connection */

struct ends {
	uint32_t node[ENDS];
	unsigned n;
};

struct joining {
	struct pairs *pairs;
	struct sorter *refs;
	struct ref *stack; /* of bursts that are open at the stamp looked for */
	size_t depth, deepest;
	struct ref active[OVERLAPS]; /* sends that have the byte looked for */
	unsigned active_n;
	struct ends senders, receivers;
	uint64_t flow;
	uint64_t group; /* where the connection's refs begin */
	uint8_t join;
	bool again; /* connections under the names that nat.c found */
};

static bool ends_have(const struct ends *ends, uint32_t node)
{
	for (unsigned i = 0; i < ends->n; i++)
		if (ends->node[i] == node)
			return true;
	return false;
}

static void ends_add(struct ends *ends, uint32_t node)
{
	if (ends->n < ENDS && !ends_have(ends, node))
		ends->node[ends->n++] = node;
}

static int edge_add(struct joining *j, const struct ref *effect, const struct ref *cause,
		    enum pairs_label label)
{
	struct pairs_edge edge = {
		.effect = effect->place,
		.cause = cause->place,
		.cause_end = cause->stamp_end,
		.cause_wall_ns = cause->wall_ns,
		.cause_bytes = cause->bytes,
		.label = (uint8_t)label,
		.last = effect->role == ROLE_LAST,
	};

	return sorter_add(j->pairs->edges, &edge);
}

static bool burst_over(const struct ref *burst, uint64_t stamp)
{
	return burst->end < stamp && burst->key != stamp;
}

/* Stamps only rise. A burst that ended below the stamp looked for can never be found again: drop
 * it. So each is pushed and dropped once at most, whatever the log says, and the top of the stack
 * is the nearest burst that reaches far enough.
 */
static int join_stamp(struct joining *j, const struct ref *ref)
{
	while (j->depth && burst_over(&j->stack[j->depth - 1], ref->key))
		j->depth--;
	if (ref->role == ROLE_FIRST || ref->role == ROLE_LAST)
		return j->depth ? edge_add(j, ref, &j->stack[j->depth - 1], PAIRS_IN_BAND) : 0;
	if (j->depth == j->deepest) {
		size_t deepest = j->deepest * 2 + 16;
		struct ref *stack = reallocarray(j->stack, deepest, sizeof(*stack));

		if (!stack)
			return -ENOMEM;
		j->stack = stack;
		j->deepest = deepest;
	}
	j->stack[j->depth++] = *ref;
	return 0;
}

/* The sends that hold this byte: of the node the connection comes from, where others forward it. */
static unsigned candidates(const struct joining *j, const struct ref *effect,
			   const struct ref **found, bool *split)
{
	unsigned n = 0;

	*split = false;
	for (int origin = 1; origin >= 0 && !n; origin--) {
		for (unsigned i = 0; i < j->active_n; i++) {
			const struct ref *own = &j->active[i];

			if (own->place.node == effect->place.node || own->end <= effect->key ||
			    (origin && ends_have(&j->receivers, own->place.node)))
				continue;
			found[n++] = own;
			*split |= found[0]->place.node != own->place.node;
		}
	}
	return n;
}

/* Bytes name their message, unless sequence numbers came round or ports were used again: then there
 * are several, and only their order tells them apart. If not all of them are there, nobody knows
 * which one is missing, and nothing is guessed.
 */
static int join_bytes(struct joining *j, uint64_t *at, const struct ref *ref)
{
	const struct ref *found[OVERLAPS];
	struct ref effects[OVERLAPS + 1];
	unsigned n, k = 0, same = 0;
	bool split;
	int err = 0;

	if (ref->role == ROLE_OWN) {
		for (unsigned i = 0; i < j->active_n; i++)
			if (j->active[i].end > ref->key)
				j->active[k++] = j->active[i];
		j->active_n = k;
		if (j->active_n < OVERLAPS)
			j->active[j->active_n++] = *ref;
		return 0;
	}
	/* Every effect that asks by this byte, in this role, at this node. */
	effects[same++] = *ref;
	while (same <= OVERLAPS && sorter_read(j->refs, *at, &effects[same], 1) == 1 &&
	       effects[same].flow == ref->flow && effects[same].join == ref->join &&
	       effects[same].key == ref->key && effects[same].role == ref->role &&
	       effects[same].place.node == ref->place.node) {
		same++;
		(*at)++;
	}
	n = candidates(j, ref, found, &split);
	if (!n || split || (n > 1 && n != same))
		return 0;
	/* Found in order of sequence; what came round is in order of time. */
	for (unsigned i = 1; i < n; i++)
		for (unsigned m = i; m && found[m]->place.hlc < found[m - 1]->place.hlc; m--) {
			const struct ref *later = found[m - 1];

			found[m - 1] = found[m];
			found[m] = later;
		}
	for (unsigned i = 0; i < same && !err; i++)
		err = edge_add(j, &effects[i], found[n == 1 ? 0 : i], PAIRS_MATCHED);
	return err;
}

/* Datagrams of one connection with the same payload: the sends [begin, effects) and the receives
 * [effects, end) among the refs, each in order of its node.
 */
struct alike {
	uint64_t begin, effects, end;
	uint64_t stripped;  /* receives without a stamp */
	uint64_t unclaimed; /* sends whose stamp nobody carried */
	uint8_t *claimed;   /* by send */
	bool one_sender, one_receiver;
	bool twice; /* a stamp came twice: so datagrams were doubled, and who knows which else */
};

/* Which are alike, and what their carried stamps say. */
static int alike_find(struct joining *j, struct alike *alike, const struct ref *first)
{
	struct ref ref = *first;
	uint32_t receiver = 0;
	uint64_t at;
	int64_t got;

	for (at = alike->begin;; at++) {
		got = at == alike->begin ? 1 : sorter_read(j->refs, at, &ref, 1);
		if (got != 1 || ref.flow != first->flow || ref.join != first->join ||
		    ref.key != first->key)
			break;
		if (ref.role == ROLE_OWN) {
			alike->one_sender &= ref.place.node == first->place.node;
			alike->effects = at + 1;
			continue;
		}
		if (at == alike->effects)
			receiver = ref.place.node;
		alike->one_receiver &=
			ref.place.node == receiver && ref.place.node != first->place.node;
		alike->stripped += !ref.carried;
	}
	alike->end = at;
	alike->unclaimed = alike->effects - alike->begin;
	if (alike->effects < alike->end)
		ends_add(&j->receivers, receiver);
	return got < 0 ? (int)got : 0;
}

/* The send that a carried stamp names is not another's. They are in order of their stamps. */
static int alike_claim(struct joining *j, struct alike *alike, uint64_t stamp)
{
	uint64_t low = alike->begin, high = alike->effects;
	struct ref send;

	while (low < high) {
		uint64_t middle = low + (high - low) / 2;
		int64_t got = sorter_read(j->refs, middle, &send, 1);

		if (got != 1)
			return got < 0 ? (int)got : -EIO;
		if (stamp > send.stamp_end && stamp > send.place.hlc) {
			low = middle + 1;
		} else if (stamp < send.place.hlc) {
			high = middle;
		} else {
			alike->twice |= alike->claimed[middle - alike->begin];
			alike->unclaimed -= !alike->claimed[middle - alike->begin];
			alike->claimed[middle - alike->begin] = 1;
			return 0;
		}
	}
	return 0; /* a send of another payload, whose burst this one is in */
}

static int alike_claims(struct joining *j, struct alike *alike)
{
	struct ref effect;
	int err = 0;

	alike->claimed = calloc(alike->effects - alike->begin, 1);
	if (!alike->claimed)
		return -ENOMEM;
	for (uint64_t at = alike->effects; at < alike->end && !err; at++) {
		int64_t got = sorter_read(j->refs, at, &effect, 1);

		err = got < 0 ? (int)got : effect.carried ? alike_claim(j, alike, effect.end) : 0;
	}
	return err;
}

/* Every receive without a stamp has one of the sends that are left, in order. */
static int alike_edges(struct joining *j, const struct alike *alike)
{
	bool only = alike->effects - alike->begin == 1;
	uint64_t of = alike->begin;
	struct ref effect, cause;
	int err = 0;

	for (uint64_t at = alike->effects; at < alike->end && !err; at++) {
		int64_t got = sorter_read(j->refs, at, &effect, 1);

		if (got == 1 && effect.carried)
			continue;
		while (!only && alike->claimed[of - alike->begin])
			of++;
		if (got == 1)
			got = sorter_read(j->refs, of, &cause, 1);
		err = got == 1 ? edge_add(j, &effect, &cause, PAIRS_MATCHED) : (int)got;
		of += !only;
	}
	return err;
}

/* The same payload may be sent many times. Whose stamp came is known. The others are matched if as
 * many are left as were sent: the n-th received is the n-th sent. If one was lost, or doubled, nobody
 * knows which, and nothing is guessed. Of a payload that was sent once, every receipt is its own.
 */
static int join_hash(struct joining *j, uint64_t *at, const struct ref *first)
{
	struct alike alike = {
		.begin = *at - 1,
		.effects = *at - 1,
		.one_sender = true,
		.one_receiver = true,
	};
	int err = alike_find(j, &alike, first);
	uint64_t sends = alike.effects - alike.begin;

	*at = alike.end;
	if (err || !sends || !alike.stripped || !alike.one_sender || !alike.one_receiver)
		return err;
	err = alike_claims(j, &alike);
	if (!err && (sends == 1 || (!alike.twice && alike.unclaimed == alike.stripped)))
		err = alike_edges(j, &alike);
	free(alike.claimed);
	return err;
}

/* A close does not say which end wrote it, but by now it is known who sends on this connection. */
static int join_close(struct joining *j, uint64_t *at, const struct ref *ref)
{
	struct ref other, cause = *ref, effect = *ref;
	unsigned causes = 0, effects = 0;

	for (other = *ref;; (*at)++) {
		bool sends = ends_have(&j->senders, other.place.node);
		bool receives = ends_have(&j->receivers, other.place.node);

		if (sends && !receives) {
			cause = other;
			causes++;
		} else if (receives && !sends) {
			effect = other;
			effects++;
		}
		if (sorter_read(j->refs, *at, &other, 1) != 1 || other.flow != ref->flow ||
		    other.join != ref->join || other.key != ref->key)
			break;
	}
	if (causes != 1 || effects != 1)
		return 0;
	effect.role = ROLE_FIRST;
	return edge_add(j, &effect, &cause, PAIRS_MATCHED);
}

/* The connection's refs are over. One of which only one end was seen may have another name there.
 */
static int group_end(struct joining *j, uint64_t end)
{
	bool orphan = !j->senders.n != !j->receivers.n;
	struct ref ref;
	int err = 0;

	for (uint64_t at = j->group; orphan && !j->again && at < end && !err; at++) {
		int64_t got = sorter_read(j->refs, at, &ref, 1);

		err = got == 1 ? nat_add(j->pairs->nat, &ref) : (int)got;
	}
	j->senders.n = j->receivers.n = 0;
	j->group = end;
	return err;
}

static int join_one(struct joining *j, const struct ref *ref, uint64_t *at)
{
	if (!ref->closes && ref->role <= ROLE_OWN)
		ends_add(&j->senders, ref->place.node);
	else if (!ref->closes)
		ends_add(&j->receivers, ref->place.node);
	switch (ref->join) {
	case JOIN_STAMP:
		return join_stamp(j, ref);
	case JOIN_OPEN:
	case JOIN_SEQUENCE:
		return join_bytes(j, at, ref);
	case JOIN_HASH:
		return join_hash(j, at, ref);
	default:
		return join_close(j, at, ref);
	}
}

static int refs_join(struct pairs *pairs, struct sorter *refs, bool again)
{
	struct joining j = { .pairs = pairs, .refs = refs, .again = again };
	struct sorter_cursor cursor = {};
	const struct ref *ref;
	int err = sorter_cursor_open(&cursor, refs, 0, 512);

	while (!err && (ref = sorter_cursor_next(&cursor, &err))) {
		uint64_t at = cursor.at, after = at;
		struct ref copy = *ref;

		if (at == 1 || copy.flow != j.flow) {
			err = group_end(&j, at - 1);
			if (err)
				break;
		}
		if (at == 1 || copy.flow != j.flow || copy.join != j.join)
			j.depth = j.active_n = 0;
		j.flow = copy.flow;
		j.join = copy.join;
		err = join_one(&j, &copy, &after);
		for (; at < after && !err; at++) /* joined together with this one */
			sorter_cursor_next(&cursor, &err);
	}
	if (!err)
		err = group_end(&j, sorter_count(refs));
	sorter_cursor_close(&cursor);
	free(j.stack);
	return err;
}

int pairs_finish(struct pairs *pairs)
{
	struct sorter *renamed = NULL;
	int err = sorter_sort(pairs->refs);

	if (!err)
		err = refs_join(pairs, pairs->refs, false);
	sorter_free(pairs->refs);
	pairs->refs = NULL;
	if (!err)
		err = nat_finish(pairs->nat, &renamed, pairs->budget / 2);
	if (!err && renamed)
		err = refs_join(pairs, renamed, true);
	sorter_free(renamed);
	if (!err)
		err = sorter_sort(pairs->edges);
	return err;
}
