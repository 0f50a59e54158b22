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
#include "text.h"

static int frames_write(int fd, const struct checked *plain)
{
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

		size = ZSTD_compress2(context, out, room, plain->at + from, n);
		err = ZSTD_isError(size) ? -EIO : store_put(fd, out, size, at);
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
		err = table.err ? table.err : store_put(fd, table.at, table.len, at);
	if (!err && fdatasync(fd))
		err = -errno;
	text_free(&table);
	free(out);
	ZSTD_freeCCtx(context);
	return err;
}

int segment_pack(int dir, const char *base, const struct segments_options *options)
{
	char plain_name[STORE_NAME_MAX + 16], name[STORE_NAME_MAX + 16], new[STORE_NAME_MAX + 16];
	struct checked plain;
	int fd, err;

	(void)options;
	fd = openat(dir, store_file(plain_name, base, STORE_PLAIN), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = checked_open(&plain, fd);
	if (err)
		return err;
	store_file(name, base, STORE_ZSTD);
	store_file(new, base, ".packing");
	fd = openat(dir, new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	err = fd < 0 ? -errno : frames_write(fd, &plain);
	if (fd >= 0 && close(fd) && !err)
		err = -errno;
	if (!err && renameat(dir, new, dir, name))
		err = -errno;
	unlinkat(dir, err ? new : plain_name, 0);
	checked_close(&plain);
	return err;
}
