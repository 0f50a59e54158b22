// SPDX-License-Identifier: GPL-2.0-only
/* Indexes read: nothing in them is believed before its checksum and its bounds agree. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "bytes.h"
#include "index_tracks.h"
#include "secret.h"
#include "store.h"

static int head_read(struct index *x, const char **why)
{
	const unsigned char *head = checked_at(&x->file, 0, INDEX_HEAD);

	*why = "damaged; `record --reindex` makes it anew";
	if (x->file.size < INDEX_HEAD || (head && memcmp(head, INDEX_MAGIC, 8))) {
		*why = "no index; `record --reindex` makes one";
		return -EBADMSG;
	}
	if (!head)
		return -EBADMSG;
	if (get_u32(head + 8) != INDEX_VERSION) {
		*why = "an index of another version; `record --reindex` makes it anew";
		return -EBADMSG;
	}
	if (XXH64(head, INDEX_HEAD - 8, 0) != get_u64(head + INDEX_HEAD - 8) ||
	    get_u32(head + 12) != PARTS_NR || get_u64(head + 16) != x->file.size)
		return -EBADMSG;
	x->sum = get_u64(head + 104);
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
	fd = openat(dir, store_file(name, base, STORE_INDEX), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		*why = strerror(errno);
		return -errno;
	}
	err = checked_open(&x->file, fd);
	*why = secret_error(err);
	if (!err)
		err = head_read(x, why);
	if (!err)
		err = checked_tail(&x->file, INDEX_HEAD, x->file.size, INDEX_PAGE, x->sum);
	if (!err)
		err = devices_read(x);
	if (!err)
		err = gaps_read(x);
	if (!err)
		err = times_read(x);
	if (!err &&
	    x->parts[PART_OFFSETS].count != (x->tracks + BLOCK_TRACKS - 1ULL) / BLOCK_TRACKS + 1)
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
	index_forget(x);
	checked_close(&x->file);
	catalog_free(&x->about);
	free(x->chunks);
	x->chunks = NULL;
}
