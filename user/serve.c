// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's query service: who is let in, what runs, what is cancelled. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"
#include "listen.h"
#include "log.h"
#include "loop.h"
#include "physical.h"
#include "serve.h"
#include "text.h"

#define STOP_MS 2000 /* for answers to end properly, all together */

enum kind { OF_SOCKET, OF_TLS, OF_HTTP, KINDS };

static const char *const kinds[] = { "unix", "tls", "http" };

struct door {
	int fd; /* -1: closed */
	char path[108];
	struct waiter *waiter; /* NULL: full */
};

/* A connection, and the process that answers it. */
struct guest {
	struct guest *next;
	struct serve *serve;
	enum kind kind;
	pid_t pid;
	int process, control;
	struct waiter *ends, *says;
	char who[320];
	struct ask ask;
	__u32 id; /* 0: has not asked yet */
	__u64 since_ns, bytes;
	bool cancelled;
};

struct serve {
	struct event_base *base;
	struct serve_options o;
	struct listen_owner owner;
	bool open; /* as the options say */
	struct door door[OF_HTTP];
	struct guest *guests;
	unsigned guests_n[KINDS];
	__u32 last_id;
	struct serve_stats stats;
};

extern char **environ;

/* ---- what they ask ------------------------------------------------------------------------- */

static unsigned running(const struct serve *serve)
{
	unsigned n = 0;

	for (const struct guest *g = serve->guests; g; g = g->next)
		n += g->id != 0;
	return n;
}

json_t *serve_list(const struct serve *serve)
{
	__u64 now = physical_now_ns();
	json_t *all = json_array();

	for (const struct guest *g = serve->guests; g; g = g->next) {
		struct text since = {};

		if (!g->id)
			continue;
		text_add_wall(&since, g->since_ns);
		json_array_append_new(all,
				      json_pack("{s:I,s:s,s:s,s:s#,s:I,s:s,s:s,s:b,s:I,s:b}", "id",
						(json_int_t)g->id, "over", kinds[g->kind], "who",
						g->who, "since", since.err ? "" : since.at,
						since.err ? 0 : (int)since.len, "running_ns",
						(json_int_t)(now - g->since_ns), "query",
						g->ask.text, "format", ask_formats[g->ask.format],
						"follow", g->ask.follow, "bytes",
						(json_int_t)g->bytes, "cancelled", g->cancelled));
		text_free(&since);
	}
	return all;
}

int serve_cancel(struct serve *serve, __u32 id)
{
	for (struct guest *g = serve->guests; g; g = g->next) {
		if (!id || g->id != id)
			continue;
		if (!g->cancelled)
			serve->stats.cancelled++;
		g->cancelled = true;
		kill(g->pid, SIGTERM); /* not reaped yet, so the number is its own */
		return 0;
	}
	return -ENOENT;
}

void serve_stats(const struct serve *serve, struct serve_stats *stats)
{
	*stats = serve->stats;
	stats->running = running(serve);
}

static json_t *query_begins(struct guest *g, const struct ask *ask)
{
	struct serve *serve = g->serve;
	char words[160];

	if (g->id)
		return json_pack("{s:s}", "no", "one question a connection");
	if (running(serve) >= serve->o.queries) {
		serve->stats.refused++;
		snprintf(
			words, sizeof(words),
			"%u queries run already; `tidemark query --list` shows them, --cancel ends "
			"one",
			running(serve));
		return json_pack("{s:s}", "no", words);
	}
	g->id = ++serve->last_id ? serve->last_id : ++serve->last_id;
	g->ask = *ask;
	g->since_ns = physical_now_ns();
	serve->stats.queries++;
	return json_pack("{s:I}", "go", (json_int_t)g->id);
}

