// SPDX-License-Identifier: GPL-2.0-only
/* Labels of containerd's containers, those of Kubernetes' pods among them, from its socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "containerd.h"

/*
 * Its database is a file that it keeps locked, and that changes under who reads it. The socket
 * speaks gRPC: one question without any contents, asked over HTTP/2 (RFC 9113) in one piece. Of
 * the answer only the frames with data matter, so no header is ever decoded.
 */

#define ANSWER_MAX (16 << 20)
#define ANSWER_SECONDS 2
#define FRAME_HEAD 9
#define FRAME_MAX 16384 /* what we have not said that we take more of */

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, UPDATE = 8 };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4, PADDED = 8 };

/* ---- the question ------------------------------------------------------------------------ */

struct question {
	unsigned char at[1024];
	size_t len;
};

static void put(struct question *q, const void *bytes, size_t len)
{
	if (q->len + len <= sizeof(q->at))
		memcpy(q->at + q->len, bytes, len);
	q->len += len;
}

static void put_frame(struct question *q, size_t len, unsigned char type, unsigned char flags,
		      unsigned char stream)
{
	const unsigned char head[FRAME_HEAD] = { 0, len >> 8, len, type, flags, 0, 0, 0, stream };

	put(q, head, sizeof(head));
}

/* HPACK (RFC 7541): a literal that is not to be remembered, lengths below 127. */
static void put_header(struct question *q, const char *name, const char *value)
{
	const unsigned char head[2] = { 0, strlen(name) }, len = strlen(value);

	put(q, head, 2);
	put(q, name, head[1]);
	put(q, &len, 1);
	put(q, value, len);
}

static void question_make(struct question *q, const char *space)
{
	static const unsigned char settings[] = {
		0, 1, 0,    0,	  0,	0,    /* no table of headers */
		0, 2, 0,    0,	  0,	0,    /* nothing is pushed */
		0, 4, 0x7f, 0xff, 0xff, 0xff, /* and no window to fill */
	};
	static const unsigned char window[] = { 0x7f, 0xff, 0, 0 }, nothing[5];
	struct question headers = {};

	put_header(&headers, ":method", "POST");
	put_header(&headers, ":scheme", "http");
	put_header(&headers, ":path", "/containerd.services.containers.v1.Containers/List");
	put_header(&headers, ":authority", "localhost");
	put_header(&headers, "content-type", "application/grpc");
	put_header(&headers, "te", "trailers");
	put_header(&headers, "containerd-namespace", space);
	put(q, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	put_frame(q, sizeof(settings), SETTINGS, 0, 0);
	put(q, settings, sizeof(settings));
	put_frame(q, sizeof(window), UPDATE, 0, 0);
	put(q, window, sizeof(window));
	put_frame(q, headers.len, HEADERS, END_HEADERS, 1);
	put(q, headers.at, headers.len);
	put_frame(q, sizeof(nothing), DATA, END_STREAM, 1);
	put(q, nothing, sizeof(nothing));
}

/* ---- the answer --------------------------------------------------------------------------- */

static int answer_add(struct containerd_answer *answer, const unsigned char *at, size_t len)
{
	while (answer->len + len > answer->size) {
		size_t size = answer->size ? 2 * answer->size : 1 << 16;
		char *more = size > ANSWER_MAX ? NULL : realloc(answer->at, size);

		if (!more)
			return -EBADMSG;
		answer->at = more;
		answer->size = size;
	}
	if (len) /* memory there is none for nothing */
		memcpy(answer->at + answer->len, at, len);
	answer->len += len;
	return 0;
}

static int data_take(struct containerd_answer *answer, unsigned char flags, const unsigned char *at,
		     size_t len)
{
	size_t pad = 0;

	if (flags & PADDED) {
		if (!len || at[0] >= len)
			return -EBADMSG;
		pad = at[0];
		at++;
		len -= 1 + pad;
	}
	return answer_add(answer, at, len);
}

long containerd_frame(struct containerd_answer *answer, const unsigned char *at, size_t len)
{
	size_t body;
	int err = 0;

	if (len < FRAME_HEAD)
		return 0;
	body = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
	if (body > FRAME_MAX)
		return -EBADMSG;
	if (len < FRAME_HEAD + body)
		return 0;
	switch (at[3]) {
	case DATA:
		err = data_take(answer, at[4], at + FRAME_HEAD, body);
		answer->ended |= at[4] & END_STREAM;
		break;
	case HEADERS:
		answer->ended |= at[4] & END_STREAM;
		break;
	case SETTINGS:
		answer->settings += !(at[4] & ACK);
		break;
	case PING:
		if (body != sizeof(answer->ping))
			return -EBADMSG;
		answer->pings += !(at[4] & ACK);
		memcpy(answer->ping, at + FRAME_HEAD, body);
		break;
	case RST_STREAM:
	case GOAWAY:
		return -EBADMSG;
	}
	return err ? err : (long)(FRAME_HEAD + body);
}

/* ---- its message: protobuf ------------------------------------------------------------------ */

struct bytes {
	const unsigned char *at, *end;
};

static bool varint_take(struct bytes *from, uint64_t *value)
{
	*value = 0;
	for (unsigned shift = 0; shift < 64 && from->at < from->end; shift += 7) {
		unsigned char byte = *from->at++;

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* The next field: its number, and if it is bytes (a text, a message), which. 0: the end; -1. */
static int field_take(struct bytes *from, struct bytes *field)
{
	uint64_t tag, value;
	size_t skip = 0;

	*field = (struct bytes){};
	if (from->at == from->end)
		return 0;
	if (!varint_take(from, &tag) || !(tag >> 3) || tag >> 3 > 0x1fffffff)
		return -1;
	switch (tag & 7) {
	case 0:
		return varint_take(from, &value) ? (int)(tag >> 3) : -1;
	case 1:
		skip = 8;
		break;
	case 2:
		if (!varint_take(from, &value) || value > (uint64_t)(from->end - from->at))
			return -1;
		*field = (struct bytes){ from->at, from->at + value };
		skip = value;
		break;
	case 5:
		skip = 4;
		break;
	default:
		return -1;
	}
	if (skip > (size_t)(from->end - from->at))
		return -1;
	from->at += skip;
	return (int)(tag >> 3);
}

static int label_take(json_t *labels, struct bytes entry)
{
	struct bytes key = {}, value = {}, field;
	json_t *text;
	char *name;
	int number;

	while ((number = field_take(&entry, &field)) > 0) {
		if (number == 1)
			key = field;
		else if (number == 2)
			value = field;
	}
	if (number < 0 || !key.at)
		return number;
	/* What is not UTF-8 is nobody's label. */
	text = json_stringn(value.at ? (const char *)value.at : "", value.end - value.at);
	name = strndup((const char *)key.at, key.end - key.at);
	if (text && name)
		json_object_set(labels, name, text);
	json_decref(text);
	free(name);
	return 0;
}

static int container_take(json_t *all, struct bytes container)
{
	json_t *labels = json_object();
	struct bytes field;
	char *id = NULL;
	int number;

	while ((number = field_take(&container, &field)) > 0) {
		if (number == 1 && field.at && !id)
			id = strndup((const char *)field.at, field.end - field.at);
		else if (number == 2 && field.at && label_take(labels, field) < 0)
			number = -1;
		if (number < 0)
			break;
	}
	if (number == 0 && id)
		json_object_set(all, id, labels);
	json_decref(labels);
	free(id);
	return number;
}

json_t *containerd_parse(const char *at, size_t len)
{
	struct bytes from = { (const unsigned char *)at, (const unsigned char *)at + len }, field;
	json_t *all = json_object();
	int number;

	while ((number = field_take(&from, &field)) > 0) {
		if (number == 1 && field.at && container_take(all, field) < 0) {
			number = -1;
			break;
		}
	}
	if (number == 0)
		return all;
	json_decref(all);
	return NULL;
}

/* ---- the conversation ------------------------------------------------------------------------ */

static int socket_open(const char *path)
{
	const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(to.sun_path))
		return -ENAMETOOLONG;
	strcpy(to.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to))) {
		close(fd);
		return -ENOENT;
	}
	return fd;
}

