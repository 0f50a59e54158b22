// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's recording: the recorder in its loop, as a configuration says. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "loop.h"
#include "promisc.h"
#include "recording.h"

#define CPUS_WOKEN 64 /* rings that may wake us; more are emptied by timer only */

struct recording {
	struct tidemark *t;
	struct event_base *base;
	const struct config_record *config;
	struct recorder *recorder;
	struct waiter *drains, *rings[CPUS_WOKEN];
	int promisc;
};

static void drain(int fd, void *ctx)
{
	struct recording *r = ctx;

	(void)fd;
	recorder_drain(r->recorder);
}

static int listen_rings(struct recording *r)
{
	int fds[CPUS_WOKEN];
	unsigned n = recorder_fds(r->recorder, fds, CPUS_WOKEN);

	r->drains = loop_every(r->base, RECORDER_DRAIN_NS, drain, r);
	for (unsigned i = 0; i < n; i++) {
		r->rings[i] = loop_readable(r->base, fds[i], true, drain, r);
		if (!r->rings[i])
			return -ENOMEM;
	}
	return r->drains ? 0 : -ENOMEM;
}

static int recorder_end(struct recording *r, bool leave)
{
	int err = 0;

	waiter_free(r->drains);
	r->drains = NULL;
	for (unsigned i = 0; i < CPUS_WOKEN; i++) {
		waiter_free(r->rings[i]);
		r->rings[i] = NULL;
	}
	if (r->promisc >= 0)
		close(r->promisc);
	r->promisc = -1;
	if (r->recorder)
		err = recorder_close(r->recorder, leave);
	r->recorder = NULL;
	return err;
}

/* A port that cannot be made promiscuous still sees what is meant for this host. */
static void interfaces_open(struct recording *r, const struct config_record *config)
{
	r->promisc = promiscuous((const char *const *)config->interfaces, config->interfaces_count);
	if (r->promisc < 0 && config->interfaces_count)
		log_warn("only what is addressed to this host is recorded there; CAP_NET_RAW is "
			 "missing?");
}

static int recorder_begin(struct recording *r, const struct config_record *config)
{
	sigset_t signals;
	int other = recorder_other(r->t);

	if (other) {
		log_error("%s: process %d records from this datapath, and only one can; stop that "
			  "first",
			  r->t->pin_dir, other);
		return -EBUSY;
	}
	if (mkdir(config->dir, 0700) && errno != EEXIST) {
		log_error("%s: %s", config->dir, strerror(errno));
		return -EIO;
	}
	if (class_finish(config->list, config->cutoff_bytes, r->t))
		return -EINVAL; /* said */
	/* Threads of the recorder would die of them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	r->recorder = recorder_open(r->t, config->list, &config->options);
	if (!r->recorder)
		return -EIO;
	r->config = config;
	interfaces_open(r, config);
	if (!listen_rings(r))
		return 0;
	log_error("cannot wait for packets: %s", strerror(ENOMEM));
	recorder_end(r, false);
	return -ENOMEM;
}

struct recording *recording_open(struct tidemark *t, struct event_base *base,
				 const struct config_record *config)
{
	struct recording *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->t = t;
	r->base = base;
	r->promisc = -1;
	if (recorder_begin(r, config)) {
		free(r);
		return NULL;
	}
	log_info("%s: recording, %zu classes", config->dir, config->list->n);
	return r;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_place(const struct config_record *a, const struct config_record *b)
{
	const struct recorder_options *x = &a->options, *y = &b->options;

	return same_text(x->dir, y->dir) && same_text(x->key_file, y->key_file) &&
	       x->zstd == y->zstd && x->ring_bytes == y->ring_bytes && x->stats_ns == y->stats_ns;
}

/*
 * Classes change under the recorder. Another directory needs another recorder: the kernel
 * goes on keeping packets in its rings, and the new one takes them over.
 */
int recording_set(struct recording *r, const struct config_record *config)
{
	const struct config_record *was = r->config;
	int err;

	if (r->recorder && same_place(was, config)) {
		if (class_finish(config->list, config->cutoff_bytes, r->t))
			return -EINVAL;
		err = recorder_classes(r->recorder, config->list);
		r->config = config;
		if (r->promisc >= 0)
			close(r->promisc);
		interfaces_open(r, config);
		return err;
	}
	err = recorder_end(r, true);
	if (err)
		log_error("%s: %s: not everything could be written", was->dir, strerror(-err));
	return recorder_begin(r, config);
}

int recording_close(struct recording *r)
{
	int err;

	if (!r)
		return 0;
	err = recorder_end(r, false);
	if (err)
		log_error("%s: %s: not everything could be written; `tidemark show record` and the "
			  "gaps say what is missing",
			  r->config->dir, strerror(-err));
	free(r);
	return err;
}

const char *recording_dir(const struct recording *r)
{
	return r->config->dir;
}
