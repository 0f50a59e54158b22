/* SPDX-License-Identifier: GPL-2.0-only */
/* Spans of time, sizes and numbers as users write them. */
#ifndef TIDEMARK_UNITS_H
#define TIDEMARK_UNITS_H

#include <linux/types.h>

/* `90s`, `15m`, `2h`, `7d`, also `250ms`; in ns. -EINVAL, -ERANGE. */
int span_parse(const char *text, __u64 *ns);

/* `15k`, `64m`, `10g` (powers of 1024), or plain bytes. */
int size_parse(const char *text, __u64 *bytes);

/* A decimal number of at most `most`. */
int number_parse(const char *text, __u64 most, __u64 *number);

/* `NODE=+3s`, `NODE=-2h`: the last = divides. */
int skew_parse(const char *text, char *name, unsigned name_size, __s64 *ns);

#endif
