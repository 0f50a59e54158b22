/* SPDX-License-Identifier: GPL-2.0-only */
/* Small files that somebody else wrote. */
#ifndef TIDEMARK_FOREIGN_H
#define TIDEMARK_FOREIGN_H

#include <stddef.h>
#include <sys/types.h>

/**
 * Reads a whole regular file of less than @size bytes; -EFBIG if it is longer, with @buf full. It
 * is not terminated.
 */
int foreign_read(const char *path, char *buf, size_t size, size_t *len);

/** The same in memory to be freed; NULL, and errno, if it cannot be had. */
char *foreign_load(const char *path, size_t size, size_t *len);

/** Reads a file with a process id in it; -EBADMSG if there is none. */
int foreign_pid(const char *path, pid_t *pid);

#endif
