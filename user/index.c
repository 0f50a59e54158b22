// SPDX-License-Identifier: GPL-2.0-only
/* Indexes built: a catalog sorted by everything one may ask for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>
#include <zstd.h>

#include "bytes.h"
#include "index_tracks.h"

const unsigned char index_key_bytes[KEYS_NR] = {
#define X(name, bytes) [KEY_##name] = (bytes),
	INDEX_KEYS(X)
#undef X
};

struct pair {
	unsigned char key[16]; /* of fewer bytes: the rest is zero */
	__u32 posting;
};

struct pairs {
	struct pair *at;
	__u32 n, room;
};

struct builder {
	const struct catalog *c;
	struct text text;
	struct text postings;
	struct pairs pairs[KEYS_NR];
	__u32 *numbers[2]; /* of addresses among the keys: outer, inner, by posting */
	struct text list;  /* of postings, the one at hand; and packed */
	struct text packed;
	ZSTD_CCtx *context;
	__u32 *order, *starts; /* entries by half */
	struct index_section parts[PARTS_NR];
	int err;
};

static const unsigned char v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const __u8 address[16])
{
	return !memcmp(address, v4_prefix, sizeof(v4_prefix));
}

/* ---- keys ------------------------------------------------------------------------------- */

static void pair_add(struct builder *b, enum index_key key, const void *bytes, __u32 posting)
{
	struct pairs *pairs = &b->pairs[key];
	struct pair *pair;

	if (array_grow((void **)&pairs->at, &pairs->room, pairs->n + 1, sizeof(*pairs->at))) {
		b->err = -ENOMEM;
		return;
	}
	pair = &pairs->at[pairs->n++];
	memset(pair->key, 0, sizeof(pair->key));
	memcpy(pair->key, bytes, index_key_bytes[key]);
	pair->posting = posting;
}

static void number_add(struct builder *b, enum index_key key, __u32 value, __u32 track)
{
	unsigned char bytes[4] = { (unsigned char)(value >> 24), (unsigned char)(value >> 16),
				   (unsigned char)(value >> 8), (unsigned char)value };

	pair_add(b, key, bytes + 4 - index_key_bytes[key], track << 1);
}

static void end_add(struct builder *b, bool inner, const __u8 address[16], __u16 port, __u8 proto,
		    __u32 end)
{
	unsigned char bytes[2] = { (unsigned char)(port >> 8), (unsigned char)port };

	if (is_v4(address))
		pair_add(b, inner ? KEY_inner4 : KEY_address4, address + 12, end);
	else
		pair_add(b, inner ? KEY_inner6 : KEY_address6, address, end);
	if (proto == FILTER_TCP || proto == FILTER_UDP)
		pair_add(b, inner ? KEY_inner_port : KEY_port, bytes, end);
}

static void track_keys(struct builder *b, const struct track *t, __u32 n)
{
	bool ip = t->ethertype == FILTER_IP || t->ethertype == FILTER_IP6;

	if (index_has_ends(t)) {
		__u8 proto = ip ? t->flow.proto : 0;

		end_add(b, false, t->flow.local, t->flow.local_port, proto, n << 1);
		end_add(b, false, t->flow.remote, t->flow.remote_port, proto, n << 1 | 1);
	}
	if (ip)
		number_add(b, KEY_proto, t->flow.proto, n);
	if (t->inner.proto) {
		end_add(b, true, t->inner.local, t->inner.local_port, t->inner.proto, n << 1);
		end_add(b, true, t->inner.remote, t->inner.remote_port, t->inner.proto, n << 1 | 1);
		number_add(b, KEY_inner_proto, t->inner.proto, n);
	}
	number_add(b, KEY_ethertype, t->ethertype, n);
	for (int i = 0; i < TRACK_VLANS; i++)
		if (t->vlan[i] && (!i || t->vlan[i] != t->vlan[0]))
			number_add(b, KEY_vlan, t->vlan[i], n);
	if (t->mpls)
		number_add(b, KEY_mpls, t->mpls, n);
	if (t->vni)
		number_add(b, KEY_vni, t->vni, n);
	number_add(b, KEY_node, t->flow.node, n);
	number_add(b, KEY_device, t->device, n);
	if (t->mark)
		number_add(b, KEY_mark, t->mark, n);
	if (t->pid)
		number_add(b, KEY_pid, t->pid, n);
	if (t->comm[0])
		pair_add(b, KEY_comm, t->comm, n << 1);
}