static json_t *asked(struct guest *g, const json_t *question, const char *who)
{
	char *line = json_dumps(question, JSON_COMPACT), words[160];
	struct ask ask;
	int err = line ? ask_parse(line, strlen(line), &ask, words, sizeof(words)) : -ENOMEM;

	free(line);
	if (err)
		return json_pack("{s:s}", "no", "not a question");
	if (g->kind == OF_TLS && who) {
		size_t n = strlen(g->who);

		snprintf(g->who + n, sizeof(g->who) - n, " %s", who);
	}
	switch (ask.what) {
	case ASK_LIST:
		return json_pack("{s:o}", "list", serve_list(g->serve));
	case ASK_CANCEL:
		if (serve_cancel(g->serve, ask.id)) {
			snprintf(words, sizeof(words),
				 "%u: no such query runs; `tidemark query --list` shows those that "
				 "do",
				 ask.id);
			return json_pack("{s:s}", "no", words);
		}
		return json_pack("{s:I}", "cancelled", (json_int_t)ask.id);
	case ASK_QUERY:
		break;
	}
	return query_begins(g, &ask);
}

static void reply_send(const struct guest *g, json_t *reply)
{
	char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
	static const char large[] = "{\"no\":\"more than fits an answer\"}";

	json_decref(reply);
	if (text && send(g->control, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 &&
	    errno == EMSGSIZE)
		send(g->control, large, sizeof(large) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	free(text);
}

/* Its process reads foreign bytes, so what it says is read with the same care. */
static void guest_says(int fd, void *ctx)
{
	static char packet[GUEST_PACKET_MOST];
	struct guest *g = ctx;
	ssize_t n = recv(fd, packet, sizeof(packet), MSG_DONTWAIT);
	const json_t *question, *bytes;
	json_t *all;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) { /* the end of the process says the rest */
		waiter_free(g->says);
		g->says = NULL;
		return;
	}
	all = json_loadb(packet, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
	question = json_object_get(all, "ask");
	bytes = json_object_get(all, "bytes");
	if (question)
		reply_send(g, asked(g, question, json_string_value(json_object_get(all, "who"))));
	if (json_is_integer(bytes) && json_integer_value(bytes) > (json_int_t)g->bytes) {
		g->serve->stats.bytes += (__u64)json_integer_value(bytes) - g->bytes;
		g->bytes = (__u64)json_integer_value(bytes);
	}
	json_decref(all);
}

/* ---- processes -------------------------------------------------------------------------------- */

static void knock(int fd, void *ctx);

/* A door that was shut for want of room opens again. */
static void doors_open(struct serve *serve)
{
	for (int i = 0; i < OF_HTTP; i++) {
		struct door *door = &serve->door[i];

		if (door->fd >= 0 && !door->waiter && serve->guests_n[i] < SERVE_GUESTS_MOST)
			door->waiter = loop_readable(serve->base, door->fd, false, knock, serve);
	}
}

static void guest_free(struct guest *g)
{
	struct guest **at = &g->serve->guests;

	while (*at != g)
		at = &(*at)->next;
	*at = g->next;
	g->serve->guests_n[g->kind]--;
	waiter_free(g->ends);
	waiter_free(g->says);
	if (g->process >= 0)
		close(g->process);
	close(g->control);
	waitpid(g->pid, NULL, 0);
	free(g);
}

static void guest_ends(int fd, void *ctx)
{
	struct guest *g = ctx;
	struct serve *serve = g->serve;

	(void)fd;
	guest_says(g->control, g); /* its last word */
	guest_free(g);
	doors_open(serve);
}

static int spawn(const struct serve *serve, enum kind kind, int client, int control, pid_t *pid)
{
	const struct serve_options *o = &serve->o;
	const char *argv[8 + 2 * SERVE_KEYS_MOST] = { "tidemark", "query", "--guest", o->dir };
	int n = 4, err;
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	sigset_t none, all;

	if (kind == OF_TLS) {
		argv[n++] = o->tls.cert;
		argv[n++] = o->tls.key;
		argv[n++] = o->tls.ca;
	}
	for (unsigned i = 0; i < o->keys_n; i++) {
		argv[n++] = "--key-file";
		argv[n++] = o->keys[i];
	}
	argv[n] = NULL;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&how);
	/* Both are above these numbers: open_high() made them so. */
	posix_spawn_file_actions_adddup2(&files, client, GUEST_CLIENT);
	posix_spawn_file_actions_adddup2(&files, control, GUEST_DAEMON);
	posix_spawnattr_setsigmask(&how, &none);
	posix_spawnattr_setsigdefault(&how, &all);
	posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn(pid, "/proc/self/exe", &files, &how, (char *const *)argv, environ);
	posix_spawnattr_destroy(&how);
	posix_spawn_file_actions_destroy(&files);
	return -err;
}

/* A descriptor that dup2() to the guest's numbers cannot collide with. Takes the one given. */
static int open_high(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, GUEST_DAEMON + 1);

	close(fd);
	return high;
}

