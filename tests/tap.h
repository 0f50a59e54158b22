/* SPDX-License-Identifier: GPL-2.0-only */
/* Tests in C say what they found in the Test Anything Protocol. */
#ifndef TIDEMARK_TAP_H
#define TIDEMARK_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct tap {
	int run, failed;
};

static inline __attribute__((format(printf, 3, 4))) bool tap_ok(struct tap *tap, bool good,
								const char *sentence, ...)
{
	va_list args;

	printf("%sok %d - ", good ? "" : "not ", ++tap->run);
	va_start(args, sentence);
	vprintf(sentence, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	tap->failed += !good;
	return good;
}

static inline int tap_done(const struct tap *tap)
{
	printf("1..%d\n", tap->run);
	return tap->failed || !tap->run;
}

static inline int tap_skip_all(const char *why)
{
	printf("1..0 # SKIP %s\n", why);
	return 77;
}

#endif
