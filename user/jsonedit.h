/* SPDX-License-Identifier: GPL-2.0-only */
/* A JSON object with some members changed, and every other byte as it was. */
#ifndef TIDEMARK_JSONEDIT_H
#define TIDEMARK_JSONEDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text.h"

#define JSONEDIT_MOST 10

/* Starts as {}. */
struct jsonedit {
	struct {
		const char *key;
		const char *str; /* a string that needs no escaping, or NULL: */
		uint64_t stamp;
		bool keep; /* if the object has it, as it is */
		bool done;
	} member[JSONEDIT_MOST];
	unsigned n;
};

void jsonedit_str(struct jsonedit *edit, const char *key, const char *str);
void jsonedit_stamp(struct jsonedit *edit, const char *key, uint64_t stamp, bool keep);

/* The object `line`, which must be one, changed, is added to text; members it lacks come last.
 * Returns 0, -EINVAL or -ENOMEM.
 */
int jsonedit_write(struct jsonedit *edit, const char *line, size_t len, struct text *text);

#endif
