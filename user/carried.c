// SPDX-License-Identifier: GPL-2.0-only
/* The stamp a packet carries: an option of TCP, or of UDP behind its datagram. */
#include <netinet/in.h>

#include "../bpf/wire.h"
#include "carried.h"

static __u32 be16(const unsigned char *at)
{
	return (__u32)at[0] << 8 | at[1];
}

/* Options of both protocols: kind 0 ends them, 1 is alone, others have a length. */
static __u64 option_find(const unsigned char *at, __u32 n, __u8 kind, __u32 bytes)
{
	__u64 stamp = 0;
	__u32 length;

	for (; n && *at; at += length, n -= length) {
		length = *at == 1 ? 1 : n < 2 ? 0 : at[1];
		if (!length || length > n)
			return 0;
		if (*at != kind || length != bytes || be16(at + 2) != WIRE_EXID)
			continue;
		for (unsigned i = 4; i < 12; i++)
			stamp = stamp << 8 | at[i];
		return stamp == ~0ULL ? 0 : stamp;
	}
	return 0;
}

__u64 carried_stamp(const unsigned char *frame, __u32 kept, __u8 proto,
		    const struct dissected *packet)
{
	__u32 at = packet->payload_at, end = at + packet->payload, length;

	if (at < packet->header || at > kept)
		return 0;
	if (proto == IPPROTO_TCP && packet->header > 20)
		return option_find(frame + at - packet->header + 20, packet->header - 20,
				   WIRE_TCP_KIND, WIRE_TCP_BYTES);
	if (proto != IPPROTO_UDP || packet->header != 8 || end > kept)
		return 0;
	length = be16(frame + at - 4);
	if (length < 8 || length - 8 > packet->payload)
		return 0;
	at += length - 8;
	at += (length & 1) + 2; /* to even, and over the checksum */
	return at < end ? option_find(frame + at, end - at, WIRE_UDP_KIND, WIRE_UDP_OPTION_BYTES)
			: 0;
}
