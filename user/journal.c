// SPDX-License-Identifier: GPL-2.0-only
/* Journals: written in batches, read on from where one stopped. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "bytes.h"
#include "index.h"
#include "journal.h"
#include "trackbytes.h"

#define MAGIC "TMJOURN2"
#define MAGIC_OF_ALL 7 /* bytes; the eighth is the version */
#define BATCH_MAGIC "TMTB"
#define HEAD_BYTES (8 + sizeof(((struct catalog *)0)->class_name) + CATALOG_NAME_MAX)
#define BATCH_HEAD 32
#define BATCH_SUM 24 /* in the head: of what is before it and of the body */
#define BATCH_MOST (64U << 20)
#define NUMBERS_MOST (1U << 20) /* that a damaged journal may leave out */

/* What a record begins with; a packet is RECORD_PACKET + its half. */
enum { RECORD_DEVICE, RECORD_TRACK, RECORD_GAP, RECORD_SUMS, RECORD_PACKET };

void journal_begin(struct journal_writer *j)
{
	j->batch.len = 0;
	memset(&j->last, 0, sizeof(j->last));
	memset(&j->last_track, 0, sizeof(j->last_track));
	j->end = j->packets = j->packets_before = 0;
}

void journal_head(struct text *text, const char *class_name, const char *host)
{
	char head[HEAD_BYTES] = MAGIC;

	strncpy(head + 8, class_name, sizeof(((struct catalog *)0)->class_name) - 1);
	strncpy(head + HEAD_BYTES - CATALOG_NAME_MAX, host, CATALOG_NAME_MAX - 1);
	text_add(text, head, sizeof(head));
}

void journal_device(struct journal_writer *j, __u32 number, const struct catalog_device *d)
{
	add_varint(&j->batch, RECORD_DEVICE);
	add_varint(&j->batch, number);
	add_varint(&j->batch, d->position);
	add_varint(&j->batch, d->node);
	add_varint(&j->batch, d->device);
	add_varint(&j->batch, d->linktype);
	text_add(&j->batch, d->node_name, sizeof(d->node_name));
	text_add(&j->batch, d->name, sizeof(d->name));
}

