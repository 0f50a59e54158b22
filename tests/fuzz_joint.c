// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: a joint index of any bytes, checksums right or not, is read or refused. */
#define _GNU_SOURCE 1
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "../user/joint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A valid one, of which the input says what to spoil: mere bytes would never get far. */
static unsigned char *valid;
static size_t valid_size;
static char path[64];
static int dir;

static bool all_alive(void *ctx, const char *base)
{
	(void)ctx;
	(void)base;
	return true;
}

static void index_make(unsigned number, char base[STORE_NAME_MAX])
{
	char name[STORE_NAME_MAX + 16];
	struct catalog c = { .end = 40000 };
	struct catalog_device d = { .node = 1, .device = 2, .linktype = 1 };
	struct catalog_gap gap = { 1, number, number + 5, 7, 8, "ring full" };
	__u32 chunks[3] = {};
	size_t size;
	void *at;

	snprintf(base, STORE_NAME_MAX, "s%u", number);
	snprintf(d.node_name, sizeof(d.node_name), "web%u", number % 3);
	strcpy(c.class_name, "all");
	catalog_device_add(&c, &d);
	catalog_gap_add(&c, &gap);
	for (unsigned n = 0; n < 200; n++) {
		struct track t = { .ethertype = 0x0800, .device = 2, .pid = n % 3 };
		struct catalog_packet p = { .forward = n & 1, .position = n * 30, .wall_ns = n };

		t.flow.proto = 6;
		t.flow.node = 1;
		t.flow.local_port = (__u16)(n * number);
		t.flow.local[10] = t.flow.local[11] = n % 7 ? 0xff : 0;
		t.flow.local[15] = (__u8)(n % 40);
		t.inner.proto = n % 5 ? 0 : 17;
		snprintf(t.comm, sizeof(t.comm), "job%u", n % 9);
		p.track = (__u32)catalog_track(&c, &t);
		catalog_add(&c, &p);
	}
	if (index_build(&c, chunks, 3, &at, &size) ||
	    store_write(dir, store_file(name, base, STORE_INDEX), at, size))
		abort();
	free(at);
	catalog_free(&c);
}

/* The files of the last joint are the indexes that it is made of, which stay: it is merged too. */
static void valid_make(void)
{
	struct joint_source sources[JOINT_MERGE] = {};
	char base[STORE_NAME_MAX], name[STORE_NAME_MAX + 16];
	__u64 bytes;
	FILE *file;

	strcpy(path, "/tmp/fuzz_joint.XXXXXX");
	if (!mkdtemp(path))
		abort();
	dir = open(path, O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < JOINT_MERGE; i++)
		index_make(i, sources[i].base);
	if (joint_write(dir, 1, sources, JOINT_MERGE, all_alive, NULL, base, &bytes))
		abort();
	valid = malloc(bytes);
	valid_size = bytes;
	file = fdopen(openat(dir, joint_file(name, base, 1), O_RDONLY), "r");
	if (!file || fread(valid, bytes, 1, file) != 1)
		abort();
	fclose(file);
}

static void tidy(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf %s", path);
	if (*path && system(command))
		abort();
}

/* The checksums made right again, so that the bounds behind them are tried. */
static void sums_mend(unsigned char *at, size_t size)
{
	__u64 body = size - JOINT_FOOT, pages = (body + JOINT_PAGE + 3) / (JOINT_PAGE + 4);
	unsigned char *foot = at + size - JOINT_FOOT;
	__u32 *sums = calloc(pages + 1, sizeof(*sums));

	body -= pages * 4;
	checked_sums(at, body, JOINT_PAGE, sums);
	for (__u64 i = 0; i < pages; i++)
		put_u32(at + body + i * 4, sums[i]);
	put_u64(foot + 24, XXH64(at + body, pages * 4, 0));
	put_u64(foot + JOINT_FOOT - 8, XXH64(foot, JOINT_FOOT - 8, 0));
	free(sums);
}

static void ask(struct joint *j, const char *text)
{
	struct joint_question question = { .to_ns = ~0ULL, .stamp_to = ~0ULL };
	struct expr_error error;
	struct expr *expr;
	__u64 *set = calloc(j->words + 1ULL, sizeof(*set));

	if (expr_parse(text, 0, &expr, &error) || !set)
		abort();
	question.expr = expr;
	joint_match(j, &question, set);
	expr_free(expr);
	free(set);
}

static void joint_try(const void *at, size_t size)
{
	struct joint_source source = { .base = "s0" };
	char name[STORE_NAME_MAX + 16], base[STORE_NAME_MAX];
	struct joint_gap gap;
	struct joint j;
	const char *why;
	__u64 bytes;

	int fd = openat(dir, joint_file(name, "s0", 1), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || write(fd, at, size) != (ssize_t)size || close(fd))
		abort();
	if (joint_open(&j, dir, "s0", 1, &why))
		return;
	ask(&j, "host 0.0.0.3 or inner tcp or net ::/0 or portrange 3-900");
	ask(&j, "src port 7 and pid 1 or comm job4 or not node web1 and class all and vlan");
	for (__u32 i = 0; i < j.parts[JOINT_GAPS].count && i < 100; i++)
		joint_gap(&j, i, &gap);
	/* What is merged out of it is good, or nothing. */
	if (j.members < 100 && !joint_write(dir, 2, &source, 1, all_alive, NULL, base, &bytes)) {
		struct joint made;

		if (joint_open(&made, dir, base, 2, &why))
			abort();
		joint_close(&made);
		unlinkat(dir, joint_file(name, base, 2), 0);
	}
	joint_close(&j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *at;

	if (!valid) {
		valid_make();
		atexit(tidy);
	}
	at = malloc(valid_size);
	memcpy(at, valid, valid_size);
	for (size_t i = 0; i + 4 < size; i += 4)
		at[(data[i] | data[i + 1] << 8) % valid_size] = data[i + 2];
	joint_try(at, valid_size);
	sums_mend(at, valid_size);
	joint_try(at, valid_size);
	free(at);
	return 0;
}
