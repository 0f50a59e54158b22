// SPDX-License-Identifier: GPL-2.0-only
/* A directory of segments: names of files, and files written whole or not at all. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "catalog.h"
#include "store.h"
#include "stored.h"

const char *store_file(char text[STORE_NAME_MAX + 16], const char *base, const char *ending)
{
	snprintf(text, STORE_NAME_MAX + 16, "%s%s", base, ending);
	return text;
}

const char *const store_data[STORE_DATA] = { STORE_PLAIN, STORE_SECRET, STORE_ZSTD,
					     STORE_SECRET_ZSTD };

bool store_packed(const char *ending)
{
	return ending == store_data[2] || ending == store_data[3];
}

/*
 * It may be packed between two looks: then it is there at the second, or at the first again.
 * O_NONBLOCK here and elsewhere: a FIFO of that name is damage, and nothing to wait for.
 */
const char *store_open(int dir, const char *base, int flags, int *fd)
{
	char text[STORE_NAME_MAX + 16];

	for (unsigned i = 0; i < 2 * STORE_DATA; i++) {
		const char *ending = store_data[i % STORE_DATA];

		*fd = openat(dir, store_file(text, base, ending), flags | O_NONBLOCK | O_CLOEXEC);
		if (*fd >= 0)
			return ending;
		if (errno != ENOENT)
			break;
	}
	*fd = -errno;
	return NULL;
}

bool store_has_data(const struct store_name *name)
{
	return name->plain || name->zstd || name->secret || name->secret_zstd;
}

static bool is_there(int dir, const char *base, const char *ending)
{
	char text[STORE_NAME_MAX + 16];

	return !faccessat(dir, store_file(text, base, ending), F_OK, AT_SYMLINK_NOFOLLOW);
}

bool store_bare(int dir, const char *base)
{
	static const char form[] = "dddddddd-dddddd-ddddddddd";
	bool data = false;

	if (strlen(base) != sizeof(form) - 1)
		return false;
	for (size_t i = 0; form[i]; i++)
		if (form[i] == '-' ? base[i] != '-' : base[i] < '0' || base[i] > '9')
			return false;
	for (unsigned i = 0; i < STORE_DATA; i++)
		data |= is_there(dir, base, store_data[i]);
	return data && !is_there(dir, base, STORE_INDEX) && !is_there(dir, base, STORE_JOURNAL);
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(((const struct store_name *)a)->base, ((const struct store_name *)b)->base);
}

static int name_note(struct store_names *names, const char *file)
{
	const char *dot = strchr(file, '.');
	struct store_name name = {};
	size_t len = dot ? (size_t)(dot - file) : 0;

	if (!len || len >= sizeof(name.base))
		return 0;
	memcpy(name.base, file, len);
	name.plain = !strcmp(dot, STORE_PLAIN);
	name.zstd = !strcmp(dot, STORE_ZSTD);
	name.secret = !strcmp(dot, STORE_SECRET);
	name.secret_zstd = !strcmp(dot, STORE_SECRET_ZSTD);
	name.index = !strcmp(dot, STORE_INDEX);
	name.journal = !strcmp(dot, STORE_JOURNAL);
	if (!strncmp(dot, STORE_JOINT, sizeof(STORE_JOINT) - 1)) {
		const char *level = dot + sizeof(STORE_JOINT) - 1;

		name.joints =
			*level >= '1' && *level <= '9' && !level[1] ? 1U << (*level - '0') : 0;
		name.alone = name.joints;
	}
	if (!name.plain && !name.zstd && !name.secret && !name.secret_zstd && !name.index &&
	    !name.journal && !name.joints)
		return 0;
	if (array_grow((void **)&names->at, &names->room, names->n + 1, sizeof(*names->at)))
		return -ENOMEM;
	names->at[names->n++] = name;
	return 0;
}

/* Sorted, the files of one segment stand together: made one. */
static void names_fold(struct store_names *names)
{
	__u32 n = 0;

	if (!names->n)
		return;
	qsort(names->at, names->n, sizeof(*names->at), name_compare);
	for (__u32 i = 1; i < names->n; i++) {
		struct store_name *to = &names->at[n], *from = &names->at[i];

		if (strcmp(to->base, from->base)) {
			names->at[++n] = *from;
			continue;
		}
		to->plain |= from->plain;
		to->zstd |= from->zstd;
		to->secret |= from->secret;
		to->secret_zstd |= from->secret_zstd;
		to->index |= from->index;
		to->journal |= from->journal;
		to->joints |= from->joints;
		to->alone &= from->alone;
	}
	names->n = n + 1;
}

int store_list(int dir, struct store_names *names)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	struct dirent *entry;
	DIR *stream;

	memset(names, 0, sizeof(*names));
	stream = fd < 0 ? NULL : fdopendir(fd);
	if (!stream) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while (!err && (entry = readdir(stream)))
		err = name_note(names, entry->d_name);
	closedir(stream);
	if (err) {
		free(names->at);
		memset(names, 0, sizeof(*names));
	}
	names_fold(names);
	return err;
}

int store_put(int fd, const void *at, size_t size, __u64 offset)
{
	const char *from = at;

	while (size) {
		ssize_t put = pwrite(fd, from, size, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put ? -errno : -ENOSPC;
		from += put;
		size -= (size_t)put;
		offset += (__u64)put;
	}
	return 0;
}

int store_begin(struct store_out *out, int dir, const char *name)
{
	char text[STORE_NAME_MAX + 16];
	int fd, err;

	memset(out, 0, sizeof(*out));
	store_file(text, name, STORE_NEW);
	fd = openat(dir, text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = stored_begin(&out->to, fd);
	return err ? store_end(out, dir, name, err) : 0;
}

int store_more(struct store_out *out, const void *at, size_t size)
{
	int err = stored_put(&out->to, at, size, out->at);

	out->at += size;
	return err;
}

int store_end(struct store_out *out, int dir, const char *name, int err)
{
	char text[STORE_NAME_MAX + 16];
	int fd = out->to.fd;

	store_file(text, name, STORE_NEW);
	if (!err)
		err = stored_end(&out->to);
	if (!err && fdatasync(fd))
		err = -errno;
	if (close(fd) && !err)
		err = -errno;
	if (!err && renameat(dir, text, dir, name))
		err = -errno;
	if (err)
		unlinkat(dir, text, 0);
	stored_free(&out->to);
	return err;
}

int store_write(int dir, const char *name, const void *at, size_t size)
{
	struct store_out out;
	int err = store_begin(&out, dir, name);

	return err ? err : store_end(&out, dir, name, store_more(&out, at, size));
}

int store_tidy(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	const size_t end = sizeof(STORE_NEW) - 1;
	struct dirent *entry;
	DIR *stream;

	stream = fd < 0 ? NULL : fdopendir(fd);
	if (!stream) {
		err = -errno;
		if (fd >= 0)
			close(fd);
		return err;
	}
	while ((entry = readdir(stream))) {
		size_t len = strlen(entry->d_name);

		if (len > end && !strcmp(entry->d_name + len - end, STORE_NEW))
			unlinkat(dir, entry->d_name, 0);
	}
	closedir(stream);
	return 0;
}
