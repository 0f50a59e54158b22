/* SPDX-License-Identifier: GPL-2.0-only */
/* What `tidemark merge` shares with other commands that read many logs. */
#ifndef TIDEMARK_MERGE_H
#define TIDEMARK_MERGE_H

#include <stdint.h>

/* A stamp, or a time: then the last stamp of that moment. Returns 0 or -EINVAL. */
int merge_cut_parse(const char *text, uint64_t *stamp);

#endif
