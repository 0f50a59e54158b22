// SPDX-License-Identifier: GPL-2.0-only
/* Encrypted files read: as if they were mapped, opened block by block where they are looked at. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bytes.h"
#include "catalog.h"
#include "vault.h"

static __u64 block_from(const struct vault *v, __u32 n)
{
	return n ? v->ends[n - 1] : 0;
}

static __u64 block_place(const struct vault *v, __u32 n)
{
	return SECRET_HEAD + block_from(v, n) + n * (__u64)SECRET_MORE;
}

/* ---- which blocks there are -------------------------------------------------------------------- */

static int block_note(struct vault *v, __u32 length)
{
	if (array_grow((void **)&v->ends, &v->room, v->n + 1, sizeof(*v->ends)))
		return -ENOMEM;
	v->ends[v->n] = block_from(v, v->n) + length;
	v->n++;
	return 0;
}

/*
 * The table at the end of what is complete saves the way from block to block. Where it is not
 * to be had, or not what was written, the way is still there.
 */
static int table_read(struct vault *v)
{
	const unsigned char *tail = v->raw + v->raw_size - SECRET_TAIL, *table;
	unsigned char *plain;
	__u64 bytes, n;
	int err;

	if (v->raw_size < SECRET_HEAD + SECRET_MORE + SECRET_TAIL ||
	    memcmp(tail + 4, SECRET_TAIL_MAGIC, 4))
		return -ENOENT;
	n = get_u32(tail);
	bytes = n * 4 + SECRET_MORE;
	if (bytes > v->raw_size - SECRET_HEAD - SECRET_TAIL)
		return -ENOENT;
	table = tail - bytes;
	if (get_u32(table) != (n * 4 | SECRET_TABLE))
		return -ENOENT;
	plain = malloc(n * 4 + 1);
	if (!plain)
		return -ENOMEM;
	err = secret_unseal(&v->secret, n, table, plain);
	for (__u64 i = 0; i < n && !err; i++)
		err = block_note(v, get_u32(plain + i * 4));
	free(plain);
	if (!err && v->raw + block_place(v, v->n) != table)
		err = -EBADMSG;
	if (err)
		v->n = 0;
	v->ended = !err;
	return err;
}

/* From where it stopped; what is not whole yet, or the table, is no block. */
static int blocks_walk(struct vault *v)
{
	__u64 at = block_place(v, v->n);
	int err = 0;

	while (!err && !v->ended && v->raw_size > at && v->raw_size - at >= SECRET_MORE) {
		__u32 length = get_u32(v->raw + at);

		if (!length || length > SECRET_BLOCK || length > v->raw_size - at - SECRET_MORE)
			break;
		err = block_note(v, length);
		at += length + SECRET_MORE;
	}
	return err;
}

/* ---- room for what it was ---------------------------------------------------------------------- */

