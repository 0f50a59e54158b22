/* SPDX-License-Identifier: GPL-2.0-only */
/* Test results as TAP: `ok N - sentence`, the plan at the end, failure in the exit status. */
#ifndef TIDEMARK_TAP_H
#define TIDEMARK_TAP_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static struct {
	unsigned run, failed;
} tap;

/* The sentence says what is true when the test passes. Returns whether it did. */
__attribute__((format(printf, 4, 5), unused)) static bool
tap_result(const char *file, int line, bool passed, const char *sentence, ...)
{
	va_list args;

	printf("%sok %u - ", passed ? "" : "not ", ++tap.run);
	va_start(args, sentence);
	vprintf(sentence, args);
	va_end(args);
	putchar('\n');
	if (!passed) {
		tap.failed++;
		printf("# at %s:%d\n", file, line);
	}
	fflush(stdout);
	return passed;
}

__attribute__((unused)) static bool tap_int(const char *file, int line, int64_t got, int64_t want,
					    const char *sentence)
{
	bool passed = tap_result(file, line, got == want, "%s", sentence);

	if (!passed)
		printf("# got %" PRId64 " (%#" PRIx64 "), want %" PRId64 " (%#" PRIx64 ")\n", got,
		       (uint64_t)got, want, (uint64_t)want);
	return passed;
}

__attribute__((unused)) static bool tap_str(const char *file, int line, const char *got,
					    const char *want, const char *sentence)
{
	bool same = got && want ? strcmp(got, want) == 0 : got == want;

	tap_result(file, line, same, "%s", sentence);
	if (!same)
		printf("# got  \"%s\"\n# want \"%s\"\n", got ? got : "(null)",
		       want ? want : "(null)");
	return same;
}

#define ok(passed, ...) tap_result(__FILE__, __LINE__, (passed), __VA_ARGS__)
#define is_int(got, want, sentence) tap_int(__FILE__, __LINE__, (got), (want), (sentence))
#define is_str(got, want, sentence) tap_str(__FILE__, __LINE__, (got), (want), (sentence))

__attribute__((unused)) static void skip(const char *sentence, const char *why)
{
	printf("ok %u - %s # SKIP %s\n", ++tap.run, sentence, why);
}

/* Instead of any test: `return skip_all("why");`. */
__attribute__((unused)) static int skip_all(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	return 0;
}

/* The last thing main does: `return done();`. A program that ran nothing has not passed. */
__attribute__((unused)) static int done(void)
{
	printf("1..%u\n", tap.run);
	return tap.failed || !tap.run;
}

#endif
