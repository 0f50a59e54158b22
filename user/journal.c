// SPDX-License-Identifier: GPL-2.0-only
/* Journals: written in batches, read on from where one stopped. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "bytes.h"
#include "journal.h"

#define MAGIC "TMJOURN1"
#define BATCH_MAGIC 0x42544d54U
#define HEAD_BYTES (8 + sizeof(((struct catalog *)0)->class_name) + CATALOG_NAME_MAX)
#define BATCH_HEAD 24
#define BATCH_MOST (64U << 20)

/* What a record begins with; a packet is RECORD_PACKET + its half. */
enum { RECORD_DEVICE, RECORD_TRACK, RECORD_GAP, RECORD_PACKET };

static void add_varint(struct text *text, __u64 value)
{
	unsigned char bytes[VARINT_MAX];

	text_add(text, bytes, (size_t)(put_varint(bytes, value) - bytes));
}

void journal_head(struct text *text, const char *class_name, const char *host)
{
	char head[HEAD_BYTES] = MAGIC;

	strncpy(head + 8, class_name, sizeof(((struct catalog *)0)->class_name) - 1);
	strncpy(head + HEAD_BYTES - CATALOG_NAME_MAX, host, CATALOG_NAME_MAX - 1);
	text_add(text, head, sizeof(head));
}

void journal_device(struct journal_writer *j, const struct catalog_device *d)
{
	add_varint(&j->batch, RECORD_DEVICE);
	add_varint(&j->batch, d->node);
	add_varint(&j->batch, d->device);
	add_varint(&j->batch, d->linktype);
	text_add(&j->batch, d->node_name, sizeof(d->node_name));
	text_add(&j->batch, d->name, sizeof(d->name));
}

void journal_track(struct journal_writer *j, const struct track *track)
{
	add_varint(&j->batch, RECORD_TRACK);
	text_add(&j->batch, track, sizeof(*track));
}

void journal_gap(struct journal_writer *j, const struct catalog_gap *gap)
{
	add_varint(&j->batch, RECORD_GAP);
	add_varint(&j->batch, gap->node);
	add_varint(&j->batch, gap->from_ns);
	add_varint(&j->batch, gap->to_ns);
	add_varint(&j->batch, gap->packets);
	add_varint(&j->batch, gap->bytes);
	text_add(&j->batch, gap->reason, sizeof(gap->reason));
}

/* Once a packet: into a buffer of its own, so that there is one append. */
void journal_packet(struct journal_writer *j, const struct catalog_packet *p)
{
	unsigned char bytes[6 * VARINT_MAX], *to = bytes;

	to = put_varint(to, RECORD_PACKET + (__u64)HALF(p->track, p->forward));
	to = put_varint(to, p->position - j->last.position);
	to = put_varint(to, zigzag((__s64)(p->wall_ns - j->last.wall_ns)));
	to = put_varint(to, zigzag((__s64)(p->stamp - j->last.stamp)));
	to = put_varint(to, p->wire);
	to = put_varint(to, p->kept);
	text_add(&j->batch, bytes, (size_t)(to - bytes));
	j->last = *p;
}

void journal_batch(struct journal_writer *j, __u64 end, struct text *text)
{
	unsigned char head[BATCH_HEAD];

	put_u32(head, BATCH_MAGIC);
	put_u32(head + 4, (__u32)j->batch.len);
	put_u64(head + 8, end);
	put_u64(head + 16, XXH64(j->batch.at, j->batch.len, end));
	text_add(text, head, sizeof(head));
	text_add(text, j->batch.at, j->batch.len);
	j->batch.len = 0;
}

/* ---- reading ---------------------------------------------------------------------------- */

static int read_device(struct bytes *b, struct catalog *c)
{
	struct catalog_device d = {};

	d.node = (__u32)bytes_varint(b);
	d.device = (__u32)bytes_varint(b);
	d.linktype = (__u16)bytes_varint(b);
	bytes_copy(b, d.node_name, sizeof(d.node_name));
	bytes_copy(b, d.name, sizeof(d.name));
	d.node_name[sizeof(d.node_name) - 1] = 0;
	d.name[sizeof(d.name) - 1] = 0;
	return b->bad ? -EBADMSG : catalog_device_add(c, &d);
}

