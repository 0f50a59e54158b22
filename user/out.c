// SPDX-License-Identifier: GPL-2.0-only
/* Data on stdout: one call per field, read by people as a table and by programs as JSON lines. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "log.h"
#include "out.h"
#include "text.h"

#define SCREEN_DEFAULT 100
#define SCREEN_LEAST 20
#define GAP 2	 /* blanks between columns */
#define INDENT 4 /* and before those that have no room on a row's first line */

/* A field's text, already in its final form, inside out->text. */
struct cell {
	size_t at;
	uint32_t len;
	uint16_t width;
	uint8_t set;
	uint8_t middle; /* cut in the middle: the end, a port, matters too */
};

struct out {
	FILE *file;
	const struct out_column *columns;
	unsigned n;
	bool json, stream, colour, lines, headed;
	int err;
	struct text text;
	struct cell *cells; /* rows complete, then the one being filled */
	uint8_t *colours;   /* one per row */
	size_t rows, size;
	unsigned *widths; /* as shown; 0: not shown */
	bool *folds;	  /* begins another line of the row */
	struct text line;
};

static const char *const colour_codes[] = {
	[OUT_PLAIN] = "",	 [OUT_DIM] = "\033[2m",	     [OUT_BOLD] = "\033[1m",
	[OUT_RED] = "\033[31m",	 [OUT_GREEN] = "\033[32m",   [OUT_YELLOW] = "\033[33m",
	[OUT_BLUE] = "\033[34m", [OUT_MAGENTA] = "\033[35m", [OUT_CYAN] = "\033[36m",
};

/* A handler and not SIG_IGN: what we exec (mesh runs programs) must get the default back. */
static void pipe_broke(int signal __attribute__((unused)))
{
}

static bool colour_wanted(FILE *file)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fileno(file)) && !(no && *no) && term && strcmp(term, "dumb") != 0;
}

static unsigned screen_width(FILE *file)
{
	const char *columns = getenv("COLUMNS");
	unsigned long width = columns ? strtoul(columns, NULL, 10) : 0;
	struct winsize size;

	if (!width && ioctl(fileno(file), TIOCGWINSZ, &size) == 0)
		width = size.ws_col;
	if (!width)
		width = SCREEN_DEFAULT;
	return width < SCREEN_LEAST ? SCREEN_LEAST : width > 10000 ? 10000 : (unsigned)width;
}

/* Room for the row being filled. */
static int rows_grow(struct out *out)
{
	size_t size = out->size * 2 + 1;
	struct cell *cells;
	uint8_t *colours;

	if (out->rows < out->size)
		return 0;
	cells = reallocarray(out->cells, size * out->n, sizeof(*cells));
	if (!cells)
		return -ENOMEM;
	out->cells = cells;
	colours = realloc(out->colours, size);
	if (!colours)
		return -ENOMEM;
	out->colours = colours;
	out->size = size;
	return 0;
}

static void row_start(struct out *out)
{
	if (!out->err)
		out->err = rows_grow(out);
	if (out->err)
		return;
	memset(out->cells + out->rows * out->n, 0, out->n * sizeof(*out->cells));
	out->colours[out->rows] = OUT_PLAIN;
}

struct out *out_open(FILE *file, const struct out_column *columns, unsigned flags)
{
	struct sigaction act = { .sa_handler = pipe_broke, .sa_flags = SA_RESTART };
	struct out *out = calloc(1, sizeof(*out));

	if (!out)
		return NULL;
	while (columns[out->n].key)
		out->n++;
	out->file = file;
	out->columns = columns;
	out->json = flags & OUT_JSON;
	out->stream = flags & OUT_STREAM;
	out->colour = !out->json && colour_wanted(file);
	out->lines = isatty(fileno(file));
	out->widths = calloc(out->n, sizeof(*out->widths));
	out->folds = calloc(out->n, sizeof(*out->folds));
	row_start(out);
	if (!out->widths || out->err) {
		out_close(out);
		return NULL;
	}
	sigaction(SIGPIPE, &act, NULL);
	return out;
}

void out_flush_lines(struct out *out, bool flush)
{
	out->lines = flush || isatty(fileno(out->file));
}

void out_colour(struct out *out, enum out_colour colour)
{
	if (!out->err)
		out->colours[out->rows] = colour;
}

