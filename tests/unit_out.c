// SPDX-License-Identifier: GPL-2.0-only
/* Tables and JSON lines from the same calls; foreign bytes made safe; writing that fails is
 * noticed.
 */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "../user/out.h"
#include "../user/text.h"
#include "tap.h"

enum { STAMP, NAME, ENDPOINT, PACKETS, BYTES, AGE, ALIVE, DELTA, WALL };

static const struct out_column columns[] = {
	[STAMP] = { "hlc", "STAMP", 16, 0, 0 },
	[NAME] = { "node", "NODE", 12, 4, 0 },
	[ENDPOINT] = { "src", "FROM", 47, 12, 0 },
	[PACKETS] = { "packets", "PACKETS", 7, 0, OUT_RIGHT },
	[BYTES] = { "bytes", "BYTES", 6, 0, OUT_RIGHT },
	[AGE] = { "age_ns", "AGE", 6, 0, OUT_RIGHT | OUT_OPTIONAL },
	[ALIVE] = { "alive", "ALIVE", 5, 0, OUT_OPTIONAL },
	[DELTA] = { "delta", NULL, 0, 0, 0 },
	[WALL] = { "wall", "WALL", 15, 0, OUT_OPTIONAL },
	{},
};

static char *printed;
static size_t printed_n;

static struct out *start(unsigned flags, FILE **file)
{
	*file = open_memstream(&printed, &printed_n);
	return out_open(*file, columns, flags);
}

static void stop(struct out *out, FILE *file)
{
	out_close(out);
	fclose(file);
}

static void fill(struct out *out, const char *name)
{
	uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 2 };

	out_stamp(out, STAMP, 0x18f3a2b4c5d60007);
	out_str(out, NAME, name);
	out_endpoint(out, ENDPOINT, AF_INET6, v6, 443);
	out_u64(out, PACKETS, 12);
	out_bytes(out, BYTES, 1536);
	out_span(out, AGE, 1500000000);
	out_bool(out, ALIVE, true);
	out_s64(out, DELTA, INT64_MIN);
	out_wall(out, WALL, 1795213865123456789);
	out_row(out);
}

static void test_json(void)
{
	FILE *file;
	struct out *out = start(OUT_JSON, &file);

	fill(out, "web");
	out_bool(out, ALIVE, false);
	out_u64(out, PACKETS, UINT64_MAX);
	out_row(out);
	out_row(out);
	stop(out, file);
	is_str(printed,
	       "{\"hlc\":\"18f3a2b4c5d60007\",\"node\":\"web\","
	       "\"src\":\"[2001:db8::2]:443\",\"packets\":12,"
	       "\"bytes\":1536,\"age_ns\":1500000000,\"alive\":true,\"delta\":-9223372036854775808,"
	       "\"wall\":\"2026-11-20T22:31:05.123456789Z\"}\n"
	       "{\"packets\":18446744073709551615,\"alive\":false}\n"
	       "{}\n",
	       "JSON has one object per row, keys in column order, and no key that was not set");
	free(printed);
}

static void test_table(void)
{
	FILE *file;
	struct out *out;

	setenv("COLUMNS", "100", 1);
	out = start(0, &file);
	fill(out, "web");
	fill(out, NULL);
	stop(out, file);
	is_str(printed,
	       "STAMP             NODE  FROM               PACKETS  BYTES   AGE  ALIVE  WALL\n"
	       "18f3a2b4c5d60007  web   [2001:db8::2]:443       12   1.5k  1.5s  yes    22:31:05.123456\n"
	       "18f3a2b4c5d60007  -     [2001:db8::2]:443       12   1.5k  1.5s  yes    22:31:05.123456\n",
	       "a kept table is as narrow as its contents, and shows a field not set as a dash");
	free(printed);

	out = start(0, &file);
	stop(out, file);
	is_str(printed, "STAMP  NODE  FROM  PACKETS  BYTES  AGE  ALIVE  WALL\n",
	       "an empty table still has its headings");
	free(printed);
}

static void test_shift(void)
{
	FILE *file;
	struct out *out = start(OUT_JSON, &file);

	out_shift(out, AGE, -7200000000000);
	out_row(out);
	stop(out, file);
	is_str(printed, "{\"age_ns\":-7200000000000}\n", "a shift is a signed number in JSON");
	free(printed);

	setenv("COLUMNS", "100", 1);
	out = start(0, &file);
	out_shift(out, AGE, -7200000000000);
	out_row(out);
	out_shift(out, AGE, 3000000000);
	out_row(out);
	stop(out, file);
	ok(strstr(printed, " -2h ") && strstr(printed, " +3s "),
	   "in a table a shift has its sign and a unit");
	free(printed);
}

