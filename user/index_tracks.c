// SPDX-License-Identifier: GPL-2.0-only
/* Tracks in an index: blocks of them, column by column, compressed.
 *
 * What is alike stands together, so that it costs next to nothing: most tracks of a block have the
 * same mask, node, device and protocol. Addresses are there already, as keys, and are told by their
 * number among them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "bytes.h"
#include "index_tracks.h"

#define LEVEL 3 /* of zstd: 6 saves 0.3 % and takes a third longer */
#define RAW_MOST(packets) (BLOCK_TRACKS * 512ULL + (packets)*5ULL)

static const unsigned char v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const __u8 address[16])
{
	return !memcmp(address, v4_prefix, sizeof(v4_prefix));
}

bool index_has_ends(const struct track *t)
{
	return t->flow.proto || t->ethertype == FILTER_IP || t->ethertype == FILTER_IP6 ||
	       is_v4(t->flow.local) || is_v4(t->flow.remote);
}

static __u16 usual_type(const struct track *t)
{
	return is_v4(t->flow.local) ? FILTER_IP : FILTER_IP6;
}

/* ---- written ---------------------------------------------------------------------------------- */

struct writing {
	const struct catalog *c;
	const __u32 *order, *starts;
	__u32 *const *numbers;
	struct text columns[COLUMNS_NR];
	__u32 first; /* of the track before */
};

static void add(struct writing *w, enum tracks_column column, __u64 value)
{
	add_varint(&w->columns[column], value);
}

static __u32 mask_of(const struct track *t, const struct catalog_track *of)
{
	return (index_has_ends(t) ? RECORD_ENDS : 0) | (t->inner.proto ? RECORD_INNER : 0) |
	       (t->vlan[0] ? RECORD_VLAN : 0) | (t->vlan[1] ? RECORD_VLANS : 0) |
	       (t->mpls ? RECORD_MPLS : 0) | (t->vni ? RECORD_VNI : 0) |
	       (t->mark ? RECORD_MARK : 0) | (t->pid ? RECORD_PID : 0) |
	       (t->comm[0] ? RECORD_COMM : 0) | (t->class ? RECORD_CLASS : 0) |
	       (t->ethertype != usual_type(t) ? RECORD_TYPE : 0) |
	       (of->packets[0] ? RECORD_BACK : 0) | (of->packets[1] ? RECORD_FORTH : 0);
}

static void rest_add(struct writing *w, const struct track *t, __u32 mask)
{
	if (mask & RECORD_TYPE)
		add(w, COLUMN_TAGS, t->ethertype);
	if (mask & RECORD_CLASS)
		add(w, COLUMN_TAGS, t->class);
	if (mask & RECORD_VLAN)
		add(w, COLUMN_TAGS, t->vlan[0]);
	if (mask & RECORD_VLANS)
		add(w, COLUMN_TAGS, t->vlan[1]);
	if (mask & RECORD_MPLS)
		add(w, COLUMN_TAGS, t->mpls);
	if (mask & RECORD_VNI)
		add(w, COLUMN_TAGS, t->vni);
	if (mask & RECORD_MARK)
		add(w, COLUMN_OWNER, t->mark);
	if (mask & RECORD_PID)
		add(w, COLUMN_OWNER, t->pid);
	if (mask & RECORD_COMM) {
		size_t len = strnlen(t->comm, sizeof(t->comm));

		add(w, COLUMN_OWNER, len);
		text_add(&w->columns[COLUMN_OWNER], t->comm, len);
	}
}

/* Tracks are numbered as they appear, so one begins a little behind the one before. */
static void positions_add(struct writing *w, __u32 track, bool forward)
{
	const __u32 *order = w->order + w->starts[HALF(track, forward)];
	__u32 n = w->c->tracks[track].packets[forward];
	__u32 last = w->c->entries[order[0]].position;

	add(w, COLUMN_PACKETS, n);
	add(w, COLUMN_FIRST, zigzag((__s64)last - w->first));
	w->first = last;
	for (__u32 i = 1; i < n; i++) {
		__u32 position = w->c->entries[order[i]].position;

		add(w, COLUMN_NEXT, position - last);
		last = position;
	}
}

