// SPDX-License-Identifier: GPL-2.0-only
/* Segments that a dead process left unsealed: checked, mended, sealed. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xxhash.h>

#include "bytes.h"
#include "index.h"
#include "journal.h"
#include "log.h"
#include "pcapng.h"
#include "recover.h"
#include "secret.h"
#include "segment_seal.h"
#include "store.h"
#include "stored.h"
#include "vault.h"

#define BLOCK_MOST 1024 /* of those that stand in every segment */
#define FILLER_MOST (1U << 20)

#define SEGMENT_DAMAGED "segment damaged"

/* Of a chunk: as it was written, not so, or nobody knows. */
enum state { WHOLE, DAMAGED, UNKNOWN };

struct recovery {
	const char *path, *base;
	int dir, fd;
	struct catalog c;
	struct journal_reader journal;
	struct checked file;
	unsigned char *states; /* of each chunk */
	__u64 lost;	       /* packets in damaged chunks */
	__u32 gaps_n;	       /* of the catalog, before those for what is lost */
	struct text text;      /* what is written instead */
	bool molten;	       /* `fd` is in memory, and not encrypted */
};

size_t segment_section(unsigned char *to, const struct catalog *c)
{
	char comment[160];

	snprintf(comment, sizeof(comment), "class %s, host %s", c->class_name, c->host);
	return pcapng_section(to, comment);
}

size_t segment_interface(unsigned char *to, const struct catalog_device *d)
{
	char name[CATALOG_NAME_MAX * 2 + 2], description[CATALOG_NAME_MAX * 2 + 64];

	snprintf(name, sizeof(name), "%s/%s", d->node_name, d->name);
	snprintf(description, sizeof(description), "node %s, id %u, ifindex %u", d->node_name,
		 d->node, d->device);
	return pcapng_interface(to, d->linktype, name, description);
}

/* ---- what is damaged -------------------------------------------------------------------------- */

static bool chunk_whole(struct recovery *r, __u64 from, __u64 bytes, __u32 sum)
{
	const unsigned char *at = checked_at(&r->file, from, bytes);

	return at && (__u32)XXH3_64bits(at, bytes) == sum;
}

/* The block at a place before `end`, if there is one. NULL. */
static const unsigned char *block_at(struct recovery *r, __u64 place, __u64 end, __u32 *type,
				     __u32 *length)
{
	const unsigned char *at = end - place < 12 ? NULL : checked_at(&r->file, place, 12);

	*length = at ? get_u32(at + 4) : 0;
	if (*length < 12 || *length > end - place)
		return NULL;
	at = checked_at(&r->file, place, *length);
	return at && !pcapng_block(at, *length, type, length) ? at : NULL;
}

/* Returns whether anything is; -ENOMEM. */
static int states_make(struct recovery *r)
{
	bool any = false;

	r->states = calloc(r->c.sums.n + 1ULL, 1);
	if (!r->states)
		return -ENOMEM;
	for (__u32 n = 0; n < r->c.sums.n; n++) {
		__u64 from = (__u64)n * INDEX_CHUNK, bytes = r->c.end - from;

		if (bytes > INDEX_CHUNK)
			bytes = INDEX_CHUNK;
		if (r->journal.damaged && !r->c.sums.at[n])
			r->states[n] = UNKNOWN;
		else if (!chunk_whole(r, from, bytes, r->c.sums.at[n]))
			r->states[n] = DAMAGED;
		any |= r->states[n] != WHOLE;
	}
	return any;
}

/* The worst of it. */
static enum state state_of(const struct recovery *r, __u64 from, __u64 bytes)
{
	enum state state = WHOLE;

	for (__u64 n = from / INDEX_CHUNK; n <= (from + bytes - 1) / INDEX_CHUNK; n++)
		if (n >= r->c.sums.n || r->states[n] == DAMAGED)
			return DAMAGED;
		else if (r->states[n] == UNKNOWN)
			state = UNKNOWN;
	return state;
}

/* Of a block, and how long it is, if that can be known. */
static enum state block_state(struct recovery *r, __u64 at, __u32 *length)
{
	__u64 end = r->c.end < r->file.size ? r->c.end : r->file.size;
	__u32 type;