/* Takes the client's descriptor. */
static int guest_new(struct serve *serve, enum kind kind, int client, const char *who)
{
	struct guest *g = calloc(1, sizeof(*g));
	int control[2] = { -1, -1 }, err = -ENOMEM, room = GUEST_PACKET_MOST + 4096;

	if (g && !socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control)) {
		setsockopt(control[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
		client = open_high(client);
		control[1] = open_high(control[1]);
		err = client < 0 || control[1] < 0
			      ? -EMFILE
			      : spawn(serve, kind, client, control[1], &g->pid);
	}
	close(control[1]);
	close(client);
	if (err) {
		close(control[0]);
		free(g);
		return err;
	}
	g->serve = serve;
	g->kind = kind;
	g->control = control[0];
	snprintf(g->who, sizeof(g->who), "%s", who);
	g->process = (int)syscall(SYS_pidfd_open, g->pid, 0);
	g->next = serve->guests;
	serve->guests = g;
	serve->guests_n[kind]++;
	if (g->process >= 0)
		g->ends = loop_readable(serve->base, g->process, false, guest_ends, g);
	g->says = loop_readable(serve->base, g->control, false, guest_says, g);
	if (g->ends && g->says)
		return 0;
	kill(g->pid, SIGKILL);
	guest_free(g);
	return -ENOMEM;
}

int serve_ask(struct serve *serve, const struct ask *ask, const char *who)
{
	char *line = ask_print(ask);
	int pair[2], err = 0;

	if (!line)
		return -EINVAL;
	if (serve->guests_n[OF_HTTP] >= SERVE_GUESTS_MOST)
		err = -EAGAIN;
	else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		err = -errno;
	if (!err) {
		err = send(pair[0], line, strlen(line), MSG_NOSIGNAL) < 0 ? -errno : 0;
		if (!err)
			err = guest_new(serve, OF_HTTP, pair[1], who);
		else
			close(pair[1]);
		if (!err)
			err = fcntl(pair[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
		if (err)
			close(pair[0]);
	}
	free(line);
	return err ? err : pair[0];
}

/* ---- who comes -------------------------------------------------------------------------------- */

static void who_is(int fd, const struct sockaddr_storage *at, char *who, size_t size)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)at;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)at;
	char address[INET6_ADDRSTRLEN] = "";
	struct ucred peer = {};
	socklen_t len = sizeof(peer);

	if (at->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, address, sizeof(address));
		snprintf(who, size, "%s:%u", address, ntohs(v4->sin_port));
	} else if (at->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, address, sizeof(address));
		snprintf(who, size, "[%s]:%u", address, ntohs(v6->sin6_port));
	} else {
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len);
		snprintf(who, size, "uid %u pid %d", peer.uid, peer.pid);
	}
}

static void knock(int fd, void *ctx)
{
	struct serve *serve = ctx;
	enum kind kind = fd == serve->door[OF_TLS].fd ? OF_TLS : OF_SOCKET;
	struct door *door = &serve->door[kind];
	struct sockaddr_storage at = { .ss_family = AF_UNIX };
	socklen_t len = sizeof(at);
	int client = accept4(fd, (struct sockaddr *)&at, &len, SOCK_CLOEXEC), err;
	char who[128];

	if (client < 0)
		return;
	if (kind == OF_SOCKET && !listen_may(&serve->owner, client)) {
		serve->stats.refused++;
		close(client);
		return;
	}
	who_is(client, &at, who, sizeof(who));
	err = guest_new(serve, kind, client, who);
	if (err) {
		serve->stats.refused++;
		log_warn("%s: cannot be answered: %s", who, strerror(-err));
	}
	if (serve->guests_n[kind] < SERVE_GUESTS_MOST)
		return;
	waiter_free(door->waiter); /* others wait in the kernel's queue */
	door->waiter = NULL;
}