static void test_narrow(void)
{
	FILE *file;
	struct out *out;
	const char *line, *end;
	size_t widest = 0;

	setenv("COLUMNS", "64", 1);
	out = start(OUT_STREAM, &file);
	fill(out, "web");
	fill(out, "a-name-that-is-much-too-long-for-this");
	stop(out, file);
	for (line = printed; (end = strchr(line, '\n')); line = end + 1)
		if (text_width(line, (size_t)(end - line)) > widest)
			widest = text_width(line, (size_t)(end - line));
	ok(widest <= 64, "a stream fits into the screen (%zu of 64 columns)", widest);
	ok(!strstr(printed, "WALL"), "what is optional is left out first");
	ok(strstr(printed, "…") && strstr(printed, ":443 ") && strstr(printed, "a-n"),
	   "a name is cut at its end, an endpoint keeps its port");
	free(printed);

	setenv("COLUMNS", "20", 1);
	out = start(OUT_STREAM, &file);
	out_u64(out, PACKETS, UINT64_MAX);
	out_row(out);
	stop(out, file);
	ok(strstr(printed, "18446744073709551615") != NULL, "a number is never cut");
	free(printed);
	setenv("COLUMNS", "40", 1);
	out = start(OUT_STREAM, &file);
	fill(out, "web");
	stop(out, file);
	is_str(printed,
	       "STAMP             NODE  FROM\n"
	       "    PACKETS   BYTES\n"
	       "18f3a2b4c5d60007  web   [200…:2]:443\n"
	       "         12    1.5k\n",
	       "what has no room even so goes on in the row's next line");
	free(printed);
	setenv("COLUMNS", "100", 1);
}

static void test_rows_reused(void)
{
	FILE *file;
	struct out *out = start(0, &file);

	for (int i = 0; i < 1000; i++)
		fill(out, "first");
	out_flush(out);
	fflush(file);
	ok(printed_n > 1000, "a kept table of a thousand rows is printed on request");
	rewind(file);
	fill(out, "second");
	out_flush(out);
	fflush(file);
	ok(memmem(printed, 200, "second", 6) != NULL && !memmem(printed, 150, "first", 5),
	   "and the next one starts empty");
	stop(out, file);
	free(printed);
}

struct foreign {
	const char *bytes;
	size_t len;
	const char *clean, *json, *what;
};

#define BYTES(s) (s), sizeof(s) - 1

