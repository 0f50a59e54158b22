// SPDX-License-Identifier: GPL-2.0-only
/* Indexes made anew: every packet of a segment read, and its track found again. */
#define _GNU_SOURCE 1
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "../bpf/mark.h"
#include "checked.h"
#include "dissect.h"
#include "index.h"
#include "joints.h"
#include "log.h"
#include "gather.h"
#include "segment_pack.h"
#include "segment_read.h"
#include "secret.h"
#include "segment_seal.h"
#include "store.h"
#include "text.h"

#define OPTION_COMMENT 1
#define IF_DESCRIPTION 3

struct reindexing {
	const char *path;
	int dir;
	struct checked plain;
	struct packed *packed;
	__u64 size;
	struct catalog c;
	struct catalog flows; /* tracks without mark and process; `said` is the track they have */
	struct dissector dissector;
};

static const unsigned char *read_at(struct reindexing *r, __u64 offset, __u64 bytes)
{
	return r->packed ? packed_at(r->packed, offset, bytes)
			 : checked_at(&r->plain, offset, bytes);
}

/* A text option as a string; empty if there is none. */
static void option_text(const unsigned char *at, __u32 length, size_t from, __u16 code, char *text,
			size_t size)
{
	const unsigned char *value;
	__u16 len = 0;

	if (length <= from || pcapng_option(at, length, from, code, &value, &len))
		len = 0;
	snprintf(text, size, "%.*s", (int)len, len ? (const char *)value : "");
}

static void section_read(struct reindexing *r, const unsigned char *at, __u32 length)
{
	char text[256];

	option_text(at, length, 24, OPTION_COMMENT, text, sizeof(text));
	sscanf(text, "class %31[^,], host %63[^\n]", r->c.class_name, r->c.host);
}

static int interface_read(struct reindexing *r, const unsigned char *at, __u32 length)
{
	struct catalog_device d = { .linktype = length > 16 ? (__u16)(at[8] | at[9] << 8) : 0 };
	char text[256], *tail;

	option_text(at, length, 16, 2, text, sizeof(text));
	tail = strrchr(text, '/');
	snprintf(d.name, sizeof(d.name), "%.63s", tail ? tail + 1 : text);
	option_text(at, length, 16, IF_DESCRIPTION, text, sizeof(text));
	tail = strstr(text, ", id ");
	if (strncmp(text, "node ", 5) || !tail ||
	    sscanf(tail, ", id %u, ifindex %u", &d.node, &d.device) != 2)
		return -EBADMSG;
	*tail = 0;
	snprintf(d.node_name, sizeof(d.node_name), "%.63s", text + 5);
	return catalog_device_add(&r->c, &d);
}

/* As segment.c writes them: `hlc=S mark=E/A:RAW pid=N comm=C`, either half alone too. */
static bool comment_read(const struct pcapng_packet *p, __u64 *stamp, struct track *track)
{
	char text[PCAPNG_COMMENT_MAX + 1], hlc[17], *at = text;
	uint64_t value;
	int used = 0;

	*stamp = 0;
	if (!p->comment || p->comment_len > PCAPNG_COMMENT_MAX)
		return false;
	memcpy(text, p->comment, p->comment_len);
	text[p->comment_len] = 0;
	if (!strncmp(text, "hlc=", 4) && p->comment_len >= 20) {
		memcpy(hlc, text + 4, 16);
		hlc[16] = 0;
		if (!text_parse_stamp(hlc, &value))
			*stamp = value;
		at += 20 + (text[20] == ' ');
	}
	if (sscanf(at, "mark=%*u/%*u:%x pid=%u comm=%n", &track->mark, &track->pid, &used) != 2 ||
	    !used)
		return false;
	memset(track->comm, 0, sizeof(track->comm));
	strncpy(track->comm, at + used, sizeof(track->comm) - 1);
	return true;
}

