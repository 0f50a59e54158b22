// SPDX-License-Identifier: GPL-2.0-only
/* Event logs as users name them: files, directories of them, compressed or not, standard input. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "log.h"
#include "logs.h"
#include "sorter.h"

#define BLOCK (64 * 1024)
#define BLOCKS 256
#define FILES 64

/* Lines read again: blocks of files, least recently used goes first, so that a merge of ten thousand
 * logs needs neither their memory nor their file descriptors.
 */
struct logs_text {
	int spool; /* what cannot be read twice, -1: nothing yet */
	uint64_t spooled;
	uint64_t clock;
	struct {
		uint64_t file_plus_one, at, used;
		size_t have;
		char *bytes;
	} blocks[BLOCKS];
	struct {
		unsigned file_plus_one;
		int fd;
		uint64_t used;
	} files[FILES];
	bool *is_spooled; /* by log */
	char *long_line;
};

static bool ends_in(const char *name, const char *end)
{
	size_t len = strlen(name), end_len = strlen(end);

	return len > end_len && strcmp(name + len - end_len, end) == 0;
}

static int path_add(struct logs *logs, char *path)
{
	char **paths;

	if (!path) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	if (logs->n == LOGS_MOST) {
		log_error("%s: more than %d logs; merge them in turns", path, LOGS_MOST);
		free(path);
		return -E2BIG;
	}
	paths = reallocarray(logs->paths, (size_t)logs->n + 1, sizeof(*paths));
	if (!paths) {
		free(path);
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	logs->paths = paths;
	paths[logs->n++] = path;
	return 0;
}

/* A file named twice, by two globs or in its directory too, would make every stamp come twice. */
static bool path_known(const struct logs *logs, const struct stat *wanted)
{
	struct stat file;

	for (unsigned i = 0; i < logs->n; i++)
		if (strcmp(logs->paths[i], "-") != 0 && !stat(logs->paths[i], &file) &&
		    file.st_dev == wanted->st_dev && file.st_ino == wanted->st_ino)
			return true;
	return false;
}

static int is_log(const struct dirent *entry)
{
	return entry->d_name[0] != '.' &&
	       (ends_in(entry->d_name, ".jsonl") || ends_in(entry->d_name, ".jsonl.zst"));
}

static int directory_add(struct logs *logs, const char *dir)
{
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, is_log, alphasort), err = 0;
	struct stat file;

	if (n < 0) {
		err = -errno;
		log_error("%s: %m", dir);
	} else if (!n) {
		log_error("%s: no *.jsonl or *.jsonl.zst in it", dir);
		err = -ENOENT;
	}
	for (int i = 0; i < n; i++) {
		char *path = NULL;

		if (!err && asprintf(&path, "%s/%s", dir, entries[i]->d_name) < 0)
			path = NULL;
		if (!err && path && !stat(path, &file) && path_known(logs, &file))
			free(path);
		else if (!err)
			err = path_add(logs, path);
		free(entries[i]);
	}
	free(entries);
	return err;
}

int logs_collect(struct logs *logs, char **args, unsigned n)
{
	bool piped = false;
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++) {
		struct stat file;

		if (strcmp(args[i], "-") == 0) {
			if (!piped)
				err = path_add(logs, strdup(args[i]));
			piped = true;
			continue;
		}
		if (stat(args[i], &file)) {
			err = -errno;
			log_error("%s: %m", args[i]);
		} else if (S_ISDIR(file.st_mode)) {
			err = directory_add(logs, args[i]);
		} else if (S_ISREG(file.st_mode) && path_known(logs, &file)) {
			log_warn("%s: named twice, read once", args[i]);
		} else {
			err = path_add(logs, strdup(args[i]));
		}
	}
	return err;
}

const char *logs_name(const struct logs *logs, unsigned i)
{
	return strcmp(logs->paths[i], "-") == 0 ? "stdin" : logs->paths[i];
}

/* ---- compressed logs ---------------------------------------------------------------- */

struct zst {
	FILE *file;
	ZSTD_DStream *stream;
	ZSTD_inBuffer in;
	size_t wants; /* of the frame: 0 at its end */
	char bytes[64 * 1024];
};

