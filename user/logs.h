/* SPDX-License-Identifier: GPL-2.0-only */
/* Event logs as users name them: files, directories of them, compressed or not, standard input. */
#ifndef TIDEMARK_LOGS_H
#define TIDEMARK_LOGS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "eventlog.h"

#define LOGS_MOST UINT16_MAX

/* Starts as {}. */
struct logs {
	char **paths; /* of files; "-" is stdin */
	unsigned n;
	struct logs_text *text; /* lines to be read again */
};

/* The files that these arguments mean, in order, each once: a directory means the logs in it. What is
 * wrong has been said when this returns nonzero.
 */
int logs_collect(struct logs *logs, char **args, unsigned n);

/* How to call log number i when speaking of it. */
const char *logs_name(const struct logs *logs, unsigned i);

/* Reads log number i; event.file of the lines is i. Progress is shown, and what is wrong is said:
 * then returns nonzero.
 */
int logs_read(const struct logs *logs, unsigned i, eventlog_fn fn, void *ctx);

/* The same for lines that will be wanted again: line.at is then what logs_line() takes. A log that
 * cannot be read twice is kept in a temporary file.
 */
int logs_read_kept(struct logs *logs, unsigned i, eventlog_fn fn, void *ctx);

/* The line of log number i at `at`, valid until the next call; NULL with errno. */
const char *logs_line(struct logs *logs, unsigned i, uint64_t at, size_t len);

void logs_free(struct logs *logs);

#endif
