// SPDX-License-Identifier: GPL-2.0-only
/* Growing text, and foreign bytes made safe for a terminal and for JSON. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "text.h"

#define SECOND_NS 1000000000ULL

static const char digits[] = "0123456789abcdef";

void text_free(struct text *text)
{
	free(text->at);
	*text = (struct text){};
}

char *text_grow(struct text *text, size_t most)
{
	size_t size = text->size * 2 + most + 64;
	char *at = text->err ? NULL : realloc(text->at, size);

	if (!at) {
		text->err = -ENOMEM;
		return NULL;
	}
	text->at = at;
	text->size = size;
	return at + text->len;
}

void text_add(struct text *text, const void *bytes, size_t len)
{
	char *to = len ? text_room(text, len) : NULL;

	if (!to)
		return;
	memcpy(to, bytes, len);
	text->len += len;
}

void text_add_str(struct text *text, const char *str)
{
	text_add(text, str, strlen(str));
}

void text_add_char(struct text *text, char c)
{
	text_add(text, &c, 1);
}

void text_add_u64(struct text *text, uint64_t value)
{
	char buf[20];
	size_t at = sizeof(buf);

	do {
		buf[--at] = digits[value % 10];
		value /= 10;
	} while (value);
	text_add(text, buf + at, sizeof(buf) - at);
}

void text_add_s64(struct text *text, int64_t value)
{
	if (value < 0)
		text_add_char(text, '-');
	text_add_u64(text, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

static void text_add_hex(struct text *text, uint64_t value, int width)
{
	char buf[16];

	for (int i = width - 1; i >= 0; i--, value >>= 4)
		buf[i] = digits[value & 0xf];
	text_add(text, buf, width);
}

static void text_add_decimal(struct text *text, uint64_t value, int width)
{
	char buf[16];

	for (int i = width - 1; i >= 0; i--, value /= 10)
		buf[i] = digits[value % 10];
	text_add(text, buf, width);
}

void text_add_stamp(struct text *text, uint64_t stamp)
{
	text_add_hex(text, stamp, 16);
}

/* One decimal below ten, none above: three or four characters say enough. */
static void text_add_scaled(struct text *text, uint64_t whole, unsigned tenth)
{
	text_add_u64(text, whole);
	if (whole < 10 && tenth) {
		text_add_char(text, '.');
		text_add_char(text, digits[tenth]);
	}
}

void text_add_bytes(struct text *text, uint64_t bytes)
{
	static const char units[] = "kmgtpe";
	int unit = -1;
	uint64_t rest;

	while (unit < 5 && bytes >> (10 * (unit + 2)) != 0)
		unit++;
	if (unit < 0) {
		text_add_u64(text, bytes);
		return;
	}
	rest = bytes & ((1ULL << (10 * (unit + 1))) - 1);
	text_add_scaled(text, bytes >> (10 * (unit + 1)), rest * 10 >> (10 * (unit + 1)));
	text_add_char(text, units[unit]);
}

void text_add_span(struct text *text, uint64_t span_ns)
{
	static const struct {
		uint64_t ns;
		const char *name;
	} units[] = {
		{ 86400 * SECOND_NS, "d" },
		{ 3600 * SECOND_NS, "h" },
		{ 60 * SECOND_NS, "m" },
		{ SECOND_NS, "s" },
		{ 1000000, "ms" },
		{ 1000, "us" },
		{ 1, "ns" },
	};
	size_t i = 0;

	while (i < sizeof(units) / sizeof(units[0]) - 1 && span_ns < units[i].ns)
		i++;
	text_add_scaled(text, span_ns / units[i].ns,
			(unsigned)(span_ns % units[i].ns * 10 / units[i].ns));
	text_add_str(text, units[i].name);
}

void text_add_wall(struct text *text, uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / SECOND_NS);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	text_add_decimal(text, tm.tm_year + 1900, 4);
	text_add_char(text, '-');
	text_add_decimal(text, tm.tm_mon + 1, 2);
	text_add_char(text, '-');
	text_add_decimal(text, tm.tm_mday, 2);
	text_add_char(text, 'T');
	text_add_decimal(text, tm.tm_hour, 2);
	text_add_char(text, ':');
	text_add_decimal(text, tm.tm_min, 2);
	text_add_char(text, ':');
	text_add_decimal(text, tm.tm_sec, 2);
	text_add_char(text, '.');
	text_add_decimal(text, wall_ns % SECOND_NS, 9);
	text_add_char(text, 'Z');
}

