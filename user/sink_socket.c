// SPDX-License-Identifier: GPL-2.0-only
/* `--socket PATH`: event lines to any number of readers, none of whom is waited for. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gaps.h"
#include "listen.h"
#include "log.h"
#include "loop.h"
#include "sinks.h"
#include "text.h"

#define READERS_MOST 64
#define QUEUE_BYTES (1 << 20)
#define FLUSH_BYTES (32 << 10)
#define GAP_READER "this reader was too slow"

struct reader {
	struct socket_sink *of;
	int fd;
	struct waiter *readable, *writable;
	struct text queue;
	size_t sent; /* of the queue */
	struct gaps gaps;
	bool gone;
};

struct socket_sink {
	struct sink sink;
	struct event_base *base;
	struct lines *lines;
	struct listen_owner owner;
	char *where;
	int fd;
	bool greets;
	struct waiter *accepts;
	struct reader *readers[READERS_MOST];
	__u64 second_ns;
};

/* ---- one reader ------------------------------------------------------------------------------ */

static void reader_free(struct reader *reader)
{
	waiter_free(reader->readable);
	waiter_free(reader->writable);
	close(reader->fd);
	text_free(&reader->queue);
	gaps_free(&reader->gaps);
	free(reader);
}

static size_t waiting(const struct reader *reader)
{
	return reader->queue.len - reader->sent;
}

static void reader_writable(int fd, void *ctx);

