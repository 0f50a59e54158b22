// SPDX-License-Identifier: GPL-2.0-only
/* Encrypted files: what was written comes back, and of what was touched nothing does. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../user/bytes.h"
#include "../user/checked.h"
#include "../user/store.h"
#include "../user/stored.h"
#include "../user/vault.h"
#include "tap.h"

static char dir[] = "/tmp/unit_secret.XXXXXX";
static unsigned char plain[1 << 20];

static const char *name_of(const char *name)
{
	static char path[2][64];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static const char *key_of(const char *name, const void *bytes, size_t size, int mode)
{
	const char *path = name_of(name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size || fchmod(fd, (mode_t)mode))
		exit(1);
	close(fd);
	return path;
}

static int memory(void)
{
	int fd = memfd_create("secret", MFD_CLOEXEC);

	if (fd < 0)
		exit(1);
	return fd;
}

/* The first bytes of `plain`, in pieces; complete, or as if the writer had died. */
static int written(size_t bytes, size_t piece, bool complete)
{
	struct stored s = {};
	int fd = memory();

	if (stored_begin(&s, fd))
		exit(1);
	for (size_t at = 0; at < bytes; at += piece)
		if (stored_put(&s, plain + at, piece < bytes - at ? piece : bytes - at, at))
			exit(1);
	if (complete && stored_end(&s))
		exit(1);
	stored_free(&s);
	return fd;
}

/*
 * How many bytes of the file can be read, asked for in small pieces; -1 if one of them is not
 * what was written, whatever the file has been through.
 */
static long readable(int fd)
{
	struct checked c;
	long n = 0;
	int copy = dup(fd);

	if (checked_open(&c, copy))
		return 0;
	if (c.vault && c.size > sizeof(plain))
		n = -1;
	/* One that does not begin as such is not taken for one. */
	for (__u64 at = 0; c.vault && at < c.size && n >= 0; at += 100) {
		__u64 bytes = c.size - at < 100 ? c.size - at : 100;
		const unsigned char *got = checked_at(&c, at, bytes);

		if (got && memcmp(got, plain + at, bytes))
			n = -1;
		else if (got)
			n += (long)bytes;
	}
	checked_close(&c);
	return n;
}

static size_t raw_of(int fd, unsigned char **at)
{
	struct stat st;

	if (fstat(fd, &st))
		exit(1);
	*at = malloc((size_t)st.st_size + 1);
	if (pread(fd, *at, (size_t)st.st_size, 0) != st.st_size)
		exit(1);
	return (size_t)st.st_size;
}

static int file_of(const unsigned char *at, size_t size)
{
	int fd = memory();

	if (write(fd, at, size) != (ssize_t)size)
		exit(1);
	return fd;
}

static long readable_bytes(const unsigned char *at, size_t size)
{
	int fd = file_of(at, size);
	long n = readable(fd);

	close(fd);
	return n;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void key_files(void)
{
	static const char hex[] =
		"00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100\n";
	char wrong[sizeof(hex)];

	is_int(secret_read_with(name_of("none")), -ENOENT,
	       "a key file that is not there is refused");
	is_int(secret_read_with(key_of("short", plain, 31, 0600)), -EINVAL, "one of 31 bytes too");
	is_int(secret_read_with(key_of("long", plain, 33, 0600)), -EINVAL, "and one of 33");
	memcpy(wrong, hex, sizeof(hex));
	wrong[10] = 'g';
	is_int(secret_read_with(key_of("odd", wrong, 64, 0600)), -EINVAL,
	       "and one of 64 letters that are not hexadecimal");
	is_int(secret_read_with(key_of("group", plain, 32, 0640)), -EPERM,
	       "one that the group can read is refused");
	is_int(secret_read_with(key_of("other", plain, 32, 0604)), -EPERM,
	       "and one that anybody can");
	is_int(secret_read_with(key_of("hex", hex, 64, 0600)), 0,
	       "64 hexadecimal digits are a key");
	is_int(secret_read_with(key_of("line", hex, 65, 0400)), 0, "with a newline too");
	ok(!secret_writing(), "what is only read with is not written with");
}

/* Run first, while this process has no key. */
static void whose_key(void)
{
	const char *path = name_of("file");
	int fd, status;
	pid_t child;

	child = fork();
	if (!child) {
		int at = open(dir, O_RDONLY | O_DIRECTORY);

		secret_write_with(key_of("a", "the key of somebody else........", 32, 0600));
		exit(store_write(at, "file", plain, 50000) ? 1 : 0);
	}
	if (waitpid(child, &status, 0) != child || status)
		exit(1);
	fd = open(path, O_RDONLY);
	for (int turn = 0; turn < 3; turn++) {
		static const char *const sentences[] = {
			"without a key, a file says that it needs one",
			"with another one, that it is not with this",
			"and with its own, among others, it is read",
		};
		static const int errors[] = { -ENOKEY, -EKEYREJECTED, 0 };
		struct checked c;
		int err;

		if (turn == 1)
			secret_read_with(key_of("b", "another key, as good as any.....", 32, 0600));
		if (turn == 2)
			secret_read_with(name_of("a"));
		err = checked_open(&c, dup(fd));
		is_int(err, errors[turn], sentences[turn]);
		if (!err)
			checked_close(&c);
	}
	is_int(readable(fd), 50000, "all of it");
	close(fd);
}

/* ---- what is written comes back ------------------------------------------------------------ */

static void roundtrips(void)
{
	static const size_t sizes[] = { 1, 100, 16383, 16384, 16385, 40000, sizeof(plain) };
	static const size_t pieces[] = { 7, 5000, 16384, 262144, sizeof(plain) };
	int wrong = 0, done = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t k = 0; k < sizeof(pieces) / sizeof(pieces[0]); k++)
			for (int complete = 0; complete < 2; complete++) {
				int fd;

				if (sizes[i] / pieces[k] > 20000)
					continue;
				fd = written(sizes[i], pieces[k], complete);
				wrong += readable(fd) != (long)sizes[i];
				done++;
				close(fd);
			}
	ok(!wrong && done > 60, "%d files, complete or not, written in pieces, come back", done);
}