static ssize_t zst_read(void *cookie, char *buf, size_t size)
{
	struct zst *zst = cookie;
	ZSTD_outBuffer out = { .dst = buf, .size = size };

	while (!out.pos) {
		if (zst->in.pos == zst->in.size) {
			zst->in = (ZSTD_inBuffer){ .src = zst->bytes };
			zst->in.size = fread(zst->bytes, 1, sizeof(zst->bytes), zst->file);
			if (!zst->in.size && ferror(zst->file))
				return -1;
			/* Cut short: what was whole has been given out already. */
			if (!zst->in.size && zst->wants) {
				errno = EBADMSG;
				return -1;
			}
			if (!zst->in.size)
				return 0;
		}
		zst->wants = ZSTD_decompressStream(zst->stream, &out, &zst->in);
		if (ZSTD_isError(zst->wants)) {
			errno = EBADMSG;
			return -1;
		}
	}
	return (ssize_t)out.pos;
}

static int zst_close(void *cookie)
{
	struct zst *zst = cookie;

	ZSTD_freeDStream(zst->stream);
	fclose(zst->file);
	free(zst);
	return 0;
}

static FILE *zst_open(FILE *file)
{
	struct zst *zst = calloc(1, sizeof(*zst));
	FILE *opened = NULL;

	if (zst) {
		zst->file = file;
		zst->stream = ZSTD_createDStream();
		if (zst->stream)
			opened = fopencookie(
				zst, "r",
				(cookie_io_functions_t){ .read = zst_read, .close = zst_close });
	}
	if (opened)
		return opened;
	if (zst)
		ZSTD_freeDStream(zst->stream);
	free(zst);
	fclose(file);
	errno = ENOMEM;
	return NULL;
}

/* ---- reading ------------------------------------------------------------------------- */

static void progress_say(uint64_t lines)
{
	log_progress("%llu lines", (unsigned long long)lines);
}

/* *twice: whether the lines can be read again from where they are. */
static FILE *log_open(const struct logs *logs, unsigned i, bool *twice)
{
	const char *path = logs->paths[i];
	struct stat status;
	FILE *file;

	*twice = false;
	if (strcmp(path, "-") == 0)
		return stdin;
	file = fopen(path, "re");
	if (!file)
		return NULL;
	if (ends_in(path, ".zst"))
		return zst_open(file);
	*twice = !fstat(fileno(file), &status) && S_ISREG(status.st_mode);
	return file;
}

static int log_close(const struct logs *logs, unsigned i, FILE *file, int err,
		     const struct eventlog_error *error)
{
	if (file != stdin)
		fclose(file);
	log_progress_end();
	if (err == -EBADMSG)
		log_error("%s: damaged or cut short; `zstd -t` says where", logs_name(logs, i));
	else if (err && error->line)
		log_error("%s:%llu: %s", logs_name(logs, i), (unsigned long long)error->line,
			  error->why);
	else if (err)
		log_error("%s: %s", logs_name(logs, i), error->why);
	return err;
}

struct reading {
	struct logs *logs;
	unsigned i;
	bool spool;
	eventlog_fn fn;
	void *ctx;
};

static int line_file(const struct eventlog_line *line, void *ctx)
{
	const struct reading *reading = ctx;
	struct eventlog_line copy = *line;

	copy.event.file = (uint16_t)reading->i;
	return reading->fn(&copy, reading->ctx);
}

int logs_read(const struct logs *logs, unsigned i, eventlog_fn fn, void *ctx)
{
	struct reading reading = { .i = i, .fn = fn, .ctx = ctx };
	struct eventlog_error error;
	bool twice;
	FILE *file = log_open(logs, i, &twice);

	if (!file) {
		log_error("%s: %m", logs->paths[i]);
		return -errno;
	}
	return log_close(logs, i, file,
			 eventlog_each(file, line_file, &reading, progress_say, &error), &error);
}

