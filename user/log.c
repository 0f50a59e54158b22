// SPDX-License-Identifier: GPL-2.0-only
/* Words for people, on stderr: `tidemark: COMMAND: OBJECT: WHAT; REMEDY`. */
#define _GNU_SOURCE 1
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "text.h"

#define LINE_ERASE "\r\033[K"
#define PROGRESS_FIRST_NS 2000000000ULL
#define PROGRESS_REPEAT_NS 200000000ULL

/* libbpf's print callback gets no context, so this cannot live in struct tidemark. */
static struct {
	const char *command;
	int level;
	bool progress_shown;
	uint64_t progress_next_ns; /* 0: nothing is under way */
} words;

void log_command(const char *name)
{
	words.command = name;
}

void log_level(int level)
{
	words.level = level;
}

/* One write per line: messages of parallel processes do not mix. Without memory the format alone is
 * better than silence.
 */
static void line_write(const char *prefix, const char *kind, const char *line, size_t len)
{
	struct text text = {};

	if (words.progress_shown)
		text_add_str(&text, LINE_ERASE);
	words.progress_shown = false;
	text_add_str(&text, prefix);
	text_add_str(&text, kind);
	text_add_clean(&text, line, len);
	text_add_char(&text, '\n');
	if (text.err)
		fprintf(stderr, "tidemark: out of memory\n");
	else
		fwrite(text.at, 1, text.len, stderr);
	text_free(&text);
}

static void log_write(const char *kind, const char *format, va_list args)
{
	char prefix[64] = "tidemark: ";
	char *line = NULL;

	if (words.command)
		snprintf(prefix, sizeof(prefix), "tidemark: %s: ", words.command);
	if (vasprintf(&line, format, args) < 0)
		line_write(prefix, kind, format, strlen(format));
	else
		line_write(prefix, kind, line, strlen(line));
	free(line);
}

void log_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write("", format, args);
	va_end(args);
}

void log_warn(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write("warning: ", format, args);
	va_end(args);
}

void log_info(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	log_write("", format, args);
	va_end(args);
}

void log_debug(const char *format, ...)
{
	va_list args;

	if (words.level < 1)
		return;
	va_start(args, format);
	log_write("", format, args);
	va_end(args);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void log_progress(const char *format, ...)
{
	uint64_t now = now_ns();
	va_list args;

	if (!words.progress_next_ns)
		words.progress_next_ns = now + PROGRESS_FIRST_NS;
	if (now < words.progress_next_ns || !isatty(STDERR_FILENO))
		return;
	words.progress_next_ns = now + PROGRESS_REPEAT_NS;
	words.progress_shown = true;
	fputs(LINE_ERASE, stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
}

void log_progress_end(void)
{
	if (words.progress_shown)
		fputs(LINE_ERASE, stderr);
	words.progress_shown = false;
	words.progress_next_ns = 0;
}

int log_libbpf(enum libbpf_print_level level __attribute__((unused)), const char *format,
	       va_list args)
{
	char *text = NULL, *line, *rest;

	if (words.level < 2)
		return 0;
	if (vasprintf(&text, format, args) < 0)
		return 0;
	/* The verifier's log is one message of many lines. */
	for (rest = text; (line = strsep(&rest, "\n"));)
		if (*line)
			line_write("  ", "", line, strlen(line));
	free(text);
	return 0;
}