static void growing(void)
{
	struct stored s = {};
	struct checked c;
	int fd = memory(), wrong = 0;
	const unsigned char *got;
	size_t at = 0;

	stored_begin(&s, fd);
	stored_put(&s, plain, 10, 0);
	at = 10;
	is_int(checked_open(&c, dup(fd)), 0, "a file is read while it is written");
	for (unsigned n = 0; n < 200; n++) {
		size_t more = n * 37 % 9000 + 1;

		stored_put(&s, plain + at, more, at);
		at += more;
		wrong += checked_grow(&c) != 0 || c.size != at;
		got = checked_at(&c, at - more, more);
		wrong += !got || memcmp(got, plain + at - more, more) != 0;
	}
	got = checked_at(&c, 0, at);
	ok(!wrong && got && !memcmp(got, plain, at), "and what comes is there at each look");
	stored_end(&s);
	ok(!checked_grow(&c) && c.size == at, "the table at its end adds nothing to it");
	stored_free(&s);
	checked_close(&c);
	close(fd);
}

static void bounded(void)
{
	int fd = written(sizeof(plain), 100000, true), wrong = 0;
	struct checked c;
	__u64 most = 0;

	checked_open(&c, dup(fd));
	checked_bound(&c, 1 << 16);
	for (__u64 at = 0; at < sizeof(plain) - 3000; at += 1000) {
		const unsigned char *got = checked_at(&c, at, 3000);

		wrong += !got || memcmp(got, plain + at, 3000) != 0;
		most = c.vault->open > most ? c.vault->open : most;
	}
	ok(!wrong && most <= (1 << 16) + SECRET_BLOCK, "no more is open at once than was allowed");
	checked_close(&c);
	close(fd);
}

/* Of a disk that takes half a block and then no more, until there is room again. */
static void disk_full(void)
{
	struct rlimit was, limit;
	struct stored s = {};
	unsigned char *before, *after;
	size_t had, have;
	int fd = open(name_of("full"), O_RDWR | O_CREAT | O_TRUNC, 0600), err;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	limit = was;
	limit.rlim_cur = 40000;
	stored_begin(&s, fd);
	setrlimit(RLIMIT_FSIZE, &limit);
	err = stored_put(&s, plain, 60000, 0);
	had = raw_of(fd, &before);
	is_int(err, -EFBIG, "a disk that takes no more is said");
	is_int(stored_put(&s, plain, 70000, 0), -EFBIG, "and again, with more to write by now");
	setrlimit(RLIMIT_FSIZE, &was);
	is_int(stored_put(&s, plain, 80000, 0), 0, "when there is room, it is written");
	is_int(stored_put(&s, plain + 80000, 5, 80000), 0, "and what comes then");
	have = raw_of(fd, &after);
	ok(had > 30000 && have > had && !memcmp(before, after, had),
	   "nothing was encrypted twice under one number");
	is_int(readable(fd), 80005, "all of it comes back");
	stored_free(&s);
	free(before);
	free(after);
	close(fd);
}

/* ---- what was touched does not --------------------------------------------------------------- */

static void nothing_shows(void)
{
	unsigned char *a, *b;
	int one = written(40000, 40000, true), two = written(40000, 40000, true), alike = 0;
	size_t size = raw_of(one, &a), found = 0;

	if (raw_of(two, &b) != size)
		exit(1);
	for (size_t i = 0; i + 8 <= size; i++)
		found += memmem(plain, 40000, a + i, 8) != NULL;
	for (size_t i = SECRET_HEAD; i + 8 <= size - SECRET_TAIL; i++)
		alike += !memcmp(a + i, b + i, 8);
	is_int((int)found, 0, "no eight bytes of it stand in the file");
	ok(alike < 8, "and the same written twice is two different files");
	free(a);
	free(b);
	close(one);
	close(two);
}

