// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: an index of any bytes, checksums right or not, is read or refused. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "../user/bytes.h"
#include "../user/index.h"
#include "../user/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A valid index, of which the input says what to spoil: mere bytes would never get far. */
static unsigned char *valid;
static size_t valid_size;

static void valid_make(void)
{
	struct catalog c = { .end = 40000 };
	struct catalog_device d = { .node = 1, .device = 2, .linktype = 1 };
	__u32 chunks[3] = {};
	void *at;

	strcpy(d.node_name, "web");
	catalog_device_add(&c, &d);
	for (unsigned n = 0; n < 300; n++) {
		struct track t = { .ethertype = 0x0800, .device = 2, .pid = n % 3 };
		struct catalog_packet p = { .forward = n & 1, .position = n * 30, .wall_ns = n };

		t.flow.proto = 6;
		t.flow.node = 1;
		t.flow.local[10] = t.flow.local[11] = 0xff;
		t.flow.local[15] = (__u8)(n % 40);
		t.inner.proto = n % 5 ? 0 : 17;
		p.track = (__u32)catalog_track(&c, &t);
		catalog_add(&c, &p);
	}
	if (index_build(&c, chunks, 3, &at, &valid_size))
		abort();
	valid = at;
	catalog_free(&c);
}

static int file_of(const void *at, size_t size)
{
	int fd = memfd_create("fuzz", 0);

	if (fd < 0 || write(fd, at, size) != (ssize_t)size)
		abort();
	return fd;
}

/* The checksums made right again, so that the bounds behind them are tried. */
static void sums_mend(unsigned char *at, size_t size)
{
	__u64 body = size - INDEX_HEAD, pages = (body + INDEX_PAGE + 3) / (INDEX_PAGE + 4);
	__u32 *sums = calloc(pages + 1, sizeof(*sums));

	body -= pages * 4;
	checked_sums(at + INDEX_HEAD, body, INDEX_PAGE, sums);
	for (__u64 i = 0; i < pages; i++)
		put_u32(at + INDEX_HEAD + body + i * 4, sums[i]);
	put_u64(at + 104, XXH64(at + INDEX_HEAD + body, pages * 4, 0));
	put_u64(at + INDEX_HEAD - 8, XXH64(at, INDEX_HEAD - 8, 0));
	free(sums);
}

static void ask(struct index *x, const char *text)
{
	struct expr_error error;
	struct expr *expr;
	__u64 *halves = calloc(index_words(x) + 1ULL, sizeof(*halves));

	if (expr_parse(text, 0, &expr, &error) || !halves)
		abort();
	index_match(x, expr, halves);
	expr_free(expr);
	free(halves);
}

static void index_try(const void *at, size_t size)
{
	char path[64];
	struct index x;
	const char *why;
	int fd = file_of(at, size), dir;

	/* index_open() wants a name in a directory: that of the open file. */
	snprintf(path, sizeof(path), "/tmp/fuzz_index.%d", getpid());
	mkdir(path, 0700);
	dir = open(path, O_RDONLY | O_DIRECTORY);
	unlinkat(dir, "a.index", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (symlinkat(path, dir, "a.index"))
		abort();
	if (!index_open(&x, dir, "a", &why)) {
		struct index_refs refs = {};
		struct catalog_track t;

		index_chunks(&x);
		for (__u32 n = 0; n < x.tracks && n < 1000; n++)
			if (index_track(&x, n, &t, 3, &refs))
				break;
		if (x.tracks < 1 << 20) {
			ask(&x, "host 0.0.0.3 or inner tcp or net ::/0");
			ask(&x, "src port 0 and pid 1 or comm x or not node web");
		}
		free(refs.at);
		index_close(&x);
	}
	unlinkat(dir, "a.index", 0);
	close(dir);
	close(fd);
	snprintf(path, sizeof(path), "/tmp/fuzz_index.%d", getpid());
	rmdir(path);
}

static void journal_try(const uint8_t *data, size_t size)
{
	struct journal_reader reader = {};
	struct catalog c = {};
	int fd = file_of(data, size);

	journal_read(fd, &reader, &c);
	journal_close(&reader);
	catalog_free(&c);
	close(fd);
}

/* Batches whose checksums are right, whatever is in them; and one of them damaged. */
static void batches_try(const uint8_t *data, size_t size)
{
	struct journal_writer j = {};
	struct sums sums = {};
	struct text text = {};

	journal_head(&text, "all", "fuzz");
	for (size_t at = 0; at < size; at += 64) {
		text_add(&j.batch, data + at, size - at < 64 ? size - at : 64);
		if (sums_add(&sums, data + at, size - at < 64 ? size - at : 64, INDEX_CHUNK))
			abort();
		journal_batch(&j, sums.bytes, &sums, &text);
	}
	journal_try((const uint8_t *)text.at, text.len);
	if (size > 2) {
		text.at[(data[0] | data[1] << 8) % text.len] ^= data[2];
		journal_try((const uint8_t *)text.at, text.len);
	}
	text_free(&text);
	text_free(&j.batch);
	sums_free(&sums);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *at;

	if (!valid)
		valid_make();
	at = malloc(valid_size);
	memcpy(at, valid, valid_size);
	for (size_t i = 0; i + 4 < size; i += 4)
		at[(data[i] | data[i + 1] << 8) % valid_size] = data[i + 2];
	index_try(at, valid_size);
	sums_mend(at, valid_size);
	index_try(at, valid_size);
	free(at);
	journal_try(data, size);
	batches_try(data, size);
	return 0;
}
