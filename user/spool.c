// SPDX-License-Identifier: GPL-2.0-only
/* A bounded queue of batches on disk, oldest first, that outlives the process. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "spool.h"

/* One batch: its number and how many records are in it are its name. */
struct batch {
	__u64 number, records, bytes;
};

struct spool {
	const char *dir;
	int fd;
	__u64 most, bytes, next;
	struct batch *batches; /* by number */
	size_t n, size;
	bool held; /* the first is on its way */
};

#define NAME_MAX_LEN 64

static void name_of(const struct batch *batch, char name[NAME_MAX_LEN])
{
	snprintf(name, NAME_MAX_LEN, "%016llu-%llu.json", (unsigned long long)batch->number,
		 (unsigned long long)batch->records);
}

static int batch_add(struct spool *spool, const struct batch *batch)
{
	struct batch *grown;

	if (spool->n == spool->size) {
		size_t size = spool->size ? 2 * spool->size : 64;

		grown = realloc(spool->batches, size * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		spool->batches = grown;
		spool->size = size;
	}
	spool->batches[spool->n++] = *batch;
	spool->bytes += batch->bytes;
	if (batch->number >= spool->next)
		spool->next = batch->number + 1;
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct batch *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static void spool_read(struct spool *spool)
{
	int fd = openat(spool->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	unsigned long long number, records;
	struct dirent *entry;
	struct stat st;
	char name[NAME_MAX_LEN];

	if (!list)
		return;
	while ((entry = readdir(list))) {
		struct batch batch;

		if (!strcmp(entry->d_name, ".new"))
			unlinkat(spool->fd, entry->d_name, 0);
		if (sscanf(entry->d_name, "%16llu-%20llu.json", &number, &records) != 2 ||
		    fstatat(spool->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		batch = (struct batch){ number, records, st.st_size };
		name_of(&batch, name);
		if (!strcmp(name, entry->d_name))
			batch_add(spool, &batch);
	}
	closedir(list);
	qsort(spool->batches, spool->n, sizeof(*spool->batches), by_number);
}

struct spool *spool_open(const char *dir, __u64 most_bytes)
{
	struct spool *spool = calloc(1, sizeof(*spool));

	if (!spool)
		return NULL;
	spool->dir = dir;
	spool->most = most_bytes;
	spool->fd = mkdir(dir, 0700) && errno != EEXIST
			    ? -1
			    : open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (spool->fd < 0 || flock(spool->fd, LOCK_EX | LOCK_NB)) {
		log_error("%s: %s", dir,
			  errno == EWOULDBLOCK ? "another tidemark has its queue there; give it a "
						 "directory of its own"
					       : strerror(errno));
		spool_close(spool);
		return NULL;
	}
	spool_read(spool);
	return spool;
}

void spool_close(struct spool *spool)
{
	if (spool->fd >= 0)
		close(spool->fd);
	free(spool->batches);
	free(spool);
}

static void batch_remove(struct spool *spool, size_t i)
{
	char name[NAME_MAX_LEN];

	name_of(&spool->batches[i], name);
	unlinkat(spool->fd, name, 0);
	spool->bytes -= spool->batches[i].bytes;
	spool->n--;
	memmove(&spool->batches[i], &spool->batches[i + 1],
		(spool->n - i) * sizeof(*spool->batches));
}

void spool_drop(struct spool *spool)
{
	if (spool->n)
		batch_remove(spool, 0);
	spool->held = false;
}

void spool_keep(struct spool *spool)
{
	spool->held = false;
}

/* Under a name of its own first, for a batch that was cut short is none. */
static int batch_write(struct spool *spool, const struct batch *batch, const char *text)
{
	int fd = openat(spool->fd, ".new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int err = fd < 0 ? -errno : 0;
	char name[NAME_MAX_LEN];
	size_t done = 0;
	ssize_t n;

	while (!err && done < batch->bytes) {
		n = write(fd, text + done, batch->bytes - done);
		if (n > 0)
			done += n;
		else if (n == 0 || errno != EINTR)
			err = n ? -errno : -ENOSPC;
	}
	if (fd >= 0 && close(fd) && !err)
		err = -errno;
	name_of(batch, name);
	if (!err && renameat(spool->fd, ".new", spool->fd, name))
		err = -errno;
	if (err && fd >= 0)
		unlinkat(spool->fd, ".new", 0);
	return err;
}

int spool_put(struct spool *spool, const char *text, size_t len, __u64 records, __u64 *lost)
{
	const struct batch batch = { spool->next, records, len };
	__u64 held = spool->held && spool->n ? spool->batches[0].bytes : 0;
	int err;

	*lost = 0;
	/* What is being sent cannot go, and there is no room beside it: then this one goes. */
	if (len <= spool->most && held + len > spool->most) {
		*lost = records;
		return 0;
	}
	while (spool->n > spool->held && spool->bytes + len > spool->most) {
		*lost += spool->batches[spool->held].records;
		batch_remove(spool, spool->held);
	}
	err = len > spool->most ? -ENOSPC : batch_write(spool, &batch, text);
	if (!err)
		err = batch_add(spool, &batch);
	if (err)
		*lost += records;
	return err;
}

char *spool_first(struct spool *spool, size_t *len, __u64 *records)
{
	char name[NAME_MAX_LEN], *text;
	int fd;

	while (spool->n) {
		name_of(&spool->batches[0], name);
		fd = openat(spool->fd, name, O_RDONLY | O_CLOEXEC);
		*len = spool->batches[0].bytes;
		*records = spool->batches[0].records;
		text = fd < 0 ? NULL : malloc(*len + 1);
		if (text && read(fd, text, *len) == (ssize_t)*len) {
			close(fd);
			spool->held = true;
			return text;
		}
		/* Somebody took it away, or there is no memory now. */
		free(text);
		if (fd < 0) {
			spool_drop(spool);
			continue;
		}
		close(fd);
		return NULL;
	}
	return NULL;
}

__u64 spool_bytes(const struct spool *spool)
{
	return spool->bytes;
}
