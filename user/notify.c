// SPDX-License-Identifier: GPL-2.0-only
/* What systemd wants to hear from a service of Type=notify. */
#define _GNU_SOURCE 1
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "notify.h"
#include "units.h"

void notify(const char *format, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	char words[512];
	va_list args;
	int fd, n;

	if (!len || len >= sizeof(to.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(to.sun_path, path, len);
	if (*path == '@') /* an abstract name */
		*to.sun_path = 0;
	va_start(args, format);
	n = vsnprintf(words, sizeof(words), format, args);
	va_end(args);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (n > 0)
		sendto(fd, words, n < (int)sizeof(words) ? n : (int)sizeof(words) - 1, MSG_NOSIGNAL,
		       (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + len);
	close(fd);
}

__u64 notify_watchdog_ns(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	__u64 n, whose;

	if (!usec || number_parse(usec, 1ULL << 50, &n))
		return 0;
	if (pid && (number_parse(pid, 1 << 30, &whose) || whose != (__u64)getpid()))
		return 0;
	return n * 1000 / 2;
}