	if (at + 12 > end || state_of(r, at, 12) == DAMAGED || !block_at(r, at, end, &type, length))
		return DAMAGED;
	return state_of(r, at, *length);
}

/* A gap for each node, from the earliest that these packets may be of to the latest. */
static int lost_note(struct recovery *r, const struct catalog_entry *e, __u32 bytes,
		     const char *reason)
{
	struct catalog_gap gap = { .node = r->c.tracks[e->half >> 1].track.flow.node,
				   .packets = 1,
				   .bytes = bytes };
	__u32 chunk = e->position / CATALOG_CHUNK, n = r->gaps_n;
	struct catalog_gap *known;

	strcpy(gap.reason, reason);
	gap.from_ns = r->c.times[chunk].from_ns;
	gap.to_ns = chunk + 1 < r->c.times_n ? r->c.times[chunk + 1].before_ns : r->c.last_ns;
	while (n < r->c.gaps_n &&
	       (r->c.gaps[n].node != gap.node || strcmp(r->c.gaps[n].reason, reason)))
		n++;
	if (n == r->c.gaps_n)
		return catalog_gap_add(&r->c, &gap);
	known = &r->c.gaps[n];
	known->packets++;
	known->bytes += bytes;
	if (gap.from_ns < known->from_ns)
		known->from_ns = gap.from_ns;
	if (gap.to_ns > known->to_ns)
		known->to_ns = gap.to_ns;
	return 0;
}

/*
 * Only packets whose every byte is known to be as it was written stay in the catalog. Those
 * that cannot be checked, for their checksums went with a part of the journal, stay in the
 * file.
 */
static int entries_sift(struct recovery *r)
{
	struct catalog *c = &r->c;
	__u32 kept = 0, length = 0, all = c->entries_n, next;
	int err = 0;

	for (__u32 i = 0; i < all && !err; i++) {
		const struct catalog_entry e = c->entries[i];
		enum state state = block_state(r, (__u64)e.position * CATALOG_UNIT, &length);

		if (state == WHOLE) {
			c->entries[kept++] = e;
			continue;
		}
		c->tracks[e.half >> 1].packets[e.half & 1]--;
		next = i + 1 < all ? c->entries[i + 1].position : (__u32)(c->end / CATALOG_UNIT);
		err = lost_note(r, &e, (next - e.position) * CATALOG_UNIT,
				state == DAMAGED ? SEGMENT_DAMAGED : JOURNAL_DAMAGED);
		r->lost += state == DAMAGED;
		r->journal.lost += state == UNKNOWN;
	}
	c->entries_n = kept;
	return err;
}

/* What nobody was ever told of is cut off; how much that is can be seen, mostly. */
static int tail_note(struct recovery *r)
{
	struct catalog_gap gap = { .reason = "journal cut short" };
	struct pcapng_packet packet;
	__u32 type, length = 0;

	for (__u64 at = r->c.end; at < r->file.size; at += length) {
		const unsigned char *block = block_at(r, at, r->file.size, &type, &length);

		if (!block)
			break;
		if (type != PCAPNG_PACKET || pcapng_packet_read(block, length, &packet))
			continue;
		if (!gap.packets++ || packet.wall_ns < gap.from_ns)
			gap.from_ns = packet.wall_ns;
		if (packet.wall_ns > gap.to_ns)
			gap.to_ns = packet.wall_ns;
		gap.bytes += packet.wire;
	}
	return gap.packets ? catalog_gap_add(&r->c, &gap) : 0;
}

/* ---- mending ---------------------------------------------------------------------------------- */

/* What every reader needs of what stood there. */
static int text_make(struct recovery *r, __u64 from, __u64 to)
{
	unsigned char *at = (unsigned char *)text_room(&r->text, BLOCK_MOST);

	if (!at)
		return -ENOMEM;
	if (!from)
		r->text.len += segment_section(at, &r->c);
	for (__u32 i = 0; i < r->c.devices_n; i++) {
		__u64 position = (__u64)r->c.devices[i].position * CATALOG_UNIT;

		if (position < from || position >= to)
			continue;
		at = (unsigned char *)text_room(&r->text, BLOCK_MOST);
		if (!at)
			return -ENOMEM;
		r->text.len += segment_interface(at, &r->c.devices[i]);
	}
	return 0;
}