static int text_write(struct logs_text *text, const char *bytes, size_t len)
{
	if (text->spool < 0) {
		text->spool = sorter_temporary();
		if (text->spool < 0)
			return text->spool;
	}
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(text->spool, bytes + done, len - done,
				   (off_t)(text->spooled + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int line_keep(const struct eventlog_line *line, void *ctx)
{
	struct reading *reading = ctx;
	struct logs_text *text = reading->logs->text;
	struct eventlog_line copy = *line;
	int err;

	if (reading->spool) {
		err = text_write(text, line->text, line->len);
		if (err)
			return err;
		copy.at = text->spooled;
		text->spooled += line->len;
	}
	return line_file(&copy, reading);
}

static int text_open(struct logs *logs)
{
	if (logs->text)
		return 0;
	logs->text = calloc(1, sizeof(*logs->text));
	if (!logs->text)
		return -ENOMEM;
	logs->text->spool = -1;
	for (int i = 0; i < FILES; i++)
		logs->text->files[i].fd = -1;
	logs->text->is_spooled = calloc(logs->n, sizeof(*logs->text->is_spooled));
	logs->text->long_line = malloc(EVENTLOG_LINE_MOST);
	return logs->text->is_spooled && logs->text->long_line ? 0 : -ENOMEM;
}

int logs_read_kept(struct logs *logs, unsigned i, eventlog_fn fn, void *ctx)
{
	struct reading reading = { .logs = logs, .i = i, .fn = fn, .ctx = ctx };
	struct eventlog_error error;
	bool twice;
	FILE *file;

	if (text_open(logs)) {
		log_error("%s", strerror(ENOMEM));
		return -ENOMEM;
	}
	file = log_open(logs, i, &twice);
	if (!file) {
		log_error("%s: %m", logs->paths[i]);
		return -errno;
	}
	reading.spool = logs->text->is_spooled[i] = !twice;
	return log_close(logs, i, file,
			 eventlog_each(file, line_keep, &reading, progress_say, &error), &error);
}

/* ---- lines again ---------------------------------------------------------------------- */

static int file_fd(struct logs *logs, unsigned i)
{
	struct logs_text *text = logs->text;
	int oldest = 0;

	if (text->is_spooled[i])
		return text->spool;
	for (int k = 0; k < FILES; k++) {
		if (text->files[k].file_plus_one == i + 1) {
			text->files[k].used = ++text->clock;
			return text->files[k].fd;
		}
		if (text->files[k].used < text->files[oldest].used)
			oldest = k;
	}
	if (text->files[oldest].fd >= 0)
		close(text->files[oldest].fd);
	text->files[oldest].file_plus_one = 0;
	text->files[oldest].fd = open(logs->paths[i], O_RDONLY | O_CLOEXEC);
	if (text->files[oldest].fd < 0)
		return -1;
	text->files[oldest].file_plus_one = i + 1;
	text->files[oldest].used = ++text->clock;
	return text->files[oldest].fd;
}

/* The block at `at`; *have bytes of it. */
static const char *block_get(struct logs *logs, unsigned i, uint64_t at, size_t *have)
{
	struct logs_text *text = logs->text;
	uint64_t file_plus_one = text->is_spooled[i] ? UINT64_MAX : i + 1ULL;
	/* Eight places where a block may be, by its number. */
	uint64_t set = (at / BLOCK * 31 + file_plus_one * 131) % (BLOCKS / 8) * 8, oldest = set;
	ssize_t got;

	for (uint64_t k = set; k < set + 8; k++) {
		if (text->blocks[k].file_plus_one == file_plus_one && text->blocks[k].at == at) {
			text->blocks[k].used = ++text->clock;
			*have = text->blocks[k].have;
			return text->blocks[k].bytes;
		}
		if (text->blocks[k].used < text->blocks[oldest].used)
			oldest = k;
	}
	if (!text->blocks[oldest].bytes)
		text->blocks[oldest].bytes = malloc(BLOCK);
	text->blocks[oldest].file_plus_one = 0;
	if (!text->blocks[oldest].bytes)
		return NULL;
	do {
		got = pread(file_fd(logs, i), text->blocks[oldest].bytes, BLOCK, (off_t)at);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return NULL;
	text->blocks[oldest].file_plus_one = file_plus_one;
	text->blocks[oldest].at = at;
	text->blocks[oldest].used = ++text->clock;
	text->blocks[oldest].have = *have = (size_t)got;
	return text->blocks[oldest].bytes;
}

const char *logs_line(struct logs *logs, unsigned i, uint64_t at, size_t len)
{
	size_t done = 0, have;

	while (done < len) {
		uint64_t place = at + done, block_at = place / BLOCK * BLOCK;
		const char *block = block_get(logs, i, block_at, &have);
		size_t n;

		if (!block)
			return NULL;
		if (have <= place - block_at) { /* it has been cut since it was read */
			errno = ESTALE;
			return NULL;
		}
		n = have - (size_t)(place - block_at);
		if (n > len - done)
			n = len - done;
		if (!done && n == len)
			return block + (place - block_at);
		memcpy(logs->text->long_line + done, block + (place - block_at), n);
		done += n;
	}
	return logs->text->long_line;
}

void logs_free(struct logs *logs)
{
	for (unsigned i = 0; i < logs->n; i++)
		free(logs->paths[i]);
	free(logs->paths);
	if (logs->text) {
		for (int i = 0; i < BLOCKS; i++)
			free(logs->text->blocks[i].bytes);
		for (int i = 0; i < FILES; i++)
			if (logs->text->files[i].fd >= 0)
				close(logs->text->files[i].fd);
		if (logs->text->spool >= 0)
			close(logs->text->spool);
		free(logs->text->is_spooled);
		free(logs->text->long_line);
		free(logs->text);
	}
	*logs = (struct logs){};
}