static int packet_read(struct reindexing *r, const unsigned char *at, __u32 length, __u64 offset)
{
	struct catalog_packet entry = { .position = (__u32)(offset / CATALOG_UNIT) };
	const struct catalog_device *d;
	struct pcapng_packet p;
	struct dissected more;
	struct track track = {};
	__s64 flow, number;
	__u32 flags = 0;
	bool out;

	if (pcapng_packet_read(at, length, &p) || p.interface >= r->c.devices_n)
		return -EBADMSG;
	d = &r->c.devices[p.interface];
	out = (p.flags & PCAPNG_DIRECTION) == PCAPNG_OUT;
	entry.forward = out != !!(p.flags & PCAPNG_PROMISCUOUS);
	flags |= entry.forward ? PACKET_FORWARD : 0;
	flags |= dissect_flags(d->linktype);
	track.flow.node = d->node;
	dissect(&r->dissector, p.frame, p.kept, p.wire, flags, &track, &more);
	track.device = d->device;
	flow = catalog_track(&r->flows, &track);
	if (flow < 0)
		return -ENOMEM;
	if (!comment_read(&p, &entry.stamp, &track) && r->flows.tracks[flow].said != ~0U)
		track = r->c.tracks[r->flows.tracks[flow].said].track;
	number = catalog_track(&r->c, &track);
	if (number < 0)
		return -ENOMEM;
	r->flows.tracks[flow].said = (__u32)number;
	entry.track = (__u32)number;
	entry.wall_ns = p.wall_ns;
	entry.wire = p.wire;
	entry.kept = p.kept;
	return catalog_add(&r->c, &entry);
}

static __u64 option_number(const unsigned char *at, __u32 length, __u16 code, bool halves)
{
	const unsigned char *value;
	__u64 n = 0;
	__u16 len;

	if (length <= 24 || pcapng_option(at, length, 20, code, &value, &len) || len != 8)
		return 0;
	memcpy(&n, value, 8);
	n = le64toh(n);
	return halves ? n << 32 | n >> 32 : n;
}

static int gap_read(struct reindexing *r, const unsigned char *at, __u32 length)
{
	struct catalog_gap gap = {};
	__u32 interface;

	memcpy(&interface, at + 8, 4);
	interface = le32toh(interface);
	if (interface >= r->c.devices_n)
		return -EBADMSG;
	gap.node = r->c.devices[interface].node;
	gap.from_ns = option_number(at, length, 2, true);
	gap.to_ns = option_number(at, length, 3, true);
	gap.packets = option_number(at, length, 5, false);
	option_text(at, length, 20, OPTION_COMMENT, gap.reason, sizeof(gap.reason));
	return catalog_gap_add(&r->c, &gap);
}

/* Block by block, as far as they are whole; -ENOMEM. */
static int blocks_read(struct reindexing *r)
{
	const unsigned char *at;
	__u32 type, length;
	__u64 offset = 0;
	int err = 0;

	for (; !err; offset += length) {
		r->c.end = offset;
		at = read_at(r, offset, 12);
		if (!at)
			return 0;
		memcpy(&length, at + 4, 4);
		length = le32toh(length);
		if (length > r->size - offset)
			return 0;
		at = read_at(r, offset, length);
		if (!at || pcapng_block(at, length, &type, &length))
			return 0;
		if (type == PCAPNG_SECTION)
			section_read(r, at, length);
		else if (type == PCAPNG_INTERFACE)
			err = interface_read(r, at, length);
		else if (type == PCAPNG_PACKET)
			err = packet_read(r, at, length, offset);
		else if (type == PCAPNG_STATISTICS && length >= 24)
			err = gap_read(r, at, length);
	}
	return err;
}

static int data_open(struct reindexing *r, const struct store_name *name)
{
	const char *ending;
	int fd, err;

	ending = store_open(r->dir, name->base, O_RDWR, &fd);
	if (!ending)
		return fd;
	if (store_packed(ending)) {
		err = packed_open(&r->packed, fd, 0);
		r->size = err ? 0 : packed_size(r->packed);
	} else {
		err = checked_open(&r->plain, fd);
		checked_bound(&r->plain, STORE_BOUND);
		r->size = r->plain.size;
	}
	return err;
}

/* What is no block at the end is not in any index, and what is not there cannot mislead. */
static int tail_cut(struct reindexing *r, const struct store_name *name)
{
	if (r->c.end == r->size)
		return 0;
	if (!r->c.end) /* not a segment at all, whatever its name */
		return -EBADMSG;
	log_warn("%s/%s: of %llu bytes the last %llu are not whole packets", r->path, name->base,
		 r->size, r->size - r->c.end);
	if (r->packed)
		return -EBADMSG;
	if (r->plain.vault) /* nor does anybody read them */
		return 0;
	return ftruncate(r->plain.fd, (off_t)r->c.end) ? -errno : 0;
}

