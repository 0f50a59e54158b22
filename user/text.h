/* SPDX-License-Identifier: GPL-2.0-only */
/* Growing text, and foreign bytes made safe for a terminal and for JSON. */
#ifndef TIDEMARK_TEXT_H
#define TIDEMARK_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Starts as {}. An append that finds no memory sets err and every later append does nothing, so
 * that a writer looks once, at the end.
 */
struct text {
	char *at; /* not terminated */
	size_t len;
	size_t size;
	int err;
};

void text_free(struct text *text);
void text_add(struct text *text, const void *bytes, size_t len);

/* Room for so many bytes at its end, whose length the caller then adds; NULL: there is none. */
char *text_grow(struct text *text, size_t most);

static inline char *text_room(struct text *text, size_t most)
{
	return most <= text->size - text->len && !text->err ? text->at + text->len
							    : text_grow(text, most);
}

void text_add_str(struct text *text, const char *str);
void text_add_char(struct text *text, char c);
void text_add_u64(struct text *text, uint64_t value);
void text_add_s64(struct text *text, int64_t value);

/* A stamp, as 16 hexadecimal digits: sorts as text the way it sorts as a number. */
void text_add_stamp(struct text *text, uint64_t stamp);

/* `812`, `1.5k`, `64m`: powers of 1024, cut, not rounded, so that nothing is shown larger than it
 * is.
 */
void text_add_bytes(struct text *text, uint64_t bytes);

/* `850ns`, `1.2ms`, `3.4s`, `15m`, `2.5h`, `7d`. */
void text_add_span(struct text *text, uint64_t span_ns);

/* `2026-11-20T22:31:05.123456789Z`. */
void text_add_wall(struct text *text, uint64_t wall_ns);

/* The reverse, with none to nine decimals. Returns 0 or -EINVAL. */
int text_parse_wall(const char *str, uint64_t *wall_ns);

/* Exactly 16 lower-case hexadecimal digits. Returns 0 or -EINVAL. */
int text_parse_stamp(const char *str, uint64_t *stamp);

/* For people: anything a terminal could obey, and bytes that are not UTF-8, become `\n`, `\x1b`,
 * `\u202e`; a backslash is doubled, so what is shown says which bytes were there.
 */
void text_add_clean(struct text *text, const char *bytes, size_t len);

/* For JSON: a quoted string. Bytes that are not UTF-8 become U+FFFD; what a terminal could obey is
 * escaped here too, because people do `cat` logs.
 */
void text_add_json(struct text *text, const char *bytes, size_t len);

/* Length of the UTF-8 sequence that bytes begin with, or 0 if that is not a valid one. */
size_t text_decode(const char *bytes, size_t len, uint32_t *rune);

/* Columns on a terminal. Valid UTF-8 only. */
size_t text_width(const char *bytes, size_t len);

#endif
