/* SPDX-License-Identifier: GPL-2.0-only */
/* pcapng: the blocks we write and what we need of those we read. */
#ifndef TIDEMARK_PCAPNG_H
#define TIDEMARK_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#define PCAPNG_SECTION 0x0a0d0d0aU
#define PCAPNG_INTERFACE 1U
#define PCAPNG_STATISTICS 5U
#define PCAPNG_PACKET 6U
#define PCAPNG_FILLER 0x80000001U /* of those for local use: readers pass over it */
#define PCAPNG_FILLER_LEAST 12

#define PCAPNG_LINK_ETHERNET 1
#define PCAPNG_LINK_RAW 101

#define PCAPNG_FRAME_MAX (16U << 20) /* no frame is longer */
#define PCAPNG_COMMENT_MAX 200
/* Beside the frame itself, with every option we write. */
#define PCAPNG_PACKET_ROOM (28 + 3 + 8 + 4 + PCAPNG_COMMENT_MAX + 4 + 4 + 4)

/* epb_flags: direction, and how it was received. */
#define PCAPNG_IN 1U
#define PCAPNG_OUT 2U
#define PCAPNG_DIRECTION 3U
#define PCAPNG_PROMISCUOUS (4U << 2)

struct pcapng_packet {
	__u32 interface;
	__u64 wall_ns; /* as it stands in the block, if the interface counts nanoseconds */
	__u32 kept, wire;
	__u32 flags; /* epb_flags */
	const unsigned char *frame;
	const char *comment; /* not terminated; NULL: none */
	size_t comment_len;
};

/* Each writes one block at `to` and returns how long it is. Room is for the caller to know. */
size_t pcapng_section(unsigned char *to, const char *comment);
size_t pcapng_interface(unsigned char *to, __u16 linktype, const char *name,
			const char *description);
size_t pcapng_packet(unsigned char *to, const struct pcapng_packet *packet);
size_t pcapng_statistics(unsigned char *to, __u32 interface, __u64 from_ns, __u64 to_ns,
			 __u64 dropped, const char *comment);

/* A block of exactly `length` bytes, a multiple of 4, that says nothing. */
void pcapng_filler(unsigned char *to, __u32 length);

/* A block: its type and whole length, which at most `room` bytes may have. -EINVAL, or -EAGAIN
 * when it goes beyond.
 */
int pcapng_block(const unsigned char *at, size_t room, __u32 *type, __u32 *length);

/* The body of a whole packet block of ours. -EINVAL. */
int pcapng_packet_read(const unsigned char *at, __u32 length, struct pcapng_packet *packet);

/* An option of a whole block whose options begin at `from`; -ENOENT. Not terminated. */
int pcapng_option(const unsigned char *at, __u32 length, size_t from, __u16 code,
		  const unsigned char **value, __u16 *value_len);

#endif
