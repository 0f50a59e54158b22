// SPDX-License-Identifier: GPL-2.0-only
/* The process that answers one who has connected to the daemon. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "ask.h"
#include "cmd.h"
#include "channel.h"
#include "guest.h"
#include "log.h"
#include "secret.h"

#define LOOK_MS 500

struct guest_options {
	const char *dir;
	struct tls_files tls; /* .cert NULL: none */
};

struct guest {
	const struct guest_options *o;
	struct channel *client;
	struct ask ask;
	pid_t query;
	int out, err; /* what it writes, -1 once it has ended */
	__u64 bytes;
	time_t told;
	bool asked_to_end, silent;
};

static volatile sig_atomic_t cancelled;

static void cancel(int signal)
{
	(void)signal;
	cancelled = 1;
}

/* ---- rights ----------------------------------------------------------------------------- */

/*
 * What is behind a hole in TLS or in a reader of segments: a process that may read files of
 * its own user, and nothing else that root may.
 */
static void rights_drop(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = {};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	syscall(SYS_capset, &head, none);
	setpriority(PRIO_PROCESS, 0, 10); /* recording first */
}

static void socket_prepare(int fd)
{
	const struct timeval ask = { .tv_sec = GUEST_SECONDS };
	const struct timeval stalled = { .tv_sec = GUEST_STALLED };
	int flags = fcntl(fd, F_GETFL), on = 1, idle = 15, every = 5, times = 3;

	fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &ask, sizeof(ask));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stalled, sizeof(stalled));
	/* A host that has gone says nothing; these fail for a unix socket, which knows. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every, sizeof(every));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* ---- frames ------------------------------------------------------------------------------- */

static int frame_send(struct guest *g, char kind, const void *bytes, size_t n)
{
	unsigned char whole[FRAME_HEAD + FRAME_MOST];

	frame_head(whole, kind, (__u32)n);
	memcpy(whole + FRAME_HEAD, bytes, n);
	return channel_write(g->client, whole, FRAME_HEAD + n);
}

static int end_send(struct guest *g, int status)
{
	unsigned char byte = (unsigned char)status;

	return frame_send(g, FRAME_END, &byte, 1);
}

static int refuse(struct guest *g, const char *words)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "tidemark: query: %s\n", words);

	frame_send(g, FRAME_WORDS, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
	end_send(g, 1);
	return 1;
}

/* ---- the daemon ----------------------------------------------------------------------------- */

static json_t *daemon_ask(const char *line, const char *who)
{
	static char packet[GUEST_PACKET_MOST];
	json_t *ask = json_loads(line, 0, NULL);
	json_t *all = json_pack("{s:o,s:s?}", "ask", ask, "who", who);
	char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	ssize_t n = -1;

	json_decref(all);
	if (text && send(GUEST_DAEMON, text, strlen(text), MSG_NOSIGNAL) >= 0)
		n = recv(GUEST_DAEMON, packet, sizeof(packet), 0);
	free(text);
	return n > 0 ? json_loadb(packet, (size_t)n, 0, NULL) : NULL;
}

