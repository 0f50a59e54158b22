/* SPDX-License-Identifier: GPL-2.0-only */
/* Data on stdout: one call per field, read by people as a table and by programs as JSON lines. */
#ifndef TIDEMARK_OUT_H
#define TIDEMARK_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OUT_NO_PORT -1

/* How to open. A stream's columns have their full width, a kept table's are as narrow as their
 * contents.
 */
#define OUT_JSON (1U << 0)   /* one object per line instead of a table */
#define OUT_STREAM (1U << 1) /* rows appear as they come; without it, they are kept */

/* How a column behaves. When the screen is too narrow for all that must stay, a row has more lines
 * than one.
 */
#define OUT_RIGHT (1U << 0)    /* for numbers */
#define OUT_OPTIONAL (1U << 1) /* left out, rightmost first, when the screen is too narrow */

/* One column; a table ends with a column without a key. Columns are named by their index, so
 * declare an enum beside the table and use it on both sides. Keys appear in JSON in this order, and
 * only in rows that set them.
 */
struct out_column {
	const char *key;     /* in JSON, with its unit: "age_ns" */
	const char *heading; /* in the table; NULL: only in JSON */
	unsigned width;	     /* widest it may be in a table; 0 for JSON only */
	unsigned least;	     /* may be narrowed to this on a small screen; 0: never narrowed */
	unsigned flags;
};

enum out_colour {
	OUT_PLAIN,
	OUT_DIM,
	OUT_BOLD,
	OUT_RED,
	OUT_GREEN,
	OUT_YELLOW,
	OUT_BLUE,
	OUT_MAGENTA,
	OUT_CYAN,
};

struct out;

/* NULL without memory. A broken pipe becomes an error seen by out_row() instead of a signal from
 * here on, so that what was attached can be taken down when the reader leaves.
 */
struct out *out_open(FILE *file, const struct out_column *columns, unsigned flags);

/* Write every line out at once, for a reader that waits for it. A terminal always gets this. */
void out_flush_lines(struct out *out, bool flush);

/* Colour the row being filled; only on a terminal that may have colours. */
void out_colour(struct out *out, enum out_colour colour);

/* Set one field of the row being filled. One not set is absent from JSON, `-` in the table. */
void out_u64(struct out *out, unsigned column, uint64_t value);
void out_s64(struct out *out, unsigned column, int64_t value);
void out_bool(struct out *out, unsigned column, bool value);
void out_str(struct out *out, unsigned column, const char *str);		/* NULL: not set */
void out_mem(struct out *out, unsigned column, const char *bytes, size_t size); /* up to a NUL */
void out_stamp(struct out *out, unsigned column, uint64_t stamp);
void out_wall(struct out *out, unsigned column, uint64_t wall_ns);  /* time of day in the table */
void out_bytes(struct out *out, unsigned column, uint64_t bytes);   /* `1.5k` in the table */
void out_span(struct out *out, unsigned column, uint64_t span_ns);  /* `1.5s` in the table */
void out_shift(struct out *out, unsigned column, int64_t shift_ns); /* `-2h` in the table */

/* addr: 4 bytes for AF_INET, 16 for AF_INET6, network order; port in host order or OUT_NO_PORT. */
void out_endpoint(struct out *out, unsigned column, int family, const void *addr, int port);

/* The row is complete. Returns 0, or -errno once writing failed: then stop, nobody reads. */
int out_row(struct out *out);

/* Print a kept table and start an empty one (for --watch). Returns as out_row() does. */
int out_flush(struct out *out);

/* out_flush(), then free. */
int out_close(struct out *out);

/* What a command that printed returns: closes; if printing failed says so once (a reader that left
 * is not worth words) and returns 1, otherwise status.
 */
int out_finish(struct out *out, int status);

#endif
