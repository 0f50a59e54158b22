/* SPDX-License-Identifier: GPL-2.0-only */
/* Sealed segments packed: compressed, encrypted, and read again as if they were not. */
#ifndef TIDEMARK_SEGMENT_PACK_H
#define TIDEMARK_SEGMENT_PACK_H

#include "segment.h"

#define PACK_FRAME (128U << 10) /* bytes of the segment in a frame */

/*
 * zstd's seekable format: frames that any zstd reads one after the other, then a frame
 * that any zstd skips, with the lengths of the others.
 */
#define PACK_TABLE_MAGIC 0x184d2a5eU
#define PACK_TABLE_END 0x8f92eab1U

/* Replaces the plain file of a sealed segment. -errno, and then the plain one is still there. */
int segment_pack(int dir, const char *base, const struct segments_options *options);

/* A packed segment, unpacked where it is read. */
struct packed;

/* Takes over the file. `segment_bytes`: of the segment as it was, 0 if it is not known. -EBADMSG.
 * packed_close() is to be called all the same.
 */
int packed_open(struct packed **packed, int fd, __u64 segment_bytes);

/* Bytes of the segment as it was; good until the next call. NULL: damaged. */
const unsigned char *packed_at(struct packed *packed, __u64 offset, __u64 bytes);
__u64 packed_size(const struct packed *packed);
void packed_close(struct packed *packed);

#endif