static void doors_shut(struct serve *serve)
{
	for (int i = 0; i < OF_HTTP; i++) {
		struct door *door = &serve->door[i];

		waiter_free(door->waiter);
		if (door->fd >= 0)
			close(door->fd);
		if (*door->path)
			unlink(door->path);
		*door = (struct door){ .fd = -1 };
	}
}

static int door_make(struct serve *serve, enum kind kind, const char *text)
{
	const struct serve_options *o = &serve->o;
	struct door *door = &serve->door[kind];
	struct sockaddr_storage at = o->at;
	socklen_t len = o->at_len;
	bool open;

	if (kind == OF_SOCKET && listen_parse(text, &at, &len, &open))
		return -EINVAL;
	door->fd = listen_at(text, &at, len, &serve->owner);
	if (door->fd < 0)
		return door->fd; /* said */
	if (kind == OF_SOCKET)
		snprintf(door->path, sizeof(door->path), "%s", o->path);
	return 0;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

/* A door that is shut and opened anew turns away who knocks meanwhile: only if it must. */
static bool same_doors(const struct serve *serve, const struct serve_options *o,
		       const struct listen_owner *owner)
{
	const struct listen_owner *was = &serve->owner;

	return same_text(serve->o.path, o->path) && same_text(serve->o.listen, o->listen) &&
	       was->has_uid == owner->has_uid && was->has_gid == owner->has_gid &&
	       was->uid == owner->uid && was->gid == owner->gid;
}

int serve_set(struct serve *serve, const struct serve_options *o)
{
	struct listen_owner owner = listen_owner(o->uid, o->gid);
	char text[4200];
	int err = 0;

	if (serve->open && same_doors(serve, o, &owner)) {
		err = o->listen ? channel_files(&o->tls) : 0;
		serve->o = err ? serve->o : *o;
		return err;
	}
	doors_shut(serve);
	serve->o = *o;
	serve->owner = owner;
	if (o->path) {
		snprintf(text, sizeof(text), "unix:%s", o->path);
		err = door_make(serve, OF_SOCKET, text);
	}
	if (!err && o->listen) {
		err = channel_files(&o->tls);
		if (!err)
			err = door_make(serve, OF_TLS, o->listen);
	}
	if (err)
		doors_shut(serve);
	serve->open = !err;
	doors_open(serve);
	return err;
}

struct serve *serve_open(struct event_base *base, const struct serve_options *o)
{
	struct serve *serve = calloc(1, sizeof(*serve));

	if (!serve)
		return NULL;
	serve->base = base;
	for (int i = 0; i < OF_HTTP; i++)
		serve->door[i].fd = -1;
	if (!serve_set(serve, o))
		return serve;
	serve_close(serve);
	return NULL;
}

/* Answers end with the words that there may be more, if their takers take them. */
void serve_close(struct serve *serve)
{
	__u64 until = physical_monotonic_ns() + STOP_MS * 1000000ULL;

	if (!serve)
		return;
	doors_shut(serve);
	for (struct guest *g = serve->guests; g; g = g->next)
		kill(g->pid, SIGTERM);
	while (serve->guests) {
		struct guest *g = serve->guests;
		struct pollfd ends = { .fd = g->process, .events = POLLIN };
		__u64 now = physical_monotonic_ns();

		if (now >= until || poll(&ends, 1, (int)((until - now) / 1000000) + 1) <= 0)
			kill(g->pid, SIGKILL);
		guest_free(g);
	}
	free(serve);
}
