// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: any bytes are an answer of STUN with an address in it, or none. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../user/stun.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	__u8 id[STUN_ID_BYTES] = {}, address[16];
	uint8_t *bytes = malloc(size ? size : 1); /* of that size exactly */

	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	/* The id is right, or nothing behind it would ever be read. */
	if (size >= 20)
		memcpy(id, bytes + 8, sizeof(id));
	if (stun_answer(bytes, size, id, address) > 0)
		abort();
	free(bytes);
	return 0;
}