void journal_track(struct journal_writer *j, __u32 number, const struct track *track)
{
	add_varint(&j->batch, RECORD_TRACK);
	add_varint(&j->batch, number);
	add_track(&j->batch, track, &j->last_track);
	j->last_track = *track;
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

void journal_packet(struct journal_writer *j, const struct catalog_packet *p)
{
	unsigned char *from = (unsigned char *)text_room(&j->batch, 6 * VARINT_MAX), *to = from;

	if (!from)
		return;
	to = put_varint(to, RECORD_PACKET + (__u64)HALF(p->track, p->forward));
	to = put_varint(to, p->position - j->last.position);
	to = put_varint(to, zigzag((__s64)(p->wall_ns - j->last.wall_ns)));
	to = put_varint(to, zigzag((__s64)(p->stamp - j->last.stamp)));
	to = put_varint(to, p->wire);
	to = put_varint(to, p->kept);
	j->batch.len += (size_t)(to - from);
	j->last = *p;
	j->packets++;
}

/* Again that of a chunk which was not whole the last time. */
static void add_sums(struct journal_writer *j, const struct sums *sums)
{
	__u32 first = (__u32)(j->end / INDEX_CHUNK);
	unsigned char bytes[4];

	add_varint(&j->batch, RECORD_SUMS);
	add_varint(&j->batch, first);
	add_varint(&j->batch, sums->n - first);
	for (__u32 n = first; n < sums->n; n++) {
		put_u32(bytes, sums->at[n]);
		text_add(&j->batch, bytes, sizeof(bytes));
	}
}

static __u64 batch_sum(const unsigned char *head, const void *body, __u32 length)
{
	return XXH64(body, length, XXH64(head, BATCH_SUM, 0));
}

void journal_batch(struct journal_writer *j, __u64 end, const struct sums *sums, struct text *text)
{
	unsigned char head[BATCH_HEAD];

	if (end > j->end)
		add_sums(j, sums);
	memcpy(head, BATCH_MAGIC, 4);
	put_u32(head + 4, (__u32)j->batch.len);
	put_u64(head + 8, end);
	put_u64(head + 16, j->packets_before);
	put_u64(head + BATCH_SUM, batch_sum(head, j->batch.at, (__u32)j->batch.len));
	text_add(text, head, sizeof(head));
	text_add(text, j->batch.at, j->batch.len);
	j->batch.len = 0;
	memset(&j->last, 0, sizeof(j->last));
	memset(&j->last_track, 0, sizeof(j->last_track));
	j->end = end;
	j->packets_before = j->packets;
}

/* ---- reading ---------------------------------------------------------------------------- */

/* One gap of all that is lost of a segment, from the earliest time it may be of to the latest. */
static int lost_note(struct journal_reader *r, struct catalog *c, __u64 from_ns, __u64 to_ns,
		     __u64 packets)
{
	struct catalog_gap gap = { .from_ns = from_ns, .to_ns = to_ns, .packets = packets };
	struct catalog_gap *known = r->gap ? &c->gaps[r->gap - 1] : NULL;

	r->lost += packets;
	if (known) {
		known->packets += packets;
		known->from_ns = from_ns < known->from_ns ? from_ns : known->from_ns;
		known->to_ns = to_ns > known->to_ns ? to_ns : known->to_ns;
		return 0;
	}
	strcpy(gap.reason, JOURNAL_DAMAGED);
	r->gap = c->gaps_n + 1;
	return catalog_gap_add(c, &gap);
}

static int read_device(struct bytes *b, struct journal_reader *r, struct catalog *c)
{
	struct catalog_device d = {}, lost = { .position = ~0U, .node_name = "lost" };
	__u64 number = bytes_varint(b);

	d.position = (__u32)bytes_varint(b);
	d.node = (__u32)bytes_varint(b);
	d.device = (__u32)bytes_varint(b);
	d.linktype = (__u16)bytes_varint(b);
	bytes_copy(b, d.node_name, sizeof(d.node_name));
	bytes_copy(b, d.name, sizeof(d.name));
	d.node_name[sizeof(d.node_name) - 1] = 0;
	d.name[sizeof(d.name) - 1] = 0;
	if (b->bad || number < c->devices_n || number - c->devices_n > NUMBERS_MOST ||
	    (number > c->devices_n && !r->damaged))
		return -EBADMSG;
	while (c->devices_n < number)
		if (catalog_device_add(c, &lost))
			return -ENOMEM;
	return catalog_device_add(c, &d);
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

static int read_track(struct bytes *b, struct track *track, struct journal_reader *r,
		      struct catalog *c)
{
	__u64 number = bytes_varint(b);
	__s64 known;

	bytes_track(b, track);
	if (b->bad || number < r->numbers_n || number - r->numbers_n > NUMBERS_MOST ||
	    (number > r->numbers_n && !r->damaged))
		return -EBADMSG;
	if (array_grow((void **)&r->numbers, &r->numbers_room, (__u32)number + 1,
		       sizeof(*r->numbers)))
		return -ENOMEM;
	while (r->numbers_n < number)
		r->numbers[r->numbers_n++] = ~0U;
	known = catalog_track(c, track);
	if (known < 0)
		return (int)known;
	r->numbers[r->numbers_n++] = (__u32)known;
	return 0;
}

/* Where one is not known, for its batch is lost, there is zero. */
static int read_sums(struct bytes *b, const struct journal_reader *r, struct sums *sums)
{
	__u64 first = bytes_varint(b), n = bytes_varint(b);
	unsigned char bytes[4];

	if (b->bad || n > (__u64)(b->end - b->at) / 4 || first > sums->n + NUMBERS_MOST ||
	    (first > sums->n && !r->damaged))
		return -EBADMSG;
	if (array_grow((void **)&sums->at, &sums->room, (__u32)(first + n), sizeof(*sums->at)))
		return -ENOMEM;
	while (sums->n < first)
		sums->at[sums->n++] = 0;
	for (sums->n = (__u32)first; n; n--) {
		bytes_copy(b, bytes, sizeof(bytes));
		sums->at[sums->n++] = get_u32(bytes);
	}
	return 0;
}

static int read_packet(struct bytes *b, __u64 half, struct catalog_packet *p,
		       struct journal_reader *r, struct catalog *c)
{
	__u64 step = bytes_varint(b);

	p->wall_ns += (__u64)unzigzag(bytes_varint(b));
	p->stamp += (__u64)unzigzag(bytes_varint(b));
	p->wire = (__u32)bytes_varint(b);
	p->kept = (__u32)bytes_varint(b);
	if (b->bad || step > ~0U - p->position || (half >> 1 >= r->numbers_n && !r->damaged))
		return -EBADMSG;
	p->position += (__u32)step;
	p->forward = half & 1;
	r->packets++;
	if (p->wall_ns > r->latest_ns)
		r->latest_ns = p->wall_ns;
	if (half >> 1 >= r->numbers_n || r->numbers[half >> 1] == ~0U)
		return lost_note(r, c, p->wall_ns, p->wall_ns, 1);
	p->track = r->numbers[half >> 1];
	if (c->entries_n && p->position <= c->entries[c->entries_n - 1].position)
		return -EBADMSG;
	return catalog_add(c, p);
}

/* Of a batch before which others are missing, the first packet says until when. */
static int read_body(struct bytes *b, __u64 missing, struct journal_reader *r, struct catalog *c)
{
	struct catalog_packet p = {};
	__u64 from_ns = r->latest_ns;
	struct track track = {};
	int err = 0;

	while (!err && b->at < b->end) {
		__u64 tag = bytes_varint(b);

		if (tag == RECORD_DEVICE)
			err = read_device(b, r, c);
		else if (tag == RECORD_TRACK)
			err = read_track(b, &track, r, c);
		else if (tag == RECORD_GAP)
			err = read_gap(b, c);
		else if (tag == RECORD_SUMS)
			err = read_sums(b, r, &c->sums);
		else
			err = read_packet(b, tag - RECORD_PACKET, &p, r, c);
		if (!err && tag >= RECORD_PACKET && missing) {
			err = lost_note(r, c, from_ns ? from_ns : p.wall_ns, p.wall_ns, missing);
			missing = 0;
		}
	}
	if (!err && missing)
		err = lost_note(r, c, from_ns, from_ns, missing);
	return err;
}

static int read_head(const unsigned char *at, struct catalog *c)
{
	if (memcmp(at, MAGIC, MAGIC_OF_ALL))
		return -EBADMSG;
	if (memcmp(at, MAGIC, 8))
		return -EPROTONOSUPPORT;
	memcpy(c->class_name, at + 8, sizeof(c->class_name) - 1);
	memcpy(c->host, at + HEAD_BYTES - CATALOG_NAME_MAX, CATALOG_NAME_MAX - 1);
	return 0;
}

static bool batch_is(const unsigned char *at, size_t room)
{
	__u32 length = room < BATCH_HEAD ? 0 : get_u32(at + 4);

	return room >= BATCH_HEAD && !memcmp(at, BATCH_MAGIC, 4) && length <= room - BATCH_HEAD &&
	       batch_sum(at, at + BATCH_HEAD, length) == get_u64(at + BATCH_SUM);
}

static int read_batch(const unsigned char *at, struct journal_reader *r, struct catalog *c)
{
	__u64 end = get_u64(at + 8), packets = get_u64(at + 16);
	__u32 length = get_u32(at + 4);
	struct bytes body = { at + BATCH_HEAD, at + BATCH_HEAD + length, false };
	__u64 missing = packets - r->packets;
	int err;

	if (packets < r->packets || (missing && !r->damaged) || end < c->end)
		return -EBADMSG;
	r->packets = packets;
	err = read_body(&body, missing, r, c);
	c->end = end;
	if (c->sums.n != (end + INDEX_CHUNK - 1) / INDEX_CHUNK)
		return err ? err : -EBADMSG;
	return err;
}

/* The next whole batch from `from` on, which is there at once unless something is damaged. */
static size_t batch_find(const unsigned char *at, size_t from, size_t room)
{
	const unsigned char *next = at + from;

	while (next && !batch_is(next, room - (size_t)(next - at)))
		next = room - (size_t)(next - at) < BATCH_HEAD
			       ? NULL
			       : memmem(next + 1, room - (size_t)(next + 1 - at), BATCH_MAGIC, 4);
	return next ? (size_t)(next - at) : room;
}

static int read_all(const unsigned char *at, size_t room, struct journal_reader *r,
		    struct catalog *c)
{
	size_t from = 0, next;
	int err = 0;

	if (!r->offset) {
		if (room < HEAD_BYTES)
			return 0;
		err = read_head(at, c);
		from = HEAD_BYTES;
	}
	while (!err && (next = batch_find(at, from, room)) < room) {
		if (next > from) {
			r->damaged = true;
			/* The rest of this chunk was told of in what is lost, mostly. */
			if (c->end % INDEX_CHUNK)
				c->sums.at[c->sums.n - 1] = 0;
		}
		err = read_batch(at + next, r, c);
		from = next + BATCH_HEAD + get_u32(at + next + 4);
	}
	r->offset += from;
	return err;
}

/* Longer than before, mostly; the descriptor is the reader's own. */
static int file_look(int fd, struct journal_reader *r)
{
	int err;

	if (r->open)
		return checked_grow(&r->file);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	err = fd < 0 ? -errno : checked_open(&r->file, fd);
	r->open = !err;
	return err;
}

int journal_read(int fd, struct journal_reader *r, struct catalog *c)
{
	const unsigned char *at;
	__u64 bytes;
	int err = file_look(fd, r);

	if (err || r->file.size <= r->offset)
		return err;
	bytes = r->file.size - r->offset;
	if (bytes > 16ULL * BATCH_MOST)
		return -EBADMSG;
	at = checked_remains(&r->file, r->offset, bytes);
	return at ? read_all(at, bytes, r, c) : -EBADMSG;
}

void journal_close(struct journal_reader *r)
{
	if (r->open)
		checked_close(&r->file);
	free(r->numbers);
	memset(r, 0, sizeof(*r));
}
