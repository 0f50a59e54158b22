// SPDX-License-Identifier: GPL-2.0-only
/* STUN messages: sections 5 and 14 of RFC 8489. Foreign bytes are read here. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "stun.h"

#define HEADER_BYTES 20
#define COOKIE 0x2112a442U
#define BINDING_REQUEST 0x0001
#define BINDING_SUCCESS 0x0101
#define BINDING_ERROR 0x0111
#define MAPPED_ADDRESS 0x0001
#define XOR_MAPPED_ADDRESS 0x0020
#define FINGERPRINT 0x8028
#define FAMILY_V4 1
#define FAMILY_V6 2

static __u32 get16(const __u8 *at)
{
	return at[0] << 8 | at[1];
}

static __u32 get32(const __u8 *at)
{
	return get16(at) << 16 | get16(at + 2);
}

static void put16(__u8 *at, __u32 value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(__u8 *at, __u32 value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

/* CRC-32 of ITU V.42, bit by bit: one small message every few minutes. */
static __u32 crc32_of(const __u8 *bytes, size_t n)
{
	__u32 crc = ~0U;

	while (n--) {
		crc ^= *bytes++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

/* With FINGERPRINT, so that it is told from other protocols on the same port. */
void stun_request(__u8 out[STUN_REQUEST_BYTES], const __u8 id[STUN_ID_BYTES])
{
	put16(out, BINDING_REQUEST);
	put16(out + 2, STUN_REQUEST_BYTES - HEADER_BYTES);
	put32(out + 4, COOKIE);
	memcpy(out + 8, id, STUN_ID_BYTES);
	put16(out + HEADER_BYTES, FINGERPRINT);
	put16(out + HEADER_BYTES + 2, 4);
	put32(out + HEADER_BYTES + 4, crc32_of(out, HEADER_BYTES) ^ 0x5354554e);
}

/* The address of an attribute; `mask`: what it is xor-ed with, the cookie and the id. */
static int address_of(const __u8 *value, size_t n, const __u8 *mask, __u8 address[16])
{
	size_t size;

	if (n < 4)
		return -EBADMSG;
	size = value[1] == FAMILY_V4 ? 4 : value[1] == FAMILY_V6 ? 16 : 0;
	if (!size || n != 4 + size)
		return -EBADMSG;
	memset(address, 0, 16);
	if (size == 4)
		address[10] = address[11] = 0xff;
	for (size_t i = 0; i < size; i++)
		address[16 - size + i] = value[4 + i] ^ (mask ? mask[i] : 0);
	return 0;
}

int stun_answer(const __u8 *bytes, size_t n, const __u8 id[STUN_ID_BYTES], __u8 address[16])
{
	bool found = false, xored = false;
	size_t at = HEADER_BYTES, size;
	__u32 type;
	int err;

	if (n < HEADER_BYTES || n % 4 || get16(bytes + 2) != n - HEADER_BYTES ||
	    get32(bytes + 4) != COOKIE || memcmp(bytes + 8, id, STUN_ID_BYTES))
		return -EBADMSG;
	if (get16(bytes) == BINDING_ERROR)
		return -ECONNREFUSED;
	if (get16(bytes) != BINDING_SUCCESS)
		return -EBADMSG;
	while (at < n) {
		type = get16(bytes + at);
		size = get16(bytes + at + 2);
		at += 4;
		if (size > n - at)
			return -EBADMSG;
		if (type == FINGERPRINT &&
		    (size != 4 || get32(bytes + at) != (crc32_of(bytes, at - 4) ^ 0x5354554e)))
			return -EBADMSG;
		/* The plain one is what servers older than RFC 5389 send; NATs rewrite it. */
		if ((type == XOR_MAPPED_ADDRESS && !xored) || (type == MAPPED_ADDRESS && !found)) {
			err = address_of(bytes + at, size,
					 type == XOR_MAPPED_ADDRESS ? bytes + 4 : NULL, address);
			if (err)
				return err;
			found = true;
			xored = type == XOR_MAPPED_ADDRESS;
		}
		at += (size + 3) & ~3UL;
	}
	return found ? 0 : -ENOENT;
}
