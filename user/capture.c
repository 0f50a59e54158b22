// SPDX-License-Identifier: GPL-2.0-only
/* Reads pcap and pcapng, of either byte order; nothing in the file is believed. */
#define _GNU_SOURCE 1
#include <byteswap.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "capture.h"

#define INTERFACES 4096
#define BLOCK_MAX (16U << 20)
#define SECOND_NS 1000000000ULL

/* pcapng block types and options (draft-ietf-opsawg-pcapng) */
enum { BLOCK_IDB = 1, BLOCK_PB = 2, BLOCK_SPB = 3, BLOCK_EPB = 6, BLOCK_SHB = 0x0a0d0d0a };
enum { OPT_END = 0, OPT_NAME = 2, OPT_TSRESOL = 9, OPT_TSOFFSET = 14 };
#define ORDER_MAGIC 0x1a2b3c4d

struct interface {
	__u16 linktype;
	__u32 snap;
	__u64 units; /* a second */
	__s64 offset_s;
	char name[32];
};

struct capture {
	FILE *file;
	bool ng, swapped;
	__u64 at; /* bytes read: for words */
	__u8 *bytes;
	size_t size;
	struct interface *interface; /* of all sections */
	__u32 interfaces, section;   /* where this section's begin */
};

static __u16 get16(const struct capture *c, const void *at)
{
	__u16 v;

	memcpy(&v, at, sizeof(v));
	return c->swapped ? bswap_16(v) : v;
}

static __u32 get32(const struct capture *c, const void *at)
{
	__u32 v;

	memcpy(&v, at, sizeof(v));
	return c->swapped ? bswap_32(v) : v;
}

__attribute__((format(printf, 4, 5))) static int bad(const struct capture *c, char *words,
						     size_t size, const char *format, ...)
{
	va_list args;
	int n = snprintf(words, size, "byte %" PRIu64 ": ", (uint64_t)c->at);

	va_start(args, format);
	if (n > 0 && (size_t)n < size)
		vsnprintf(words + n, size - n, format, args);
	va_end(args);
	return -EBADMSG;
}

/* 1: all of it; 0: nothing is left; -EBADMSG: less. */
static int take(struct capture *c, void *to, size_t n)
{
	size_t got = fread_unlocked(to, 1, n, c->file);

	if (got == n) {
		c->at += n;
		return 1;
	}
	return got ? -EBADMSG : 0;
}

static int room(struct capture *c, size_t n)
{
	__u8 *grown;

	if (n <= c->size)
		return 0;
	grown = realloc(c->bytes, n);
	if (!grown)
		return -ENOMEM;
	c->bytes = grown;
	c->size = n;
	return 0;
}

static struct interface *interface_add(struct capture *c)
{
	struct interface *grown;

	if (c->interfaces == INTERFACES)
		return NULL;
	if (!(c->interfaces % 16)) {
		grown = realloc(c->interface, (c->interfaces + 16) * sizeof(*grown));
		if (!grown)
			return NULL;
		c->interface = grown;
	}
	memset(&c->interface[c->interfaces], 0, sizeof(*grown));
	c->interface[c->interfaces].units = 1000000;
	return &c->interface[c->interfaces++];
}

static __u16 linktype_of(__u16 written)
{
	return written == LINKTYPE_RAW_LINUX || written == LINKTYPE_RAW_OPENBSD ? LINKTYPE_RAW
										: written;
}

/* ---- pcap ---------------------------------------------------------------------------- */

static int pcap_begin(struct capture *c, __u32 magic, char *words, size_t size)
{
	struct interface *i = interface_add(c);
	__u8 rest[20];

	if (!i)
		return -ENOMEM;
	switch (magic) {
	case 0xa1b2c3d4:
		break;
	case 0xa1b23c4d:
		i->units = SECOND_NS;
		break;
	case 0xd4c3b2a1:
		c->swapped = true;
		break;
	case 0x4d3cb2a1:
		c->swapped = true;
		i->units = SECOND_NS;
		break;
	default:
		return bad(c, words, size, "neither pcap nor pcapng");
	}
	if (take(c, rest, sizeof(rest)) != 1)
		return bad(c, words, size, "cut short in its first header");
	i->snap = get32(c, rest + 12);
	/* Above: length of a checksum behind frames. */
	i->linktype = linktype_of(get32(c, rest + 16) & 0xffff);
	return 0;
}

