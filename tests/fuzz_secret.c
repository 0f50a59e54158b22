// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: an encrypted file changed anyhow gives what was written, or nothing. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../user/bytes.h"
#include "../user/checked.h"
#include "../user/stored.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PLAIN 5000

static unsigned char plain[PLAIN];

static void key_make(void)
{
	char name[] = "/tmp/fuzz_secret.XXXXXX";
	int fd = mkstemp(name);

	if (fd < 0 || write(fd, "a key is thirty-two bytes long..", SECRET_KEY) != SECRET_KEY ||
	    secret_write_with(name))
		abort();
	close(fd);
	unlink(name);
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (unsigned char)(i * 2654435761U >> 13);
}

/* In pieces of as many bytes as the input says. */
static int file_make(struct bytes *b)
{
	struct stored s = {};
	int fd = memfd_create("fuzz", 0);
	size_t at = 0, piece = bytes_varint(b) % PLAIN + 1;

	if (fd < 0 || stored_begin(&s, fd))
		abort();
	for (size_t n; at < PLAIN; at += n) {
		n = piece < PLAIN - at ? piece : PLAIN - at;
		if (stored_put(&s, plain + at, n, at))
			abort();
	}
	if (piece % 2 && stored_end(&s))
		abort();
	stored_free(&s);
	return fd;
}

/* Bytes put anywhere, moved from anywhere, the end cut or more behind it. */
static void file_spoil(int fd, struct bytes *b)
{
	unsigned char moved[256];

	while (!b->bad && b->at < b->end) {
		__u64 at = bytes_varint(b) % (2 * PLAIN), from = bytes_varint(b) % (2 * PLAIN),
		      n = bytes_varint(b) % sizeof(moved), what = from % 3;
		ssize_t got;

		if (what == 0) {
			memset(moved, (int)n, sizeof(moved));
			got = (ssize_t)(n % 8 + 1);
		} else {
			got = pread(fd, moved, n, (off_t)from);
		}
		if (what == 2 && n < 8) {
			if (ftruncate(fd, (off_t)at))
				abort();
		} else if (got > 0 && pwrite(fd, moved, (size_t)got, (off_t)at) != got) {
			abort();
		}
	}
}

static void file_read(int fd, struct bytes *b)
{
	struct checked c;
	const unsigned char *got;

	if (checked_open(&c, fd))
		return;
	if (c.vault) { /* a head that was spoiled is anybody's file */
		for (__u64 at = 0; at < c.size; at += 70) {
			__u64 n = c.size - at < 90 ? c.size - at : 90;

			got = checked_at(&c, at, n);
			if (got && (at + n > PLAIN || memcmp(got, plain + at, n)))
				abort();
		}
		if (c.size)
			checked_remains(&c, 0, c.size);
	}
	(void)b;
	checked_close(&c);
}

/* The input itself, behind a head that has the right key. */
static void bytes_try(const uint8_t *data, size_t size)
{
	struct stored s = {};
	int fd = memfd_create("fuzz", 0);
	struct bytes none = {};

	if (fd < 0 || stored_begin(&s, fd) || stored_end(&s) ||
	    pwrite(fd, data, size, SECRET_HEAD) != (ssize_t)size ||
	    ftruncate(fd, (off_t)(SECRET_HEAD + size)))
		abort();
	stored_free(&s);
	file_read(fd, &none);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { data, data + size, false };
	static int ready;
	int fd;

	if (!ready)
		key_make();
	ready = 1;
	fd = file_make(&b);
	file_spoil(fd, &b);
	file_read(fd, &b);
	bytes_try(data, size);
	return 0;
}
