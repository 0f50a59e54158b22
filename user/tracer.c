// SPDX-License-Identifier: GPL-2.0-only
/* The engine of `trace` and `run`: from the kernel's rings, joined and in order, to sinks. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "event.h"
#include "log.h"
#include "loop.h"
#include "physical.h"
#include "state.h"
#include "tracer.h"

/* How often the rings are emptied, and how old a burst may get before it is ended. */
#define DRAIN_NS (10 * 1000 * 1000)
#define BURST_MOST_NS (80ULL * 1000 * 1000)
#define SECOND_NS 1000000000ULL

struct tracer {
	struct tidemark *t;
	struct event_base *base;
	const __u32 *only;
	size_t only_n;
	struct ring_buffer *rings;
	struct join *join;
	struct lines *lines;
	struct sink *sinks;
	struct discover *discover;
	struct waiter *follows[DISCOVER_FDS], *drains, *clock_set;
	int clock_fd;
	__u64 now_ns, last_second_ns, events, lost;
	int err;
	bool gone;
};

static __u64 boot_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* ---- to the sinks -------------------------------------------------------------------- */

static int sinks_give(struct tracer *tracer, struct sink_event *event, const char *reason)
{
	int err = 0;

	for (struct sink *sink = tracer->sinks; sink && !err; sink = sink->next) {
		if (sink->lines && !event->line) {
			event->line = event->joined ? lines_event(tracer->lines, event->joined,
								  &event->len)
						    : lines_gap(tracer->lines, event->node,
								event->stamp, event->wall_ns,
								event->lost, reason, &event->len);
		}
		err = sink->event(sink, event);
	}
	return err;
}

static int joined_give(const struct joined *joined, void *ctx)
{
	struct tracer *tracer = ctx;
	struct sink_event event = {
		.joined = joined,
		.node = joined->event.node,
		.stamp = joined->event.stamp,
		.wall_ns = joined->event.wall_ns,
	};
	bool wanted = !tracer->only_n;

	for (size_t i = 0; i < tracer->only_n && !wanted; i++)
		wanted = tracer->only[i] == event.node;
	if (!wanted)
		return 0;
	tracer->events++;
	return sinks_give(tracer, &event, NULL);
}

static void gap_give(struct tracer *tracer, const struct clock *c, __u64 lost)
{
	struct sink_event event = {
		.node = c->node,
		.stamp = *(volatile __u64 *)&c->now,
		.wall_ns = physical_now_ns() + c->skew_ns,
		.lost = lost,
	};

	tracer->lost += lost;
	tracer->err = sinks_give(tracer, &event, GAP_RING);
}

/* What no ring had room for. */
static void gaps_give(struct tracer *tracer)
{
	for (__u32 i = 0; i < tracer->t->clocks_n && !tracer->err; i++) {
		struct clock *c = &tracer->t->clocks[i];
		__u32 lost = *(volatile __u64 *)&c->lost - c->told;

		if (!lost)
			continue;
		gap_give(tracer, c, lost);
		c->told += lost;
	}
}

/* ---- from the kernel ----------------------------------------------------------------- */

static int record_take(void *ctx, void *data, size_t size)
{
	struct tracer *tracer = ctx;

	if (size >= sizeof(struct event) && !tracer->err)
		tracer->err = join_add(tracer->join, data, tracer->now_ns);
	return tracer->err;
}

/* One consumer for all CPUs' rings. */
static int rings_open(struct tracer *tracer)
{
	__u32 id;
	int fd;

	for (__u32 cpu = 0; cpu < tracer->t->cpus; cpu++) {
		if (bpf_map_lookup_elem(tracer->t->map[MAP_events], &cpu, &id))
			return -errno;
		fd = bpf_map_get_fd_by_id(id);
		if (fd < 0)
			return -errno;
		if (!tracer->rings)
			tracer->rings = ring_buffer__new(fd, record_take, tracer, NULL);
		else if (ring_buffer__add(tracer->rings, fd, record_take, tracer))
			return -errno;
		close(fd); /* libbpf has mapped it */
		if (!tracer->rings)
			return -errno;
	}
	return 0;
}

/* Where they are per flow, the kernel looks through them itself. */
static void bursts_end_flows(struct tracer *tracer, __u64 before_ns)
{
	struct bursts_call call = { .before_ns = before_ns };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));

	bpf_prog_test_run_opts(tracer->t->bursts_end, &opts);
}

