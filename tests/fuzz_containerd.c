// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: any bytes are frames of HTTP/2, or containers in protobuf, or neither. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../user/containerd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct containerd_answer answer = {};
	unsigned char *bytes = malloc(size ? size : 1); /* of that size exactly */
	size_t at = 0;
	long took;

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	json_decref(containerd_parse((const char *)bytes, size));
	while ((took = containerd_frame(&answer, bytes + at, size - at)) > 0) {
		at += took;
		if (at > size)
			abort();
	}
	if (answer.len > size)
		abort();
	free(answer.at);
	free(bytes);
	return 0;
}
