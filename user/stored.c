// SPDX-License-Identifier: GPL-2.0-only
/* Files of a record written: plain, or with a key encrypted, all alike. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bytes.h"
#include "catalog.h"
#include "store.h"
#include "stored.h"

#define MOST_AT_ONCE (1U << 20) /* a large file is not in memory twice */

int stored_begin(struct stored *s, int fd)
{
	int err;

	stored_free(s);
	s->fd = fd;
	s->secret = secret_writing();
	if (!s->secret)
		return 0;
	err = secret_make(&s->key);
	if (err)
		return err;
	if (array_grow((void **)&s->out, &s->out_room, SECRET_HEAD, 1))
		return -ENOMEM;
	memcpy(s->out, s->key.head, SECRET_HEAD);
	s->out_bytes = SECRET_HEAD;
	return 0;
}

/* A block begins at each multiple of SECRET_BLOCK: so readers who take such pieces open one. */
static int blocks_seal(struct stored *s, const unsigned char *from, __u32 bytes)
{
	__u32 most = bytes / SECRET_BLOCK + 2;
	__u64 place = s->bytes;

	if (array_grow((void **)&s->out, &s->out_room, s->out_bytes + bytes + most * SECRET_MORE,
		       1) ||
	    array_grow((void **)&s->lengths, &s->lengths_room, s->blocks + most,
		       sizeof(*s->lengths)))
		return -ENOMEM;
	s->pending = bytes;
	while (bytes) {
		__u32 n = SECRET_BLOCK - place % SECRET_BLOCK;

		if (n > bytes)
			n = bytes;
		put_u32(s->lengths[s->blocks], n);
		secret_seal(&s->key, s->blocks++, n, from, s->out + s->out_bytes);
		s->out_bytes += n + SECRET_MORE;
		from += n;
		bytes -= n;
		place += n;
	}
	return 0;
}

static int out_write(struct stored *s)
{
	int err = store_put(s->fd, s->out, s->out_bytes, s->size);

	if (err)
		return err;
	s->size += s->out_bytes;
	s->bytes += s->pending;
	s->out_bytes = s->pending = 0;
	return 0;
}

int stored_put(struct stored *s, const void *at, size_t bytes, __u64 offset)
{
	const unsigned char *from = at;
	int err = 0;

	if (!s->secret) {
		err = store_put(s->fd, at, bytes, offset);
		if (!err)
			s->bytes = s->size = offset + bytes;
		return err;
	}
	if (s->pending)
		err = out_write(s);
	if (!err && (s->bytes < offset || s->bytes - offset > bytes))
		err = -EINVAL;
	from += s->bytes - offset;
	bytes -= s->bytes - offset;
	while (bytes && !err) {
		__u32 n = bytes < MOST_AT_ONCE ? (__u32)bytes : MOST_AT_ONCE;

		err = blocks_seal(s, from, n);
		if (!err)
			err = out_write(s);
		from += n;
		bytes -= n;
	}
	return err;
}

int stored_end(struct stored *s)
{
	__u32 bytes = s->blocks * 4, all = bytes + SECRET_MORE + SECRET_TAIL;
	int err;

	if (!s->secret || s->pending)
		return 0;
	if (array_grow((void **)&s->out, &s->out_room, s->out_bytes + all, 1))
		return -ENOMEM;
	secret_seal(&s->key, s->blocks, bytes | SECRET_TABLE, s->lengths, s->out + s->out_bytes);
	put_u32(s->out + s->out_bytes + all - SECRET_TAIL, s->blocks);
	memcpy(s->out + s->out_bytes + all - 4, SECRET_TAIL_MAGIC, 4);
	s->out_bytes += all;
	err = out_write(s);
	s->out_bytes = 0;
	return err;
}

void stored_free(struct stored *s)
{
	free(s->out);
	free(s->lengths);
	secret_wipe(&s->key);
	memset(s, 0, sizeof(*s));
	s->fd = -1;
}