static void track_add(struct writing *w, __u32 number)
{
	__u32 local = number << 1, remote = local | 1;
	const struct catalog_track *of = &w->c->tracks[number];
	const struct track *t = &of->track;
	__u32 mask = mask_of(t, of);

	add(w, COLUMN_MASK, mask);
	if (mask & RECORD_ENDS) {
		add(w, COLUMN_LOCAL, w->numbers[0][local]);
		add(w, COLUMN_REMOTE, w->numbers[0][remote]);
		add(w, COLUMN_LOCAL_PORT, t->flow.local_port);
		add(w, COLUMN_REMOTE_PORT, t->flow.remote_port);
		add(w, COLUMN_PROTO, t->flow.proto);
	}
	if (mask & RECORD_INNER) {
		add(w, COLUMN_INNER, w->numbers[1][local]);
		add(w, COLUMN_INNER, w->numbers[1][remote]);
		add(w, COLUMN_INNER, t->inner.local_port);
		add(w, COLUMN_INNER, t->inner.remote_port);
		add(w, COLUMN_INNER, t->inner.proto);
	}
	add(w, COLUMN_NODE, t->flow.node);
	add(w, COLUMN_DEVICE, t->device);
	rest_add(w, t, mask);
	for (int forward = 0; forward < 2; forward++)
		if (of->packets[forward])
			positions_add(w, number, forward);
}

/* The lengths of all columns, then they. */
static int block_add(struct writing *w, ZSTD_CCtx *context, struct text *out)
{
	struct text raw = {};
	unsigned char bytes[VARINT_MAX];
	size_t room, size;
	char *packed;
	int err = 0;

	for (unsigned i = 0; i < COLUMNS_NR; i++)
		text_add(&raw, bytes, (size_t)(put_varint(bytes, w->columns[i].len) - bytes));
	for (unsigned i = 0; i < COLUMNS_NR; i++) {
		text_add(&raw, w->columns[i].at, w->columns[i].len);
		err = w->columns[i].err ? w->columns[i].err : err;
		w->columns[i].len = 0;
	}
	w->first = 0;
	room = ZSTD_compressBound(raw.len);
	packed = malloc(room);
	if (raw.err || !packed)
		err = -ENOMEM;
	if (!err) {
		size = ZSTD_compressCCtx(context, packed, room, raw.at, raw.len, LEVEL);
		err = ZSTD_isError(size) ? -ENOMEM : 0;
		if (!err)
			text_add(out, packed, size);
	}
	free(packed);
	text_free(&raw);
	return err;
}

int tracks_build(const struct catalog *c, const __u32 *order, const __u32 *starts,
		 __u32 *const numbers[2], struct text *offsets, struct text *blocks)
{
	struct writing w = { .c = c, .order = order, .starts = starts, .numbers = numbers };
	ZSTD_CCtx *context = ZSTD_createCCtx();
	int err = context ? 0 : -ENOMEM;
	unsigned char bytes[4];

	for (__u32 t = 0; t < c->tracks_n && !err; t++) {
		if (t % BLOCK_TRACKS == 0) {
			put_u32(bytes, (__u32)blocks->len);
			text_add(offsets, bytes, sizeof(bytes));
		}
		track_add(&w, t);
		if (t % BLOCK_TRACKS == BLOCK_TRACKS - 1 || t == c->tracks_n - 1)
			err = block_add(&w, context, blocks);
	}
	put_u32(bytes, (__u32)blocks->len);
	text_add(offsets, bytes, sizeof(bytes));
	if (!err && blocks->len > ~0U)
		err = -EFBIG;
	for (unsigned i = 0; i < COLUMNS_NR; i++)
		text_free(&w.columns[i]);
	ZSTD_freeCCtx(context);
	return err;
}

/* ---- read ------------------------------------------------------------------------------------- */

struct reading {
	struct index *x;
	struct bytes columns[COLUMNS_NR];
	struct index_known *to;
	__u32 n;
	__u32 *positions; /* NULL: not wanted */
	__u32 positions_n, positions_room;
	__u32 first; /* of the half before */
	bool bad;
};

static __u64 get(struct reading *r, enum tracks_column column)
{
	return bytes_varint(&r->columns[column]);
}

static void address_get(struct reading *r, enum tracks_column column, bool inner, __u8 address[16])
{
	enum index_key key = inner ? KEY_inner4 : KEY_address4;
	const struct index_section *s = &r->x->parts[PART_KEYS + key];
	__u64 number = get(r, column);
	const unsigned char *at;
	unsigned bytes = 4;

	if (number >= s->count) {
		number -= s->count;
		bytes = 16;
		s++; /* the v6 keys are the next section */
	}
	if (number >= s->count)
		r->bad = true;
	at = r->bad ? NULL : checked_at(&r->x->file, s->offset + number * bytes, bytes);
	if (!at) {
		r->bad = true;
		return;
	}
	if (bytes == 4)
		memcpy(address, v4_prefix, sizeof(v4_prefix));
	memcpy(address + 16 - bytes, at, bytes);
}

