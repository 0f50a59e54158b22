// SPDX-License-Identifier: GPL-2.0-only
/* Files mapped and believed only where a checksum agrees. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "bytes.h"
#include "catalog.h"
#include "checked.h"
#include "vault.h"

static int raw_map(struct checked *c)
{
	struct stat st;
	void *at = NULL;

	if (fstat(c->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size) {
		at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, c->fd, 0);
		if (at == MAP_FAILED)
			return -errno;
	}
	c->raw = at;
	c->raw_size = (__u64)st.st_size;
	return 0;
}

static void view_set(struct checked *c)
{
	c->at = c->vault ? c->vault->plain : c->raw;
	c->size = c->vault ? c->vault->size : c->raw_size;
}

int checked_open(struct checked *c, int fd)
{
	int err;

	memset(c, 0, sizeof(*c));
	c->fd = fd;
	err = raw_map(c);
	if (!err && secret_is(c->raw, c->raw_size))
		err = vault_open(&c->vault, c->raw, c->raw_size);
	if (err)
		checked_close(c);
	else
		view_set(c);
	return err;
}

int checked_grow(struct checked *c)
{
	const unsigned char *raw = c->raw;
	__u64 size = c->raw_size;
	struct stat st;
	int err;

	if (!fstat(c->fd, &st) && (__u64)st.st_size == size)
		return 0;
	err = raw_map(c);
	if (err)
		return err;
	if (c->vault) {
		err = vault_grow(c->vault, c->raw, c->raw_size);
	} else if (secret_is(c->raw, c->raw_size)) { /* its head has come */
		err = vault_open(&c->vault, c->raw, c->raw_size);
		c->unit = 0; /* nothing of it was believed before */
	}
	if (raw)
		munmap((void *)raw, size);
	view_set(c);
	return err;
}

void checked_bound(struct checked *c, __u64 bytes)
{
	if (c->vault)
		c->vault->most = bytes;
}

void checked_keep(struct checked *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

int checked_trust(struct checked *c, __u64 from, __u64 to, __u32 unit, const __u32 *sums)
{
	if (from > to || to > c->size)
		return -EBADMSG;
	free(c->seen);
	c->seen = calloc((to - from) / unit / 8 + 1, 1);
	if (!c->seen)
		return -ENOMEM;
	c->from = from;
	c->to = to;
	c->unit = unit;
	c->sums = sums;
	return 0;
}

int checked_tail(struct checked *c, __u64 from, __u64 to, __u32 unit, __u64 sum)
{
	__u64 body, units;
	const unsigned char *at;

	if (from > to || to > c->size)
		return -EBADMSG;
	body = to - from;
	units = body / (unit + 4);
	if (units * (unit + 4) < body)
		units++;
	if (body < units * 4)
		return -EBADMSG;
	body -= units * 4;
	at = checked_at(c, from + body, units * 4);
	if (!at || XXH64(at, units * 4, 0) != sum)
		return -EBADMSG;
	c->tail = malloc((units + 1) * sizeof(*c->tail));
	if (!c->tail)
		return -ENOMEM;
	for (__u64 i = 0; i < units; i++)
		c->tail[i] = get_u32(at + i * 4);
	return checked_trust(c, from, from + body, unit, c->tail);
}

static int unit_check(struct checked *c, __u64 n)
{
	__u64 begin = c->from + n * c->unit, bytes = c->to - begin;

	if (c->seen[n / 8] & 1U << n % 8)
		return 0;
	if (bytes > c->unit)
		bytes = c->unit;
	if (c->vault && vault_look(c->vault, begin, bytes))
		return -EBADMSG;
	if ((__u32)XXH3_64bits(c->at + begin, bytes) != c->sums[n])
		return -EBADMSG;
	c->seen[n / 8] |= (unsigned char)(1U << n % 8);
	return 0;
}

const unsigned char *checked_at(struct checked *c, __u64 offset, __u64 bytes)
{
	if (offset > c->size || bytes > c->size - offset)
		return NULL;
	if (!c->unit || !bytes)
		return c->vault && vault_look(c->vault, offset, bytes) ? NULL : c->at + offset;
	if (offset < c->from || bytes > c->to - offset || offset > c->to)
		return NULL;
	for (__u64 n = (offset - c->from) / c->unit; n <= (offset + bytes - 1 - c->from) / c->unit;
	     n++)
		if (unit_check(c, n))
			return NULL;
	return c->vault && vault_look(c->vault, offset, bytes) ? NULL : c->at + offset;
}

const unsigned char *checked_remains(struct checked *c, __u64 offset, __u64 bytes)
{
	if (offset > c->size || bytes > c->size - offset)
		return NULL;
	if (c->vault)
		vault_remains(c->vault, offset, bytes);
	return c->at + offset;
}

void checked_expect(struct checked *c, __u64 offset, __u64 bytes)
{
	__u64 unit = c->unit ? c->unit : 4096, from = offset / unit * unit;

	if (offset > c->size || bytes > c->size - offset || !bytes)
		return;
	bytes += offset - from;
	bytes = bytes + unit - 1 < c->size - from ? bytes + unit - 1 : c->size - from;
	if (c->vault)
		vault_place(c->vault, from, bytes, &from, &bytes);
	bytes += from % 4096;
	from -= from % 4096;
	madvise((void *)(c->raw + from), bytes, MADV_WILLNEED);
}

void checked_sweep(struct checked *c)
{
	if (c->raw)
		madvise((void *)c->raw, c->raw_size, MADV_SEQUENTIAL);
	if (c->vault) /* a fault for each block is a fifth of the time */
		madvise(c->vault->plain, c->vault->mapped, MADV_HUGEPAGE);
}

void checked_close(struct checked *c)
{
	vault_close(c->vault);
	if (c->raw)
		munmap((void *)c->raw, c->raw_size);
	if (c->fd >= 0)
		close(c->fd);
	free(c->seen);
	free(c->tail);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

void checked_sums(const void *at, __u64 bytes, __u32 unit, __u32 *sums)
{
	for (__u64 from = 0; from < bytes; from += unit)
		*sums++ = (__u32)XXH3_64bits((const char *)at + from,
					     bytes - from < unit ? bytes - from : unit);
}

int sums_add(struct sums *s, const void *at, size_t bytes, __u32 unit)
{
	__u32 wanted = (__u32)((s->bytes + bytes + unit - 1) / unit);

	if (!s->state)
		s->state = XXH3_createState();
	if (!s->state || array_grow((void **)&s->at, &s->room, wanted, sizeof(*s->at)))
		return -ENOMEM;
	while (bytes) {
		__u32 had = (__u32)(s->bytes % unit);
		size_t n = bytes < unit - had ? bytes : unit - had;
		__u64 sum;

		if (n == unit) { /* which needs no state */
			sum = XXH3_64bits(at, n);
		} else {
			if (!had)
				XXH3_64bits_reset(s->state);
			XXH3_64bits_update(s->state, at, n);
			sum = XXH3_64bits_digest(s->state);
		}
		s->at[s->bytes / unit] = (__u32)sum;
		s->bytes += n;
		at = (const char *)at + n;
		bytes -= n;
	}
	s->n = wanted;
	return 0;
}

void sums_free(struct sums *s)
{
	free(s->at);
	XXH3_freeState(s->state);
	memset(s, 0, sizeof(*s));
}
