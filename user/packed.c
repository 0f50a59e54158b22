// SPDX-License-Identifier: GPL-2.0-only
/* Packed segments read: by the table at their end, frame by frame. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "bytes.h"
#include "checked.h"
#include "segment_pack.h"
#include "store.h"

#define CACHED 4

struct frame {
	__u64 number; /* + 1; 0: none */
	__u64 used;
	unsigned char bytes[PACK_FRAME];
};

struct packed {
	struct checked file;
	__u64 *offsets; /* of frames; one more than there are */
	__u32 frames;
	__u64 size; /* unpacked */
	__u64 clock;
	struct frame *cache; /* CACHED of them */
	unsigned char *span; /* what lies in more than one frame */
	size_t span_room;
	ZSTD_DCtx *context;
};

/* Of each frame its two lengths; then how many, a byte of flags, a magic number. */
static int table_read(struct packed *p)
{
	const unsigned char *tail, *at;
	__u64 offset = 0, frames;

	if (p->file.size < 17)
		return -EBADMSG;
	tail = checked_at(&p->file, p->file.size - 13, 13);
	if (!tail || get_u32(tail + 9) != PACK_TABLE_END || tail[8])
		return -EBADMSG;
	frames = get_u32(tail + 4);
	if (!p->size && frames &&
	    frames <= (p->file.size - 17) / 8) /* whoever asks does not know */
		p->size = (frames - 1) * PACK_FRAME + get_u32(tail);
	if (frames != (p->size + PACK_FRAME - 1) / PACK_FRAME || frames * 8 + 17 > p->file.size)
		return -EBADMSG;
	at = checked_at(&p->file, p->file.size - 9 - frames * 8, frames * 8);
	if (!at)
		return -EBADMSG;
	p->offsets = malloc((frames + 1) * sizeof(*p->offsets));
	if (!p->offsets)
		return -ENOMEM;
	for (__u64 i = 0; i < frames; i++, at += 8) {
		__u64 left = p->size - i * PACK_FRAME;

		if (get_u32(at + 4) != (left < PACK_FRAME ? left : PACK_FRAME))
			return -EBADMSG;
		p->offsets[i] = offset;
		offset += get_u32(at);
	}
	p->offsets[frames] = offset;
	p->frames = (__u32)frames;
	return offset == p->file.size - 17 - frames * 8 ? 0 : -EBADMSG;
}

int packed_open(struct packed **packed, int fd, __u64 segment_bytes)
{
	struct packed *p = calloc(1, sizeof(*p));
	int err;

	*packed = p;
	if (!p)
		return -ENOMEM;
	p->size = segment_bytes;
	err = checked_open(&p->file, fd);
	checked_keep(&p->file);
	checked_bound(&p->file, STORE_BOUND);
	if (!err)
		err = table_read(p);
	p->cache = calloc(CACHED, sizeof(*p->cache));
	p->context = ZSTD_createDCtx();
	if (!err && (!p->cache || !p->context))
		err = -ENOMEM;
	return err;
}

static const struct frame *frame_get(struct packed *p, __u64 number)
{
	__u64 left = p->size - number * PACK_FRAME;
	struct frame *oldest = p->cache;
	size_t wanted = left < PACK_FRAME ? left : PACK_FRAME, got;
	__u64 bytes = p->offsets[number + 1] - p->offsets[number];
	const unsigned char *at;

	for (struct frame *f = p->cache; f < p->cache + CACHED; f++) {
		if (f->number == number + 1) {
			f->used = ++p->clock;
			return f;
		}
		if (f->used < oldest->used)
			oldest = f;
	}
	oldest->number = 0;
	at = checked_at(&p->file, p->offsets[number], bytes);
	if (!at)
		return NULL;
	got = ZSTD_decompressDCtx(p->context, oldest->bytes, PACK_FRAME, at, bytes);
	if (ZSTD_isError(got) || got != wanted)
		return NULL;
	oldest->number = number + 1;
	oldest->used = ++p->clock;
	return oldest;
}

const unsigned char *packed_at(struct packed *p, __u64 offset, __u64 bytes)
{
	const struct frame *frame;
	__u64 from = offset % PACK_FRAME, done = 0;

	if (offset > p->size || bytes > p->size - offset)
		return NULL;
	if (from + bytes <= PACK_FRAME) {
		frame = bytes ? frame_get(p, offset / PACK_FRAME) : p->cache;
		return frame ? frame->bytes + from : NULL;
	}
	if (bytes > p->span_room) {
		free(p->span);
		p->span_room = bytes;
		p->span = malloc(bytes);
		if (!p->span) {
			p->span_room = 0;
			return NULL;
		}
	}
	while (done < bytes) {
		__u64 n = PACK_FRAME - from;

		if (n > bytes - done)
			n = bytes - done;
		frame = frame_get(p, (offset + done) / PACK_FRAME);
		if (!frame)
			return NULL;
		memcpy(p->span + done, frame->bytes + from, n);
		done += n;
		from = 0;
	}
	return p->span;
}

__u64 packed_size(const struct packed *p)
{
	return p->size;
}

void packed_close(struct packed *p)
{
	if (!p)
		return;
	checked_close(&p->file);
	ZSTD_freeDCtx(p->context);
	free(p->offsets);
	free(p->cache);
	free(p->span);
	free(p);
}