static int pcap_next(struct capture *c, struct capture_packet *p, char *words, size_t size)
{
	const struct interface *i = &c->interface[0];
	__u8 head[16];
	int got = take(c, head, sizeof(head));
	__u32 fraction;

	if (!got)
		return 0;
	if (got < 0)
		return bad(c, words, size, "cut short in a packet's header");
	fraction = get32(c, head + 4);
	p->kept = get32(c, head + 8);
	p->wire = get32(c, head + 12);
	if (p->kept > CAPTURE_FRAME_MAX || fraction >= i->units)
		return bad(c, words, size, "no packet's header");
	if (room(c, p->kept))
		return -ENOMEM;
	if (p->kept && take(c, c->bytes, p->kept) != 1)
		return bad(c, words, size, "cut short in a packet");
	p->wall_ns = get32(c, head) * SECOND_NS + fraction * (SECOND_NS / i->units);
	p->bytes = c->bytes;
	p->interface = 0;
	p->linktype = i->linktype;
	return 1;
}

/* ---- pcapng -------------------------------------------------------------------------- */

static void option(struct capture *c, struct interface *i, __u16 code, const __u8 *at, __u16 n)
{
	__u64 offset;

	if (code == OPT_NAME) {
		if (n >= sizeof(i->name))
			n = sizeof(i->name) - 1;
		memcpy(i->name, at, n);
		i->name[n] = 0;
	} else if (code == OPT_TSRESOL && n >= 1) {
		i->units = 1;
		if (at[0] & 0x80)
			i->units = (at[0] & 0x7f) < 64 ? 1ULL << (at[0] & 0x7f) : 0;
		else
			for (int k = 0; k < at[0] && i->units; k++)
				i->units = k < 19 ? i->units * 10 : 0;
	} else if (code == OPT_TSOFFSET && n >= 8) {
		memcpy(&offset, at, sizeof(offset));
		i->offset_s = c->swapped ? bswap_64(offset) : offset;
	}
}

static int block_interface(struct capture *c, const __u8 *body, __u32 n, char *words, size_t size)
{
	struct interface *i;
	__u32 at = 8;

	if (n < 8)
		return bad(c, words, size, "interface block of %u bytes", n);
	i = interface_add(c);
	if (!i)
		return bad(c, words, size, "more than %u interfaces", INTERFACES);
	i->linktype = linktype_of(get16(c, body));
	i->snap = get32(c, body + 4);
	while (at + 4 <= n) {
		__u16 code = get16(c, body + at), length = get16(c, body + at + 2);

		at += 4;
		if (code == OPT_END || length > n - at)
			break;
		option(c, i, code, body + at, length);
		at += (length + 3U) & ~3U;
	}
	if (!i->units)
		return bad(c, words, size, "interface %u: a resolution of time beyond 64 bits",
			   c->interfaces - 1 - c->section);
	return 0;
}

static __u64 time_of(const struct interface *i, __u64 units)
{
	__u64 s = units / i->units, rest = units % i->units;

	return (s + i->offset_s) * SECOND_NS +
	       (__u64)((unsigned __int128)rest * SECOND_NS / i->units);
}

/* Enhanced, obsolete and simple: where their fields are. */
static int block_packet(struct capture *c, __u32 type, const __u8 *body, __u32 n,
			struct capture_packet *p, char *words, size_t size)
{
	__u32 fixed = type == BLOCK_SPB ? 4 : 20, id = 0;
	const struct interface *i;
	__u64 units = 0;

	if (n < fixed)
		return bad(c, words, size, "packet block of %u bytes", n);
	if (type != BLOCK_SPB) {
		id = type == BLOCK_EPB ? get32(c, body) : get16(c, body);
		units = (__u64)get32(c, body + 4) << 32 | get32(c, body + 8);
		p->kept = get32(c, body + 12);
		p->wire = get32(c, body + 16);
	}
	if (id >= c->interfaces - c->section)
		return bad(c, words, size, "packet of an interface that was not described");
	i = &c->interface[c->section + id];
	if (type == BLOCK_SPB) {
		p->wire = get32(c, body);
		p->kept = i->snap && i->snap < p->wire ? i->snap : p->wire;
		if (p->kept > n - fixed)
			p->kept = n - fixed;
	}
	if (p->kept > n - fixed || p->kept > CAPTURE_FRAME_MAX)
		return bad(c, words, size, "packet longer than its block");
	p->bytes = body + fixed;
	p->wall_ns = time_of(i, units);
	p->interface = c->section + id;
	p->linktype = i->linktype;
	return 1;
}

