// SPDX-License-Identifier: GPL-2.0-only
/* Catalogs: tracks by hash, packets in order of position. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL /* of a track, whose length is known, it is much shorter */
#include <xxhash.h>

#include "catalog.h"

#define SLOTS_LEAST 1024

int array_grow(void **at, __u32 *room, __u32 wanted, size_t size)
{
	__u32 more = *room ? *room : 16;
	void *grown;

	if (wanted <= *room)
		return 0;
	while (more < wanted)
		more = more > ~0U / 2 ? ~0U : more * 2;
	grown = realloc(*at, more * size);
	if (!grown)
		return -ENOMEM;
	*at = grown;
	*room = more;
	return 0;
}

void catalog_free(struct catalog *c)
{
	free(c->tracks);
	free(c->devices);
	free(c->entries);
	free(c->times);
	free(c->gaps);
	catalog_slots_free(&c->slots);
	sums_free(&c->sums);
	memset(c, 0, sizeof(*c));
}

static __u64 seed; /* drawn when the process begins, then constant */

__attribute__((constructor)) static void seed_draw(void)
{
	while (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		;
}

static int slots_grow(struct catalog_slots *s)
{
	__u32 n = s->n ? s->n * 2 : SLOTS_LEAST;
	struct catalog_slot *slots = calloc(n, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (__u32 i = 0; i < s->n; i++) {
		__u64 at = s->at[i].at;

		if (!s->at[i].track)
			continue;
		while (slots[at & (n - 1)].track)
			at++;
		slots[at & (n - 1)] = s->at[i];
	}
	free(s->at);
	s->at = slots;
	s->n = n;
	return 0;
}

void catalog_slots_free(struct catalog_slots *s)
{
	free(s->at);
	memset(s, 0, sizeof(*s));
}

/* Where it is, or an empty one where it may be put; there are some. */
static struct catalog_slot *slot_at(const struct catalog_slots *s, struct catalog_hash hash)
{
	struct catalog_slot *slot;

	for (__u64 at = hash.at;; at++) {
		slot = &s->at[at & (s->n - 1)];
		if (!slot->track || (slot->at == hash.at && slot->check == hash.check))
			return slot;
	}
}

static struct catalog_slot *slot_find(struct catalog_slots *s, struct catalog_hash hash)
{
	return s->used >= s->n / 2 && slots_grow(s) ? NULL : slot_at(s, hash);
}

static void slot_fill(struct catalog_slots *s, struct catalog_slot *slot, struct catalog_hash hash,
		      __u32 track)
{
	*slot = (struct catalog_slot){ hash.at, hash.check, track + 1 };
	s->used++;
}

__s64 catalog_find(const struct catalog_slots *s, struct catalog_hash hash)
{
	__u32 track = s->n ? slot_at(s, hash)->track : 0;

	return track ? (__s64)track - 1 : -ENOENT;
}

__s64 catalog_first(struct catalog_slots *s, struct catalog_hash hash, __u32 track)
{
	struct catalog_slot *slot = slot_find(s, hash);

	if (!slot)
		return -ENOMEM;
	if (!slot->track)
		slot_fill(s, slot, hash, track);
	return slot->track - 1;
}

struct catalog_hash catalog_hash(const struct track *track)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(track, sizeof(*track), seed);

	return (struct catalog_hash){ hash.low64, (__u32)hash.high64 };
}

__s64 catalog_track(struct catalog *c, const struct track *track)
{
	return catalog_track_hashed(c, track, catalog_hash(track));
}

void catalog_await_slot(const struct catalog *c, struct catalog_hash hash)
{
	if (c->slots.n)
		__builtin_prefetch(&c->slots.at[hash.at & (c->slots.n - 1)]);
}

void catalog_await_track(const struct catalog *c, struct catalog_hash hash)
{
	__s64 track = catalog_find(&c->slots, hash);

	if (track < 0)
		return;
	__builtin_prefetch(&c->tracks[track]);
	__builtin_prefetch(&c->tracks[track].said);
}

__s64 catalog_track_hashed(struct catalog *c, const struct track *track, struct catalog_hash hash)
{
	struct catalog_slot *slot = slot_find(&c->slots, hash);

	if (!slot)
		return -ENOMEM;
	if (slot->track)
		return slot->track - 1;
	if (array_grow((void **)&c->tracks, &c->tracks_room, c->tracks_n + 1, sizeof(*c->tracks)))
		return -ENOMEM;
	memset(&c->tracks[c->tracks_n], 0, sizeof(*c->tracks));
	c->tracks[c->tracks_n].track = *track;
	c->tracks[c->tracks_n].said = ~0U;
	slot_fill(&c->slots, slot, hash, c->tracks_n);
	return c->tracks_n++;
}

__s64 catalog_device_find(const struct catalog *c, __u32 node, __u32 device, __u16 linktype)
{
	for (__u32 i = c->devices_n; i-- > 0;)
		if (c->devices[i].node == node && c->devices[i].device == device &&
		    c->devices[i].linktype == linktype)
			return i;
	return -ENOENT;
}

int catalog_device_add(struct catalog *c, const struct catalog_device *device)
{
	if (array_grow((void **)&c->devices, &c->devices_room, c->devices_n + 1,
		       sizeof(*c->devices)))
		return -ENOMEM;
	c->devices[c->devices_n++] = *device;
	return 0;
}

const char *catalog_node_name(const struct catalog *c, __u32 node)
{
	for (__u32 i = 0; i < c->devices_n; i++)
		if (c->devices[i].node == node && c->devices[i].node_name[0])
			return c->devices[i].node_name;
	return "";
}

int catalog_gap_add(struct catalog *c, const struct catalog_gap *gap)
{
	if (array_grow((void **)&c->gaps, &c->gaps_room, c->gaps_n + 1, sizeof(*c->gaps)))
		return -ENOMEM;
	c->gaps[c->gaps_n++] = *gap;
	return 0;
}

/* Room for the chunks up to this position; a chunk without a packet begins as its neighbour. */
static int times_note(struct catalog *c, __u32 position, __u64 wall_ns)
{
	__u32 chunk = position / CATALOG_CHUNK;

	if (array_grow((void **)&c->times, &c->times_room, chunk + 1, sizeof(*c->times)))
		return -ENOMEM;
	for (; c->times_n <= chunk; c->times_n++)
		c->times[c->times_n] = (struct catalog_times){ c->last_ns, ~0ULL };
	/* Late packets are few, so this loop ends at once nearly always. */
	for (__u32 i = chunk + 1; i-- > 0 && c->times[i].from_ns > wall_ns;)
		c->times[i].from_ns = wall_ns;
	return 0;
}

static void track_note(struct catalog_track *t, const struct catalog_packet *p)
{
	bool first = !(t->packets[0] + t->packets[1]);

	if (first || p->wall_ns < t->first_ns)
		t->first_ns = p->wall_ns;
	if (first || p->wall_ns > t->last_ns)
		t->last_ns = p->wall_ns;
	if (first || p->stamp < t->first_stamp)
		t->first_stamp = p->stamp;
	if (first || p->stamp > t->last_stamp)
		t->last_stamp = p->stamp;
	t->packets[p->forward]++;
	t->wire[p->forward] += p->wire;
}

int catalog_add(struct catalog *c, const struct catalog_packet *p)
{
	if (array_grow((void **)&c->entries, &c->entries_room, c->entries_n + 1,
		       sizeof(*c->entries)) ||
	    times_note(c, p->position, p->wall_ns))
		return -ENOMEM;
	if (c->entries_n) {
		if (p->wall_ns < c->last_ns && c->last_ns - p->wall_ns > c->late_ns)
			c->late_ns = c->last_ns - p->wall_ns;
		if (p->stamp < c->last_stamp && c->last_stamp - p->stamp > c->late_stamp)
			c->late_stamp = c->last_stamp - p->stamp;
	}
	if (!c->entries_n || p->wall_ns < c->first_ns)
		c->first_ns = p->wall_ns;
	if (p->wall_ns > c->last_ns)
		c->last_ns = p->wall_ns;
	if (!c->entries_n || p->stamp < c->first_stamp)
		c->first_stamp = p->stamp;
	if (p->stamp > c->last_stamp)
		c->last_stamp = p->stamp;
	c->entries[c->entries_n].position = p->position;
	c->entries[c->entries_n].half = HALF(p->track, p->forward);
	c->entries_n++;
	c->wire_bytes += p->wire;
	c->kept_bytes += p->kept;
	track_note(&c->tracks[p->track], p);
	return 0;
}