/* Ask the kernel to end bursts that were opened long ago; at the end, all of them. */
static void bursts_end(struct tracer *tracer, __u64 older_ns)
{
	struct event_call call = {};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call, .ctx_size_in = sizeof(call));
	__u64 now_ns = boot_ns();

	for (__u32 i = 0; i < tracer->t->clocks_n; i++) {
		const struct clock *c = &tracer->t->clocks[i];
		__u64 run = *(volatile __u64 *)&c->run;

		if (!run_packets(run) || *(volatile __u64 *)&c->opened_ns + older_ns > now_ns)
			continue;
		call.clock = i;
		bpf_prog_test_run_opts(tracer->t->event_end, &opts);
	}
	if (tracer->t->settings->burst_flow)
		bursts_end_flows(tracer, now_ns - older_ns);
}

static void second(struct tracer *tracer)
{
	physical_publish(tracer->t);
	state_save(tracer->t, STATE_AHEAD_NS);
	discover_names(tracer->discover);
	lines_rename(tracer->lines);
	for (struct sink *sink = tracer->sinks; sink; sink = sink->next)
		if (sink->rename)
			sink->rename(sink);
}

static void drain(int fd, void *ctx)
{
	struct tracer *tracer = ctx;

	(void)fd;
	tracer->now_ns = physical_monotonic_ns();
	if (faccessat(tracer->t->dir, "settings", F_OK, 0)) {
		log_info("the datapath was taken down");
		tracer->gone = true;
		loop_break(tracer->base);
		return;
	}
	discover_tick(tracer->discover);
	bursts_end(tracer, BURST_MOST_NS);
	ring_buffer__consume(tracer->rings);
	if (!tracer->err)
		tracer->err = join_give(tracer->join, tracer->now_ns);
	gaps_give(tracer);
	if (tracer->now_ns >= tracer->last_second_ns + SECOND_NS) {
		tracer->last_second_ns = tracer->now_ns;
		second(tracer);
	}
	for (struct sink *sink = tracer->sinks; sink; sink = sink->next)
		if (sink->tick)
			sink->tick(sink, tracer->now_ns);
	if (tracer->err)
		loop_break(tracer->base);
}

static void clock_was_set(int fd, void *ctx)
{
	struct tracer *tracer = ctx;

	physical_rearm(fd);
	physical_publish(tracer->t);
}

/* ---- namespaces that come and go ----------------------------------------------------- */

static void follow_links(int fd, void *ctx)
{
	(void)fd;
	discover_read(((struct tracer *)ctx)->discover, 0);
}

static void follow_mounts(int fd, void *ctx)
{
	(void)fd;
	discover_read(((struct tracer *)ctx)->discover, 1);
}

static void follow_newcomers(int fd, void *ctx)
{
	(void)fd;
	discover_read(((struct tracer *)ctx)->discover, 2);
}

static void waiter_drop(struct waiter **waiter)
{
	waiter_free(*waiter);
	*waiter = NULL;
}

/*
 * The list of mounts is always readable and says by EPOLLPRI that it has changed, which
 * libevent does not know; but edge-triggered it is ready once for each change.
 */
static int follow(struct tracer *tracer)
{
	static const wait_fn fns[DISCOVER_FDS] = { follow_links, follow_mounts, follow_newcomers };
	int fds[DISCOVER_FDS];

	discover_fds(tracer->discover, fds);
	for (int i = 0; i < DISCOVER_FDS; i++) {
		bool edge = discover_events(i) & EPOLLPRI;

		tracer->follows[i] = loop_readable(tracer->base, fds[i], edge, fns[i], tracer);
		if (!tracer->follows[i])
			return -ENOMEM;
	}
	return 0;
}

static void unfollow(struct tracer *tracer)
{
	for (int i = 0; i < DISCOVER_FDS; i++)
		waiter_drop(&tracer->follows[i]);
	discover_close(tracer->discover);
	tracer->discover = NULL;
}

int tracer_follow(struct tracer *tracer, const struct discover_choice *choice)
{
	int err;

	unfollow(tracer);
	tracer->discover = discover_open(tracer->t, choice);
	if (!tracer->discover)
		return -EIO; /* said */
	err = follow(tracer);
	if (err)
		log_error("cannot follow namespaces: %s", strerror(-err));
	return err;
}

/* ---- from beginning to end ------------------------------------------------------------ */