/* Small blocks: every byte can be tried. */
static void flips(bool complete)
{
	int fd = written(300, 30, complete), wrong = 0, less = 0;
	unsigned char *at;
	size_t size = raw_of(fd, &at);

	for (size_t i = 0; i < size; i++) {
		long n;

		at[i] ^= (unsigned char)(1 << i % 8);
		n = readable_bytes(at, size);
		/* Its own pieces of 100: more than two of them may be gone. */
		wrong += n < 0;
		less += n < 300;
		at[i] ^= (unsigned char)(1 << i % 8);
	}
	ok(!wrong, "a bit flipped in any of %zu bytes, and nothing wrong is read", size);
	if (complete)
		ok(less >= (int)size - 10 * 4 - SECRET_MORE - SECRET_TAIL,
		   "wherever it is more than the way to the blocks, it is noticed");
	else
		is_int(less, (int)size, "wherever it is, it is noticed");
	free(at);
	close(fd);
}

static void cuts(bool complete)
{
	int fd = written(300, 30, complete), wrong = 0, longer = 0;
	unsigned char *at;
	size_t size = raw_of(fd, &at);
	long last = 0;

	for (size_t i = SECRET_HEAD; i <= size; i++) {
		long n = readable_bytes(at, i);

		wrong += n < 0 || n < last || n > (long)i;
		longer += n > last;
		last = n;
	}
	ok(!wrong && last == 300 && longer > 2, "cut anywhere, what is before is read");
	free(at);
	close(fd);
}

#define PIECE 30
#define PLACE(n) (SECRET_HEAD + (n) * (PIECE + SECRET_MORE))

static void exchanged(void)
{
	int fd = written(300, PIECE, false), other = written(300, PIECE, false);
	unsigned char *at, *copy, *foreign;
	size_t size = raw_of(fd, &at), length = PIECE + SECRET_MORE;

	if (raw_of(other, &foreign) != size)
		exit(1);
	copy = malloc(size);
	memcpy(copy, at, size);
	memcpy(copy + PLACE(3), at + PLACE(4), length);
	memcpy(copy + PLACE(4), at + PLACE(3), length);
	ok(readable_bytes(at, size) == 300 && readable_bytes(copy, size) == 100,
	   "two blocks exchanged are not read");
	memcpy(copy, at, size);
	memcpy(copy + PLACE(8), at + PLACE(2), length);
	is_int(readable_bytes(copy, size), 200, "nor one that stands there twice");
	memcpy(copy, at, size);
	memmove(copy + PLACE(5), at + PLACE(6), size - PLACE(6));
	is_int(readable_bytes(copy, size - length), 100, "nor what follows one that was taken out");
	memcpy(copy, at, size);
	memcpy(copy + PLACE(5), foreign + PLACE(5), length);
	is_int(readable_bytes(copy, size), 200, "nor one of another file with the same key");
	memcpy(copy, at, size);
	memcpy(copy, foreign, SECRET_HEAD);
	is_int(readable_bytes(copy, size), 0, "nor anything under another file's head");
	free(copy);
	free(at);
	free(foreign);
	close(fd);
	close(other);
}

/* A table of all its blocks, put behind fewer of them, or another file's. */
static void tables(void)
{
	int fd = written(300, PIECE, true);
	unsigned char *at, *copy;
	size_t size = raw_of(fd, &at), tail = 10 * 4 + SECRET_MORE + SECRET_TAIL;

	copy = malloc(size);
	memcpy(copy, at, PLACE(9));
	memcpy(copy + PLACE(9), at + size - tail, tail);
	is_int(readable_bytes(copy, PLACE(9) + tail), 270, "a table that does not fit is not used");
	memcpy(copy, at, size);
	put_u32(copy + size - SECRET_TAIL, 0xffffffff);
	is_int(readable_bytes(copy, size), 300, "nor one that would be longer than the file");
	put_u32(copy + size - SECRET_TAIL, 9);
	is_int(readable_bytes(copy, size), 300, "nor one that says too little");
	memcpy(copy, at, size);
	copy[7] = '2';
	is_int(readable_bytes(copy, size), 0, "and of a version to come nothing is guessed");
	free(copy);
	free(at);
	close(fd);
}

int main(void)
{
	char command[64];

	if (!mkdtemp(dir))
		return 1;
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (unsigned char)(i * 2654435761U >> 13);
	whose_key();
	key_files();
	if (secret_write_with(key_of("key", plain + 1000, 32, 0600)))
		return 1;
	roundtrips();
	growing();
	bounded();
	disk_full();
	nothing_shows();
	for (int complete = 0; complete < 2; complete++) {
		flips(complete);
		cuts(complete);
	}
	exchanged();
	tables();
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) || done();
}
