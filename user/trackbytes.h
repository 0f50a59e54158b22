/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracks in files: only the words in which one differs from the one before. */
#ifndef TIDEMARK_TRACKBYTES_H
#define TIDEMARK_TRACKBYTES_H

#include "../bpf/track.h"
#include "bytes.h"

#define TRACK_WORDS (sizeof(struct track) / 4)

_Static_assert(TRACK_WORDS <= 64 && sizeof(struct track) % 4 == 0, "a bit for each word");

/* A varint with a bit for each word of four bytes that differs, then these words. */
static inline void add_track(struct text *text, const struct track *track, const struct track *last)
{
	const unsigned char *new = (const void *)track, *old = (const void *)last;
	unsigned char words[sizeof(*track)], *to = words;
	__u64 differ = 0;

	for (unsigned i = 0; i < TRACK_WORDS; i++)
		if (memcmp(new + i * 4, old + i * 4, 4)) {
			differ |= 1ULL << i;
			memcpy(to, new + i * 4, 4);
			to += 4;
		}
	add_varint(text, differ);
	text_add(text, words, (size_t)(to - words));
}

/* `track` is the last one, and becomes the next. */
static inline void bytes_track(struct bytes *b, struct track *track)
{
	__u64 differ = bytes_varint(b);

	for (unsigned i = 0; i < TRACK_WORDS; i++)
		if (differ >> i & 1)
			bytes_copy(b, (unsigned char *)track + (size_t)i * 4, 4);
}

#endif
