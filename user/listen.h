/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets we listen on, and who may use those of the file system. */
#ifndef TIDEMARK_LISTEN_H
#define TIDEMARK_LISTEN_H

#include <stdbool.h>
#include <sys/socket.h>

/* Who may connect to a unix socket besides root. */
struct listen_owner {
	bool has_uid, has_gid;
	unsigned uid, gid;
};

/* NULL: nobody by that. */
struct listen_owner listen_owner(const unsigned *uid, const unsigned *gid);

/* ADDRESS:PORT, [ADDRESS]:PORT, unix:PATH or unix:@NAME; `open` if not this host's alone. -EINVAL. */
int listen_parse(const char *text, struct sockaddr_storage *at, socklen_t *len, bool *open);

/* A listening socket, not blocking; one of a path is its owner's alone. -errno, said. */
int listen_at(const char *text, const struct sockaddr_storage *at, socklen_t len,
	      const struct listen_owner *owner);

/* May whoever is at the other end of this unix socket? */
bool listen_may(const struct listen_owner *owner, int fd);

#endif