/* The byte order is inside the block, so its length comes second. */
static int section_begin(struct capture *c, __u32 length, char *words, size_t size)
{
	__u32 order;

	if (take(c, &order, sizeof(order)) != 1)
		return bad(c, words, size, "cut short in a section's header");
	if (order != ORDER_MAGIC && order != bswap_32(ORDER_MAGIC))
		return bad(c, words, size, "section without a byte order");
	c->swapped = order != ORDER_MAGIC;
	length = c->swapped ? bswap_32(length) : length;
	if (length < 28 || length > BLOCK_MAX || length % 4)
		return bad(c, words, size, "section header of %u bytes", length);
	if (room(c, length))
		return -ENOMEM;
	if (take(c, c->bytes, length - 12) != 1)
		return bad(c, words, size, "cut short in a section's header");
	c->section = c->interfaces;
	return 0;
}

static int ng_next(struct capture *c, struct capture_packet *p, char *words, size_t size)
{
	__u32 head[2], type, length;
	int got;

	for (;;) {
		got = take(c, head, sizeof(head));
		if (!got)
			return 0;
		if (got < 0)
			return bad(c, words, size, "cut short in a block's header");
		if (head[0] == BLOCK_SHB) {
			got = section_begin(c, head[1], words, size);
			if (got)
				return got;
			continue;
		}
		type = get32(c, &head[0]);
		length = get32(c, &head[1]);
		if (length < 12 || length > BLOCK_MAX || length % 4)
			return bad(c, words, size, "block of %u bytes", length);
		if (room(c, length))
			return -ENOMEM;
		if (take(c, c->bytes, length - 8) != 1)
			return bad(c, words, size, "cut short in a block");
		got = 0;
		if (type == BLOCK_IDB)
			got = block_interface(c, c->bytes, length - 12, words, size);
		else if (type == BLOCK_EPB || type == BLOCK_SPB || type == BLOCK_PB)
			got = block_packet(c, type, c->bytes, length - 12, p, words, size);
		if (got)
			return got;
	}
}

/* ---- both ---------------------------------------------------------------------------- */

struct capture *capture_open(FILE *file, char *words, size_t size)
{
	struct capture *c = calloc(1, sizeof(*c));
	__u32 magic, length;
	int err;

	if (!c)
		return NULL;
	c->file = file;
	if (take(c, &magic, sizeof(magic)) != 1) {
		err = bad(c, words, size, "neither pcap nor pcapng");
	} else if (magic == BLOCK_SHB) {
		c->ng = true;
		err = take(c, &length, sizeof(length)) == 1
			      ? section_begin(c, length, words, size)
			      : bad(c, words, size, "cut short in a section's header");
	} else {
		err = pcap_begin(c, magic, words, size);
	}
	if (!err)
		return c;
	if (err == -ENOMEM)
		snprintf(words, size, "out of memory");
	capture_close(c);
	return NULL;
}

void capture_close(struct capture *c)
{
	if (!c)
		return;
	free(c->interface);
	free(c->bytes);
	free(c);
}

int capture_next(struct capture *c, struct capture_packet *packet, char *words, size_t size)
{
	int got = c->ng ? ng_next(c, packet, words, size) : pcap_next(c, packet, words, size);

	if (got == -ENOMEM)
		return bad(c, words, size, "out of memory");
	if (got == 1 && packet->wire < packet->kept)
		packet->wire = packet->kept;
	return got;
}

const char *capture_interface(const struct capture *c, __u32 interface)
{
	return interface < c->interfaces ? c->interface[interface].name : "";
}

int capture_linktype(const struct capture *c)
{
	return c->ng ? -1 : c->interface[0].linktype;
}