/* Days since 1970 of a date in the proleptic Gregorian calendar; the year starts in March so that
 * the leap day is its last.
 */
static int64_t date_days(int64_t year, int64_t month, int64_t day)
{
	year -= month <= 2;
	month += month <= 2 ? 9 : -3;
	return year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 -
	       719468;
}

/* Reads the digits that shape has in their place: `0` any digit, anything else itself. */
static bool shape_fits(const char *str, const char *shape)
{
	for (; *shape; shape++, str++) {
		bool digit = *str >= '0' && *str <= '9';

		if (*shape == '0' ? !digit : *str != *shape)
			return false;
	}
	return true;
}

static unsigned digits_value(const char *str, size_t len)
{
	unsigned value = 0;

	while (len--)
		value = value * 10 + (unsigned)(*str++ - '0');
	return value;
}

int text_parse_wall(const char *str, uint64_t *wall_ns)
{
	unsigned year, month, day, hour, minute, second;
	uint64_t fraction = 0, scale = SECOND_NS;

	if (!shape_fits(str, "0000-00-00T00:00:00"))
		return -EINVAL;
	year = digits_value(str, 4);
	month = digits_value(str + 5, 2);
	day = digits_value(str + 8, 2);
	hour = digits_value(str + 11, 2);
	minute = digits_value(str + 14, 2);
	second = digits_value(str + 17, 2);
	/* 2553 is the last whole year whose nanoseconds fit. */
	if (year < 1970 || year > 2553 || month < 1 || month > 12 || day < 1 || day > 31 ||
	    hour > 23 || minute > 59 || second > 60)
		return -EINVAL;
	/* 30 February is a slip of whoever wrote it, not the 2nd of March. */
	if (day > date_days(year + month / 12, month % 12 + 1, 1) - date_days(year, month, 1))
		return -EINVAL;
	str += 19;
	if (*str == '.') {
		if (!shape_fits(++str, "0"))
			return -EINVAL;
		for (; shape_fits(str, "0"); str++) {
			if (scale == 1)
				return -EINVAL;
			scale /= 10;
			fraction += scale * (uint64_t)(*str - '0');
		}
	}
	if (strcmp(str, "Z") != 0)
		return -EINVAL;
	*wall_ns = ((uint64_t)date_days(year, month, day) * 86400 + hour * 3600 + minute * 60 +
		    second) *
			   SECOND_NS +
		   fraction;
	return 0;
}

int text_parse_stamp(const char *str, uint64_t *stamp)
{
	uint64_t value = 0;
	int i;

	for (i = 0; i < 16; i++) {
		const char *digit = str[i] ? strchr(digits, str[i]) : NULL;

		if (!digit)
			return -EINVAL;
		value = value << 4 | (uint64_t)(digit - digits);
	}
	if (str[16])
		return -EINVAL;
	*stamp = value;
	return 0;
}

size_t text_decode(const char *bytes, size_t len, uint32_t *rune)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *at = (const unsigned char *)bytes;
	size_t want, i;
	uint32_t value;

	if (!len)
		return 0;
	if (at[0] < 0x80) {
		*rune = at[0];
		return 1;
	}
	want = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
	if (at[0] < 0xc2 || at[0] > 0xf4 || want > len)
		return 0;
	value = at[0] & (0x7fU >> want);
	for (i = 1; i < want; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (at[i] & 0x3f);
	}
	if (value < least[want] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*rune = value;
	return want;
}

struct range {
	uint32_t first, last;
};

static bool range_has(const struct range *ranges, size_t n, uint32_t rune)
{
	for (size_t i = 0; i < n; i++)
		if (rune >= ranges[i].first && rune <= ranges[i].last)
			return true;
	return false;
}

/* What a terminal obeys instead of showing: C0, DEL, C1, and what turns or hides the text around
 * it.
 */
