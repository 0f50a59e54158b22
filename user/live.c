// SPDX-License-Identifier: GPL-2.0-only
/* Events at second hand: the daemon reads them, and gives them to every `trace` that asks. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <jansson.h>

#include "event.h"
#include "listen.h"
#include "live.h"
#include "log.h"
#include "loop.h"
#include "node.h"
#include "sinks.h"
#include "text.h"

#define NAME_SIZE 64
#define GREETED_MS 10000
/* The daemon puts events in order before it gives them out, and looks every 10 ms. */
#define LAST_NS (3 * JOIN_WINDOW_NS)
#define READ_BYTES (64 << 10)

/*
 * A name that no file has: it goes with the process, however that ends. The map's id is one
 * datapath's and no other's on this host. Who else could take the name first is told from
 * the daemon by the kernel's word on its process.
 */
static int name_of(const struct tidemark *t, char name[NAME_SIZE])
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(t->map[MAP_settings], &info, &len))
		return -errno;
	snprintf(name, NAME_SIZE, "@tidemark-%u", info.id);
	return 0;
}

struct sink *live_open(const struct tidemark *t, struct event_base *base, struct lines *lines)
{
	char name[NAME_SIZE];
	struct sink_socket_options o = { .path = name, .greets = true };
	struct sink *sink;

	if (name_of(t, name)) {
		log_error("cannot name the socket for `trace`: %s", strerror(errno));
		return NULL;
	}
	sink = sink_socket_open(&o, base, lines);
	if (sink)
		sink->kind = "trace";
	return sink;
}

/* An empty line says that from here on every event comes. */
static int greeting_await(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	char c = 0;
	int n = poll(&poll_fd, 1, GREETED_MS);

	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	return recv(fd, &c, 1, 0) == 1 && c == '\n' ? 0 : -ECONNREFUSED;
}

int live_connect(const struct tidemark *t)
{
	struct sockaddr_storage at;
	char name[NAME_SIZE], address[NAME_SIZE + 8];
	struct ucred peer = {};
	socklen_t len, size = sizeof(peer);
	bool open;
	int fd, err = name_of(t, name);

	if (err)
		return err;
	snprintf(address, sizeof(address), "unix:%s", name);
	if (listen_parse(address, &at, &len, &open))
		return -EINVAL;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&at, len) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		err = -errno;
	else if (peer.pid != t->settings->reader)
		err = -EPERM;
	else
		err = greeting_await(fd);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* ---- the other end --------------------------------------------------------------------------- */

struct live {
	const struct tidemark *t;
	const struct live_options *o;
	struct event_base *base;
	struct event_log *table; /* NULL: JSON */
	struct waiter *last;
	char *names;	   /* of `only`, NODE_NAME_MAX each */
	struct text lines; /* the last of which is not whole yet */
	bool ending;
	int status;
};

static void finished(int fd, void *ctx)
{
	struct live *live = ctx;

	(void)fd;
	loop_break(live->base);
}

/* What happened until now has yet to come; a second signal waits for nothing. */
static void live_end(int fd, void *ctx)
{
	struct live *live = ctx;

	if (!live->ending)
		live->last = loop_every(live->base, LAST_NS, finished, live);
	if (live->ending || !live->last)
		finished(fd, ctx);
	live->ending = true;
}

static bool wanted(const struct live *live, const json_t *event)
{
	const char *node = json_string_value(json_object_get(event, "node"));

	for (size_t i = 0; node && i < live->o->only_n; i++)
		if (!strcmp(node, live->names + i * NODE_NAME_MAX))
			return true;
	return !live->o->only_n;
}

static int line_out(FILE *file, const char *name, const char *line, size_t len)
{
	if (fwrite(line, len, 1, file) == 1)
		return 0;
	if (errno != EPIPE)
		log_error("%s: %s", name, strerror(errno));
	return 1;
}

/* With its newline. */
static int line_print(struct live *live, const char *line, size_t len)
{
	const struct live_options *o = live->o;
	json_t *event = o->only_n || live->table ? json_loadb(line, len, 0, NULL) : NULL;
	int err = 0;

	if (len > 1 && (!o->only_n || wanted(live, event))) {
		if (!live->table)
			err = line_out(stdout, "stdout", line, len);
		else if (event)
			err = event_log_json(live->table, event) ? 1 : 0;
		if (!err && o->log)
			err = line_out(o->log, o->log_name, line, len);
	}
	json_decref(event);
	return err;
}

static void live_readable(int fd, void *ctx)
{
	struct live *live = ctx;
	char *at, *end, *stop;
	char bytes[READ_BYTES];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		if (!live->ending) {
			log_error("the daemon that read the events has ended, or took the datapath "
				  "down; start trace again");
			live->status = 1;
		}
		loop_break(live->base);
		return;
	}
	text_add(&live->lines, bytes, n);
	at = live->lines.at;
	stop = at + live->lines.len;
	while (!live->status && at < stop && (end = memchr(at, '\n', stop - at))) {
		live->status = line_print(live, at, end + 1 - at);
		at = end + 1;
	}
	live->lines.len = stop - at;
	memmove(live->lines.at, at, stop - at);
	if (fflush(stdout) || (live->o->log && fflush(live->o->log)) || live->lines.err)
		live->status = 1;
	if (live->status)
		loop_break(live->base);
}

static int live_names(struct live *live)
{
	struct node node;

	live->names = calloc(live->o->only_n + 1, NODE_NAME_MAX);
	for (size_t i = 0; live->names && i < live->o->only_n; i++)
		if (!node_get(live->t, live->o->only[i], &node))
			memcpy(live->names + i * NODE_NAME_MAX, node.name, NODE_NAME_MAX);
	return live->names ? 0 : -ENOMEM;
}

int live_print(const struct tidemark *t, int fd, const struct live_options *o)
{
	struct live live = { .t = t, .o = o, .base = loop_new(), .status = 1 };
	struct waiter *signals = NULL, *reads = NULL, *end = NULL;

	if (!live.base || live_names(&live))
		goto out;
	if (!o->json)
		live.table = event_log_open(t, stdout, "stdout", false);
	signals = loop_signals(live.base, live_end, &live);
	reads = loop_readable(live.base, fd, false, live_readable, &live);
	if (o->duration_ns)
		end = loop_every(live.base, o->duration_ns, live_end, &live);
	if ((!live.table && !o->json) || !signals || !reads || (o->duration_ns && !end))
		goto out;
	live.status = 0;
	log_info("watching %u nodes, which process %d reads", node_count(t), t->settings->reader);
	if (loop_run(live.base))
		live.status = 1;
out:
	if (live.table)
		live.status = event_log_close(live.table, live.status);
	waiter_free(live.last);
	waiter_free(end);
	waiter_free(reads);
	waiter_free(signals);
	text_free(&live.lines);
	free(live.names);
	loop_free(live.base);
	close(fd);
	return live.status;
}
