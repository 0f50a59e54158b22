// SPDX-License-Identifier: GPL-2.0-only
/* BPF objects in the program: packed, and unpacked for as long as it takes to open one. */
#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "object.h"

void *object_unpack(const unsigned char *from, const unsigned char *to, size_t *size)
{
	unsigned long long whole = ZSTD_getFrameContentSize(from, to - from);
	void *object;

	if (whole == ZSTD_CONTENTSIZE_UNKNOWN || whole == ZSTD_CONTENTSIZE_ERROR) {
		errno = EBADMSG;
		return NULL;
	}
	object = malloc(whole);
	*size = object ? ZSTD_decompress(object, whole, from, to - from) : 0;
	if (*size == whole || !object)
		return object;
	free(object);
	errno = EBADMSG;
	return NULL;
}