static int read_gap(struct bytes *b, struct catalog *c)
{
	struct catalog_gap g = {};

	g.node = (__u32)bytes_varint(b);
	g.from_ns = bytes_varint(b);
	g.to_ns = bytes_varint(b);
	g.packets = bytes_varint(b);
	g.bytes = bytes_varint(b);
	bytes_copy(b, g.reason, sizeof(g.reason));
	g.reason[sizeof(g.reason) - 1] = 0;
	return b->bad ? -EBADMSG : catalog_gap_add(c, &g);
}

static int read_track(struct bytes *b, struct catalog *c)
{
	__u32 before = c->tracks_n;
	struct track track;
	__s64 number;

	bytes_copy(b, &track, sizeof(track));
	if (b->bad)
		return -EBADMSG;
	number = catalog_track(c, &track);
	if (number < 0)
		return (int)number;
	return number == before ? 0 : -EBADMSG; /* said twice: the numbers would not agree */
}

static int read_packet(struct bytes *b, __u64 half, struct catalog_packet *p, struct catalog *c)
{
	__u64 step;

	p->track = (__u32)(half >> 1);
	p->forward = half & 1;
	step = bytes_varint(b);
	p->wall_ns += (__u64)unzigzag(bytes_varint(b));
	p->stamp += (__u64)unzigzag(bytes_varint(b));
	p->wire = (__u32)bytes_varint(b);
	p->kept = (__u32)bytes_varint(b);
	if (b->bad || half >> 1 >= c->tracks_n || step > ~0U - p->position)
		return -EBADMSG;
	p->position += (__u32)step;
	return catalog_add(c, p);
}

static int read_body(struct bytes *b, struct journal_reader *r, struct catalog *c)
{
	int err = 0;

	while (!err && b->at < b->end) {
		__u64 tag = bytes_varint(b);

		if (tag == RECORD_DEVICE)
			err = read_device(b, c);
		else if (tag == RECORD_TRACK)
			err = read_track(b, c);
		else if (tag == RECORD_GAP)
			err = read_gap(b, c);
		else
			err = read_packet(b, tag - RECORD_PACKET, &r->last, c);
	}
	return err;
}

static int read_head(const unsigned char *at, struct catalog *c)
{
	if (memcmp(at, MAGIC, 8))
		return -EBADMSG;
	memcpy(c->class_name, at + 8, sizeof(c->class_name) - 1);
	memcpy(c->host, at + HEAD_BYTES - CATALOG_NAME_MAX, CATALOG_NAME_MAX - 1);
	return 0;
}

static int read_all(const unsigned char *at, size_t room, struct journal_reader *r,
		    struct catalog *c)
{
	size_t from = 0;
	int err = 0;

	if (!r->offset) {
		if (room < HEAD_BYTES)
			return 0;
		err = read_head(at, c);
		from = HEAD_BYTES;
	}
	while (!err && room - from >= BATCH_HEAD) {
		const unsigned char *head = at + from;
		__u64 end = get_u64(head + 8);
		__u32 length = get_u32(head + 4);
		struct bytes body = { head + BATCH_HEAD, head + BATCH_HEAD + length, false };

		if (get_u32(head) != BATCH_MAGIC || length > room - from - BATCH_HEAD ||
		    XXH64(body.at, length, end) != get_u64(head + 16))
			break;
		err = read_body(&body, r, c);
		c->end = end;
		from += BATCH_HEAD + length;
	}
	r->offset += from;
	return err;
}

int journal_read(int fd, struct journal_reader *r, struct catalog *c)
{
	unsigned char *at;
	struct stat st;
	ssize_t got;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if ((__u64)st.st_size <= r->offset)
		return 0;
	if (st.st_size - r->offset > 16ULL * BATCH_MOST)
		return -EBADMSG;
	at = malloc((size_t)st.st_size - r->offset);
	if (!at)
		return -ENOMEM;
	got = pread(fd, at, (size_t)st.st_size - r->offset, (off_t)r->offset);
	err = got < 0 ? -errno : read_all(at, (size_t)got, r, c);
	free(at);
	return err;
}
