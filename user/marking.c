// SPDX-License-Identifier: GPL-2.0-only
/* The daemon's marks: reports to fireflies and metrics, and the ways in. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fireflyin.h"
#include "flowapi.h"
#include "log.h"
#include "lookup.h"
#include "loop.h"
#include "markmetrics.h"
#include "marking.h"
#include "markrules.h"
#include "metrics.h"
#include "pipein.h"
#include "registry.h"
#include "relay.h"
#include "stun.h"

#define STEP_NS 20000000 /* what a start waits at most before it is told */
#define WAYS_MAX 16

struct marking {
	struct tidemark *t;
	struct event_base *base;
	struct reports *reports;
	struct fireflies *fireflies;
	struct publicaddr *addresses;
	struct lookups *lookups;
	struct named {
		struct marking *m;
		size_t n; /* which collector, or which STUN server */
	} collectors[FIREFLIES_COLLECTORS_MAX], stun[PUBLICADDR_SERVERS_MAX], relayed[RELAY_MOST];
	struct markmetrics *metrics;
	struct registry *registry;
	struct flowin in;
	struct relay relay;
	struct pipein *pipes[WAYS_MAX];
	struct fireflyin *receivers[WAYS_MAX];
	struct waiter *steps;
};

static void tell(enum report_type type, struct reported *flow, void *ctx)
{
	struct marking *m = ctx;

	if (m->fireflies)
		fireflies_tell(type, flow, m->fireflies);
	if (m->metrics)
		markmetrics_tell(type, flow, m->metrics);
}

static void step(int fd, void *ctx)
{
	struct marking *m = ctx;

	(void)fd;
	reports_step(m->reports);
	if (m->fireflies)
		fireflies_flush(m->fireflies);
}

/* ---- what a configuration makes ---------------------------------------------------------- */

static void ways_close(struct marking *m)
{
	for (unsigned i = 0; i < WAYS_MAX; i++) {
		pipein_close(m->pipes[i]);
		fireflyin_close(m->receivers[i]);
		m->pipes[i] = NULL;
		m->receivers[i] = NULL;
	}
}

/* Those that stay as they are stay open: somebody may be writing. */
static void ways_keep(struct marking *m, const struct config_mark *c)
{
	struct fireflyin *receivers[WAYS_MAX] = {};
	struct pipein *pipes[WAYS_MAX] = {};

	for (unsigned k = 0; k < WAYS_MAX; k++) {
		for (unsigned i = 0; m->pipes[k] && i < c->pipes_count; i++)
			if (pipein_is(m->pipes[k], c->pipes[i])) {
				pipes[i] = m->pipes[k];
				m->pipes[k] = NULL;
			}
		for (unsigned i = 0; m->receivers[k] && i < c->receive_count; i++)
			if (!receivers[i] && fireflyin_is(m->receivers[k], &c->receivers[i])) {
				receivers[i] = m->receivers[k];
				m->receivers[k] = NULL;
			}
	}
	ways_close(m);
	memcpy(m->pipes, pipes, sizeof(pipes));
	memcpy(m->receivers, receivers, sizeof(receivers));
}

static int ways_set(struct marking *m, const struct config_mark *c)
{
	ways_keep(m, c);
	for (unsigned i = 0; i < c->pipes_count; i++) {
		if (!m->pipes[i])
			m->pipes[i] = pipein_open(m->base, c->pipes[i], &m->in);
		if (!m->pipes[i])
			return -EIO;
	}
	for (unsigned i = 0; i < c->receive_count; i++) {
		if (!m->receivers[i])
			m->receivers[i] = fireflyin_open(m->base, &c->receivers[i], c->receive[i],
							 &m->in, &m->relay);
		if (!m->receivers[i])
			return -EIO;
	}
	return 0;
}

static void collector_found(const struct sockaddr_in6 *at, void *ctx)
{
	const struct named *named = ctx;

	fireflies_collector(named->m->fireflies, named->n, at);
}

static void stun_found(const struct sockaddr_in6 *at, void *ctx)
{
	const struct named *named = ctx;

	publicaddr_stun(named->m->addresses, named->n, at);
}

static void relay_found(const struct sockaddr_in6 *at, void *ctx)
{
	const struct named *named = ctx;

	named->m->relay.to[named->n] = *at;
}

/* Those of the list that are names: the check has left their addresses empty. */
static int names_ask(struct marking *m, char *const *texts, const struct sockaddr_in6 *at, size_t n,
		     __u16 usual, lookup_fn fn, struct named *named)
{
	char name[LOOKUP_NAME_MAX];
	__u16 port;
	int err;

	for (size_t i = 0; i < n; i++) {
		if (at[i].sin6_family)
			continue;
		if (!m->lookups)
			m->lookups = lookups_open(m->base);
		if (!m->lookups)
			return -ENOMEM;
		named[i] = (struct named){ m, i };
		err = lookup_parse(texts[i], usual, name, &port);
		if (!err)
			err = lookups_add(m->lookups, name, port, fn, &named[i]);
		if (err)
			return err;
	}
	return 0;
}

