// SPDX-License-Identifier: GPL-2.0-only
/* Waiting for many things at once: what we use of libevent, whose struct event is not ours. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "log.h"
#include "loop.h"

struct waiter {
	struct event *event;
	wait_fn fn;
	void *ctx;
	int owned; /* a descriptor of ours, or -1 */
};

static void said(int severity, const char *words)
{
	if (severity >= EVENT_LOG_WARN)
		log_debug("libevent: %s", words);
}

struct event_base *loop_new(void)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	event_set_log_callback(said);
	/* One thread; and it must be epoll, for edges. */
	if (config && !event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) &&
	    !event_config_require_features(config, EV_FEATURE_ET))
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	return base;
}

void loop_free(struct event_base *base)
{
	if (base)
		event_base_free(base);
}

int loop_run(struct event_base *base)
{
	return event_base_dispatch(base) < 0 ? -EIO : 0;
}

void loop_break(struct event_base *base)
{
	event_base_loopbreak(base);
}

static void ready(evutil_socket_t fd, short what, void *ctx)
{
	struct waiter *waiter = ctx;

	(void)what;
	waiter->fn(fd, waiter->ctx);
}

static void signalled(evutil_socket_t fd, short what, void *ctx)
{
	struct waiter *waiter = ctx;
	struct signalfd_siginfo signal;

	(void)what;
	while (read(fd, &signal, sizeof(signal)) == sizeof(signal))
		waiter->fn(signal.ssi_signo, waiter->ctx);
}

static struct waiter *waiter_make(struct event_base *base, int fd, short what, __u64 ns,
				  event_callback_fn called, wait_fn fn, void *ctx)
{
	const struct timeval every = { .tv_sec = ns / 1000000000,
				       .tv_usec = ns % 1000000000 / 1000 };
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return NULL;
	waiter->fn = fn;
	waiter->ctx = ctx;
	waiter->owned = -1;
	waiter->event = event_new(base, fd, what | EV_PERSIST, called, waiter);
	if (!waiter->event || event_add(waiter->event, ns ? &every : NULL)) {
		waiter_free(waiter);
		return NULL;
	}
	return waiter;
}

struct waiter *loop_readable(struct event_base *base, int fd, bool edge, wait_fn fn, void *ctx)
{
	return waiter_make(base, fd, EV_READ | (edge ? EV_ET : 0), 0, ready, fn, ctx);
}

struct waiter *loop_writable(struct event_base *base, int fd, wait_fn fn, void *ctx)
{
	return waiter_make(base, fd, EV_WRITE, 0, ready, fn, ctx);
}

struct waiter *loop_every(struct event_base *base, __u64 ns, wait_fn fn, void *ctx)
{
	return waiter_make(base, -1, 0, ns, ready, fn, ctx);
}

struct waiter *loop_signals(struct event_base *base, wait_fn fn, void *ctx)
{
	struct waiter *waiter;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return NULL;
	waiter = waiter_make(base, fd, EV_READ, 0, signalled, fn, ctx);
	if (waiter)
		waiter->owned = fd;
	else
		close(fd);
	return waiter;
}

void waiter_free(struct waiter *waiter)
{
	if (!waiter)
		return;
	if (waiter->event)
		event_free(waiter->event);
	if (waiter->owned >= 0)
		close(waiter->owned);
	free(waiter);
}

static void nothing(int fd, void *ctx)
{
	(void)fd, (void)ctx;
}

int loop_once(struct event_base *base, __u64 ns)
{
	struct waiter *most = loop_every(base, ns, nothing, NULL);
	int ret = most ? event_base_loop(base, EVLOOP_ONCE) : -1;

	waiter_free(most);
	return ret < 0 ? -EBUSY : 0;
}
