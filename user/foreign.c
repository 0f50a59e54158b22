// SPDX-License-Identifier: GPL-2.0-only
/* Small files that somebody else wrote. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "foreign.h"

/* Regular files only, and never more than @size: they are somebody else's. */
int foreign_read(const char *path, char *buf, size_t size, size_t *len)
{
	ssize_t got = 0;
	struct stat st;
	int fd, err = 0;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		err = -EINVAL;
	for (*len = 0; !err && *len < size; *len += got) {
		got = read(fd, buf + *len, size - *len);
		if (got <= 0) {
			err = got < 0 ? -errno : 0;
			break;
		}
	}
	close(fd);
	return !err && *len == size ? -EFBIG : err;
}

char *foreign_load(const char *path, size_t size, size_t *len)
{
	char *text = malloc(size);
	int err;

	if (!text)
		return NULL;
	err = foreign_read(path, text, size, len);
	if (!err)
		return text;
	free(text);
	errno = -err;
	return NULL;
}

int foreign_pid(const char *path, pid_t *pid)
{
	char text[32];
	size_t len;
	int err;

	err = foreign_read(path, text, sizeof(text) - 1, &len);
	if (err)
		return err;
	text[len] = '\0';
	*pid = atoi(text);
	return *pid > 0 ? 0 : -EBADMSG;
}