static int filler_add(struct recovery *r, __u64 bytes)
{
	if (bytes && bytes < PCAPNG_FILLER_LEAST)
		return -EBADMSG;
	while (bytes) {
		__u32 length =
			bytes > FILLER_MOST + PCAPNG_FILLER_LEAST ? FILLER_MOST : (__u32)bytes;
		unsigned char *at = (unsigned char *)text_room(&r->text, length);

		if (!at)
			return -ENOMEM;
		pcapng_filler(at, length);
		r->text.len += length;
		bytes -= length;
	}
	return 0;
}

/* At the end, so that an index made anew from the packets knows of it too. */
static int gaps_add(struct recovery *r)
{
	for (__u32 i = r->gaps_n; i < r->c.gaps_n; i++) {
		const struct catalog_gap *g = &r->c.gaps[i];
		unsigned char *at = (unsigned char *)text_room(&r->text, BLOCK_MOST);
		__u32 interface = 0;

		while (interface < r->c.devices_n && r->c.devices[interface].node != g->node)
			interface++;
		if (!at)
			return -ENOMEM;
		if (interface < r->c.devices_n && !strcmp(g->reason, SEGMENT_DAMAGED))
			r->text.len += pcapng_statistics(at, interface, g->from_ns, g->to_ns,
							 g->packets, g->reason);
	}
	return 0;
}

/* From one block to another there are others now; at the end of the file, none. */
static int stretch_mend(struct recovery *r, __u64 from, __u64 to)
{
	int err;

	r->text.len = 0;
	err = text_make(r, from, to);
	if (!err && to < r->c.end && r->text.len > to - from)
		err = -EBADMSG;
	if (!err && to < r->c.end)
		err = filler_add(r, to - from - r->text.len);
	if (!err)
		err = store_put(r->fd, r->text.at, r->text.len, from);
	if (!err && to == r->c.end)
		r->c.end = from + r->text.len;
	return err;
}

/* Block by block; where there is none, on to the next packet that is one. */
static int stretches_mend(struct recovery *r)
{
	__u32 next = 0, length = 0;
	bool last = false;
	__u64 at = 0, to;
	int err = 0;

	for (; at < r->c.end && !err && !last; at = to) {
		if (block_state(r, at, &length) != DAMAGED) {
			to = at + length;
			continue;
		}
		while (next < r->c.entries_n &&
		       (__u64)r->c.entries[next].position * CATALOG_UNIT <= at)
			next++;
		to = next < r->c.entries_n ? (__u64)r->c.entries[next].position * CATALOG_UNIT
					   : r->c.end;
		last = to == r->c.end;
		err = stretch_mend(r, at, to);
	}
	r->text.len = 0;
	if (!err)
		err = gaps_add(r);
	if (!err)
		err = store_put(r->fd, r->text.at, r->text.len, r->c.end);
	if (!err)
		r->c.end += r->text.len;
	return err;
}

/* What it is now has other checksums. */
static int sums_renew(struct recovery *r)
{
	int fd = dup(r->fd), err = fd < 0 ? -errno : 0;

	checked_close(&r->file);
	if (!err)
		err = checked_open(&r->file, fd);
	sums_free(&r->c.sums);
	return err ? err : sums_add(&r->c.sums, r->file.at, r->c.end, INDEX_CHUNK);
}

/*
 * Blocks that are encrypted cannot be written anew one by one: what can be opened of them is
 * mended in memory, where zeros stand for the rest.
 */
static int data_melt(struct recovery *r)
{
	int fd = secret_writing() ? memfd_create("segment", MFD_CLOEXEC) : -1, err = 0;

	if (fd < 0)
		return secret_writing() ? -errno : -ENOKEY;
	for (__u64 at = 0, bytes; at < r->file.size && !err; at += bytes) {
		bytes = r->file.size - at < INDEX_CHUNK ? r->file.size - at : INDEX_CHUNK;
		err = store_put(fd, checked_remains(&r->file, at, bytes), bytes, at);
	}
	checked_close(&r->file);
	close(r->fd);
	r->fd = fd;
	r->molten = true;
	fd = err ? -1 : dup(fd);
	return err ? err : fd < 0 ? -errno : checked_open(&r->file, fd);
}