static const struct foreign foreign[] = {
	{ BYTES("nginx"), "nginx", "\"nginx\"", "plain ASCII passes" },
	{ BYTES("caf\xc3\xa9"), "caf\xc3\xa9", "\"caf\xc3\xa9\"", "valid UTF-8 passes" },
	{ BYTES("\x1b[31mred"), "\\x1b[31mred", "\"\\u001b[31mred\"",
	  "an escape sequence is disarmed" },
	{ BYTES("a\nb\tc"), "a\\nb\\tc", "\"a\\u000ab\\u0009c\"", "newline and tab are escaped" },
	{ BYTES("\"\\"), "\"\\\\", "\"\\\"\\\\\"", "quote and backslash are escaped" },
	{ BYTES("\x7f"), "\\x7f", "\"\\u007f\"", "DEL is escaped" },
	{ BYTES("\xc2\x9b"), "\\u009b", "\"\\u009b\"", "the 8-bit CSI is escaped" },
	{ BYTES("\xe2\x80\xae"), "\\u202e", "\"\\u202e\"", "text direction cannot be turned" },
	{ BYTES("\xf3\xa0\x80\xa1"), "\\U000e0021", "\"\\udb40\\udc21\"",
	  "an invisible tag is escaped, as a surrogate pair in JSON" },
	{ BYTES("\xff"
		"a"),
	  "\\xffa",
	  "\"\xef\xbf\xbd"
	  "a\"",
	  "a byte that is not UTF-8 is replaced" },
	{ BYTES("\xc0\x80"), "\\xc0\\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"",
	  "an overlong NUL is not UTF-8" },
	{ BYTES("\xed\xa0\x80"), "\\xed\\xa0\\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"",
	  "a surrogate is not UTF-8" },
	{ BYTES("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80",
	  "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"", "beyond U+10FFFF is not UTF-8" },
	{ BYTES("x\xe2\x82"), "x\\xe2\\x82", "\"x\xef\xbf\xbd\xef\xbf\xbd\"",
	  "a sequence cut short is not UTF-8" },
	{ BYTES(""), "", "\"\"", "nothing stays nothing" },
};

static void test_foreign(void)
{
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		const struct foreign *f = &foreign[i];
		struct text clean = {}, json = {};

		text_add_clean(&clean, f->bytes, f->len);
		text_add_json(&json, f->bytes, f->len);
		text_add_char(&clean, '\0');
		text_add_char(&json, '\0');
		is_str(clean.at, f->clean, f->what);
		is_str(json.at, f->json, "  and in JSON");
		text_free(&clean);
		text_free(&json);
	}
}

/* Every pair of bytes, and each in front of a longer sequence, read back by a real JSON parser. */
static void test_json_readable(void)
{
	unsigned unreadable = 0, obeyed = 0;

	for (unsigned pair = 0; pair < 65536; pair++) {
		char bytes[4] = { (char)(pair >> 8), (char)pair, (char)0x9f, (char)0x98 };
		struct text text = {};
		json_t *value;

		text_add_json(&text, bytes, sizeof(bytes));
		value = json_loadb(text.at, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		unreadable += !json_is_string(value);
		json_decref(value);
		text.len = 0;
		text_add_clean(&text, bytes, sizeof(bytes));
		for (size_t i = 0; i < text.len; i++)
			obeyed += (unsigned char)text.at[i] < 0x20 || text.at[i] == 0x7f;
		text_free(&text);
	}
	is_int(unreadable, 0, "whatever the bytes, JSON stays readable");
	is_int(obeyed, 0, "whatever the bytes, no control character reaches a terminal");
}

static const char *scaled(void (*add)(struct text *, uint64_t), uint64_t value)
{
	static char buf[64];
	struct text text = {};

	add(&text, value);
	snprintf(buf, sizeof(buf), "%.*s", (int)text.len, text.at);
	text_free(&text);
	return buf;
}

static void test_units(void)
{
	is_str(scaled(text_add_bytes, 0), "0", "no bytes are 0");
	is_str(scaled(text_add_bytes, 1023), "1023", "1023 bytes have no unit");
	is_str(scaled(text_add_bytes, 1024), "1k", "1024 bytes are 1k");
	is_str(scaled(text_add_bytes, 1536), "1.5k", "1536 bytes are 1.5k");
	is_str(scaled(text_add_bytes, (1 << 20) - 1), "1023k",
	       "one byte below 1m is not called 1m");
	is_str(scaled(text_add_bytes, UINT64_MAX), "15e",
	       "the most bytes there can be have a unit");
	is_str(scaled(text_add_span, 0), "0ns", "no time is 0ns");
	is_str(scaled(text_add_span, 1500), "1.5us", "1500 ns are 1.5us");
	is_str(scaled(text_add_span, 90000000000), "1.5m", "90 s are 1.5m");
	is_str(scaled(text_add_span, UINT64_MAX), "213503d", "the longest span has a unit");
	is_str(scaled(text_add_stamp, 0xabc), "0000000000000abc", "a stamp has 16 digits");
}

static void test_wall(void)
{
	static const uint64_t walls[] = { 0,
					  951782400999999999,
					  1709164800000000001,
					  4107542399999999999,
					  1795213865123456789,
					  18398015999999999999U };
	static const char *const bad[] = { "",
					   "2026-11-20",
					   "2026-11-20T22:31:05",
					   "2026-13-20T22:31:05Z",
					   "2026-11-20T22:31:05.Z",
					   "2026-11-20T22:31:05.1234567890Z",
					   "2026-11-20T22:31:05+01:00",
					   "1969-11-20T22:31:05Z",
					   "2026-11-20 22:31:05Z",
					   "2026-11-20T22:31:05ZZ" };
	unsigned wrong = 0, accepted = 0;
	uint64_t back;

	for (size_t i = 0; i < sizeof(walls) / sizeof(walls[0]); i++)
		wrong +=
			text_parse_wall(scaled(text_add_wall, walls[i]), &back) || back != walls[i];
	is_int(wrong, 0, "a wall time reads back as written, leap days and centuries too");
	is_str(scaled(text_add_wall, 951782400999999999), "2000-02-29T00:00:00.999999999Z",
	       "and is the day it should be");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		accepted += !text_parse_wall(bad[i], &back);
	is_int(accepted, 0, "what is not a wall time is not read as one");
	ok(!text_parse_stamp("18f3a2b4c5d60007", &back) && back == 0x18f3a2b4c5d60007,
	   "a stamp reads back");
	ok(text_parse_stamp("18f3a2b4c5d6000", &back) &&
		   text_parse_stamp("18F3A2B4C5D60007", &back) &&
		   text_parse_stamp("18f3a2b4c5d600070", &back) && text_parse_stamp("", &back),
	   "what does not sort as a stamp is not read as one");
}

static void test_failure(void)
{
	FILE *full = fopen("/dev/full", "w");
	struct out *out = out_open(full, columns, OUT_JSON | OUT_STREAM);
	int ends[2], err;
	FILE *file;

	out_flush_lines(out, true);
	out_u64(out, PACKETS, 1);
	is_int(out_row(out), -ENOSPC, "a full disk is noticed at the row, when lines are flushed");
	is_int(out_row(out), -ENOSPC, "and not forgotten");
	is_int(out_close(out), -ENOSPC, "until the end");
	fclose(full);

	if (pipe2(ends, O_CLOEXEC))
		return;
	file = fdopen(ends[1], "w");
	out = out_open(file, columns, OUT_JSON);
	close(ends[0]);
	out_u64(out, PACKETS, 1);
	err = out_row(out);
	ok(!err || err == -EPIPE, "a row to a pipe waits in memory");
	is_int(out_finish(out, 0), 1, "a reader that left is an exit status, not a signal");
	fclose(file);
}

int main(void)
{
	unsetenv("NO_COLOR");
	test_json();
	test_table();
	test_shift();
	test_narrow();
	test_rows_reused();
	test_foreign();
	test_json_readable();
	test_units();
	test_wall();
	test_failure();
	return done();
}