static void daemon_tell(struct guest *g, bool last)
{
	time_t now = time(NULL);
	char text[64];
	int n;

	if (now == g->told && !last)
		return;
	g->told = now;
	n = snprintf(text, sizeof(text), "{\"bytes\":%llu}", g->bytes);
	send(GUEST_DAEMON, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- the query ------------------------------------------------------------------------------ */

/* The command itself, with the options it has for everybody. */
static int query_do(const struct guest *g)
{
	const struct ask *ask = &g->ask;
	char *argv[24], limit[24];
	int n = 0;

	argv[n++] = (char *)"tidemark query";
	argv[n++] = (char *)"-d";
	argv[n++] = (char *)g->o->dir;
	if (ask->format == ASK_json)
		argv[n++] = (char *)"--json";
	if (ask->format == ASK_pcapng)
		argv[n++] = (char *)"--write=-";
	if (ask->format == ASK_count)
		argv[n++] = (char *)"--count";
	if (ask->format == ASK_flows || ask->format == ASK_flows_json)
		argv[n++] = (char *)"--flows";
	if (ask->format == ASK_flows_json)
		argv[n++] = (char *)"--json";
	if (ask->follow)
		argv[n++] = (char *)"--follow";
	if (*ask->by)
		argv[n++] = (char *)"--by", argv[n++] = (char *)ask->by;
	if (*ask->since)
		argv[n++] = (char *)"--since", argv[n++] = (char *)ask->since;
	if (*ask->until)
		argv[n++] = (char *)"--until", argv[n++] = (char *)ask->until;
	if (ask->limit) {
		snprintf(limit, sizeof(limit), "%llu", ask->limit);
		argv[n++] = (char *)"--limit", argv[n++] = limit;
	}
	argv[n++] = (char *)"--";
	argv[n++] = (char *)ask->text;
	argv[n] = NULL;
	return cmd_query(n, argv);
}

static int query_start(struct guest *g)
{
	pid_t self = getpid();
	int out[2], err[2], nothing;

	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return -errno;
	g->query = fork();
	if (g->query < 0)
		return -errno;
	if (!g->query) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(1);
		nothing = open("/dev/null", O_RDONLY);
		dup2(nothing, STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		close_range(STDERR_FILENO + 1, ~0U, 0);
		exit(query_do(g));
	}
	close(out[1]);
	close(err[1]);
	g->out = out[0];
	g->err = err[0];
	return 0;
}

/* What the query has written goes to the client; who does not take it makes it wait. */
static int pump(struct guest *g, int *from, char kind)
{
	char bytes[FRAME_MOST];
	ssize_t n = read(*from, bytes, sizeof(bytes));

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (!n) {
		close(*from);
		*from = -1;
		return 0;
	}
	g->bytes += (__u64)n;
	daemon_tell(g, false);
	return frame_send(g, kind, bytes, (size_t)n);
}

/*
 * A client has nothing more to say: a byte, or an end, is that it has gone. But a unix
 * socket tells who has only ended his part, as `echo ... | socat` does, from who has left.
 */
static bool client_gone(struct guest *g, short events)
{
	bool left = events & (POLLHUP | POLLERR);
	char byte;
	ssize_t n = left ? 0 : channel_read(g->client, &byte, 1);

	if (!n && !left && !g->o->tls.cert) {
		g->silent = true;
		return false;
	}
	return n != -EINTR && n != -EAGAIN;
}

/*
 * A query that is cancelled ends its answer properly, with the words that there may be
 * more; a client that does not take even those is left after a while.
 */
static void end_ask(struct guest *g)
{
	if (!cancelled || g->asked_to_end)
		return;
	g->asked_to_end = true;
	kill(g->query, SIGTERM);
	alarm(GUEST_SECONDS);
}

static int answer(struct guest *g)
{
	struct pollfd at[4];
	int err = 0, status = 0;

	while (!err && (g->out >= 0 || g->err >= 0)) {
		at[0] = (struct pollfd){ .fd = g->out, .events = POLLIN };
		at[1] = (struct pollfd){ .fd = g->err, .events = POLLIN };
		at[2] = (struct pollfd){ .fd = channel_fd(g->client),
					 .events = g->silent ? 0 : POLLIN | POLLRDHUP };
		at[3] = (struct pollfd){ .fd = GUEST_DAEMON, .events = POLLIN };
		poll(at, 4, LOOK_MS);
		end_ask(g);
		if (at[2].revents && client_gone(g, at[2].revents))
			err = -EPIPE;
		/* The daemon says nothing now: readable is that it has ended, and so do we. */
		if (at[3].revents)
			cancelled = 1;
		/* Words first: they are about what follows. */
		if (!err && at[1].revents)
			err = pump(g, &g->err, FRAME_WORDS);
		if (!err && at[0].revents)
			err = pump(g, &g->out, FRAME_DATA);
	}
	if (err)
		kill(g->query, SIGKILL);
	while (waitpid(g->query, &status, 0) < 0 && errno == EINTR)
		;
	daemon_tell(g, true);
	/* To follow has no end of its own: who asked did not say this one, or would have gone. */
	if (!err && g->asked_to_end && g->ask.follow)
		return refuse(g, "ended by the daemon, or by --cancel; there may be more");
	if (!err)
		err = end_send(g, WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	return err ? 1 : 0;
}

/* ---- one connection --------------------------------------------------------------------------- */

static ssize_t line_read(struct guest *g, char *line, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size && !memchr(line, '\n', n)) {
		got = channel_read(g->client, line + n, size - n);
		if (got == -EINTR && !cancelled)
			continue;
		if (got <= 0)
			return -1;
		n += (size_t)got;
	}
	return n && line[n - 1] == '\n' ? (ssize_t)n : -1;
}

static int daemon_says(struct guest *g, json_t *reply)
{
	json_t *list = json_object_get(reply, "list");
	char *text = list ? json_dumps(list, JSON_COMPACT) : NULL;
	const char *no = json_string_value(json_object_get(reply, "no"));
	int err = 0;

	for (size_t at = 0, n; text && text[at] && !err; at += n) {
		n = strlen(text + at) < FRAME_MOST ? strlen(text + at) : FRAME_MOST;
		err = frame_send(g, FRAME_DATA, text + at, n);
	}
	free(text);
	if (list || json_object_get(reply, "cancelled"))
		return err ? 1 : end_send(g, 0);
	return refuse(g, no ? no : "the daemon is stopping");
}

static int converse(struct guest *g)
{
	static char line[ASK_LINE_MOST + 1];
	ssize_t n = line_read(g, line, ASK_LINE_MOST);
	char words[160], *again;
	json_t *reply;
	bool go;
	int status;

	if (n < 0)
		return 1;
	alarm(0);
	if (ask_parse(line, (size_t)n, &g->ask, words, sizeof(words)))
		return refuse(g, words);
	again = ask_print(&g->ask); /* what we have understood, and nothing else */
	reply = again ? daemon_ask(again, channel_peer(g->client)) : NULL;
	free(again);
	go = json_object_get(reply, "go");
	if (!go) {
		status = daemon_says(g, reply);
	} else if (query_start(g)) {
		status = refuse(g, "the daemon's host has no process or descriptor left");
	} else {
		status = answer(g);
	}
	json_decref(reply);
	return status;
}

static int guest_run(const struct guest_options *o)
{
	struct sigaction action = { .sa_handler = cancel };
	struct guest g = { .o = o, .out = -1, .err = -1 };
	char words[256];
	int status = 1;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(GUEST_CLIENT, F_SETFD, FD_CLOEXEC);
	fcntl(GUEST_DAEMON, F_SETFD, FD_CLOEXEC);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, SIG_DFL);
	signal(SIGINT, SIG_IGN); /* of a terminal: the daemon says it to us */
	socket_prepare(GUEST_CLIENT);
	g.client =
		o->tls.cert ? channel_server(GUEST_CLIENT, &o->tls) : channel_plain(GUEST_CLIENT);
	rights_drop();
	if (!g.client)
		return 1;
	/* However slowly a byte at a time may come. */
	alarm(2 * GUEST_SECONDS);
	if (channel_greet(g.client, words, sizeof(words))) {
		log_warn("a client was refused: %s", words);
	} else {
		/* From here on it is known, or is one of this host's users. */
		status = converse(&g);
	}
	channel_close(g.client);
	return status;
}

int guest_main(int argc, char **argv)
{
	struct guest_options o = { .dir = argc > 2 ? argv[2] : NULL };

	if (!o.dir || fcntl(GUEST_CLIENT, F_GETFD) < 0 || fcntl(GUEST_DAEMON, F_GETFD) < 0) {
		log_error("--guest: only `tidemark run` starts this");
		return 2;
	}
	/* What has keys of its own reads them while it may. */
	for (; argc > 4 && !strcmp(argv[argc - 2], "--key-file"); argc -= 2)
		if (secret_read_with(argv[argc - 1]))
			return 1;
	if (argc == 6)
		o.tls = (struct tls_files){ argv[3], argv[4], argv[5] };
	return guest_run(&o);
}