static bool rune_is_obeyed(uint32_t rune)
{
	static const struct range obeyed[] = {
		{ 0x00, 0x1f },	    { 0x7f, 0x9f },	  { 0xad, 0xad },     { 0x061c, 0x061c },
		{ 0x200b, 0x200f }, { 0x2028, 0x202e },	  { 0x2060, 0x206f }, { 0xfeff, 0xfeff },
		{ 0xfff9, 0xfffb }, { 0xe0000, 0xe0fff },
	};

	if (rune >= 0x20 && rune < 0x7f)
		return false;
	return range_has(obeyed, sizeof(obeyed) / sizeof(obeyed[0]), rune);
}

static unsigned rune_width(uint32_t rune)
{
	static const struct range none[] = {
		{ 0x0300, 0x036f }, { 0x1ab0, 0x1aff }, { 0x1dc0, 0x1dff },
		{ 0x20d0, 0x20ff }, { 0xfe00, 0xfe0f }, { 0xfe20, 0xfe2f },
	};
	static const struct range two[] = {
		{ 0x1100, 0x115f },   { 0x2e80, 0xa4cf },   { 0xac00, 0xd7a3 },
		{ 0xf900, 0xfaff },   { 0xfe30, 0xfe6f },   { 0xff00, 0xff60 },
		{ 0xffe0, 0xffe6 },   { 0x1f300, 0x1f64f }, { 0x1f680, 0x1f6ff },
		{ 0x1f900, 0x1faff }, { 0x20000, 0x3fffd },
	};

	if (rune < 0x300)
		return 1;
	if (range_has(none, sizeof(none) / sizeof(none[0]), rune))
		return 0;
	return range_has(two, sizeof(two) / sizeof(two[0]), rune) ? 2 : 1;
}

size_t text_width(const char *bytes, size_t len)
{
	size_t width = 0, step;
	uint32_t rune;

	for (; len; bytes += step, len -= step) {
		step = text_decode(bytes, len, &rune);
		width += step ? rune_width(rune) : 1;
		step += !step;
	}
	return width;
}

static void text_add_escape(struct text *text, uint32_t rune)
{
	static const char names[] = "abtnvfr"; /* 7 to 13 */

	text_add_char(text, '\\');
	if (rune >= 7 && rune <= 13) {
		text_add_char(text, names[rune - 7]);
	} else if (rune < 0x80) {
		text_add_char(text, 'x');
		text_add_hex(text, rune, 2);
	} else if (rune < 0x10000) {
		text_add_char(text, 'u');
		text_add_hex(text, rune, 4);
	} else {
		text_add_char(text, 'U');
		text_add_hex(text, rune, 8);
	}
}

void text_add_clean(struct text *text, const char *bytes, size_t len)
{
	size_t step;
	uint32_t rune;

	for (; len; bytes += step, len -= step) {
		step = text_decode(bytes, len, &rune);
		if (!step) {
			step = 1;
			text_add_str(text, "\\x");
			text_add_hex(text, (unsigned char)*bytes, 2);
		} else if (rune == '\\') {
			text_add_str(text, "\\\\");
		} else if (rune_is_obeyed(rune)) {
			text_add_escape(text, rune);
		} else {
			text_add(text, bytes, step);
		}
	}
}

static void text_add_json_escape(struct text *text, uint32_t rune)
{
	if (rune >= 0x10000) {
		text_add_json_escape(text, 0xd800 + ((rune - 0x10000) >> 10));
		rune = 0xdc00 + ((rune - 0x10000) & 0x3ff);
	}
	text_add_str(text, "\\u");
	text_add_hex(text, rune, 4);
}

void text_add_json(struct text *text, const char *bytes, size_t len)
{
	size_t step;
	uint32_t rune;

	text_add_char(text, '"');
	for (; len; bytes += step, len -= step) {
		step = text_decode(bytes, len, &rune);
		if (!step) {
			step = 1;
			text_add_str(text, "\xef\xbf\xbd");
		} else if (rune == '"' || rune == '\\') {
			text_add_char(text, '\\');
			text_add_char(text, (char)rune);
		} else if (rune_is_obeyed(rune)) {
			text_add_json_escape(text, rune);
		} else {
			text_add(text, bytes, step);
		}
	}
	text_add_char(text, '"');
}
