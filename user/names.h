/* SPDX-License-Identifier: GPL-2.0-only */
/* Small numbers for byte strings that come again and again: the same string, the same number. */
#ifndef TIDEMARK_NAMES_H
#define TIDEMARK_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "text.h"

/* Starts as {}. Numbers count from 0 in order of first appearance. */
struct names {
	struct text bytes; /* every name, terminated */
	size_t *starts;	   /* of name i in bytes */
	uint32_t n, size;
	struct name_slot *slots; /* open addressing; a power of two of them, at most half full */
	uint32_t slots_n;
};

/* The number of this name, or -ENOMEM, or -E2BIG after 2^30 of them. */
int64_t names_id(struct names *names, const char *bytes, size_t len);

/* The name; it may contain NULs that the caller put there. Valid until the next names_id(). */
const char *names_get(const struct names *names, uint32_t id);

void names_free(struct names *names);

#endif