static bool pair_precedes(const struct pair *a, const struct pair *b)
{
	return memcmp(a->key, b->key, sizeof(a->key)) <= 0;
}

static bool pairs_same(const struct pair *a, const struct pair *b)
{
	__u64 x[2], y[2];

	memcpy(x, a->key, sizeof(x));
	memcpy(y, b->key, sizeof(y));
	return x[0] == y[0] && x[1] == y[1];
}

/*
 * By key, the last byte first, each time leaving in order what agrees in it: so the postings
 * of a key stay ascending, as they came. Bytes in which all keys agree cost nothing, and of
 * many kinds of key there is one: node, device, ethertype.
 */
static int pairs_sort(struct pairs *p, unsigned bytes)
{
	struct pair *from = p->at, *to, *swap, *room;
	__u32 i = 1;

	while (i < p->n && pair_precedes(&p->at[i - 1], &p->at[i]))
		i++;
	if (i >= p->n)
		return 0;
	room = to = malloc(p->n * sizeof(*room));
	if (!room)
		return -ENOMEM;
	while (bytes-- > 0) {
		__u32 starts[257] = {};

		for (i = 0; i < p->n; i++)
			starts[from[i].key[bytes] + 1]++;
		if (starts[from[0].key[bytes] + 1] == p->n)
			continue;
		for (i = 0; i < 256; i++)
			starts[i + 1] += starts[i];
		for (i = 0; i < p->n; i++)
			to[starts[from[i].key[bytes]]++] = from[i];
		swap = from;
		from = to;
		to = swap;
	}
	if (from == room)
		memcpy(p->at, room, p->n * sizeof(*room));
	free(room);
	return 0;
}

static void add_u32(struct text *text, __u32 value)
{
	unsigned char bytes[4];

	put_u32(bytes, value);
	text_add(text, bytes, sizeof(bytes));
}

static void add_u64(struct text *text, __u64 value)
{
	unsigned char bytes[8];

	put_u64(bytes, value);
	text_add(text, bytes, sizeof(bytes));
}

/* A long list compresses well: most tracks of a segment share their node, device and protocol. */
static void list_pack(struct builder *b)
{
	size_t room = ZSTD_compressBound(b->list.len), size;
	char *to = text_room(&b->packed, room);

	if (!to || b->list.err)
		return;
	size = ZSTD_compressCCtx(b->context, to, room, b->list.at, b->list.len, 3);
	if (!ZSTD_isError(size) && size < b->list.len) {
		b->list.len = 0;
		text_add(&b->list, to, size);
	}
}

/* Those of one key, ascending: their number, their length, then by how much each is more. */
static __u32 postings_add(struct builder *b, const struct pair *from, __u32 n)
{
	__u32 at = (__u32)b->postings.len, last = 0;
	size_t plain;

	if (n == 1)
		return from->posting | INDEX_SINGLE;
	b->list.len = 0;
	for (__u32 i = 0; i < n; i++) {
		add_varint(&b->list, from[i].posting - last);
		last = from[i].posting;
	}
	plain = b->list.len;
	if (plain >= INDEX_LIST_LONG)
		list_pack(b);
	add_varint(&b->postings, n);
	add_varint(&b->postings, b->list.len << 1 | (b->list.len < plain));
	text_add(&b->postings, b->list.at, b->list.len);
	return at;
}

/* Of addresses: v6 ones are numbered on from the last v4 one. */
static void numbers_note(struct builder *b, enum index_key key, const struct pair *from, __u32 n,
			 __u32 number)
{
	for (__u32 i = 0; i < n; i++)
		b->numbers[key >= KEY_inner4][from[i].posting] = number;
}

/* Keys first, all of them, then where the postings of each are. */
static void keys_build(struct builder *b, enum index_key key, __u32 number, struct text *out,
		       __u32 *count)
{
	struct pairs *p = &b->pairs[key];
	struct text places = {};

	if (pairs_sort(p, index_key_bytes[key]))
		b->err = -ENOMEM;
	for (__u32 i = 0, n; i < p->n; i += n) {
		for (n = 1; i + n < p->n && pairs_same(&p->at[i], &p->at[i + n]); n++)
			;
		text_add(out, p->at[i].key, index_key_bytes[key]);
		add_u32(&places, postings_add(b, &p->at[i], n));
		if (key <= KEY_inner6)
			numbers_note(b, key, &p->at[i], n, number + *count);
		(*count)++;
	}
	text_add(out, places.at, places.len);
	if (places.err)
		b->err = places.err;
	text_free(&places);
}