/* Addresses only: pages come when a block is opened. None of them goes into a dump. */
static int plain_map(struct vault *v)
{
	__u64 size = block_from(v, v->n),
	      wanted = (size + SECRET_BLOCK) / SECRET_BLOCK * SECRET_BLOCK;
	__u64 room = v->ended ? wanted : wanted * 2;
	unsigned char *at = v->plain, *seen;

	if (wanted > v->mapped && v->mapped)
		at = mremap(v->plain, v->mapped, room, MREMAP_MAYMOVE);
	else if (wanted > v->mapped)
		at = mmap(NULL, room, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return -ENOMEM;
	v->plain = at;
	if (wanted > v->mapped) {
		v->mapped = room;
		madvise(at, v->mapped, MADV_DONTDUMP);
	}
	if (v->n / 8 >= v->seen_room) {
		seen = calloc(v->n / 4 + 64, 1);
		if (!seen)
			return -ENOMEM;
		if (v->seen)
			memcpy(seen, v->seen, v->seen_room);
		free(v->seen);
		v->seen = seen;
		v->seen_room = v->n / 4 + 64;
	}
	v->size = size;
	return 0;
}

int vault_open(struct vault **vault, const unsigned char *raw, __u64 raw_size)
{
	struct vault *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return -ENOMEM;
	v->raw = raw;
	v->raw_size = raw_size;
	err = secret_find(&v->secret, raw, raw_size);
	if (!err && table_read(v) == -ENOMEM)
		err = -ENOMEM;
	if (!err)
		err = blocks_walk(v);
	if (!err)
		err = plain_map(v);
	if (err)
		vault_close(v);
	*vault = err ? NULL : v;
	return err;
}

int vault_grow(struct vault *v, const unsigned char *raw, __u64 raw_size)
{
	int err;

	v->raw = raw;
	v->raw_size = raw_size;
	err = blocks_walk(v);
	return err ? err : plain_map(v);
}

/* ---- opened ------------------------------------------------------------------------------------- */

/* The block with this byte, which there is. Mostly that of the last time, or the next. */
static __u32 block_of(const struct vault *v, __u64 offset)
{
	__u32 low = 0, high = v->n - 1;

	for (__u32 n = v->last; n < v->n && n <= v->last + 1; n++)
		if (offset >= block_from(v, n) && offset < v->ends[n])
			return n;
	while (low < high) {
		__u32 middle = low + (high - low) / 2;

		if (offset < v->ends[middle])
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int block_open(struct vault *v, __u32 n)
{
	__u64 from = block_from(v, n), bytes = v->ends[n] - from;
	const unsigned char *at = v->raw + block_place(v, n);
	int err;

	v->last = n;
	if (v->seen[n / 8] & 1U << n % 8)
		return 0;
	if (get_u32(at) != bytes) /* the table says something else, or it has changed since */
		return -EBADMSG;
	err = secret_unseal(&v->secret, n, at, v->plain + from);
	if (err)
		return err;
	v->seen[n / 8] |= (unsigned char)(1U << n % 8);
	v->open += bytes;
	return 0;
}

/* Rather begin anew than keep a list of who was first: what is read next is mostly further on. */
static void all_close(struct vault *v)
{
	madvise(v->plain, v->mapped, MADV_DONTNEED);
	memset(v->seen, 0, v->seen_room);
	v->open = 0;
}

int vault_look(struct vault *v, __u64 offset, __u64 bytes)
{
	__u32 n, last;
	int err = 0;

	if (offset > v->size || bytes > v->size - offset)
		return -EBADMSG;
	if (!bytes)
		return 0;
	n = block_of(v, offset);
	if (v->ends[n] - offset >= bytes && v->seen[n / 8] & 1U << n % 8) {
		v->last = n;
		return 0;
	}
	if (v->most && v->open + bytes > v->most)
		all_close(v);
	last = block_of(v, offset + bytes - 1);
	for (; n <= last && !err; n++)
		err = block_open(v, n);
	return err;
}

void vault_remains(struct vault *v, __u64 offset, __u64 bytes)
{
	if (offset > v->size || bytes > v->size - offset || !bytes)
		return;
	if (v->most && v->open + bytes > v->most)
		all_close(v);
	for (__u32 n = block_of(v, offset); n < v->n && block_from(v, n) < offset + bytes; n++)
		block_open(v, n);
}

__u64 vault_end(const struct vault *v, __u64 offset)
{
	__u32 n = offset && offset <= v->size ? block_of(v, offset - 1) + 1 : 0;

	return block_from(v, n) == offset ? block_place(v, n) : 0;
}

void vault_place(const struct vault *v, __u64 offset, __u64 bytes, __u64 *raw_from,
		 __u64 *raw_bytes)
{
	__u32 n = block_of(v, offset), last = block_of(v, offset + bytes - 1);

	*raw_from = block_place(v, n);
	*raw_bytes = block_place(v, last) + SECRET_MORE + v->ends[last] - block_from(v, last) -
		     *raw_from;
}

void vault_close(struct vault *v)
{
	if (!v)
		return;
	secret_wipe(&v->secret);
	if (v->mapped)
		munmap(v->plain, v->mapped);
	free(v->ends);
	free(v->seen);
	free(v);
}
