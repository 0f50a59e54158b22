// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark query -d`: is this the directory of a record at all, and may we read it? */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "query.h"

struct looking {
	bool found, closed; /* something of a record; something that cannot be read */
};

static bool is_of_record(const char *name)
{
	static const char *const endings[] = { STORE_PLAIN, STORE_ZSTD,	   STORE_SECRET,
					       STORE_INDEX, STORE_JOURNAL, STORE_FLOWS,
					       NULL };
	const char *dot = strchr(name, '.');

	for (int i = 0; dot && endings[i]; i++)
		if (!strcmp(dot, endings[i]))
			return true;
	return !strcmp(name, "stats.jsonl"); /* of a recorder that has nothing yet */
}

static void directory_look(struct looking *l, int parent, const char *name, const char *path,
			   int depth);

static void entry_look(struct looking *l, int dir, const struct dirent *entry, const char *path,
		       int depth)
{
	struct stat st;

	if (entry->d_name[0] == '.' || !strcmp(entry->d_name, "lost+found"))
		return;
	l->found |= is_of_record(entry->d_name);
	if (!depth && !fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		directory_look(l, dir, entry->d_name, path, 1);
}

/* Itself, and the classes in it. What is gone by now is nobody's loss. */
static void directory_look(struct looking *l, int parent, const char *name, const char *path,
			   int depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir) {
		if (errno != ENOENT) {
			log_error("%s%s%s: %m", path, depth ? "/" : "", depth ? name : "");
			l->closed = true;
		}
		if (fd >= 0)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)))
		entry_look(l, fd, entry, path, depth);
	closedir(dir);
}

int query_directories(struct query *q)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->directories_n; i++) {
		struct looking l = {};
		const char *path = q->directories[i];

		directory_look(&l, AT_FDCWD, path, path, 0);
		if (l.found)
			q->directories[n++] = path;
		else if (!l.closed && !access(path, F_OK))
			log_error("%s: no record is here; -d takes what `record -d` was given, or "
				  "`run` as record.dir",
				  path);
		else if (!l.closed)
			log_error("%s: %m", path);
		q->gather.failed |= !l.found || l.closed;
	}
	q->directories_n = n;
	return n ? 0 : 1;
}

/* ---- where the answer goes ---------------------------------------------------------------------- */

/* Where a file is, or will be; to be freed. */
static char *folder_of(const char *file)
{
	char *real = realpath(file, NULL), *copy;

	if (real)
		return dirname(real);
	copy = strdup(file);
	real = copy ? realpath(dirname(copy), NULL) : NULL;
	free(copy);
	return real;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

int query_apart(const struct query *q)
{
	char *folder = q->write && strcmp(q->write, "-") ? folder_of(q->write) : NULL;
	char path[PATH_MAX];
	struct stat itself, above, st;
	bool inside = false;

	snprintf(path, sizeof(path), "%s/lock", folder ? folder : ""); /* every class has one */
	if (folder && !access(path, F_OK) && !stat(folder, &itself)) {
		snprintf(path, sizeof(path), "%s/..", folder);
		if (stat(path, &above))
			above = itself;
		for (unsigned i = 0; i < q->directories_n; i++)
			inside |= !stat(q->directories[i], &st) &&
				  (is_same(&st, &itself) || is_same(&st, &above));
	}
	if (inside)
		log_error("%s: is among the files of the record, and would be taken for one, or "
			  "written over one; write it elsewhere",
			  q->write);
	free(folder);
	return inside ? 2 : 0;
}