/* The cell of this column, its text about to be added; NULL if nobody will see it. */
static struct cell *cell_start(struct out *out, unsigned column)
{
	struct cell *cell;

	if (out->err || column >= out->n || (!out->json && !out->columns[column].heading))
		return NULL;
	cell = &out->cells[out->rows * out->n + column];
	cell->at = out->text.len;
	cell->set = 1;
	return cell;
}

static void cell_end(struct out *out, struct cell *cell)
{
	size_t width;

	if (out->text.err) {
		out->err = out->text.err;
		return;
	}
	cell->len = (uint32_t)(out->text.len - cell->at);
	if (out->json)
		return;
	width = text_width(out->text.at + cell->at, cell->len);
	cell->width = width > UINT16_MAX ? UINT16_MAX : (uint16_t)width;
}

void out_u64(struct out *out, unsigned column, uint64_t value)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	text_add_u64(&out->text, value);
	cell_end(out, cell);
}

void out_s64(struct out *out, unsigned column, int64_t value)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	text_add_s64(&out->text, value);
	cell_end(out, cell);
}

void out_bool(struct out *out, unsigned column, bool value)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	text_add_str(&out->text, out->json ? (value ? "true" : "false") : (value ? "yes" : "no"));
	cell_end(out, cell);
}

/* middle: cut in the middle if there is no room. */
static void out_quoted(struct out *out, unsigned column, const char *bytes, size_t len, bool middle)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	cell->middle = middle;
	if (out->json)
		text_add_json(&out->text, bytes, len);
	else
		text_add_clean(&out->text, bytes, len);
	cell_end(out, cell);
}

void out_str(struct out *out, unsigned column, const char *str)
{
	if (str)
		out_quoted(out, column, str, strlen(str), false);
}

void out_mem(struct out *out, unsigned column, const char *bytes, size_t size)
{
	out_quoted(out, column, bytes, strnlen(bytes, size), false);
}

void out_stamp(struct out *out, unsigned column, uint64_t stamp)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	if (out->json)
		text_add_char(&out->text, '"');
	text_add_stamp(&out->text, stamp);
	if (out->json)
		text_add_char(&out->text, '"');
	cell_end(out, cell);
}

void out_wall(struct out *out, unsigned column, uint64_t wall_ns)
{
	struct cell *cell = cell_start(out, column);
	char buf[16];

	if (!cell)
		return;
	if (out->json)
		text_add_char(&out->text, '"');
	text_add_wall(&out->text, wall_ns);
	if (out->json) {
		text_add_char(&out->text, '"');
	} else if (!out->text.err) {
		/* 2026-11-20T[22:31:05.123456]789Z */
		memcpy(buf, out->text.at + cell->at + 11, 15);
		out->text.len = cell->at;
		text_add(&out->text, buf, 15);
	}
	cell_end(out, cell);
}

void out_bytes(struct out *out, unsigned column, uint64_t bytes)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	if (out->json)
		text_add_u64(&out->text, bytes);
	else
		text_add_bytes(&out->text, bytes);
	cell_end(out, cell);
}

void out_span(struct out *out, unsigned column, uint64_t span_ns)
{
	struct cell *cell = cell_start(out, column);

	if (!cell)
		return;
	if (out->json)
		text_add_u64(&out->text, span_ns);
	else
		text_add_span(&out->text, span_ns);
	cell_end(out, cell);
}

void out_shift(struct out *out, unsigned column, int64_t shift_ns)
{
	struct cell *cell;

	if (out->json) {
		out_s64(out, column, shift_ns);
		return;
	}
	cell = cell_start(out, column);
	if (!cell)
		return;
	text_add_char(&out->text, shift_ns < 0 ? '-' : '+');
	text_add_span(&out->text, shift_ns < 0 ? -(uint64_t)shift_ns : (uint64_t)shift_ns);
	cell_end(out, cell);
}

void out_endpoint(struct out *out, unsigned column, int family, const void *addr, int port)
{
	char ip[INET6_ADDRSTRLEN], buf[INET6_ADDRSTRLEN + 16];
	const char *format = family == AF_INET6 ? "[%s]:%d" : "%s:%d";

	if (!inet_ntop(family, addr, ip, sizeof(ip)))
		return;
	if (port == OUT_NO_PORT)
		format = family == AF_INET6 ? "[%s]" : "%s";
	snprintf(buf, sizeof(buf), format, ip, port);
	out_quoted(out, column, buf, strlen(buf), true);
}

