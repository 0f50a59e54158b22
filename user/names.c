// SPDX-License-Identifier: GPL-2.0-only
/* Small numbers for byte strings that come again and again: the same string, the same number. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "names.h"

#define NAMES_MOST (1U << 30) /* twice as many slots must fit 32 bits */

struct name_slot {
	uint32_t hash;
	uint32_t id_plus_one; /* 0: free */
};

/* FNV-1a, folded. */
static uint32_t name_hash(const char *bytes, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	while (len--)
		hash = (hash ^ (unsigned char)*bytes++) * 0x100000001b3ULL;
	return (uint32_t)(hash ^ hash >> 32);
}

static size_t name_len(const struct names *names, uint32_t id)
{
	size_t end = id + 1 < names->n ? names->starts[id + 1] : names->bytes.len;

	return end - names->starts[id] - 1;
}

static struct name_slot *slot_find(const struct names *names, uint32_t hash, const char *bytes,
				   size_t len)
{
	uint32_t mask = names->slots_n - 1;

	for (uint32_t i = hash & mask;; i = (i + 1) & mask) {
		struct name_slot *slot = &names->slots[i];
		uint32_t id = slot->id_plus_one - 1;

		if (!slot->id_plus_one)
			return slot;
		if (slot->hash == hash && name_len(names, id) == len &&
		    memcmp(names_get(names, id), bytes, len) == 0)
			return slot;
	}
}

static int slots_grow(struct names *names)
{
	uint32_t n = names->slots_n ? names->slots_n * 2 : 64, mask = n - 1;
	struct name_slot *slots = calloc(n, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (uint32_t i = 0; i < names->slots_n; i++) {
		uint32_t at = names->slots[i].hash & mask;

		if (!names->slots[i].id_plus_one)
			continue;
		while (slots[at].id_plus_one)
			at = (at + 1) & mask;
		slots[at] = names->slots[i];
	}
	free(names->slots);
	names->slots = slots;
	names->slots_n = n;
	return 0;
}

static int starts_grow(struct names *names)
{
	uint32_t size = names->size ? names->size * 2 : 32;
	size_t *starts = reallocarray(names->starts, size, sizeof(*starts));

	if (!starts)
		return -ENOMEM;
	names->starts = starts;
	names->size = size;
	return 0;
}

int64_t names_id(struct names *names, const char *bytes, size_t len)
{
	uint32_t hash = name_hash(bytes, len);
	struct name_slot *slot;
	size_t start;

	if (names->slots_n) {
		slot = slot_find(names, hash, bytes, len);
		if (slot->id_plus_one)
			return slot->id_plus_one - 1;
	}
	if (names->n >= NAMES_MOST)
		return -E2BIG;
	if (names->n >= names->slots_n / 2 && slots_grow(names))
		return -ENOMEM;
	if (names->n == names->size && starts_grow(names))
		return -ENOMEM;
	slot = slot_find(names, hash, bytes, len);
	start = names->bytes.len;
	text_add(&names->bytes, bytes, len);
	text_add_char(&names->bytes, '\0');
	if (names->bytes.err)
		return names->bytes.err;
	names->starts[names->n++] = start;
	*slot = (struct name_slot){ .hash = hash, .id_plus_one = names->n };
	return names->n - 1;
}

const char *names_get(const struct names *names, uint32_t id)
{
	return names->bytes.at + names->starts[id];
}

void names_free(struct names *names)
{
	text_free(&names->bytes);
	free(names->starts);
	free(names->slots);
	*names = (struct names){};
}
