/* SPDX-License-Identifier: GPL-2.0-only */
/* A connection over which queries are asked: plain, or TLS with certificates on both sides. */
#ifndef TIDEMARK_CHANNEL_H
#define TIDEMARK_CHANNEL_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "tls.h"

struct channel;

/* The descriptor is the channel's from here on, also on failure; NULL: no memory. */
struct channel *channel_plain(int fd);

/* Can these be used? 0, or -EINVAL, said. */
int channel_files(const struct tls_files *files);

/*
 * Reads the files; says what is wrong with them. The handshake comes with channel_greet(),
 * so that whoever has read the key can let go of the right to.
 */
struct channel *channel_server(int fd, const struct tls_files *files);

/*
 * `name`: what the server's certificate must be for; NULL: the address `at`, among its
 * alternative names.
 */
struct channel *channel_client(int fd, const struct tls_files *files, const char *name,
			       const struct sockaddr_storage *at);

/* 0, or -errno, and `words` says why. */
int channel_greet(struct channel *c, char *words, size_t size);

/* Who is there, by certificate: NULL without one. */
const char *channel_peer(const struct channel *c);

int channel_fd(const struct channel *c);

/* Bytes that have been read from the socket, but not from the channel. */
size_t channel_pending(const struct channel *c);

/* 0: the other side has ended. -EAGAIN when a timeout of the socket has passed. */
ssize_t channel_read(struct channel *c, void *to, size_t n);

/* All of it, or -errno. */
int channel_write(struct channel *c, const void *from, size_t n);

void channel_close(struct channel *c);

#endif