static void line_write(struct out *out)
{
	text_add_char(&out->line, '\n');
	if (!out->err && out->line.err)
		out->err = out->line.err;
	errno = EIO;
	if (!out->err && fwrite(out->line.at, 1, out->line.len, out->file) != out->line.len)
		out->err = -errno;
	out->line.len = 0;
}

static void row_write_json(struct out *out, size_t row)
{
	const struct cell *cell = out->cells + row * out->n;
	char before = '{';

	for (unsigned i = 0; i < out->n; i++, cell++) {
		if (!cell->set)
			continue;
		text_add_char(&out->line, before);
		text_add_char(&out->line, '"');
		text_add_str(&out->line, out->columns[i].key);
		text_add_str(&out->line, "\":");
		text_add(&out->line, out->text.at + cell->at, cell->len);
		before = ',';
	}
	text_add_str(&out->line, before == '{' ? "{}" : "}");
	line_write(out);
}

/* How much of the front of bytes fits into width columns, and how wide that is. */
static size_t text_front(const char *bytes, size_t len, size_t width, size_t *used)
{
	size_t at = 0, step, wide;
	uint32_t rune;

	for (*used = 0; at < len; at += step, *used += wide) {
		step = text_decode(bytes + at, len - at, &rune);
		step += !step;
		wide = text_width(bytes + at, step);
		if (*used + wide > width)
			break;
	}
	return at;
}

/* How much of an endpoint's end is kept when it is cut to room: its port, and half of the rest. */
static size_t text_tail(const char *bytes, size_t len, size_t room)
{
	const char *colon = memrchr(bytes, ':', len);
	size_t port = colon ? (size_t)(bytes + len - colon) : 0;

	return port >= room ? room : port + (room - port) / 2;
}

/* Numbers are never cut: a crooked table is better than a wrong one. Returns the width written. */
static size_t cell_write(struct out *out, const char *bytes, size_t len, size_t width, size_t room,
			 bool middle)
{
	size_t front, used, tail = middle ? text_tail(bytes, len, room - 1) : 0;

	if (width <= room) {
		text_add(&out->line, bytes, len);
		return width;
	}
	/* Only endpoints are cut in the middle, and they are ASCII. */
	front = text_front(bytes, len, room - 1 - tail, &used);
	text_add(&out->line, bytes, front);
	text_add_str(&out->line, "…");
	text_add(&out->line, bytes + len - tail, tail);
	return used + 1 + tail;
}

static void blanks_add(struct text *line, size_t n)
{
	while (n--)
		text_add_char(line, ' ');
}

/* The row, or the headings when cells is NULL. */
static void row_write_table(struct out *out, const struct cell *cells, enum out_colour colour)
{
	size_t pending = 0; /* blanks owed, so that no line ends in them */

	if (out->colour)
		text_add_str(&out->line, colour_codes[colour]);
	for (unsigned i = 0; i < out->n; i++) {
		const struct out_column *column = &out->columns[i];
		bool right = column->flags & OUT_RIGHT, set = !cells || cells[i].set;
		const char *bytes = "-";
		size_t len = 1, width = 1, room = out->widths[i];

		if (!room)
			continue;
		if (out->folds[i]) {
			text_add_char(&out->line, '\n');
			pending = INDENT;
		}
		if (!cells) {
			bytes = column->heading;
			len = width = strlen(bytes);
		} else if (set) {
			bytes = out->text.at + cells[i].at;
			len = cells[i].len;
			width = cells[i].width;
		}
		blanks_add(&out->line, pending + (right && width < room ? room - width : 0));
		width = cell_write(out, bytes, len, width, right && width > room ? width : room,
				   cells && cells[i].middle);
		pending = GAP + (!right && width < room ? room - width : 0);
	}
	if (out->colour && colour != OUT_PLAIN)
		text_add_str(&out->line, "\033[0m");
	line_write(out);
}

