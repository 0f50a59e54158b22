/* SPDX-License-Identifier: GPL-2.0-only */
/* Numbers in files: little-endian, of fixed size or as varints, read without trust. */
#ifndef TIDEMARK_BYTES_H
#define TIDEMARK_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <linux/types.h>

#include "text.h"

static inline void put_u16(void *to, __u16 value)
{
	value = htole16(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put_u32(void *to, __u32 value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof(value));
}

static inline void put_u64(void *to, __u64 value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof(value));
}

static inline __u16 get_u16(const void *from)
{
	__u16 value;

	memcpy(&value, from, sizeof(value));
	return le16toh(value);
}

static inline __u32 get_u32(const void *from)
{
	__u32 value;

	memcpy(&value, from, sizeof(value));
	return le32toh(value);
}

static inline __u64 get_u64(const void *from)
{
	__u64 value;

	memcpy(&value, from, sizeof(value));
	return le64toh(value);
}

#define VARINT_MAX 10

/* Seven bits a byte, the lowest first, the high bit on all but the last. */
static inline unsigned char *put_varint(unsigned char *to, __u64 value)
{
	for (; value >= 0x80; value >>= 7)
		*to++ = (unsigned char)(value | 0x80);
	*to++ = (unsigned char)value;
	return to;
}

static inline void add_varint(struct text *text, __u64 value)
{
	unsigned char *to = (unsigned char *)text_room(text, VARINT_MAX);

	if (to)
		text->len += (size_t)(put_varint(to, value) - to);
}

/* Signed differences, small either way. */
static inline __u64 zigzag(__s64 value)
{
	return (__u64)value << 1 ^ (__u64)(value >> 63);
}

static inline __s64 unzigzag(__u64 value)
{
	return (__s64)(value >> 1 ^ -(value & 1));
}

/* A cursor over foreign bytes: reading past the end sets `bad`, and gives zeros from then on. */
struct bytes {
	const unsigned char *at, *end;
	bool bad;
};

static inline __u64 bytes_varint(struct bytes *b)
{
	__u64 value = 0;

	for (int shift = 0; shift < 64 && b->at < b->end; shift += 7) {
		unsigned char c = *b->at++;

		value |= (__u64)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return value;
	}
	b->bad = true;
	return 0;
}

static inline void bytes_copy(struct bytes *b, void *to, size_t len)
{
	if (len > (size_t)(b->end - b->at)) {
		b->bad = true;
		memset(to, 0, len);
		return;
	}
	memcpy(to, b->at, len);
	b->at += len;
}

#endif