static void reader_flush(struct reader *reader)
{
	ssize_t n;

	while (waiting(reader) && !reader->gone) {
		n = send(reader->fd, reader->queue.at + reader->sent, waiting(reader),
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			reader->sent += n;
		else if (n < 0 && errno == EAGAIN)
			break;
		else if (n < 0 && errno != EINTR)
			reader->gone = true;
	}
	if (reader->sent) {
		memmove(reader->queue.at, reader->queue.at + reader->sent, waiting(reader));
		reader->queue.len -= reader->sent;
		reader->sent = 0;
	}
	if (!reader->queue.len) {
		waiter_free(reader->writable);
		reader->writable = NULL;
	} else if (!reader->writable && !reader->gone) {
		reader->writable =
			loop_writable(reader->of->base, reader->fd, reader_writable, reader);
	}
}

static void reader_writable(int fd, void *ctx)
{
	(void)fd;
	reader_flush(ctx);
}

/* Nothing is expected from a reader but its end; half of one is none. */
static void reader_readable(int fd, void *ctx)
{
	struct reader *reader = ctx;
	struct pollfd poll_fd = { .fd = fd };
	char bytes[512];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	poll(&poll_fd, 1, 0);
	reader->gone = n < 0 || poll_fd.revents & (POLLHUP | POLLERR);
	waiter_free(reader->readable);
	reader->readable = NULL;
}

static int queue_add(const char *line, size_t len, void *ctx)
{
	struct reader *reader = ctx;

	if (waiting(reader) + len > QUEUE_BYTES)
		return -ENOSPC;
	text_add(&reader->queue, line, len);
	if (reader->queue.err) { /* no memory: what is queued goes out, or the reader */
		reader->gone = true;
		return -ENOMEM;
	}
	return 0;
}

static void reader_event(struct reader *reader, const struct sink_event *event)
{
	struct socket_sink *s = reader->of;
	__u64 lost = event->joined ? 1 : event->lost;
	int err = 0;

	/* Once behind it stays so until half is read, or gaps would be all it ever gets. */
	if (gaps_any(&reader->gaps))
		err = waiting(reader) > QUEUE_BYTES / 2
			      ? -ENOSPC
			      : gaps_tell(&reader->gaps, s->lines, GAP_READER, queue_add, reader);
	if (!err)
		err = queue_add(event->line, event->len, reader);
	if (err) {
		gaps_add(&reader->gaps, event->node, event->stamp, event->wall_ns, lost);
		s->sink.stats.lost += lost;
	} else if (waiting(reader) >= FLUSH_BYTES && !reader->writable) {
		reader_flush(reader);
	}
}

/* ---- all of them ------------------------------------------------------------------------------- */

static void accepted(int fd, void *ctx)
{
	struct socket_sink *s = ctx;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), i;
	struct reader *reader;

	if (peer < 0)
		return;
	for (i = 0; i < READERS_MOST && s->readers[i]; i++)
		;
	reader =
		i < READERS_MOST && listen_may(&s->owner, peer) ? calloc(1, sizeof(*reader)) : NULL;
	if (!reader) {
		s->sink.stats.errors++;
		close(peer);
		return;
	}
	reader->of = s;
	reader->fd = peer;
	reader->readable = loop_readable(s->base, peer, false, reader_readable, reader);
	s->readers[i] = reader;
	s->sink.stats.readers++;
	s->sink.lines = true;
	if (s->greets && send(peer, "\n", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		reader->gone = true;
}

static int socket_event(struct sink *sink, const struct sink_event *event)
{
	struct socket_sink *s = (struct socket_sink *)sink;

	sink->stats.events++;
	for (int i = 0; i < READERS_MOST; i++)
		if (s->readers[i] && !s->readers[i]->gone)
			reader_event(s->readers[i], event);
	return 0;
}

static bool hung_up(const struct reader *reader)
{
	struct pollfd poll_fd = { .fd = reader->fd };

	poll(&poll_fd, 1, 0);
	return poll_fd.revents & (POLLHUP | POLLERR);
}

static void socket_tick(struct sink *sink, __u64 now_ns)
{
	struct socket_sink *s = (struct socket_sink *)sink;
	bool second = now_ns - s->second_ns >= 1000000000;

	if (second)
		s->second_ns = now_ns;
	sink->stats.queued = 0;
	for (int i = 0; i < READERS_MOST; i++) {
		struct reader *reader = s->readers[i];

		if (!reader)
			continue;
		if (!reader->writable)
			reader_flush(reader);
		if (second && !reader->readable && hung_up(reader))
			reader->gone = true;
		if (reader->gone) {
			reader_free(reader);
			s->readers[i] = NULL;
			sink->stats.readers--;
			continue;
		}
		sink->stats.queued += waiting(reader);
		if (second && gaps_any(&reader->gaps) && waiting(reader) <= QUEUE_BYTES / 2)
			gaps_tell(&reader->gaps, s->lines, GAP_READER, queue_add, reader);
	}
	sink->lines = sink->stats.readers > 0; /* else nobody need write any */
}

static int socket_close(struct sink *sink, int status)
{
	struct socket_sink *s = (struct socket_sink *)sink;

	waiter_free(s->accepts);
	for (int i = 0; i < READERS_MOST; i++) {
		if (!s->readers[i])
			continue;
		reader_flush(s->readers[i]);
		reader_free(s->readers[i]);
	}
	if (s->fd >= 0) {
		if (*s->where == '/')
			unlink(s->where);
		close(s->fd);
	}
	free(s->where);
	free(s);
	return status;
}

struct sink *sink_socket_open(const struct sink_socket_options *o, struct event_base *base,
			      struct lines *lines)
{
	struct socket_sink *s = calloc(1, sizeof(*s));
	struct sockaddr_storage at;
	char address[160];
	socklen_t len;
	bool open;

	if (!s)
		return NULL;
	snprintf(address, sizeof(address), "unix:%s", o->path);
	s->base = base;
	s->lines = lines;
	s->owner = listen_owner(o->uid, o->gid);
	s->fd = -1;
	s->greets = o->greets;
	s->where = strdup(o->path);
	if (listen_parse(address, &at, &len, &open))
		log_error("%s: not a path for a socket; absolute, at most 107 letters", o->path);
	else if (s->where)
		s->fd = listen_at(address, &at, len, &s->owner);
	if (s->fd >= 0)
		s->accepts = loop_readable(base, s->fd, false, accepted, s);
	if (!s->accepts) {
		socket_close(&s->sink, 1);
		return NULL;
	}
	s->sink = (struct sink){
		.kind = "socket",
		.where = s->where,
		.event = socket_event,
		.tick = socket_tick,
		.close = socket_close,
	};
	return &s->sink;
}
