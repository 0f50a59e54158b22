// SPDX-License-Identifier: GPL-2.0-only
/* pcapng, after draft-ietf-opsawg-pcapng: blocks of a type, a length, a body, the length again. */
#include <errno.h>
#include <string.h>

#include "bytes.h"
#include "pcapng.h"
#include "version.h"

#define OPTION_END 0
#define OPTION_COMMENT 1
#define SHB_APPLICATION 4
#define IF_NAME 2
#define IF_DESCRIPTION 3
#define IF_RESOLUTION 9
#define EPB_FLAGS 2
#define ISB_START 2
#define ISB_END 3
#define ISB_DROPPED 5
#define PACKET_HEAD 28

static size_t padded(size_t len)
{
	return (len + 3) & ~(size_t)3;
}

static unsigned char *option(unsigned char *to, __u16 code, const void *value, size_t len)
{
	put_u16(to, code);
	put_u16(to + 2, (__u16)len);
	memcpy(to + 4, value, len);
	memset(to + 4 + len, 0, padded(len) - len);
	return to + 4 + padded(len);
}

/* Times in options are, as in packets, two halves, the higher first. */
static unsigned char *option_time(unsigned char *to, __u16 code, __u64 ns)
{
	unsigned char value[8];

	put_u32(value, (__u32)(ns >> 32));
	put_u32(value + 4, (__u32)ns);
	return option(to, code, value, sizeof(value));
}

static size_t block_end(unsigned char *begin, unsigned char *to, __u32 type, bool options)
{
	__u32 length;

	if (options)
		to = option(to, OPTION_END, "", 0);
	length = (__u32)(to + 4 - begin);
	put_u32(begin, type);
	put_u32(begin + 4, length);
	put_u32(to, length);
	return length;
}

size_t pcapng_section(unsigned char *to, const char *comment)
{
	static const char application[] = "tidemark " VERSION;
	unsigned char *at = to + 24;

	put_u32(to + 8, 0x1a2b3c4d);
	put_u16(to + 12, 1);
	put_u16(to + 14, 0);
	put_u64(to + 16, ~0ULL); /* however long the section becomes */
	at = option(at, SHB_APPLICATION, application, sizeof(application) - 1);
	if (comment)
		at = option(at, OPTION_COMMENT, comment, strlen(comment));
	return block_end(to, at, PCAPNG_SECTION, true);
}

size_t pcapng_interface(unsigned char *to, __u16 linktype, const char *name,
			const char *description)
{
	unsigned char *at = to + 16;

	put_u16(to + 8, linktype);
	put_u16(to + 10, 0);
	put_u32(to + 12, 0); /* snap length: none */
	at = option(at, IF_NAME, name, strlen(name));
	at = option(at, IF_DESCRIPTION, description, strlen(description));
	at = option(at, IF_RESOLUTION, "\x09", 1);
	return block_end(to, at, PCAPNG_INTERFACE, true);
}

size_t pcapng_packet(unsigned char *to, const struct pcapng_packet *packet)
{
	unsigned char *at = to + PACKET_HEAD, flags[4];

	put_u32(to + 8, packet->interface);
	put_u32(to + 12, (__u32)(packet->wall_ns >> 32));
	put_u32(to + 16, (__u32)packet->wall_ns);
	put_u32(to + 20, packet->kept);
	put_u32(to + 24, packet->wire);
	memcpy(at, packet->frame, packet->kept);
	memset(at + packet->kept, 0, padded(packet->kept) - packet->kept);
	at += padded(packet->kept);
	if (packet->flags) {
		put_u32(flags, packet->flags);
		at = option(at, EPB_FLAGS, flags, sizeof(flags));
	}
	if (packet->comment)
		at = option(at, OPTION_COMMENT, packet->comment, packet->comment_len);
	return block_end(to, at, PCAPNG_PACKET, packet->flags || packet->comment);
}

size_t pcapng_statistics(unsigned char *to, __u32 interface, __u64 from_ns, __u64 to_ns,
			 __u64 dropped, const char *comment)
{
	unsigned char *at = to + 20, count[8];

	put_u32(to + 8, interface);
	put_u32(to + 12, (__u32)(to_ns >> 32));
	put_u32(to + 16, (__u32)to_ns);
	put_u64(count, dropped);
	at = option_time(at, ISB_START, from_ns);
	at = option_time(at, ISB_END, to_ns);
	at = option(at, ISB_DROPPED, count, sizeof(count));
	at = option(at, OPTION_COMMENT, comment, strlen(comment));
	return block_end(to, at, PCAPNG_STATISTICS, true);
}

void pcapng_filler(unsigned char *to, __u32 length)
{
	memset(to, 0, length);
	put_u32(to, PCAPNG_FILLER);
	put_u32(to + 4, length);
	put_u32(to + length - 4, length);
}

int pcapng_block(const unsigned char *at, size_t room, __u32 *type, __u32 *length)
{
	if (room < 12)
		return -EAGAIN;
	*type = get_u32(at);
	*length = get_u32(at + 4);
	if (*length < 12 || *length & 3 || *length > PCAPNG_FRAME_MAX + (1U << 16))
		return -EINVAL;
	if (*length > room)
		return -EAGAIN;
	return get_u32(at + *length - 4) == *length ? 0 : -EINVAL;
}

int pcapng_option(const unsigned char *at, __u32 length, size_t from, __u16 code,
		  const unsigned char **value, __u16 *value_len)
{
	size_t end = length - 4;

	while (from + 4 <= end) {
		__u16 found = get_u16(at + from), len = get_u16(at + from + 2);

		if (found == OPTION_END || len > end - from - 4)
			break;
		if (found == code) {
			*value = at + from + 4;
			*value_len = len;
			return 0;
		}
		from += 4 + padded(len);
	}
	return -ENOENT;
}

int pcapng_packet_read(const unsigned char *at, __u32 length, struct pcapng_packet *packet)
{
	const unsigned char *value;
	size_t options;
	__u16 len;

	if (length < PACKET_HEAD + 4)
		return -EINVAL;
	packet->interface = get_u32(at + 8);
	packet->wall_ns = (__u64)get_u32(at + 12) << 32 | get_u32(at + 16);
	packet->kept = get_u32(at + 20);
	packet->wire = get_u32(at + 24);
	if (packet->kept > length - PACKET_HEAD - 4)
		return -EINVAL;
	packet->frame = at + PACKET_HEAD;
	packet->flags = 0;
	packet->comment = NULL;
	packet->comment_len = 0;
	options = PACKET_HEAD + padded(packet->kept);
	if (!pcapng_option(at, length, options, EPB_FLAGS, &value, &len) && len == 4)
		packet->flags = get_u32(value);
	if (!pcapng_option(at, length, options, OPTION_COMMENT, &value, &len)) {
		packet->comment = (const char *)value;
		packet->comment_len = len;
	}
	return 0;
}