static int data_freeze(struct recovery *r)
{
	char text[STORE_NAME_MAX + 16], new[STORE_NAME_MAX + 16];
	struct stored to = {};
	int fd, err;

	fd = openat(r->dir, store_file(new, r->base, ".mending" STORE_NEW),
		    O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = stored_begin(&to, fd);
	if (!err)
		err = stored_put(&to, r->file.at, r->c.end, 0);
	if (!err)
		err = stored_end(&to);
	stored_free(&to);
	if (!err && fdatasync(fd))
		err = -errno;
	if (!err && renameat(r->dir, new, r->dir, store_file(text, r->base, STORE_SECRET)))
		err = -errno;
	if (err)
		unlinkat(r->dir, new, 0);
	close(r->fd);
	r->fd = fd;
	return err;
}

/* To what is promised. Where a block goes on behind that, readers do not. */
static int data_cut(struct recovery *r)
{
	__u64 end = r->file.vault ? vault_end(r->file.vault, r->c.end) : r->c.end;

	if (r->file.vault && !end)
		return 0;
	return ftruncate(r->fd, (off_t)end) ? -errno : 0;
}

static int data_mend(struct recovery *r)
{
	int err = states_make(r);
	bool mend = err > 0 || !r->c.end;

	if (err < 0)
		return err;
	r->gaps_n = r->c.gaps_n;
	err = mend ? entries_sift(r) : 0;
	if (!err && mend && r->file.vault)
		err = data_melt(r);
	if (!err && mend)
		err = r->c.end ? stretches_mend(r) : stretch_mend(r, 0, 0);
	if (!err)
		err = data_cut(r);
	if (!err && mend)
		err = sums_renew(r);
	return err || !r->molten ? err : data_freeze(r);
}

/* ---- one segment ------------------------------------------------------------------------------ */

static int journal_take(struct recovery *r)
{
	char text[STORE_NAME_MAX + 16];
	int err, fd;

	fd = openat(r->dir, store_file(text, r->base, STORE_JOURNAL),
		    O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = journal_read(fd, &r->journal, &r->c);
	close(fd);
	return err;
}

static int data_open(struct recovery *r)
{
	int copy, err;

	if (!store_open(r->dir, r->base, O_RDWR, &r->fd))
		return r->fd;
	copy = dup(r->fd);
	err = copy < 0 ? -errno : checked_open(&r->file, copy);
	if (!err)
		checked_bound(&r->file, STORE_BOUND);
	return err;
}

static int recover(struct recovery *r)
{
	char text[STORE_NAME_MAX + 16];
	int err = journal_take(r);

	if (!err)
		err = data_open(r);
	if (!err)
		err = tail_note(r);
	if ((!err && !r->c.entries_n && !r->c.gaps_n) ||
	    err == -ENOENT) { /* never anything in it */
		for (unsigned i = 0; i < STORE_DATA; i++)
			unlinkat(r->dir, store_file(text, r->base, store_data[i]), 0);
		unlinkat(r->dir, store_file(text, r->base, STORE_JOURNAL), 0);
		return 0;
	}
	if (!err)
		err = data_mend(r);
	if (!err)
		err = segment_seal(r->dir, r->base, r->fd, &r->c);
	if (!err && r->lost)
		log_warn("%s/%s: damaged; %llu packets are lost, and told as a gap", r->path,
			 r->base, r->lost);
	if (!err && r->journal.lost)
		log_warn("%s/%s: its journal is damaged; %llu packets are not in its index: "
			 "`record --reindex` looks for them among the packets",
			 r->path, r->base, r->journal.lost);
	return err;
}

int segment_recover(const char *path, int dir, const char *base)
{
	struct recovery r = { .path = path, .base = base, .dir = dir, .fd = -1, .file.fd = -1 };
	int err = recover(&r);

	if (err)
		log_error("%s/%s: cannot be recovered: %s%s", path, base,
			  err == -EPROTONOSUPPORT ? "a journal of another version"
			  : err == -EBADMSG	  ? "a damaged journal"
						  : secret_error(err),
			  err == -ENOKEY || err == -EKEYREJECTED
				  ? ""
				  : "; `record --reindex` makes its index from its packets");
	if (r.fd >= 0)
		close(r.fd);
	journal_close(&r.journal);
	checked_close(&r.file);
	catalog_free(&r.c);
	free(r.states);
	text_free(&r.text);
	return err;
}
