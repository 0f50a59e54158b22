// SPDX-License-Identifier: GPL-2.0-only
/* Sockets we listen on, and who may use those of the file system. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"
#include "log.h"
#include "units.h"

struct listen_owner listen_owner(const unsigned *uid, const unsigned *gid)
{
	return (struct listen_owner){ uid, gid, uid ? *uid : 0, gid ? *gid : 0 };
}

static int path_parse(const char *path, struct sockaddr_storage *at, socklen_t *len)
{
	struct sockaddr_un *un = (struct sockaddr_un *)at;

	if ((*path != '/' && *path != '@') || strlen(path) >= sizeof(un->sun_path))
		return -EINVAL;
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, path);
	*len = sizeof(*un);
	if (*path == '@') { /* in no file system, and as long as it is */
		un->sun_path[0] = 0;
		*len = offsetof(struct sockaddr_un, sun_path) + strlen(path);
	}
	return 0;
}

int listen_parse(const char *text, struct sockaddr_storage *at, socklen_t *len, bool *open)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)at;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)at;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	size_t n;
	__u64 port;

	memset(at, 0, sizeof(*at));
	*open = false;
	if (!strncmp(text, "unix:", 5))
		return path_parse(text + 5, at, len);
	if (!colon || number_parse(colon + 1, 65535, &port) || !port)
		return -EINVAL;
	n = colon - text;
	if (!n || n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = 0;
	if (*host == '[' && host[n - 1] == ']') {
		host[n - 1] = 0;
		if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
			return -EINVAL;
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		*len = sizeof(*v6);
		*open = !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
		return 0;
	}
	if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
		return -EINVAL;
	v4->sin_family = AF_INET;
	v4->sin_port = htons(port);
	*len = sizeof(*v4);
	*open = ntohl(v4->sin_addr.s_addr) >> 24 != 127;
	return 0;
}

/* Left by one that was killed: nobody answers there. Anything but a socket stays. */
static int path_free(const struct sockaddr_storage *at, socklen_t len)
{
	const char *path = ((const struct sockaddr_un *)at)->sun_path;
	struct stat st;
	int fd, err;

	if (lstat(path, &st))
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect(fd, (const struct sockaddr *)at, len) ? errno : 0;
	close(fd);
	if (err != ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(path) ? -errno : 0;
}

static int bind_path(int fd, const struct sockaddr_storage *at, socklen_t len,
		     const struct listen_owner *owner)
{
	const char *path = ((const struct sockaddr_un *)at)->sun_path;
	int err = *path ? path_free(at, len) : 0;
	mode_t mask;

	if (!*path)
		return bind(fd, (const struct sockaddr *)at, len) ? -errno : 0;
	if (err)
		return err;
	mask = umask(0177); /* nobody slips in before chmod */
	err = bind(fd, (const struct sockaddr *)at, len) ? -errno : 0;
	umask(mask);
	/* The kernel tells us who connects: others get in the door, and are shown out. */
	if (!err && (owner->has_uid || owner->has_gid) && chmod(path, 0666)) {
		err = -errno;
		unlink(path);
	}
	return err;
}

int listen_at(const char *text, const struct sockaddr_storage *at, socklen_t len,
	      const struct listen_owner *owner)
{
	int fd = socket(at->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1, err;

	if (fd < 0) {
		err = -errno;
	} else if (at->ss_family == AF_UNIX) {
		err = bind_path(fd, at, len, owner);
	} else {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (at->ss_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
		err = bind(fd, (const struct sockaddr *)at, len) ? -errno : 0;
	}
	if (!err && listen(fd, 64))
		err = -errno;
	if (!err)
		return fd;
	log_error("%s: cannot listen there: %s", text, strerror(-err));
	if (fd >= 0)
		close(fd);
	return err;
}

bool listen_may(const struct listen_owner *owner, int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return false;
	return !peer.uid || peer.uid == geteuid() || (owner->has_uid && peer.uid == owner->uid) ||
	       (owner->has_gid && peer.gid == owner->gid);
}