static int sums_make(struct reindexing *r)
{
	int err = 0;

	for (__u64 from = 0, bytes; from < r->c.end && !err; from += bytes) {
		const unsigned char *at;

		bytes = r->c.end - from < INDEX_CHUNK ? r->c.end - from : INDEX_CHUNK;
		at = checked_at(&r->plain, from, bytes);
		err = at ? sums_add(&r->c.sums, at, bytes, INDEX_CHUNK) : -EBADMSG;
	}
	return err;
}

/*
 * What is known of it says what it has to be: a new index of damaged packets would make them
 * true. Those that are packed, or encrypted, know by themselves.
 */
static int segment_agrees(const struct reindexing *r, const struct store_name *name)
{
	struct segment *s = calloc(1, sizeof(*s));
	const struct checked *data;
	int err;

	if (!s)
		return -ENOMEM;
	if (segment_open(s, r->dir, r->path, name->base)) { /* nothing is known */
		segment_close(s);
		free(s);
		return 0;
	}
	err = segment_open_data(s);
	data = &s->data;
	for (__u64 at = data->from; !err && !s->packed && data->unit && at < data->to;
	     at += data->unit)
		if (!checked_at(&s->data, at, 1))
			err = -EBADMSG;
	if (err == -EBADMSG && s->sealed)
		log_error("%s: damaged: not what its index says, which stays; without %s.index it "
			  "is taken as it is",
			  s->path, name->base);
	else if (err == -EBADMSG)
		log_error("%s: damaged; the next `record` here puts it in order", s->path);
	segment_close(s);
	free(s);
	return err == -EBADMSG ? -EUCLEAN : 0;
}

static int segment_reindex(struct reindexing *r, const struct store_name *name)
{
	int err = segment_agrees(r, name);

	if (err)
		return err;
	err = data_open(r, name);
	if (!err)
		err = blocks_read(r);
	if (!err)
		err = tail_cut(r, name);
	if (!err && !r->packed)
		err = sums_make(r);
	if (!err)
		err = segment_index(r->dir, name->base, &r->c);
	if (err)
		log_error("%s/%s: %s", r->path, name->base,
			  err == -EBADMSG ? "damaged; no index was made" : secret_error(err));
	checked_close(&r->plain);
	packed_close(r->packed);
	r->packed = NULL;
	catalog_free(&r->c);
	catalog_free(&r->flows);
	return err;
}

static int directory_reindex(const char *path, int dir, void *ctx)
{
	struct reindexing *r = calloc(1, sizeof(*r));
	struct store_names names = {};
	struct joints *joints;
	int lock = openat(dir, "lock", O_RDWR | O_CLOEXEC), err, *failed = ctx;

	err = r ? store_list(dir, &names) : -ENOMEM;
	if (!err && lock >= 0 && flock(lock, LOCK_EX | LOCK_NB)) {
		log_error("%s: being recorded to; stop that first", path);
		*failed = -EBUSY;
		names.n = 0;
	}
	if (names.n)
		joints_forget(dir);
	for (__u32 i = 0; i < names.n && !err; i++) {
		int wrong;

		if (!names.at[i].plain && !names.at[i].zstd && !names.at[i].secret &&
		    !names.at[i].secret_zstd)
			continue;
		r->path = path;
		r->dir = dir;
		r->plain.fd = -1;
		log_progress("%s/%s", path, names.at[i].base);
		wrong = segment_reindex(r, &names.at[i]);
		if (wrong)
			*failed = wrong;
	}
	log_progress_end();
	joints = names.n && !err ? joints_open(dir, path) : NULL;
	while (joints && joints_due(joints))
		joints_step(joints);
	joints_close(joints);
	if (lock >= 0)
		close(lock);
	free(names.at);
	free(r);
	return err;
}

int segments_reindex(const char *dir, const char *key_file)
{
	int failed = 0, err;

	if (secret_write_with(key_file))
		return -EINVAL;
	err = gather_directories(dir, directory_reindex, &failed);
	return err ? err : failed;
}