static int names_open(struct marking *m, const struct config_mark *c)
{
	const struct config_fireflies *f = c->fireflies;
	int err = names_ask(m, f->collectors, c->tell.collectors, c->tell.collectors_n,
			    FIREFLY_PORT, collector_found, m->collectors);

	if (!err && c->addresses)
		err = names_ask(m, f->address->stun, c->addresses->stun, c->addresses->stun_n,
				STUN_PORT, stun_found, m->stun);
	return err;
}

static void outs_close(struct marking *m)
{
	lookups_close(m->lookups);
	m->lookups = NULL;
	fireflies_close(m->fireflies);
	publicaddr_close(m->addresses);
	relay_close(&m->relay);
	m->fireflies = NULL;
	m->addresses = NULL;
}

static int outs_open(struct marking *m, const struct config_mark *c)
{
	struct fireflies_options o = c->tell;
	int err = relay_open(&m->relay, c->relays, c->relay_count);

	if (!err)
		err = names_ask(m, c->relay, c->relays, c->relay_count, FIREFLY_PORT, relay_found,
				m->relayed);
	if (err || !c->fireflies)
		return err;
	if (c->addresses) {
		m->addresses = publicaddr_open(m->base, c->addresses);
		if (!m->addresses)
			return -errno;
	}
	o.addresses = m->addresses;
	m->fireflies = fireflies_open(m->t, &o);
	return m->fireflies ? names_open(m, c) : -errno;
}

static int registry_load(struct marking *m, const struct config_mark *c)
{
	char words[256];
	struct registry *registry = registry_open(c->registry, words, sizeof(words));

	if (!registry) {
		log_error("%s", words);
		return -EINVAL;
	}
	if (m->registry)
		registry_close(m->registry);
	m->registry = registry;
	m->in.registry = registry;
	return 0;
}

int marking_set(struct marking *m, const struct config_mark *config)
{
	int err = registry_load(m, config);

	if (err)
		return err;
	outs_close(m);
	err = outs_open(m, config);
	if (err)
		log_error("fireflies: %s", strerror(-err));
	else
		err = ways_set(m, config);
	if (!err)
		err = markrules_set(m->t, config->marks, config->marks_n);
	m->in.how = config->how;
	markrules_unwritten(m->t, config->packets && !*config->packets);
	if (!err && m->reports)
		reports_set(m->reports, &config->reports);
	return err;
}

struct marking *marking_open(struct tidemark *t, struct event_base *base,
			     const struct config_mark *config)
{
	struct marking *m = calloc(1, sizeof(*m));
	struct reports_options o = config->reports;

	o.later = true; /* whoever waits for READY need not wait for this */
	if (!m) {
		log_error("%s", strerror(ENOMEM));
		return NULL;
	}
	m->t = t;
	m->base = base;
	m->in.t = t;
	m->metrics =
		markmetrics_open(t, config->series ? *config->series : MARKMETRICS_FLOWS_DEFAULT);
	if (m->metrics && !marking_set(m, config)) {
		m->reports = reports_open(t, &o, tell, m);
		if (m->reports)
			m->steps = loop_every(base, STEP_NS, step, m);
		if (m->steps)
			return m;
	}
	marking_close(m);
	return NULL;
}

void marking_close(struct marking *m)
{
	if (!m)
		return;
	waiter_free(m->steps);
	ways_close(m);
	if (m->reports)
		step(-1, m);
	reports_close(m->reports);
	if (m->registry) { /* else the configuration did not get as far as marks */
		markrules_set(m->t, NULL, 0);
		markrules_unwritten(m->t, false);
	}
	outs_close(m);
	markmetrics_close(m->metrics);
	if (m->registry)
		registry_close(m->registry);
	free(m);
}

/* ---- what it says of itself -------------------------------------------------------------- */

static void came_in(struct text *text, const char *name, const char *help, __u64 value)
{
	metric_family(text, name, "counter", help);
	metric_name(text, name);
	metric_u64(text, value);
}

void marking_metrics(struct text *text, struct marking *m)
{
	const struct flowin_counts *in = &m->in.counts;

	markmetrics_write(text, m->metrics, m->reports, m->fireflies, m->registry);
	came_in(text, "tidemark_marks_started_total", "Starts of flows said by others.",
		in->started);
	came_in(text, "tidemark_marks_ended_total", "Ends of flows said by others.", in->ended);
	came_in(text, "tidemark_marks_refused_total",
		"Lines, requests and datagrams that said nothing of a flow.", in->refused);
	came_in(text, "tidemark_marks_failed_total", "Flows for which the table had no room.",
		in->failed);
	came_in(text, "tidemark_fireflies_relayed_total", "Received fireflies handed on.",
		m->relay.sent);
	came_in(text, "tidemark_fireflies_relay_failed_total",
		"Those that could not be, or whose receiver's name was not found yet.",
		m->relay.failed);
}

struct flowin *marking_in(struct marking *m)
{
	return &m->in;
}
