/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks as text: a table, JSON lines, and JSON lines read back. */
#ifndef TIDEMARK_MARKIO_H
#define TIDEMARK_MARKIO_H

#include <jansson.h>
#include <stdio.h>

#include "marks.h"
#include "out.h"
#include "registry.h"

/* NULL without memory. The file stays the caller's. */
struct out *marks_out(FILE *file, bool json);
int mark_print(struct out *out, const struct registry *registry, const struct mark *mark);

/* Of a flow or an event: names (numbers without a registry), and how its packets say it. */
void out_mark(struct out *out, unsigned experiment_column, unsigned activity_column,
	      unsigned how_column, const struct registry *registry, __u32 mark);

/* From words of a user's, each with its own complaint. -EINVAL, and @words says what. */
int mark_proto_parse(const char *text, __u8 *proto);
int mark_how_parse(const char *text, enum mark_how *how);
int mark_cgroup_parse(const char *text, struct mark *mark);
int mark_uid_parse(const char *text, struct mark *mark); /* a number, or a name of /etc/passwd */

/* Why no packet can ever be meant, or NULL. */
const char *mark_never(const struct mark *mark);

/* One line as `mark list --json` prints it; what it says of id and flows is not read. */
int mark_read(const char *line, size_t length, const struct registry *registry, struct mark *mark,
	      char *words, size_t size);

/* The same, parsed. */
int mark_read_json(json_t *line, const struct registry *registry, struct mark *mark, char *words,
		   size_t size);

#endif