static void rest_get(struct reading *r, struct track *t, __u32 mask)
{
	t->ethertype = usual_type(t);
	if (mask & RECORD_TYPE)
		t->ethertype = (__u16)get(r, COLUMN_TAGS);
	if (mask & RECORD_CLASS)
		t->class = (__u8)get(r, COLUMN_TAGS);
	if (mask & RECORD_VLAN)
		t->vlan[0] = (__u16)get(r, COLUMN_TAGS);
	if (mask & RECORD_VLANS)
		t->vlan[1] = (__u16)get(r, COLUMN_TAGS);
	if (mask & RECORD_MPLS)
		t->mpls = (__u32)get(r, COLUMN_TAGS);
	if (mask & RECORD_VNI)
		t->vni = (__u32)get(r, COLUMN_TAGS);
	if (mask & RECORD_MARK)
		t->mark = (__u32)get(r, COLUMN_OWNER);
	if (mask & RECORD_PID)
		t->pid = (__u32)get(r, COLUMN_OWNER);
	if (mask & RECORD_COMM) {
		__u64 len = get(r, COLUMN_OWNER);

		if (len > sizeof(t->comm))
			r->bad = true;
		else
			bytes_copy(&r->columns[COLUMN_OWNER], t->comm, len);
	}
}

static void positions_get(struct reading *r, struct index_known *known, bool forward)
{
	__u32 n = (__u32)get(r, COLUMN_PACKETS);
	__u32 position = r->first + (__u32)unzigzag(get(r, COLUMN_FIRST)), *to;

	/* No varint is shorter than a byte, so there are no more packets than bytes. */
	if (!n || n > r->x->packets || (r->positions && n > r->positions_room - r->positions_n)) {
		r->bad = true;
		return;
	}
	known->packets[forward] = n;
	r->first = position;
	if (r->positions) {
		to = r->positions + r->positions_n;
		*to++ = position;
		for (__u32 i = 1; i < n; i++)
			*to++ = position += (__u32)get(r, COLUMN_NEXT);
	}
	r->positions_n += n;
}

static void track_get(struct reading *r, struct index_known *known)
{
	__u32 mask = (__u32)get(r, COLUMN_MASK);
	struct track *t = &known->track;

	memset(known, 0, sizeof(*known));
	if (mask & RECORD_ENDS) {
		address_get(r, COLUMN_LOCAL, false, t->flow.local);
		address_get(r, COLUMN_REMOTE, false, t->flow.remote);
		t->flow.local_port = (__u16)get(r, COLUMN_LOCAL_PORT);
		t->flow.remote_port = (__u16)get(r, COLUMN_REMOTE_PORT);
		t->flow.proto = (__u8)get(r, COLUMN_PROTO);
	}
	if (mask & RECORD_INNER) {
		address_get(r, COLUMN_INNER, true, t->inner.local);
		address_get(r, COLUMN_INNER, true, t->inner.remote);
		t->inner.local_port = (__u16)get(r, COLUMN_INNER);
		t->inner.remote_port = (__u16)get(r, COLUMN_INNER);
		t->inner.proto = (__u8)get(r, COLUMN_INNER);
	}
	t->flow.node = (__u32)get(r, COLUMN_NODE);
	t->device = (__u32)get(r, COLUMN_DEVICE);
	rest_get(r, t, mask);
}

static int block_parse(struct reading *r, const unsigned char *raw, size_t size,
		       struct index_tracks *tracks)
{
	struct bytes b = { raw, raw + size, false };
	__u64 lengths[COLUMNS_NR];

	for (unsigned i = 0; i < COLUMNS_NR; i++)
		lengths[i] = bytes_varint(&b);
	for (unsigned i = 0; i < COLUMNS_NR && !b.bad; i++) {
		b.bad = lengths[i] > (size_t)(b.end - b.at);
		if (b.bad)
			break;
		r->columns[i] = (struct bytes){ b.at, b.at + lengths[i], false };
		b.at += lengths[i];
	}
	if (b.bad)
		return -EBADMSG;
	for (__u32 i = 0; i < r->n && !r->bad; i++) {
		struct bytes masks = r->columns[COLUMN_MASK];
		__u32 mask = (__u32)bytes_varint(&masks);

		track_get(r, &r->to[i]);
		for (int forward = 0; forward < 2; forward++) {
			if (r->positions)
				tracks->starts[i * 2 + forward] = r->positions_n;
			if (mask & (forward ? RECORD_FORTH : RECORD_BACK))
				positions_get(r, &r->to[i], forward);
		}
		for (unsigned c = 0; c < COLUMNS_NR; c++)
			r->bad |= r->columns[c].bad;
	}
	if (r->positions)
		tracks->starts[r->n * 2] = r->positions_n;
	return r->bad ? -EBADMSG : 0;
}

