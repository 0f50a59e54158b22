/* SPDX-License-Identifier: GPL-2.0-only */
/* Reads event logs: JSON lines, as event.schema.json describes them, into a struct causal. */
#ifndef TIDEMARK_EVENTLOG_H
#define TIDEMARK_EVENTLOG_H

#include <stdint.h>
#include <stdio.h>

#include "causal.h"

#define EVENTLOG_LINE_MOST (64 * 1024)
#define EVENTLOG_PROGRESS 8192 /* lines */

/* Where reading stopped, for people. */
struct eventlog_error {
	uint64_t line; /* 0: the file as a whole */
	char why[160];
};

/* Adds every event of the file, with this number in causal_event.file, up to the first line that is
 * not one. Empty lines are passed over, and so are keys and types that this version does not know:
 * logs of newer ones stay readable. progress, if any, is called now and then with the lines read.
 * Returns 0, -EINVAL for a bad line, or another -errno; error is filled then.
 */
int eventlog_read(struct causal *causal, FILE *file, uint16_t number,
		  void (*progress)(uint64_t lines), struct eventlog_error *error);

#endif
