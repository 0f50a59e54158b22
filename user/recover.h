/* SPDX-License-Identifier: GPL-2.0-only */
/* Segments that a dead process left unsealed: put in order from their journals. */
#ifndef TIDEMARK_RECOVER_H
#define TIDEMARK_RECOVER_H

#include "catalog.h"

/*
 * Cuts a segment to what its journal promises, and seals it. What of that is damaged is
 * taken out, said, and told as a gap; the file stays whole pcapng. -errno, said.
 */
int segment_recover(const char *path, int dir, const char *base);

/* Blocks that stand in every segment; each returns how long it is, at most 1 KiB. */
size_t segment_section(unsigned char *to, const struct catalog *c);
size_t segment_interface(unsigned char *to, const struct catalog_device *d);

#endif
