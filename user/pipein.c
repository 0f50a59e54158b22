// SPDX-License-Identifier: GPL-2.0-only
/* The named pipe: emptied at once, so that nobody waits, and understood after. */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "pipein.h"

#define PIPE_BYTES (1 << 20)
#define HELD_MOST (64 << 20) /* beyond, writers wait: the kernel's way of saying so */
#define CHUNK (64 << 10)
#define LINE_MOST 1024
#define LINES_AT_ONCE 128 /* then the pipe is looked at again */
#define AGAIN_NS 1000000

struct pipein {
	struct event_base *base;
	struct flowin *in;
	char *path;
	mode_t mode;
	uid_t uid;
	gid_t gid;
	bool made;
	int fd;
	struct waiter *ready, *again;
	char *held; /* read and not understood yet */
	size_t at, n, size;
	__u64 line;
	bool skipping; /* a line too long, up to its end */
};

static void grown_free(struct pipein *p)
{
	if (p->at < p->n)
		return;
	p->at = p->n = 0;
	if (p->size > CHUNK) {
		free(p->held);
		p->held = NULL;
		p->size = 0;
	}
}

static bool room_make(struct pipein *p)
{
	size_t size = p->size ? p->size * 2 : CHUNK;
	char *held;

	if (p->at) {
		memmove(p->held, p->held + p->at, p->n - p->at);
		p->n -= p->at;
		p->at = 0;
	}
	if (p->size - p->n >= CHUNK)
		return true;
	if (p->n > HELD_MOST)
		return false;
	held = realloc(p->held, size < p->n + CHUNK ? p->n + CHUNK : size);
	if (!held)
		return false;
	p->size = size < p->n + CHUNK ? p->n + CHUNK : size;
	p->held = held;
	return true;
}

/* All that the pipe holds: it opened for writing too, so it has no end. */
static void empty(struct pipein *p)
{
	ssize_t n;

	while (room_make(p)) {
		n = read(p->fd, p->held + p->n, p->size - p->n);
		if (n <= 0)
			return;
		p->n += n;
	}
}

/* The next whole line, or NULL. One too long is refused in pieces of which none counts. */
static const char *line_next(struct pipein *p, size_t *len)
{
	const char *line = p->held + p->at;
	const char *end = p->at < p->n ? memchr(line, '\n', p->n - p->at) : NULL;

	*len = end ? (size_t)(end - line) : p->n - p->at;
	if (!end && *len <= LINE_MOST)
		return NULL;
	p->at += *len + (end != NULL);
	return line;
}

static void refuse(struct pipein *p, const char *words)
{
	char where[512];

	snprintf(where, sizeof(where), "%s: line %llu", p->path, (unsigned long long)p->line);
	flowin_refuse(p->in, where, words);
}

static bool line_take(struct pipein *p, const char *line, size_t len, struct firefly *out)
{
	bool whole = (size_t)(line - p->held) + len < p->at, skipped = p->skipping;
	char words[FLOWIN_WORDS];

	p->skipping = !whole;
	if (skipped)
		return false;
	p->line++;
	if (len > LINE_MOST) {
		refuse(p, "longer than 1024 bytes");
		return false;
	}
	while (len && isspace((unsigned char)*line))
		line++, len--;
	if (!len)
		return false;
	if (!flowin_line(p->in, line, len, out, words))
		return true;
	refuse(p, words);
	return false;
}

static void understand(struct pipein *p, unsigned most)
{
	struct firefly flows[LINES_AT_ONCE];
	unsigned lines = 0, n = 0;
	const char *line;
	size_t len;

	for (; lines < most && (line = line_next(p, &len)); lines++)
		n += line_take(p, line, len, &flows[n]);
	if (n && flowin_take(p->in, flows, n) == -ENOSPC)
		log_warn("%s: no room for more marks; ended flows make some", p->path);
}

static void again(int fd, void *ctx);

static void work(struct pipein *p)
{
	bool more;

	empty(p);
	understand(p, LINES_AT_ONCE);
	more = p->at < p->n && memchr(p->held + p->at, '\n', p->n - p->at);
	if (more && !p->again) {
		p->again = loop_every(p->base, AGAIN_NS, again, p);
	} else if (!more) {
		waiter_free(p->again);
		p->again = NULL;
		grown_free(p);
	}
}

static void again(int fd, void *ctx)
{
	(void)fd;
	work(ctx);
}

static void ready(int fd, void *ctx)
{
	(void)fd;
	work(ctx);
}

static void owner_read(struct pipein *p, const struct config_pipe *o)
{
	p->mode = o->anybody ? 0666 : (o->gid ? 0620 : 0600);
	p->uid = o->uid ? *o->uid : (uid_t)-1;
	p->gid = o->gid ? *o->gid : (gid_t)-1;
}

bool pipein_is(const struct pipein *p, const struct config_pipe *o)
{
	struct pipein other;

	owner_read(&other, o);
	return !strcmp(p->path, o->path) && p->mode == other.mode && p->uid == other.uid &&
	       p->gid == other.gid;
}

static int fifo_make(struct pipein *p, const struct config_pipe *o)
{
	struct stat st;

	owner_read(p, o);
	if (mkfifo(p->path, 0600)) {
		if (errno != EEXIST || lstat(p->path, &st))
			return -errno;
		if (!S_ISFIFO(st.st_mode))
			return -EEXIST;
	} else {
		p->made = true;
	}
	/* Opened for both, or the last writer's end would be one for us. */
	p->fd = open(p->path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (p->fd < 0)
		return -errno;
	if (fchown(p->fd, p->uid, p->gid) || fchmod(p->fd, p->mode))
		return -errno;
	if (fcntl(p->fd, F_SETPIPE_SZ, PIPE_BYTES) < 0)
		log_debug("%s: stays at its usual size: %s", p->path, strerror(errno));
	return 0;
}

struct pipein *pipein_open(struct event_base *base, const struct config_pipe *o, struct flowin *in)
{
	struct pipein *p = calloc(1, sizeof(*p));
	int err = -ENOMEM;

	if (p) {
		p->fd = -1;
		p->base = base;
		p->in = in;
		p->path = strdup(o->path);
		err = p->path ? fifo_make(p, o) : -ENOMEM;
	}
	if (!err) {
		p->ready = loop_readable(base, p->fd, false, ready, p);
		if (p->ready)
			return p;
		err = -ENOMEM;
	}
	log_error("%s: %s", o->path,
		  err == -EEXIST ? "is there, and is no named pipe; remove it" : strerror(-err));
	pipein_close(p);
	return NULL;
}

void pipein_close(struct pipein *p)
{
	if (!p)
		return;
	waiter_free(p->ready);
	waiter_free(p->again);
	if (p->ready) {
		empty(p);
		while (p->at < p->n && memchr(p->held + p->at, '\n', p->n - p->at))
			understand(p, LINES_AT_ONCE);
	}
	if (p->made)
		unlink(p->path);
	if (p->fd >= 0)
		close(p->fd);
	free(p->held);
	free(p->path);
	free(p);
}
