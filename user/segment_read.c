// SPDX-License-Identifier: GPL-2.0-only
/* Segments read: sealed or still written, plain or packed, all alike. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "secret.h"
#include "segment_read.h"
#include "text.h"

#define EXPECTED_MOST 2048 /* packets; of more, the disk reads everything ahead */
#define DAMAGED "damaged; what is in it cannot be trusted"

const struct catalog *segment_about(const struct segment *s)
{
	return s->sealed ? &s->index.about : &s->catalog;
}

__u32 segment_packets(const struct segment *s)
{
	return s->sealed ? s->index.packets : s->catalog.entries_n;
}

__u32 segment_tracks(const struct segment *s)
{
	return s->sealed ? s->index.tracks : s->catalog.tracks_n;
}

static int journal_next(struct segment *s)
{
	int err = journal_read(s->journal, &s->reader, &s->catalog);

	s->why = err == -EPROTONOSUPPORT
			 ? "a journal of another version; `record --reindex` makes its index"
		 : err == -ENOKEY || err == -EKEYREJECTED
			 ? secret_error(err)
			 : "a damaged journal; the next `record` here puts it in order";
	return !err && s->reader.damaged ? -EBADMSG : err;
}

static int journal_open(struct segment *s)
{
	char name[STORE_NAME_MAX + 16];

	s->journal = openat(s->dir, store_file(name, s->base, STORE_JOURNAL),
			    O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (s->journal < 0)
		return -errno;
	return journal_next(s);
}

int segment_open(struct segment *s, int dir, const char *directory, const char *base)
{
	int err = -ENOENT;

	memset(s, 0, sizeof(*s));
	s->journal = s->data.fd = s->index.file.fd = -1;
	s->dir = dir;
	s->track_number = -1;
	snprintf(s->base, sizeof(s->base), "%s", base);
	snprintf(s->path, sizeof(s->path), "%s/%s", directory, base);
	/* It may be sealed between the two looks; then the index is there at the third. */
	for (int i = 0; i < 2 && err == -ENOENT; i++) {
		err = index_open(&s->index, dir, base, &s->why);
		s->sealed = err != -ENOENT;
		if (err == -ENOENT)
			err = journal_open(s);
	}
	return err;
}

void segment_close(struct segment *s)
{
	if (s->sealed)
		index_close(&s->index);
	catalog_free(&s->catalog);
	if (s->journal >= 0)
		close(s->journal);
	checked_close(&s->data);
	packed_close(s->packed);
	journal_close(&s->reader);
	free(s->halves);
	s->halves = NULL;
	s->journal = -1;
	s->packed = NULL;
	s->has_data = false;
}

/*
 * Encrypted blocks tell by themselves whether they are what was written. That they are of this
 * segment, and not of another that has its name now, the first chunk's checksum does: to ask
 * for the others' would be to open four blocks for each packet.
 */
static int data_own(struct segment *s, __u64 end, const __u32 *sums)
{
	__u64 bytes = end < INDEX_CHUNK ? end : INDEX_CHUNK;
	const unsigned char *at;
	__u32 sum;

	if (s->owned || !bytes)
		return 0;
	at = checked_at(&s->data, 0, bytes);
	if (!at)
		return -EBADMSG;
	checked_sums(at, bytes, INDEX_CHUNK, &sum);
	s->owned = bytes == INDEX_CHUNK;
	return sum == sums[0] ? 0 : -EBADMSG;
}

/* Of what is still written too: as far as the journal goes, it has the checksums. */
static int data_trust(struct segment *s)
{
	const __u32 *sums = s->sealed ? s->index.chunks : s->catalog.sums.at;
	__u64 end = segment_about(s)->end;

	return s->data.vault ? data_own(s, end, sums)
			     : checked_trust(&s->data, 0, end, INDEX_CHUNK, sums);
}

/* What a dead process encrypted last and never promised may still be there. */
static int data_size(struct segment *s)
{
	__u64 end = segment_about(s)->end;

	s->why = DAMAGED;
	if (s->data.size >= end && (!s->sealed || s->data.vault || s->data.size == end))
		return 0;
	s->why = "shorter or longer than its index says";
	return -EBADMSG;
}

static int data_grow(struct segment *s)
{
	int err = checked_grow(&s->data);

	s->why = err ? secret_error(err) : DAMAGED;
	checked_bound(&s->data, STORE_BOUND);
	return err ? err : data_size(s);
}

static int data_plain(struct segment *s, int fd)
{
	int err = checked_open(&s->data, fd);

	s->why = err ? secret_error(err) : DAMAGED;
	if (err)
		return err;
	checked_bound(&s->data, STORE_BOUND);
	err = data_size(s);
	if (err)
		return err;
	if (s->sealed) {
		checked_keep(&s->data);
		err = index_chunks(&s->index);
	}
	return err ? err : data_trust(s);
}

int segment_open_data(struct segment *s)
{
	const char *ending;
	int fd, err;

	if (s->has_data)
		return 0;
	ending = store_open(s->dir, s->base, O_RDONLY, &fd);
	if (!ending) {
		s->why = strerror(-fd);
		return fd;
	}
	s->has_data = true;
	if (!store_packed(ending))
		return data_plain(s, fd);
	err = packed_open(&s->packed, fd, segment_about(s)->end);
	s->why = err == -ENOKEY || err == -EKEYREJECTED ? secret_error(err) : DAMAGED;
	return err;
}

int segment_refresh(struct segment *s)
{
	int err, trust;

	if (s->sealed)
		return 0;
	err = journal_next(s);
	if (!s->has_data || s->packed)
		return err;
	if (!err && s->data.size < s->catalog.end)
		err = data_grow(s);
	/* Even if nothing else is new, the checksums may stand in another place. */
	trust = data_trust(s);
	return err ? err : trust;
}

const struct catalog_device *segment_device(const struct segment *s, const struct track *track)
{
	const struct catalog *about = segment_about(s);

	for (__u32 i = 0; i < about->devices_n; i++)
		if (about->devices[i].node == track->flow.node &&
		    about->devices[i].device == track->device)
			return &about->devices[i];
	return NULL;
}

const struct catalog_track *segment_track(struct segment *s, __u32 track)
{
	if (!s->sealed)
		return track < s->catalog.tracks_n ? &s->catalog.tracks[track] : NULL;
	if (s->track_number != track) {
		s->track_number = -1;
		if (index_track(&s->index, track, &s->track, 0, NULL))
			return NULL;
		s->track_number = track;
	}
	return &s->track;
}

void segment_question(const struct segment *s, const struct catalog_track *t, bool forward,
		      struct expr_packet *q)
{
	const struct catalog_device *d = segment_device(s, &t->track);

	memset(q, 0, sizeof(*q));
	q->track = &t->track;
	q->forward = forward;
	q->node = d ? d->node_name : NULL;
	q->device = d ? d->name : NULL;
	q->class_name = segment_about(s)->class_name;
}

/* ---- finding ----------------------------------------------------------------------------------- */

/* By position, which is in the upper half; a byte at a time, as many as differ. */
static int refs_sort(struct index_refs *refs)
{
	__u64 *from = refs->at, *to, *room = malloc((refs->n + 1ULL) * sizeof(*room));

	if (!room)
		return -ENOMEM;
	to = room;
	for (int shift = 32; shift < 64; shift += 8) {
		__u32 starts[257] = {};
		__u64 *swap = from;

		for (__u32 i = 0; i < refs->n; i++)
			starts[(from[i] >> shift & 0xff) + 1]++;
		for (int i = 0; i < 256; i++)
			starts[i + 1] += starts[i];
		for (__u32 i = 0; i < refs->n; i++)
			to[starts[from[i] >> shift & 0xff]++] = from[i];
		from = to;
		to = swap;
	}
	free(room); /* four turns: what is sorted is where it was */
	return 0;
}

/* The part of the file in which all packets of a time are. */
static void window(const struct catalog *about, __u64 from_ns, __u64 to_ns, __u64 *low, __u64 *high)
{
	*low = 0;
	*high = ~0ULL;
	for (__u32 i = 0; i < about->times_n; i++) {
		if (i && about->times[i].before_ns < from_ns)
			*low = (__u64)i * CATALOG_CHUNK;
		if (about->times[i].from_ns > to_ns && *high == ~0ULL)
			*high = (__u64)i * CATALOG_CHUNK;
	}
}

static __u32 words_of(const struct segment *s)
{
	return (__u32)((segment_tracks(s) * 2ULL + 63) / 64);
}

static bool half_is(const struct segment *s, __u32 half)
{
	return s->halves[half / 64] >> half % 64 & 1;
}

/* Asked once of each track and direction; then every entry knows. */
static void match_open(struct segment *s, const struct expr *expr)
{
	struct expr_packet q;

	for (__u32 half = 0; half < s->catalog.tracks_n * 2; half++) {
		segment_question(s, &s->catalog.tracks[half >> 1], half & 1, &q);
		if (expr_may_match(expr, &q))
			s->halves[half / 64] |= 1ULL << half % 64;
	}
}

static int found_wrong(struct segment *s, int err)
{
	s->why = err == -ENOMEM ? strerror(ENOMEM)
				: "a damaged index; `record --reindex` makes it anew";
	return err;
}

int segment_match(struct segment *s, const struct expr *expr, bool *any)
{
	int err = 0;

	free(s->halves);
	s->halves = calloc(words_of(s) + 1ULL, sizeof(*s->halves));
	if (!s->halves)
		return found_wrong(s, -ENOMEM);
	if (s->sealed)
		err = index_match(&s->index, expr, s->halves);
	else
		match_open(s, expr);
	*any = false;
	for (__u32 w = 0; w < words_of(s) && !*any && !err; w++)
		*any = s->halves[w];
	return err ? found_wrong(s, err) : 0;
}

static int tracks_each(struct segment *s, struct index_refs *refs, __u64 *packets)
{
	struct catalog_track t;
	int err;

	for (__u32 w = 0; w < words_of(s); w++)
		for (__u64 bits = s->halves[w]; bits;) {
			__u32 bit = (__u32)__builtin_ctzll(bits) & ~1U;
			unsigned halves = bits >> bit & 3;

			err = index_track(&s->index, w * 32 + bit / 2, &t, halves, refs);
			if (err)
				return found_wrong(s, err);
			*packets +=
				(halves & 1 ? t.packets[0] : 0) + (halves & 2 ? t.packets[1] : 0);
			bits &= ~(3ULL << bit);
		}
	return 0;
}

int segment_count(struct segment *s, __u64 *packets)
{
	if (s->sealed)
		return tracks_each(s, NULL, packets);
	for (__u32 i = 0; i < s->catalog.entries_n; i++)
		*packets += half_is(s, s->catalog.entries[i].half);
	return 0;
}

static int find_open(struct segment *s, __u32 from, struct index_refs *refs)
{
	const struct catalog *c = &s->catalog;

	for (__u32 i = from; i < c->entries_n; i++) {
		if (!half_is(s, c->entries[i].half))
			continue;
		if (array_grow((void **)&refs->at, &refs->room, refs->n + 1, sizeof(*refs->at)))
			return found_wrong(s, -ENOMEM);
		refs->at[refs->n++] = (__u64)c->entries[i].position << 32 | c->entries[i].half;
	}
	return 0;
}

int segment_find(struct segment *s, __u64 from_ns, __u64 to_ns, __u32 from, struct index_refs *refs)
{
	const struct catalog *about = segment_about(s);
	__u64 low, high, packets = 0;
	__u32 n = 0;
	int err;

	err = s->sealed ? tracks_each(s, refs, &packets) : find_open(s, from, refs);
	if (!err && s->sealed && refs_sort(refs))
		err = found_wrong(s, -ENOMEM);
	if (err)
		return err;
	window(about, from_ns, to_ns, &low, &high);
	for (__u32 i = 0; i < refs->n; i++)
		if (refs->at[i] >> 32 >= low && refs->at[i] >> 32 < high)
			refs->at[n++] = refs->at[i];
	refs->n = n;
	return 0;
}

/* ---- packets ----------------------------------------------------------------------------------- */

static const unsigned char *data_at(struct segment *s, __u64 offset, __u64 bytes)
{
	if (s->packed)
		return packed_at(s->packed, offset, bytes);
	return bytes && offset + bytes <= segment_about(s)->end
		       ? checked_at(&s->data, offset, bytes)
		       : NULL;
}

void segment_expect(struct segment *s, const struct index_refs *refs)
{
	if (s->packed || !s->data.at)
		return;
	if (refs->n > EXPECTED_MOST) {
		checked_sweep(&s->data);
		return;
	}
	for (__u32 i = 0; i < refs->n; i++)
		checked_expect(&s->data, (refs->at[i] >> 32) * CATALOG_UNIT, 2048);
}

static __u64 comment_stamp(const struct pcapng_packet *p)
{
	char text[17] = "";
	uint64_t stamp;

	if (p->comment_len < 20 || memcmp(p->comment, "hlc=", 4))
		return 0;
	memcpy(text, p->comment + 4, 16);
	return text_parse_stamp(text, &stamp) ? 0 : stamp;
}

int segment_packet(struct segment *s, __u32 position, struct pcapng_packet *packet, __u64 *stamp)
{
	__u64 offset = (__u64)position * CATALOG_UNIT, end = segment_about(s)->end;
	const unsigned char *at = data_at(s, offset, 12);
	__u32 type, length;

	s->why = DAMAGED;
	if (!at || end - offset < 12)
		return -EBADMSG;
	type = (__u32)at[0] | (__u32)at[1] << 8;
	length = (__u32)at[4] | (__u32)at[5] << 8 | (__u32)at[6] << 16 | (__u32)at[7] << 24;
	if (type != PCAPNG_PACKET || length > end - offset)
		return -EBADMSG;
	at = data_at(s, offset, length);
	if (!at || pcapng_block(at, length, &type, &length) || type != PCAPNG_PACKET ||
	    pcapng_packet_read(at, length, packet) ||
	    packet->interface >= segment_about(s)->devices_n)
		return -EBADMSG;
	*stamp = comment_stamp(packet);
	return 0;
}