/* The bytes of a block, unpacked; to be freed. */
static int block_raw(struct index *x, __u32 number, unsigned char **raw, size_t *size)
{
	const unsigned char *at =
		checked_at(&x->file, x->parts[PART_OFFSETS].offset + number * 4ULL, 8);
	unsigned long long wanted;
	__u32 from, to;
	size_t got;

	*raw = NULL;
	if (!at)
		return -EBADMSG;
	from = get_u32(at);
	to = get_u32(at + 4);
	if (from > to || to > x->parts[PART_TRACKS].bytes)
		return -EBADMSG;
	at = checked_at(&x->file, x->parts[PART_TRACKS].offset + from, to - from);
	wanted = at ? ZSTD_getFrameContentSize(at, to - from) : ZSTD_CONTENTSIZE_ERROR;
	if (wanted > RAW_MOST(x->packets)) /* errors are the largest numbers */
		return -EBADMSG;
	*raw = malloc(wanted + 1);
	if (!*raw)
		return -ENOMEM;
	got = ZSTD_decompress(*raw, wanted, at, to - from);
	*size = got;
	return ZSTD_isError(got) || got != wanted ? -EBADMSG : 0;
}

static int block_read(struct index *x, __u32 number, bool positions)
{
	struct index_tracks *tracks = x->read;
	__u32 from = number * BLOCK_TRACKS, left = x->tracks - from;
	struct reading r = { .x = x, .n = left < BLOCK_TRACKS ? left : BLOCK_TRACKS };
	unsigned char *raw;
	size_t size = 0;
	int err = block_raw(x, number, &raw, &size);

	r.to = malloc(r.n * sizeof(*r.to));
	if (!r.to)
		err = -ENOMEM;
	if (!err && positions) {
		tracks->positions_of = 0;
		free(tracks->positions);
		tracks->positions = r.positions = malloc((size + 1) * sizeof(*r.positions));
		if (!r.positions)
			err = -ENOMEM;
		r.positions_room = (__u32)size;
	}
	if (!err)
		err = block_parse(&r, raw, size, tracks);
	free(raw);
	if (err) {
		free(r.to);
		return err;
	}
	free(tracks->blocks[number]);
	tracks->blocks[number] = r.to;
	if (positions)
		tracks->positions_of = number + 1LL;
	return 0;
}

int index_track(struct index *x, __u32 track, struct catalog_track *t, unsigned halves,
		struct index_refs *refs)
{
	__u32 number = track / BLOCK_TRACKS, at = track % BLOCK_TRACKS;
	const struct index_known *known;
	int err = 0;

	if (track >= x->tracks)
		return -EBADMSG;
	if (!x->read) {
		x->read = calloc(1, sizeof(*x->read));
		if (x->read)
			x->read->blocks = calloc(x->tracks / BLOCK_TRACKS + 1ULL, sizeof(void *));
		if (!x->read || !x->read->blocks)
			return -ENOMEM;
	}
	if (!x->read->blocks[number] || (refs && x->read->positions_of != number + 1LL))
		err = block_read(x, number, refs);
	if (err)
		return err;
	known = &x->read->blocks[number][at];
	memset(t, 0, sizeof(*t));
	t->track = known->track;
	memcpy(t->packets, known->packets, sizeof(t->packets));
	for (__u32 forward = 0; refs && forward < 2; forward++) {
		const __u32 *from = x->read->positions + x->read->starts[at * 2 + forward];

		if (!(halves >> forward & 1))
			continue;
		if (array_grow((void **)&refs->at, &refs->room, refs->n + t->packets[forward],
			       sizeof(*refs->at)))
			return -ENOMEM;
		for (__u32 i = 0; i < t->packets[forward]; i++)
			refs->at[refs->n++] = (__u64)from[i] << 32 | HALF(track, forward);
	}
	return 0;
}

void index_forget(struct index *x)
{
	if (!x->read)
		return;
	for (__u32 i = 0; x->read->blocks && i <= x->tracks / BLOCK_TRACKS; i++)
		free(x->read->blocks[i]);
	free(x->read->blocks);
	free(x->read->positions);
	free(x->read);
	x->read = NULL;
}
