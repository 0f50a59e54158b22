// SPDX-License-Identifier: GPL-2.0-only
/* A directory of event files: names that sort by time, compressed once closed, within a budget. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "log.h"
#include "shelf.h"

#define PREFIX "events-"
#define PLAIN ".jsonl"
#define PACKED ".jsonl.zst"
#define LEVEL 3
#define WINDOW_LOG 20 /* a megabyte of memory, not eight */

struct shelf {
	const char *dir;
	int fd;
	char open[SHELF_NAME_MAX]; /* the file being written, or "" */
	__u64 closed_bytes;	   /* of all others */
	bool look;		   /* there may be files to compress */
	pthread_t thread;
	bool running;
	char packing[SHELF_NAME_MAX];
	_Atomic int done; /* by the thread, last; 0: works */
	int err;	  /* of it */
	bool failed;
};

/* ---- names --------------------------------------------------------------------------------- */

static bool ends(const char *name, const char *with)
{
	size_t len = strlen(name), with_len = strlen(with);

	return len > with_len && !strcmp(name + len - with_len, with);
}

static bool ours(const char *name)
{
	return !strncmp(name, PREFIX, sizeof(PREFIX) - 1) && strlen(name) < SHELF_NAME_MAX &&
	       (ends(name, PLAIN) || ends(name, PACKED));
}

int shelf_create(struct shelf *shelf, char name[SHELF_NAME_MAX])
{
	struct timespec now;
	struct tm tm;
	char second[32];
	int fd;

	/* The clock may have been set back: a name is never one that is there. */
	for (;;) {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		strftime(second, sizeof(second), "%Y%m%dT%H%M%S", &tm);
		snprintf(name, SHELF_NAME_MAX, PREFIX "%s.%09ldZ" PLAIN, second, now.tv_nsec);
		fd = openat(shelf->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC,
			    0600);
		if (fd >= 0 || errno != EEXIST)
			break;
	}
	if (fd < 0)
		return -errno;
	snprintf(shelf->open, sizeof(shelf->open), "%s", name);
	return fd;
}

void shelf_closed(struct shelf *shelf, const char *name)
{
	struct stat st;

	if (!fstatat(shelf->fd, name, &st, 0))
		shelf->closed_bytes += st.st_size;
	*shelf->open = 0;
	shelf->look = true;
}

/* ---- what there is ---------------------------------------------------------------------------- */