/* Entries by half, each half's in order of position: counted, then dealt out. */
static int order_make(struct builder *b)
{
	const struct catalog *c = b->c;
	__u32 halves = c->tracks_n * 2, *next;

	b->order = malloc((c->entries_n + 1ULL) * sizeof(*b->order));
	b->starts = calloc(halves + 1ULL, sizeof(*b->starts));
	next = malloc((halves + 1ULL) * sizeof(*next));
	if (!b->order || !b->starts || !next) {
		free(next);
		return -ENOMEM;
	}
	for (__u32 i = 0; i < c->entries_n; i++)
		b->starts[c->entries[i].half + 1]++;
	for (__u32 h = 0; h < halves; h++)
		b->starts[h + 1] += b->starts[h];
	memcpy(next, b->starts, (halves + 1ULL) * sizeof(*next));
	for (__u32 i = 0; i < c->entries_n; i++)
		b->order[next[c->entries[i].half]++] = i;
	free(next);
	return 0;
}

/* ---- the file --------------------------------------------------------------------------- */

static void part_begin(struct builder *b, unsigned part, __u32 count)
{
	b->parts[part].offset = b->text.len;
	b->parts[part].count = count;
}

static void part_end(struct builder *b, unsigned part)
{
	b->parts[part].bytes = b->text.len - b->parts[part].offset;
}

static void part_text(struct builder *b, unsigned part, __u32 count, struct text *text)
{
	part_begin(b, part, count);
	text_add(&b->text, text->at, text->len);
	part_end(b, part);
	if (text->err)
		b->err = text->err;
	text_free(text);
}

static void small_parts(struct builder *b, const __u32 *chunks, __u32 chunks_n)
{
	const struct catalog *c = b->c;

	part_begin(b, PART_DEVICES, c->devices_n);
	for (__u32 i = 0; i < c->devices_n; i++) {
		const struct catalog_device *d = &c->devices[i];

		add_u32(&b->text, d->node);
		add_u32(&b->text, d->device);
		add_u32(&b->text, d->linktype);
		text_add(&b->text, d->node_name, sizeof(d->node_name));
		text_add(&b->text, d->name, sizeof(d->name));
	}
	part_end(b, PART_DEVICES);
	part_begin(b, PART_GAPS, c->gaps_n);
	for (__u32 i = 0; i < c->gaps_n; i++) {
		const struct catalog_gap *g = &c->gaps[i];

		add_u64(&b->text, g->node);
		add_u64(&b->text, g->from_ns);
		add_u64(&b->text, g->to_ns);
		add_u64(&b->text, g->packets);
		add_u64(&b->text, g->bytes);
		text_add(&b->text, g->reason, sizeof(g->reason));
	}
	part_end(b, PART_GAPS);
	part_begin(b, PART_TIMES, c->times_n);
	for (__u32 i = 0; i < c->times_n; i++) {
		add_u64(&b->text, c->times[i].before_ns);
		add_u64(&b->text, c->times[i].from_ns);
	}
	part_end(b, PART_TIMES);
	part_begin(b, PART_CHUNKS, chunks_n);
	for (__u32 i = 0; i < chunks_n; i++)
		add_u32(&b->text, chunks[i]);
	part_end(b, PART_CHUNKS);
}