static unsigned widths_total(const struct out *out)
{
	unsigned total = 0;

	for (unsigned i = 0; i < out->n; i++)
		if (out->widths[i])
			total += out->widths[i] + (total ? GAP : 0);
	return total;
}

/* Each column as wide as declared (a stream), or as its widest cell (a kept table). */
static void widths_want(struct out *out)
{
	for (unsigned i = 0; i < out->n; i++) {
		const struct out_column *column = &out->columns[i];
		unsigned width = column->heading ? (unsigned)strlen(column->heading) : 0;

		for (size_t row = 0; width && !out->stream && row < out->rows; row++)
			if (out->cells[row * out->n + i].width > width)
				width = out->cells[row * out->n + i].width;
		if (width && (out->stream || width > column->width))
			width = column->width;
		out->widths[i] = width;
	}
}

/* Take columns of width away from the widest that may be narrowed. Returns whether all were. */
static bool widths_narrow(struct out *out, unsigned excess)
{
	while (excess--) {
		unsigned widest = out->n;

		for (unsigned i = 0; i < out->n; i++)
			if (out->columns[i].least && out->widths[i] > out->columns[i].least &&
			    (widest == out->n || out->widths[i] > out->widths[widest]))
				widest = i;
		if (widest == out->n)
			return false;
		out->widths[widest]--;
	}
	return true;
}

/* What has no room even so goes on in another line: nothing is wider than the screen, but a number
 * that is.
 */
static void widths_fold(struct out *out, unsigned screen)
{
	unsigned at = 0;

	for (unsigned i = 0; i < out->n; i++) {
		out->folds[i] = false;
		if (!out->widths[i])
			continue;
		if (!(out->columns[i].flags & OUT_RIGHT) && out->widths[i] > screen - INDENT)
			out->widths[i] = screen - INDENT;
		out->folds[i] = at && at + GAP + out->widths[i] > screen;
		at = out->folds[i] ? INDENT + out->widths[i] : at + (at ? GAP : 0) + out->widths[i];
	}
}

/* Narrow first, and leave columns out, rightmost first, only when narrowing is not enough. */
static void widths_fit(struct out *out)
{
	unsigned screen = screen_width(out->file), keep = out->n;

	for (;;) {
		unsigned total;

		widths_want(out);
		for (unsigned i = keep; i < out->n; i++)
			if (out->columns[i].flags & OUT_OPTIONAL)
				out->widths[i] = 0;
		total = widths_total(out);
		if (total <= screen || widths_narrow(out, total - screen))
			return;
		while (keep && !(out->columns[keep - 1].flags & OUT_OPTIONAL))
			keep--;
		if (!keep) {
			widths_fold(out, screen);
			return;
		}
		keep--;
	}
}

static void head_write(struct out *out)
{
	widths_fit(out);
	row_write_table(out, NULL, OUT_BOLD);
	out->headed = true;
}

static void lines_flush(struct out *out)
{
	if (!out->err && fflush(out->file) != 0)
		out->err = -errno;
}

int out_row(struct out *out)
{
	if (out->err)
		return out->err;
	if (out->json) {
		row_write_json(out, 0);
	} else if (out->stream) {
		if (!out->headed)
			head_write(out);
		row_write_table(out, out->cells, out->colours[0]);
	} else {
		out->rows++;
	}
	if (out->json || out->stream) {
		out->text.len = 0;
		if (out->lines)
			lines_flush(out);
	}
	row_start(out);
	return out->err;
}

int out_flush(struct out *out)
{
	if (!out->json && !out->stream && !out->err) {
		head_write(out);
		for (size_t row = 0; row < out->rows; row++)
			row_write_table(out, out->cells + row * out->n, out->colours[row]);
		out->rows = 0;
		out->text.len = 0;
		row_start(out);
	}
	lines_flush(out);
	return out->err;
}

int out_close(struct out *out)
{
	int err = out->widths ? out_flush(out) : -ENOMEM;

	text_free(&out->text);
	text_free(&out->line);
	free(out->cells);
	free(out->colours);
	free(out->widths);
	free(out->folds);
	free(out);
	return err;
}

int out_finish(struct out *out, int status)
{
	int err = out_close(out);

	if (!err)
		return status;
	if (err != -EPIPE)
		log_error("stdout: %s", strerror(-err));
	return 1;
}
