// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: blocks of pcapng, frames, expressions and packed files of any bytes. */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../user/dissect.h"
#include "../user/expr.h"
#include "../user/pcapng.h"
#include "../user/segment_pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void blocks_try(const uint8_t *data, size_t size)
{
	struct pcapng_packet p;
	const unsigned char *value;
	__u32 type, length;
	__u16 len;

	for (size_t at = 0; at < size && !pcapng_block(data + at, size - at, &type, &length);
	     at += length) {
		pcapng_packet_read(data + at, length, &p);
		if (length > 24)
			pcapng_option(data + at, length, 20, 1, &value, &len);
	}
}

static void frame_try(const uint8_t *data, size_t size)
{
	static struct dissector dissector;
	struct track track = { .flow.node = 1 };
	struct dissected more;

	dissect(&dissector, data, (__u32)size, (__u32)size + 100, size & 3, &track, &more);
	if (more.payload_at > size)
		abort();
}

static void expression_try(const uint8_t *data, size_t size)
{
	struct filter_op ops[FILTER_OPS_MAX];
	struct expr_error error = {};
	struct expr *expr = NULL;
	char *text = strndup((const char *)data, size);
	__u32 n;

	if (expr_parse(text, 1, &expr, &error) &&
	    (!error.why[0] || error.column < 1 || error.column > (int)strlen(text) + 1))
		abort();
	expr_compile(expr, NULL, NULL, ops, &n, &error);
	expr_free(expr);
	free(text);
}

static void packed_try(const uint8_t *data, size_t size)
{
	struct packed *packed = NULL;
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (!packed_open(&packed, fd, 0))
		for (__u64 at = 0; at < packed_size(packed) && at < 1 << 20; at += 50000)
			packed_at(packed, at, 4000);
	packed_close(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size + !size); /* of the exact size: reading on is seen */

	memcpy(copy, data, size);
	blocks_try(copy, size);
	frame_try(copy, size);
	expression_try(copy, size);
	packed_try(copy, size);
	free(copy);
	return 0;
}
