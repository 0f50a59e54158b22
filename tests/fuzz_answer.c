// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: any bytes are an HTTP answer, the beginning of one, or none. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../user/poster.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct poster_answer answer = {}, longer = {};
	char *bytes = malloc(size ? size : 1); /* of that size exactly */
	int got;

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	got = poster_answer(bytes, size, &answer);
	if (got > 0 && (answer.status < 200 || answer.status > 599))
		abort();
	/* What is no answer does not become one with its last byte taken away. */
	if (got < 0 && size && poster_answer(bytes, size - 1, &longer) > 0)
		abort();
	free(bytes);
	return 0;
}
