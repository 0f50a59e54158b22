/* SPDX-License-Identifier: GPL-2.0-only */
/* Sealed segments packed: compressed, encrypted, and read again as if they were not. */
#ifndef TIDEMARK_SEGMENT_PACK_H
#define TIDEMARK_SEGMENT_PACK_H

#include "segment.h"

#define PACK_FRAME (128U << 10) /* bytes of the segment in a frame */

/* Replaces the plain file of a sealed segment. -errno, and then the plain one is still there. */
int segment_pack(int dir, const char *base, const struct segments_options *options);

#endif
