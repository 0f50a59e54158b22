// SPDX-License-Identifier: GPL-2.0-only
/* Indexes read: nothing in them is believed before its checksum and its bounds agree. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "bytes.h"
#include "index.h"
#include "store.h"

static int head_read(struct index *x, const char **why)
{
	const unsigned char *head = x->file.at;

	*why = "damaged; `record --reindex` makes it anew";
	if (x->file.size < INDEX_HEAD || memcmp(head, INDEX_MAGIC, 8)) {
		*why = "no index; `record --reindex` makes one";
		return -EBADMSG;
	}
	if (get_u32(head + 8) != INDEX_VERSION) {
		*why = "an index of another version; `record --reindex` makes it anew";
		return -EBADMSG;
	}
	if (XXH64(head, INDEX_HEAD - 8, 0) != get_u64(head + INDEX_HEAD - 8) ||
	    get_u32(head + 12) != PARTS_NR || get_u64(head + 16) != x->file.size)
		return -EBADMSG;
	x->segment_bytes = get_u64(head + 24);
	x->about.end = x->segment_bytes;
	x->about.first_ns = get_u64(head + 32);
	x->about.last_ns = get_u64(head + 40);
	x->about.first_stamp = get_u64(head + 48);
	x->about.last_stamp = get_u64(head + 56);
	x->about.late_ns = get_u64(head + 64);
	x->about.late_stamp = get_u64(head + 72);
	x->about.wire_bytes = get_u64(head + 80);
	x->about.kept_bytes = get_u64(head + 88);
	x->packets = get_u32(head + 96);
	x->tracks = get_u32(head + 100);
	memcpy(x->about.class_name, head + 112, sizeof(x->about.class_name) - 1);
	memcpy(x->about.host, head + 144, sizeof(x->about.host) - 1);
	for (unsigned i = 0; i < PARTS_NR; i++) {
		x->parts[i].offset = get_u64(head + 208 + i * 20);
		x->parts[i].bytes = get_u64(head + 208 + i * 20 + 8);
		x->parts[i].count = get_u32(head + 208 + i * 20 + 16);
	}
	return 0;
}

/* The checksums behind everything, of which the head has the checksum. */
static int sums_read(struct index *x)
{
	__u64 body = x->file.size - INDEX_HEAD, pages = body / (INDEX_PAGE + 4);
	const unsigned char *at;
	__u32 *sums;
	int err;

	if (pages * (INDEX_PAGE + 4) < body)
		pages++;
	if (body < pages * 4)
		return -EBADMSG;
	body -= pages * 4;
	at = x->file.at + INDEX_HEAD + body;
	if (XXH64(at, pages * 4, 0) != get_u64(x->file.at + 104))
		return -EBADMSG;
	sums = malloc((pages + 1) * sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	for (__u64 i = 0; i < pages; i++)
		sums[i] = get_u32(at + i * 4);
	err = checked_trust(&x->file, INDEX_HEAD, INDEX_HEAD + body, INDEX_PAGE, sums);
	if (err)
		free(sums);
	return err;
}

/* A section of records of one size. */
static const unsigned char *part_at(struct index *x, unsigned part, __u32 size)
{
	const struct index_section *s = &x->parts[part];

	return s->bytes == (__u64)s->count * size ? checked_at(&x->file, s->offset, s->bytes)
						  : NULL;
}

static int devices_read(struct index *x)
{
	const unsigned char *at = part_at(x, PART_DEVICES, INDEX_DEVICE_BYTES);

	if (!at)
		return -EBADMSG;
	for (__u32 i = 0; i < x->parts[PART_DEVICES].count; i++, at += INDEX_DEVICE_BYTES) {
		struct catalog_device d = { .node = get_u32(at),
					    .device = get_u32(at + 4),
					    .linktype = (__u16)get_u32(at + 8) };

		memcpy(d.node_name, at + 12, CATALOG_NAME_MAX - 1);
		memcpy(d.name, at + 12 + CATALOG_NAME_MAX, CATALOG_NAME_MAX - 1);
		if (catalog_device_add(&x->about, &d))
			return -ENOMEM;
	}
	return 0;
}

static int gaps_read(struct index *x)
{
	const unsigned char *at = part_at(x, PART_GAPS, INDEX_GAP_BYTES);

	if (!at)
		return -EBADMSG;
	for (__u32 i = 0; i < x->parts[PART_GAPS].count; i++, at += INDEX_GAP_BYTES) {
		struct catalog_gap g = { (__u32)get_u64(at), get_u64(at + 8),  get_u64(at + 16),
					 get_u64(at + 24),   get_u64(at + 32), "" };

		memcpy(g.reason, at + 40, CATALOG_NAME_MAX - 1);
		if (catalog_gap_add(&x->about, &g))
			return -ENOMEM;
	}
	return 0;
}

static int times_read(struct index *x)
{
	const unsigned char *at = part_at(x, PART_TIMES, INDEX_TIMES_BYTES);
	__u32 n = x->parts[PART_TIMES].count;

	if (!at)
		return -EBADMSG;
	if (array_grow((void **)&x->about.times, &x->about.times_room, n, sizeof(*x->about.times)))
		return -ENOMEM;
	for (; x->about.times_n < n; at += INDEX_TIMES_BYTES) {
		x->about.times[x->about.times_n].before_ns = get_u64(at);
		x->about.times[x->about.times_n++].from_ns = get_u64(at + 8);
	}
	return 0;
}

static int chunks_read(struct index *x)
{
	const unsigned char *at = part_at(x, PART_CHUNKS, 4);

	x->chunks_n = x->parts[PART_CHUNKS].count;
	if (!at || x->chunks_n != (x->segment_bytes + INDEX_CHUNK - 1) / INDEX_CHUNK)
		return -EBADMSG;
	x->chunks = malloc((x->chunks_n + 1ULL) * sizeof(*x->chunks));
	if (!x->chunks)
		return -ENOMEM;
	for (__u32 i = 0; i < x->chunks_n; i++)
		x->chunks[i] = get_u32(at + i * 4ULL);
	return 0;
}

int index_open(struct index *x, int dir, const char *base, const char **why)
{
	char name[STORE_NAME_MAX + 16];
	int fd, err;

	memset(x, 0, sizeof(*x));
	x->file.fd = -1;
	fd = openat(dir, store_file(name, base, STORE_INDEX), O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		*why = strerror(errno);
		return -errno;
	}
	err = checked_open(&x->file, fd);
	*why = strerror(-err);
	if (!err)
		err = head_read(x, why);
	if (!err)
		err = sums_read(x);
	if (!err)
		err = devices_read(x);
	if (!err)
		err = gaps_read(x);
	if (!err)
		err = times_read(x);
	if (!err && x->parts[PART_OFFSETS].count != x->tracks + 1ULL)
		err = -EBADMSG;
	checked_keep(&x->file);
	if (err)
		index_close(x);
	return err;
}

/* When packets are read, which not every question needs. */
int index_chunks(struct index *x)
{
	return x->chunks ? 0 : chunks_read(x);
}

void index_close(struct index *x)
{
	__u32 *sums = (__u32 *)x->file.sums;

	checked_close(&x->file);
	free(sums);
	catalog_free(&x->about);
	free(x->chunks);
	x->chunks = NULL;
}

/* ---- tracks ----------------------------------------------------------------------------------- */

static void flow_read(struct bytes *b, struct flow_key *flow, bool v4, bool v6)
{
	if (v4) {
		flow->local[10] = flow->local[11] = flow->remote[10] = flow->remote[11] = 0xff;
		bytes_copy(b, flow->local + 12, 4);
		bytes_copy(b, flow->remote + 12, 4);
	} else if (v6) {
		bytes_copy(b, flow->local, 16);
		bytes_copy(b, flow->remote, 16);
	}
	bytes_copy(b, &flow->proto, 1);
	flow->local_port = (__u16)bytes_varint(b);
	flow->remote_port = (__u16)bytes_varint(b);
}

static void key_read(struct bytes *b, struct track *k, __u32 mask)
{
	__u8 len = 0;

	flow_read(b, &k->flow, mask & RECORD_V4, mask & RECORD_V6);
	if (mask & RECORD_INNER)
		flow_read(b, &k->inner, mask & RECORD_INNER_V4, !(mask & RECORD_INNER_V4));
	k->flow.node = (__u32)bytes_varint(b);
	k->device = (__u32)bytes_varint(b);
	k->ethertype = mask & RECORD_V4 ? FILTER_IP : FILTER_IP6;
	if (mask & RECORD_TYPE)
		k->ethertype = (__u16)bytes_varint(b);
	if (mask & RECORD_CLASS)
		k->class = (__u8)bytes_varint(b);
	if (mask & RECORD_VLAN)
		k->vlan[0] = (__u16)bytes_varint(b);
	if (mask & RECORD_VLANS)
		k->vlan[1] = (__u16)bytes_varint(b);
	if (mask & RECORD_MPLS)
		k->mpls = (__u32)bytes_varint(b);
	if (mask & RECORD_VNI)
		k->vni = (__u32)bytes_varint(b);
	if (mask & RECORD_MARK)
		k->mark = (__u32)bytes_varint(b);
	if (mask & RECORD_PID)
		k->pid = (__u32)bytes_varint(b);
	if (mask & RECORD_COMM) {
		bytes_copy(b, &len, 1);
		if (len > sizeof(k->comm))
			b->bad = true;
		else
			bytes_copy(b, k->comm, len);
	}
}

static int positions_read(struct index *x, struct bytes *b, struct catalog_track *t, __u32 half,
			  bool wanted, struct index_refs *refs)
{
	bool forward = half & 1;
	__u32 position = 0;

	t->packets[forward] = (__u32)bytes_varint(b);
	t->wire[forward] = bytes_varint(b);
	if (b->bad || t->packets[forward] > x->packets)
		return -EBADMSG;
	if (!refs && forward) /* nothing comes behind that is of interest */
		return 0;
	wanted = wanted && refs; /* else they are only counted */
	if (wanted && array_grow((void **)&refs->at, &refs->room, refs->n + t->packets[forward],
				 sizeof(*refs->at)))
		return -ENOMEM;
	for (__u32 i = 0; i < t->packets[forward]; i++) {
		position += (__u32)bytes_varint(b);
		if (wanted)
			refs->at[refs->n++] = (__u64)position << 32 | half;
	}
	return b->bad ? -EBADMSG : 0;
}

static int record_at(struct index *x, __u32 track, struct bytes *b)
{
	const unsigned char *at;
	__u32 from, to;

	if (track >= x->tracks)
		return -EBADMSG;
	at = checked_at(&x->file, x->parts[PART_OFFSETS].offset + track * 4ULL, 8);
	if (!at)
		return -EBADMSG;
	from = get_u32(at);
	to = get_u32(at + 4);
	if (from > to || to > x->parts[PART_TRACKS].bytes)
		return -EBADMSG;
	at = checked_at(&x->file, x->parts[PART_TRACKS].offset + from, to - from);
	if (!at)
		return -EBADMSG;
	*b = (struct bytes){ at, at + (to - from), false };
	return 0;
}

static __u64 stamp_read(struct bytes *b, __u64 wall_ns)
{
	__u64 upper = (wall_ns >> 16) + (__u64)unzigzag(bytes_varint(b));

	return upper << 16 | (bytes_varint(b) & 0xffff);
}

int index_track(struct index *x, __u32 track, struct catalog_track *t, unsigned halves,
		struct index_refs *refs)
{
	struct bytes b;
	__u32 mask;
	int err = record_at(x, track, &b);

	if (err)
		return err;
	memset(t, 0, sizeof(*t));
	mask = (__u32)bytes_varint(&b);
	key_read(&b, &t->track, mask);
	t->first_ns = x->about.first_ns + bytes_varint(&b);
	t->last_ns = t->first_ns + bytes_varint(&b);
	if (mask & RECORD_STAMP) {
		t->first_stamp = stamp_read(&b, t->first_ns);
		t->last_stamp = stamp_read(&b, t->last_ns);
	}
	if (b.bad)
		return -EBADMSG;
	if (mask & RECORD_BACK)
		err = positions_read(x, &b, t, HALF(track, 0), halves & 1, refs);
	if (!err && mask & RECORD_FORTH)
		err = positions_read(x, &b, t, HALF(track, 1), halves & 2, refs);
	return err;
}
