// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: blocks of pcapng, frames, expressions and packed files of any bytes. */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../user/carried.h"
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
	if (more.payload_at > size || more.header > more.payload_at)
		abort();
	carried_stamp(data, (__u32)size, track.flow.proto, &more);
}

/* Compiled for the kernel, it says of any track what it says here. */
static void means_same(const struct expr *expr, const struct filter_op *ops, __u32 n,
		       const uint8_t *data, size_t size)
{
	struct track t = { .ethertype = size & 1 ? FILTER_IP : FILTER_IP6 };
	const struct expr_packet q = { .track = &t };
	static const __u8 protos[] = { 1, 2, 6, 17, 33, 58, 132, 136 };

	for (unsigned i = 0; i < 16; i++) {
		t.flow.proto = protos[i % 8];
		t.inner.proto = i & 8 ? protos[size % 8] : 0;
		t.flow.local_port = t.inner.remote_port = size ? data[i % size] : 0;
		t.unported = i & 3;
		t.vlan[0] = i & 4 ? (__u16)(TRACK_TAGGED | i) : 0;
		t.mark = i & 2 ? MARK_MARKED | mark_label(i, i, 0) : 0;
		if (expr_match(expr, &q) != filter_run(ops, n, &t))
			abort();
	}
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
	if (expr && !expr_compile(expr, NULL, NULL, ops, &n, &error))
		means_same(expr, ops, n, data, size);
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
