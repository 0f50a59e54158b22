// SPDX-License-Identifier: GPL-2.0-only
/* Flow records: the tracks of a segment, compressed, without where their packets are. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>
#include <zstd.h>

#include "bytes.h"
#include "checked.h"
#include "flowlog.h"
#include "store.h"
#include "text.h"
#include "trackbytes.h"

#define MAGIC "TMFLOWS2"
#define HEAD 24 /* magic, checksum of the rest, size of the body, how it was compressed */
#define BODY_MOST (1U << 30)

static void body_make(struct text *body, const struct catalog *c)
{
	static const struct catalog_track none;
	const struct catalog_track *last = &none;

	text_add(body, c->class_name, sizeof(c->class_name));
	text_add(body, c->host, sizeof(c->host));
	add_varint(body, c->devices_n);
	for (__u32 i = 0; i < c->devices_n; i++) {
		add_varint(body, c->devices[i].node);
		add_varint(body, c->devices[i].device);
		add_varint(body, c->devices[i].linktype);
		text_add(body, c->devices[i].node_name, CATALOG_NAME_MAX);
		text_add(body, c->devices[i].name, CATALOG_NAME_MAX);
	}
	add_varint(body, c->tracks_n);
	for (__u32 i = 0; i < c->tracks_n; i++) {
		const struct catalog_track *t = &c->tracks[i];

		add_track(body, &t->track, &last->track);
		add_varint(body, zigzag((__s64)(t->first_ns - last->first_ns)));
		add_varint(body, t->last_ns - t->first_ns);
		add_varint(body, zigzag((__s64)(t->first_stamp - last->first_stamp)));
		add_varint(body, t->last_stamp - t->first_stamp);
		for (int d = 0; d < 2; d++) {
			add_varint(body, t->packets[d]);
			add_varint(body, t->wire[d]);
		}
		last = t;
	}
}

int flowlog_write(int dir, const char *base, const struct catalog *c)
{
	char name[STORE_NAME_MAX + 16], *out = NULL;
	struct text body = {};
	size_t room, size;
	int err;

	body_make(&body, c);
	err = body.err;
	room = ZSTD_compressBound(body.len);
	if (!err)
		out = malloc(HEAD + room);
	if (!out) {
		text_free(&body);
		return -ENOMEM;
	}
	size = ZSTD_compress(out + HEAD, room, body.at, body.len, 1);
	memcpy(out, MAGIC, 8);
	put_u32(out + 16, (__u32)body.len);
	put_u32(out + 20, 0);
	err = ZSTD_isError(size) ? -EIO : 0;
	if (!err) {
		put_u64(out + 8, XXH64(out + 16, HEAD - 16 + size, 0));
		err = store_write(dir, store_file(name, base, STORE_FLOWS), out, HEAD + size);
	}
	text_free(&body);
	free(out);
	return err;
}

static int body_read(struct bytes *b, struct catalog *c)
{
	__u64 n, first_ns = 0, first_stamp = 0;
	struct catalog_device d = {};
	struct track track = {};

	bytes_copy(b, c->class_name, sizeof(c->class_name));
	bytes_copy(b, c->host, sizeof(c->host));
	c->class_name[sizeof(c->class_name) - 1] = 0;
	c->host[sizeof(c->host) - 1] = 0;
	for (n = bytes_varint(b); n && !b->bad; n--) {
		d.node = (__u32)bytes_varint(b);
		d.device = (__u32)bytes_varint(b);
		d.linktype = (__u16)bytes_varint(b);
		bytes_copy(b, d.node_name, sizeof(d.node_name));
		bytes_copy(b, d.name, sizeof(d.name));
		d.node_name[CATALOG_NAME_MAX - 1] = d.name[CATALOG_NAME_MAX - 1] = 0;
		if (catalog_device_add(c, &d))
			return -ENOMEM;
	}
	for (n = bytes_varint(b); n && !b->bad; n--) {
		struct catalog_track *t;
		__s64 number;

		bytes_track(b, &track);
		number = catalog_track(c, &track);
		if (number < 0)
			return (int)number;
		t = &c->tracks[number];
		first_ns += (__u64)unzigzag(bytes_varint(b));
		t->first_ns = first_ns;
		t->last_ns = t->first_ns + bytes_varint(b);
		first_stamp += (__u64)unzigzag(bytes_varint(b));
		t->first_stamp = first_stamp;
		t->last_stamp = t->first_stamp + bytes_varint(b);
		for (int i = 0; i < 2; i++) {
			t->packets[i] = (__u32)bytes_varint(b);
			t->wire[i] = bytes_varint(b);
		}
		if (!c->first_ns || t->first_ns < c->first_ns)
			c->first_ns = t->first_ns;
		if (t->last_ns > c->last_ns)
			c->last_ns = t->last_ns;
	}
	return b->bad ? -EBADMSG : 0;
}

static int file_read(struct checked *file, struct catalog *c)
{
	const unsigned char *at = checked_at(file, 0, file->size);
	unsigned char *body;
	size_t size, got;
	int err = -EBADMSG;

	if (!at || file->size < HEAD || memcmp(at, MAGIC, 8) ||
	    XXH64(at + 16, file->size - 16, 0) != get_u64(at + 8))
		return -EBADMSG;
	size = get_u32(at + 16);
	if (size > BODY_MOST)
		return -EBADMSG;
	body = malloc(size + 1);
	if (!body)
		return -ENOMEM;
	got = ZSTD_decompress(body, size, at + HEAD, file->size - HEAD);
	if (!ZSTD_isError(got) && got == size) {
		struct bytes b = { body, body + size, false };

		err = body_read(&b, c);
	}
	free(body);
	return err;
}

int flowlog_read(int dir, const char *base, struct catalog *c)
{
	char name[STORE_NAME_MAX + 16];
	struct checked file;
	int fd, err;

	fd = openat(dir, store_file(name, base, STORE_FLOWS), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = checked_open(&file, fd);
	if (err)
		return err;
	err = file_read(&file, c);
	checked_close(&file);
	return err;
}

static int is_flows(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name), tail = sizeof(STORE_FLOWS) - 1;

	return len > tail && !strcmp(entry->d_name + len - tail, STORE_FLOWS);
}

static bool has_index(int dir, const char *flows)
{
	char name[STORE_NAME_MAX + 16], base[STORE_NAME_MAX];

	snprintf(base, sizeof(base), "%.*s", (int)(strlen(flows) - (sizeof(STORE_FLOWS) - 1)),
		 flows);
	return !faccessat(dir, store_file(name, base, STORE_INDEX), F_OK, 0);
}

__u64 flowlog_bytes(int dir, const char *base)
{
	char name[STORE_NAME_MAX + 16];
	struct stat st;

	return fstatat(dir, store_file(name, base, STORE_FLOWS), &st, 0) ? 0 : (__u64)st.st_size;
}

__u64 flowlog_expire(int dir, __u64 most_bytes)
{
	struct dirent **entries;
	__u64 bytes = 0, left = 0;
	struct stat st;
	int n = scandirat(dir, ".", &entries, is_flows, alphasort);

	/* From the newest back; from where there is too much, all older ones go whose packets went
	 * before: what the others say is in no index.
	 */
	for (int i = n - 1; i >= 0; i--) {
		if (fstatat(dir, entries[i]->d_name, &st, 0))
			st.st_size = 0;
		bytes += (__u64)st.st_size;
		if (bytes > most_bytes && !has_index(dir, entries[i]->d_name))
			unlinkat(dir, entries[i]->d_name, 0);
		else
			left += (__u64)st.st_size;
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return left;
}