static bool all_sent(int fd, const struct question *q)
{
	return q->len <= sizeof(q->at) && send(fd, q->at, q->len, MSG_NOSIGNAL) == (ssize_t)q->len;
}

static bool acknowledge(int fd, struct containerd_answer *answer)
{
	struct question q = {};

	for (; answer->settings; answer->settings--)
		put_frame(&q, 0, SETTINGS, ACK, 0);
	for (; answer->pings; answer->pings--) {
		put_frame(&q, sizeof(answer->ping), PING, ACK, 0);
		put(&q, answer->ping, sizeof(answer->ping));
	}
	return !q.len || all_sent(fd, &q);
}

static bool answer_read(int fd, struct containerd_answer *answer)
{
	unsigned char buf[FRAME_HEAD + FRAME_MAX];
	size_t have = 0, used;
	long took;

	while (!answer->ended) {
		ssize_t got = recv(fd, buf + have, sizeof(buf) - have, 0);

		if (got <= 0 && errno != EINTR)
			return false;
		have += got > 0 ? got : 0;
		for (used = 0; !answer->ended; used += took) {
			took = containerd_frame(answer, buf + used, have - used);
			if (took < 0)
				return false;
			if (!took)
				break;
		}
		have -= used;
		memmove(buf, buf + used, have);
		if (!acknowledge(fd, answer))
			return false;
	}
	return true;
}

json_t *containerd_labels(const char *socket, const char *space)
{
	struct containerd_answer answer = {};
	struct question q = {};
	json_t *all = NULL;
	int fd;

	if (strlen(space) > 76) /* its own limit; and what a length of one byte can say */
		return NULL;
	fd = socket_open(socket);
	if (fd < 0)
		return NULL;
	question_make(&q, space);
	/* Five bytes in front: not compressed, and the length. */
	if (all_sent(fd, &q) && answer_read(fd, &answer) && answer.len >= 5 && !answer.at[0])
		all = containerd_parse(answer.at + 5, answer.len - 5);
	free(answer.at);
	close(fd);
	return all;
}