/* The first by name for which the filter holds, and the bytes of all that are closed. */
static bool oldest(struct shelf *shelf, bool plain, char name[SHELF_NAME_MAX], __u64 *bytes)
{
	int fd = openat(shelf->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	*name = 0;
	*bytes = 0;
	if (!list) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	while ((entry = readdir(list))) {
		if (!ours(entry->d_name) || !strcmp(entry->d_name, shelf->open) ||
		    fstatat(shelf->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		*bytes += st.st_size;
		if (plain && !ends(entry->d_name, PLAIN))
			continue;
		if (!*name || strcmp(entry->d_name, name) < 0)
			snprintf(name, SHELF_NAME_MAX, "%.*s", SHELF_NAME_MAX - 1, entry->d_name);
	}
	closedir(list);
	return *name;
}

void shelf_budget(struct shelf *shelf, __u64 most, __u64 open)
{
	char name[SHELF_NAME_MAX];

	while (shelf->closed_bytes + open > most &&
	       oldest(shelf, false, name, &shelf->closed_bytes) &&
	       shelf->closed_bytes + open > most) {
		if (unlinkat(shelf->fd, name, 0)) {
			log_warn("%s/%s: %s", shelf->dir, name, strerror(errno));
			return;
		}
		log_debug("%s/%s: deleted, to stay within the budget", shelf->dir, name);
	}
}

/* ---- compressing ------------------------------------------------------------------------------- */

static int copy_packed(FILE *in, FILE *out)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();
	size_t in_size = ZSTD_CStreamInSize(), out_size = ZSTD_CStreamOutSize(), left = 1;
	char *from = malloc(in_size), *to = malloc(out_size);
	int err = z && from && to ? 0 : -ENOMEM;
	bool last = false;

	if (!err) {
		ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, LEVEL);
		ZSTD_CCtx_setParameter(z, ZSTD_c_windowLog, WINDOW_LOG);
		ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	}
	while (!err && !last) {
		ZSTD_inBuffer input = { from, fread(from, 1, in_size, in), 0 };

		last = input.size < in_size;
		if (ferror(in))
			err = -EIO;
		do {
			ZSTD_outBuffer output = { to, out_size, 0 };

			left = ZSTD_compressStream2(z, &output, &input,
						    last ? ZSTD_e_end : ZSTD_e_continue);
			if (ZSTD_isError(left))
				err = -EIO;
			else if (fwrite(to, 1, output.pos, out) != output.pos)
				err = -errno;
		} while (!err && (last ? left : input.pos < input.size));
	}
	ZSTD_freeCCtx(z);
	free(from);
	free(to);
	return err;
}

static FILE *open_at(int dir, const char *name, int flags, const char *mode)
{
	int fd = openat(dir, name, flags | O_CLOEXEC, 0600);
	FILE *file = fd < 0 ? NULL : fdopen(fd, mode);

	if (fd >= 0 && !file)
		close(fd);
	return file;
}

/* Whole or not there under its name: only then the plain one goes. */
static int pack(int dir, const char *name)
{
	char packed[SHELF_NAME_MAX + 8], fresh[SHELF_NAME_MAX + 16];
	FILE *in = open_at(dir, name, O_RDONLY, "r"), *out;
	int err;

	if (!in)
		return errno == ENOENT ? 0 : -errno;
	snprintf(packed, sizeof(packed), "%s.zst", name);
	snprintf(fresh, sizeof(fresh), ".%s.new", packed);
	out = open_at(dir, fresh, O_WRONLY | O_CREAT | O_TRUNC, "w");
	err = out ? copy_packed(in, out) : -errno;
	fclose(in);
	if (out && !err && (fflush(out) || fsync(fileno(out))))
		err = -errno;
	if (out && fclose(out) && !err)
		err = -errno;
	if (!err && renameat(dir, fresh, dir, packed))
		err = -errno;
	if (err)
		unlinkat(dir, fresh, 0);
	else if (unlinkat(dir, name, 0) && errno != ENOENT)
		err = -errno;
	return err;
}

static void *pack_thread(void *ctx)
{
	struct shelf *shelf = ctx;

	shelf->err = pack(shelf->fd, shelf->packing);
	atomic_store(&shelf->done, 1);
	return NULL;
}

static void pack_end(struct shelf *shelf)
{
	pthread_join(shelf->thread, NULL);
	shelf->running = false;
	if (shelf->err) {
		if (!shelf->failed)
			log_warn("%s/%s: cannot be compressed: %s", shelf->dir, shelf->packing,
				 strerror(-shelf->err));
		shelf->failed = true;
		shelf->look = false; /* until another is closed */
	} else {
		shelf->failed = false;
	}
}

void shelf_tick(struct shelf *shelf)
{
	if (shelf->running) {
		if (!atomic_load(&shelf->done))
			return;
		pack_end(shelf);
	}
	if (!shelf->look)
		return;
	shelf->look = oldest(shelf, true, shelf->packing, &shelf->closed_bytes);
	if (!shelf->look)
		return;
	atomic_store(&shelf->done, 0);
	shelf->running = !pthread_create(&shelf->thread, NULL, pack_thread, shelf);
}

/* ---- from beginning to end ---------------------------------------------------------------------- */

/* What was being written when somebody was killed ends in a whole line. */
static void line_mend(struct shelf *shelf, const char *name)
{
	int fd = openat(shelf->fd, name, O_RDWR | O_CLOEXEC);
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END), at = end;
	char c = 0;

	while (at > 0 && pread(fd, &c, 1, at - 1) == 1 && c != '\n')
		at--;
	if (at != end && !ftruncate(fd, at))
		log_info("%s/%s: its last line was torn, and is cut off", shelf->dir, name);
	if (fd >= 0)
		close(fd);
}

static void shelf_mend(struct shelf *shelf)
{
	int fd = openat(shelf->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!list)
		return;
	while ((entry = readdir(list))) {
		if (!strncmp(entry->d_name, "." PREFIX, sizeof("." PREFIX) - 1) &&
		    ends(entry->d_name, PACKED ".new"))
			unlinkat(shelf->fd, entry->d_name, 0);
		else if (ours(entry->d_name) && ends(entry->d_name, PLAIN))
			line_mend(shelf, entry->d_name);
	}
	closedir(list);
	shelf->look = true;
}

struct shelf *shelf_open(const char *dir)
{
	struct shelf *shelf = calloc(1, sizeof(*shelf));
	char name[SHELF_NAME_MAX];

	if (!shelf)
		return NULL;
	shelf->dir = dir;
	if (mkdir(dir, 0700) && errno != EEXIST) {
		log_error("%s: %s", dir, strerror(errno));
		free(shelf);
		return NULL;
	}
	shelf->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (shelf->fd < 0 || flock(shelf->fd, LOCK_EX | LOCK_NB)) {
		log_error("%s: %s", dir,
			  errno == EWOULDBLOCK ? "another tidemark writes there; give it a "
						 "directory of its own"
					       : strerror(errno));
		if (shelf->fd >= 0)
			close(shelf->fd);
		free(shelf);
		return NULL;
	}
	shelf_mend(shelf);
	oldest(shelf, false, name, &shelf->closed_bytes);
	return shelf;
}

int shelf_close(struct shelf *shelf)
{
	int status;

	while (shelf->running || (shelf->look && !shelf->failed)) {
		if (shelf->running)
			pack_end(shelf);
		shelf_tick(shelf);
		if (shelf->look && !shelf->running)
			break; /* no thread to be had */
	}
	status = shelf->failed || shelf->look;
	close(shelf->fd);
	free(shelf);
	return status;
}
