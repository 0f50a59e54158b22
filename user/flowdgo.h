/* SPDX-License-Identifier: GPL-2.0-only */
/* flowd-go's configuration, as one of ours. */
#ifndef TIDEMARK_FLOWDGO_H
#define TIDEMARK_FLOWDGO_H

#include "text.h"

#define FLOWDGO_FILE "/etc/flowd-go/conf.yaml"

/*
 * What this configuration of flowd-go's comes to, as YAML of ours. Keys that mean nothing
 * here, or that flowd-go does not know either, are said and passed over. 0, or 2 after
 * saying FILE:LINE:COLUMN and what is wrong there. `token`: the file of a token for
 * addresses that others reach, or NULL.
 */
int flowdgo_translate(const char *name, const char *yaml, size_t len, const char *token,
		      struct text *out);

#endif
