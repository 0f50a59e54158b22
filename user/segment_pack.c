// SPDX-License-Identifier: GPL-2.0-only
/* Sealed segments packed: compressed in frames that can be read one by one. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <zstd.h>

#include "bytes.h"
#include "checked.h"
#include "segment_pack.h"
#include "store.h"
#include "stored.h"
#include "text.h"

static int frames_write(struct stored *to, struct checked *plain)
{
	const unsigned char *from_at;
	size_t room = ZSTD_compressBound(PACK_FRAME), size;
	ZSTD_CCtx *context = ZSTD_createCCtx();
	unsigned char *out = malloc(room), number[9] = {};
	struct text table = {};
	__u64 at = 0;
	int err = context && out ? 0 : -ENOMEM;

	if (!err) {
		ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 3);
		ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
	}
	put_u32(number, PACK_TABLE_MAGIC);
	put_u32(number + 4, (__u32)((plain->size + PACK_FRAME - 1) / PACK_FRAME) * 8 + 9);
	text_add(&table, number, 8);
	for (__u64 from = 0; from < plain->size && !err; from += PACK_FRAME) {
		__u64 left = plain->size - from;
		size_t n = left < PACK_FRAME ? left : PACK_FRAME;

		from_at = checked_at(plain, from, n);
		if (!from_at) {
			err = -EBADMSG;
			break;
		}
		size = ZSTD_compress2(context, out, room, from_at, n);
		err = ZSTD_isError(size) ? -EIO : stored_put(to, out, size, at);
		put_u32(number, (__u32)size);
		put_u32(number + 4, (__u32)n);
		text_add(&table, number, 8);
		at += size;
	}
	put_u32(number, (__u32)((plain->size + PACK_FRAME - 1) / PACK_FRAME));
	number[4] = 0;
	put_u32(number + 5, PACK_TABLE_END);
	text_add(&table, number, 9);
	if (!err)
		err = table.err ? table.err : stored_put(to, table.at, table.len, at);
	if (!err)
		err = stored_end(to);
	if (!err && fdatasync(to->fd))
		err = -errno;
	text_free(&table);
	free(out);
	ZSTD_freeCCtx(context);
	return err;
}

int segment_pack(int dir, const char *base, const struct segments_options *options)
{
	char plain_name[STORE_NAME_MAX + 16], name[STORE_NAME_MAX + 16], new[STORE_NAME_MAX + 16];
	const char *ending;
	struct stored to = {};
	struct checked plain;
	int fd, err;

	(void)options;
	ending = store_open(dir, base, O_RDONLY, &fd);
	if (!ending)
		return fd;
	err = checked_open(&plain, fd);
	if (err || store_packed(ending) || (plain.vault && !secret_writing())) {
		checked_close(&plain);
		return err ? err : store_packed(ending) ? 0 : -ENOKEY;
	}
	checked_bound(&plain, STORE_BOUND);
	store_file(plain_name, base, ending);
	store_file(name, base, secret_writing() ? STORE_SECRET_ZSTD : STORE_ZSTD);
	store_file(new, base, ".packing" STORE_NEW);
	fd = openat(dir, new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	err = fd < 0 ? -errno : stored_begin(&to, fd);
	if (!err)
		err = frames_write(&to, &plain);
	stored_free(&to);
	if (fd >= 0 && close(fd) && !err)
		err = -errno;
	if (!err && renameat(dir, new, dir, name))
		err = -errno;
	unlinkat(dir, err ? new : plain_name, 0);
	checked_close(&plain);
	return err;
}
