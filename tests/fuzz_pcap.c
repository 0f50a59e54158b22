// SPDX-License-Identifier: GPL-2.0-only
/* Fuzzes the reader of capture files: no input may crash it, or give bytes it does not have. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "../user/capture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FILE *file = size ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
	struct capture_packet p;
	struct capture *c;
	char words[200];
	unsigned sum = 0;

	if (!file)
		return 0;
	c = capture_open(file, words, sizeof(words));
	while (c && capture_next(c, &p, words, sizeof(words)) == 1) {
		if (p.wire < p.kept || !capture_interface(c, p.interface))
			abort();
		for (unsigned i = 0; i < p.kept; i++) /* the sanitizer sees what is not there */
			sum += p.bytes[i];
	}
	capture_close(c);
	fclose(file);
	__asm__ volatile("" : : "r"(sum));
	return 0;
}