static void big_parts(struct builder *b)
{
	const struct catalog *c = b->c;
	struct text offsets = {}, tracks = {}, keys[KEYS_NR] = {};
	__u32 counts[KEYS_NR] = {};

	for (__u32 t = 0; t < c->tracks_n; t++)
		track_keys(b, &c->tracks[t].track, t);
	for (unsigned k = 0; k < KEYS_NR; k++)
		keys_build(b, k, k == KEY_address6 || k == KEY_inner6 ? counts[k - 1] : 0, &keys[k],
			   &counts[k]);
	if (!b->err)
		b->err = tracks_build(c, b->order, b->starts, b->numbers, &offsets, &tracks);
	part_text(b, PART_OFFSETS, (c->tracks_n + BLOCK_TRACKS - 1) / BLOCK_TRACKS + 1, &offsets);
	part_text(b, PART_TRACKS, c->tracks_n, &tracks);
	if (b->list.err || b->packed.err)
		b->err = -ENOMEM;
	if (b->postings.len >= INDEX_SINGLE)
		b->err = -EFBIG;
	part_text(b, PART_POSTINGS, 0, &b->postings);
	for (unsigned k = 0; k < KEYS_NR; k++)
		part_text(b, PART_KEYS + k, counts[k], &keys[k]);
}

/* Behind everything, the checksums of it; in the head theirs, and at its end the head's. */
static void head_fill(struct builder *b)
{
	const struct catalog *c = b->c;
	__u64 body = b->text.len - INDEX_HEAD;
	__u32 pages = (__u32)((body + INDEX_PAGE - 1) / INDEX_PAGE), *sums;
	__u64 numbers[] = { 0,
			    c->end,
			    c->first_ns,
			    c->last_ns,
			    c->first_stamp,
			    c->last_stamp,
			    c->late_ns,
			    c->late_stamp,
			    c->wire_bytes,
			    c->kept_bytes };
	unsigned char *head, *at;

	sums = calloc(pages + 1ULL, sizeof(*sums));
	if (!sums) {
		b->err = -ENOMEM;
		return;
	}
	checked_sums(b->text.at + INDEX_HEAD, body, INDEX_PAGE, sums);
	for (__u32 i = 0; i < pages; i++)
		add_u32(&b->text, sums[i]);
	free(sums);
	if (b->text.err)
		return;
	head = (unsigned char *)b->text.at;
	memcpy(head, INDEX_MAGIC, 8);
	put_u32(head + 8, INDEX_VERSION);
	put_u32(head + 12, PARTS_NR);
	numbers[0] = b->text.len;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		put_u64(head + 16 + i * 8, numbers[i]);
	put_u32(head + 96, c->entries_n);
	put_u32(head + 100, c->tracks_n);
	put_u64(head + 104, XXH64(head + INDEX_HEAD + body, pages * 4ULL, 0));
	memcpy(head + 112, c->class_name, sizeof(c->class_name));
	memcpy(head + 144, c->host, sizeof(c->host));
	for (at = head + 208; at - head < 208 + 20 * PARTS_NR; at += 20) {
		const struct index_section *part = &b->parts[(at - head - 208) / 20];

		put_u64(at, part->offset);
		put_u64(at + 8, part->bytes);
		put_u32(at + 16, part->count);
	}
	put_u64(head + INDEX_HEAD - 8, XXH64(head, INDEX_HEAD - 8, 0));
}

_Static_assert(208 + 20 * PARTS_NR <= INDEX_HEAD - 8, "the head has room for its sections");

int index_build(const struct catalog *c, const __u32 *chunks, __u32 chunks_n, void **at,
		size_t *size)
{
	static const char zeros[INDEX_HEAD];
	struct builder b = { .c = c };

	if (c->tracks_n > INDEX_SINGLE / 2 - 1)
		return -EFBIG;
	for (int i = 0; i < 2; i++)
		b.numbers[i] = calloc(c->tracks_n + 1ULL, 2 * sizeof(*b.numbers[i]));
	b.context = ZSTD_createCCtx();
	b.err = b.numbers[0] && b.numbers[1] && b.context ? order_make(&b) : -ENOMEM;
	if (!b.err) {
		text_add(&b.text, zeros, sizeof(zeros));
		small_parts(&b, chunks, chunks_n);
		big_parts(&b);
		head_fill(&b);
	}
	free(b.order);
	free(b.starts);
	free(b.numbers[0]);
	free(b.numbers[1]);
	text_free(&b.list);
	text_free(&b.packed);
	ZSTD_freeCCtx(b.context);
	for (unsigned k = 0; k < KEYS_NR; k++)
		free(b.pairs[k].at);
	if (b.text.err)
		b.err = b.text.err;
	if (b.err) {
		text_free(&b.text);
		return b.err;
	}
	*at = b.text.at;
	*size = b.text.len;
	return 0;
}