struct tracer *tracer_open(struct tidemark *t, struct event_base *base,
			   const struct discover_choice *choice)
{
	struct tracer *tracer = calloc(1, sizeof(*tracer));
	int err = -ENOMEM;

	if (tracer) {
		tracer->t = t;
		tracer->base = base;
		tracer->clock_fd = -1;
		err = rings_open(tracer);
		tracer->join = join_new(joined_give, tracer);
		tracer->lines = lines_open(t);
	}
	if (!tracer || err || !tracer->join || !tracer->lines) {
		log_error("cannot read events: %s", strerror(err ? -err : ENOMEM));
		tracer_close(tracer, 1);
		return NULL;
	}
	tracer->now_ns = tracer->last_second_ns = physical_monotonic_ns();
	tracer->discover = discover_open(t, choice);
	if (!tracer->discover) {
		tracer_close(tracer, 1);
		return NULL;
	}
	return tracer;
}

void tracer_only(struct tracer *tracer, const __u32 *ids, size_t n)
{
	tracer->only = ids;
	tracer->only_n = n;
}

void tracer_add(struct tracer *tracer, struct sink *sink)
{
	struct sink **at = &tracer->sinks;

	while (*at)
		at = &(*at)->next;
	*at = sink;
}

struct sink *tracer_sinks(const struct tracer *tracer)
{
	return tracer->sinks;
}

int tracer_drop(struct tracer *tracer, const char *kind, int status)
{
	struct sink **at = &tracer->sinks;

	while (*at) {
		struct sink *sink = *at;

		if (kind && strcmp(sink->kind, kind)) {
			at = &sink->next;
			continue;
		}
		*at = sink->next;
		status = sink->close(sink, status);
	}
	return status;
}

struct lines *tracer_lines(const struct tracer *tracer)
{
	return tracer->lines;
}

/* Not while somebody takes the datapath down: what is pinned after that would be left. */
static int watch_processes(struct tidemark *t)
{
	bool locked = t->lock >= 0;
	int err = locked ? 0 : tidemark_lock(t);

	if (!err && !faccessat(t->dir, "settings", F_OK, 0))
		err = tidemark_watch_processes(t);
	if (!locked)
		tidemark_unlock(t);
	return err;
}

int tracer_start(struct tracer *tracer)
{
	int err;

	tracer->clock_fd = physical_timer();
	err = tracer->clock_fd < 0 ? tracer->clock_fd : follow(tracer);
	if (!err) {
		tracer->drains = loop_every(tracer->base, DRAIN_NS, drain, tracer);
		tracer->clock_set =
			loop_readable(tracer->base, tracer->clock_fd, false, clock_was_set, tracer);
		if (!tracer->drains || !tracer->clock_set)
			err = -ENOMEM;
	}
	if (err) {
		log_error("cannot wait for events: %s", strerror(-err));
		return err;
	}
	if (tracer->t->settings->burst_flow)
		log_info("bursts are per flow (--burst flow): the order within them is lost");
	log_info("watching %u nodes", node_count(tracer->t));
	/* Only now: it takes as long as all the rest, and the packets do not wait for it. */
	err = watch_processes(tracer->t);
	if (err)
		log_warn("processes are not watched (%s): new namespaces are found when something "
			 "in them makes a socket; `tidemark doctor` says more",
			 strerror(-err));
	return 0;
}

void tracer_finish(struct tracer *tracer)
{
	tracer->t->settings->reading = 0;
	bursts_end(tracer, 0);
	tracer->now_ns = physical_monotonic_ns();
	ring_buffer__consume(tracer->rings);
	if (!tracer->err)
		tracer->err = join_drain(tracer->join);
	gaps_give(tracer);
}

__u64 tracer_events(const struct tracer *tracer)
{
	return tracer->events;
}

__u64 tracer_lost(const struct tracer *tracer)
{
	return tracer->lost;
}

bool tracer_gone(const struct tracer *tracer)
{
	return tracer->gone;
}

int tracer_error(const struct tracer *tracer)
{
	return tracer->err;
}

void tracer_stop(struct tracer *tracer)
{
	unfollow(tracer);
	waiter_drop(&tracer->drains);
	waiter_drop(&tracer->clock_set);
	if (tracer->clock_fd >= 0)
		close(tracer->clock_fd);
	tracer->clock_fd = -1;
	ring_buffer__free(tracer->rings);
	tracer->rings = NULL;
	join_free(tracer->join);
	tracer->join = NULL;
}

int tracer_close(struct tracer *tracer, int status)
{
	if (!tracer)
		return status;
	tracer_stop(tracer);
	status = tracer_drop(tracer, NULL, status);
	lines_close(tracer->lines);
	free(tracer);
	return status;
}
