// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: an event log of any bytes is read and paired, or refused with a reason. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../user/eventlog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct causal causal = {};
	struct eventlog_error error;
	FILE *file = size ? fmemopen((void *)data, size, "r") : NULL;

	if (!file)
		return 0;
	if (eventlog_each(file, eventlog_add, &causal, NULL, &error)) {
		if (!error.why[0])
			abort();
	} else if (causal_finish(&causal) || causal.counts.events != causal.n ||
		   causal.counts.pairs > causal.n ||
		   causal.counts.wall_inversions > causal.counts.pairs ||
		   causal.counts.unmatched_send + causal.counts.unmatched_recv > causal.n) {
		abort();
	}
	fclose(file);
	causal_free(&causal);
	return 0;
}
