// SPDX-License-Identifier: GPL-2.0-only
/* The engine of recording: drains the rings, tells gaps, writes statistics. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "log.h"
#include "node.h"
#include "packets.h"
#include "physical.h"
#include "pipeline.h"
#include "recorder.h"
#include "recstat.h"
#include "rings.h"

#define SECOND_NS 1000000000ULL
#define ASSIGNMENTS_END "assignments of hosts to classes that are no more have ended: %u"
#define PASS_MOST 8192 /* records of one CPU in one pass: then the others get their turn */
#define FETCHED 768    /* bytes of a record: beyond that the processor has seen the pattern */

struct recorder {
	struct tidemark *t;
	struct recorder_options o;
	struct packets *packets;
	struct recstat *stats;
	struct ring_buffer **rings; /* one a CPU */
	struct class_list classes;  /* filters are shared with the caller's list */
	__u32 slots[CLASSES];
	unsigned passed;
	__u32 nodes_seen; /* next_node when filters were compiled */
	__u64 last_second_ns, losses_read_ns;
	__u32 leaving; /* slots of classes that are to be sealed, a bit each, since: */
	__u64 left_ns;
};

/* ---- who records --------------------------------------------------------------------- */

/* When a process began, in ticks since boot: with its pid that is unique. */
static __u64 process_began(pid_t pid)
{
	char path[32], text[1024], *at;
	unsigned long long began = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	at = strrchr(text, ')'); /* its name may contain anything */
	if (!at || sscanf(at + 2,
			  "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			  "%*d %*d %llu",
			  &began) != 1)
		return 0;
	return began;
}

int recorder_other(const struct tidemark *t)
{
	pid_t pid = t->settings->recorder;

	if (!pid || pid == getpid())
		return 0;
	return process_began(pid) == t->settings->recorder_began ? pid : 0;
}

/* ---- out of the rings ---------------------------------------------------------------- */

/*
 * What another CPU has just written comes nearer meanwhile: two records ahead, for the length of
 * the next one, which was fetched before, says where the one behind it begins. It is looked at
 * whether it is written yet or not: a ring is mapped twice in a row, and no record is as long.
 */
static void fetch_ahead(uintptr_t next)
{
	next = (next + 7) & ~7UL; /* a record's head: its length, and something of the kernel's */
	next += BPF_RINGBUF_HDR_SZ + *(const volatile __u32 *)next;
	for (uintptr_t at = next; at < next + FETCHED; at += 64)
		__builtin_prefetch((const void *)at);
}

static int ring_packet(void *ctx, void *data, size_t size)
{
	struct recorder *r = ctx;
	const struct packet *packet = data;

	fetch_ahead((uintptr_t)data + size);
	if (size >= sizeof(*packet) && size - sizeof(*packet) >= packet->kept)
		packets_put(r->packets, packet, packet + 1);
	return ++r->passed < PASS_MOST ? 0 : -EAGAIN;
}

static bool rings_consume(struct recorder *r)
{
	__u64 began_ns = physical_now_ns();
	bool more = false;

	for (unsigned cpu = 0; cpu < r->t->cpus; cpu++) {
		r->passed = 0;
		if (r->rings[cpu] && ring_buffer__consume(r->rings[cpu]) == -EAGAIN)
			more = true;
	}
	packets_flush_until(r->packets, began_ns);
	return more;
}

static void readers_free(struct recorder *r)
{
	for (unsigned cpu = 0; r->rings && cpu < r->t->cpus; cpu++)
		ring_buffer__free(r->rings[cpu]);
	free(r->rings);
	r->rings = NULL;
}

static int readers_open(struct recorder *r)
{
	r->rings = calloc(r->t->cpus, sizeof(*r->rings));
	if (!r->rings)
		return -ENOMEM;
	for (unsigned cpu = 0; cpu < r->t->cpus; cpu++) {
		r->rings[cpu] = rings_reader(r->t->map[MAP_packets], cpu, ring_packet, r);
		if (!r->rings[cpu] && errno != ENOENT)
			return -errno;
	}
	return 0;
}

/* ---- once a second ------------------------------------------------------------------- */

/*
 * What no ring had room for. What was told already stands in the same map, so that
 * whoever records next goes on from there.
 */
static void losses_tell(struct recorder *r)
{
	int map = r->t->map[MAP_losses];
	struct loss_key key, last, told_key;
	struct loss loss, told;
	__u64 now = physical_now_ns();

	for (void *at = NULL; !bpf_map_get_next_key(map, at, &key); at = &last) {
		last = key;
		if (key.class & LOSS_TOLD || bpf_map_lookup_elem(map, &key, &loss))
			continue;
		told_key = (struct loss_key){ key.node, key.class | LOSS_TOLD };
		if (bpf_map_lookup_elem(map, &told_key, &told))
			memset(&told, 0, sizeof(told));
		if (loss.packets == told.packets)
			continue;
		packets_gap(r->packets, key.class, key.node,
			    r->losses_read_ns < loss.last_ns ? r->losses_read_ns : loss.last_ns,
			    loss.last_ns, loss.packets - told.packets, loss.bytes - told.bytes);
		bpf_map_update_elem(map, &told_key, &loss, BPF_ANY);
	}
	r->losses_read_ns = now;
}

/* Those that have run out, or are of these classes: the flows they held are asked again. */
static unsigned assignments_drop(struct recorder *r, __u64 now_ns, __u32 classes)
{
	struct assignment_key key, gone;
	struct assignment a;
	unsigned dropped = 0;
	bool again;

	do {
		again = false;
		for (void *at = NULL; !bpf_map_get_next_key(r->t->map[MAP_assignments], at, &key);
		     at = &key) {
			if (bpf_map_lookup_elem(r->t->map[MAP_assignments], &key, &a) ||
			    ((!a.until_ns || a.until_ns > now_ns) &&
			     (a.class >= CLASSES || !(classes >> a.class & 1))))
				continue;
			gone = key;
			bpf_map_delete_elem(r->t->map[MAP_assignments], &gone);
			dropped++;
			again = true;
			break;
		}
	} while (again);
	return dropped;
}

static void assignments_expire(struct recorder *r)
{
	struct timespec boot;

	clock_gettime(CLOCK_BOOTTIME, &boot);
	if (assignments_drop(r, boot.tv_sec * SECOND_NS + boot.tv_nsec, 0))
		class_generation(r->t);
}

static int classes_tell(struct recorder *r)
{
	int err = class_publish(r->t, &r->classes, r->o.ring_bytes / 4, r->slots);

	if (err)
		log_error("%s: classes: %s", r->t->pin_dir, strerror(-err));
	return err;
}

/*
 * Classes that are in the configuration no more. Flows have been asked again since, and what still
 * was in the rings has been read when they were found empty: their files can be sealed.
 */
static void classes_leave(struct recorder *r, __u64 now_ns)
{
	for (__u32 slot = 0; slot < CLASSES; slot++) {
		if (!(r->leaving >> slot & 1) || now_ns < r->left_ns + SECOND_NS)
			continue;
		if (!packets_class_end(r->packets, slot))
			continue;
		recstat_leave(r->stats, slot);
		r->leaving &= ~(1U << slot);
	}
}

/* A filter may name nodes that were not there when it was compiled. */
static void nodes_new(struct recorder *r)
{
	if (r->nodes_seen == r->t->settings->next_node)
		return;
	r->nodes_seen = r->t->settings->next_node;
	if (class_compile(&r->classes, r->t) > 0 && !classes_tell(r))
		class_generation(r->t);
}

static void second(struct recorder *r, __u64 now_ns, bool emptied)
{
	if (now_ns < r->last_second_ns + SECOND_NS)
		return;
	r->last_second_ns = now_ns;
	losses_tell(r);
	assignments_expire(r);
	nodes_new(r);
	recstat_second(r->stats, now_ns);
	if (emptied)
		classes_leave(r, now_ns);
}

/* One pass, or as many as it takes to be nearly done: but the loop's other work waits. */
void recorder_drain(struct recorder *r)
{
	bool more = true;

	for (int pass = 0; pass < 16 && more; pass++)
		more = rings_consume(r);
	second(r, physical_monotonic_ns(), !more);
}

unsigned recorder_fds(const struct recorder *r, int *fds, unsigned most)
{
	unsigned n = 0;

	for (unsigned cpu = 0; cpu < r->t->cpus && n < most; cpu++)
		if (r->rings[cpu])
			fds[n++] = ring_buffer__epoll_fd(r->rings[cpu]);
	return n;
}

/* ---- begin and end ------------------------------------------------------------------- */

static void device_name(__u32 node, __u32 device, char node_name[64], char device_name[64],
			void *ctx)
{
	const struct recorder *r = ctx;
	const struct attachment_key key = { .node = node, .ifindex = device };
	struct attachment a;
	struct node n;

	if (node_get(r->t, node, &n))
		snprintf(node_name, 64, "node-%u", node);
	else
		snprintf(node_name, 64, "%s", n.name);
	if (bpf_map_lookup_elem(r->t->map[MAP_attachments], &key, &a))
		snprintf(device_name, 64, "if%u", device);
	else
		snprintf(device_name, 64, "%.*s", (int)sizeof(a.device), a.device);
}

/* A burst must fit while we wait for a CPU; many CPUs do not all have one at once. */
static size_t ring_bytes(unsigned cpus)
{
	size_t bytes = RECORDER_RINGS_BYTES / cpus;

	return bytes > 16 << 20 ? 16 << 20 : bytes < 2 << 20 ? 2 << 20 : bytes;
}

static __u32 slots_of(const struct recorder *r)
{
	__u32 slots = 0;

	for (size_t i = 0; i < r->classes.n; i++)
		slots |= 1U << r->slots[i];
	return slots;
}

/*
 * Classes of whoever recorded before that are in the list no more, but may still have packets in
 * the rings: those are kept as they were meant to be, and then the class is sealed.
 */
static int classes_left(struct recorder *r)
{
	struct class_spec spec;
	unsigned dropped;
	int err = 0;

	for (__u32 slot = 0; slot < CLASSES && !err; slot++) {
		memset(&spec, 0, sizeof(spec));
		if (slots_of(r) >> slot & 1 || class_name(r->t, slot, spec.name))
			continue;
		class_defaults(&spec);
		r->leaving |= 1U << slot;
		if (r->t->settings->recording)
			err = packets_class(r->packets, slot, &spec);
	}
	r->left_ns = physical_monotonic_ns();
	dropped = assignments_drop(r, 0, r->leaving);
	if (dropped)
		log_warn(ASSIGNMENTS_END, dropped);
	return err;
}

static int segments_make(struct recorder *r)
{
	int err = 0;

	for (size_t i = 0; i < r->classes.n && !err; i++)
		err = packets_class(r->packets, r->slots[i], &r->classes.at[i]);
	return err;
}

int recorder_classes(struct recorder *r, const struct class_list *classes)
{
	__u32 before = slots_of(r);
	unsigned dropped;
	int err;

	r->classes = *classes;
	err = classes_tell(r);
	if (!err)
		err = segments_make(r);
	if (!err) {
		r->leaving = (r->leaving | before) & ~slots_of(r);
		r->left_ns = physical_monotonic_ns();
		dropped = assignments_drop(r, 0, r->leaving);
		if (dropped)
			log_warn(ASSIGNMENTS_END, dropped);
	}
	class_generation(r->t);
	return err;
}

/*
 * Rings that a killed recorder left are emptied first: into the classes as they were, for
 * a class keeps its slot.
 */
static int rings_begin(struct recorder *r)
{
	struct tidemark *t = r->t;
	int err = readers_open(r);
	bool left = false;

	for (unsigned cpu = 0; !err && cpu < t->cpus; cpu++)
		left |= r->rings[cpu] != NULL;
	if (left && t->settings->recording) {
		log_info("taking over what was recorded since the last recorder ended");
		while (rings_consume(r))
			;
	}
	if (!err)
		err = rings_put(t->map[MAP_packets], t->cpus, r->o.ring_bytes);
	/* What came while the new ones were put: no program writes into the old ones now. */
	while (left && rings_consume(r))
		;
	readers_free(r);
	return err ? err : readers_open(r);
}

struct recorder *recorder_open(struct tidemark *t, const struct class_list *classes,
			       const struct recorder_options *options)
{
	struct recorder *r = calloc(1, sizeof(*r));
	struct packets_options o = { .dir = options->dir,
				     .key_file = options->key_file,
				     .zstd = options->zstd,
				     .zstd_after_ns = options->zstd_after_ns,
				     .name = device_name,
				     .ctx = r };
	int err;

	if (!r)
		return NULL;
	r->t = t;
	r->o = *options;
	if (!r->o.ring_bytes)
		r->o.ring_bytes = ring_bytes(t->cpus);
	r->classes = *classes;
	r->nodes_seen = t->settings->next_node;
	r->losses_read_ns = physical_now_ns();
	r->packets = packets_open(&o);
	err = r->packets ? classes_tell(r) : -ENOMEM;
	if (!err)
		err = segments_make(r);
	if (!err)
		err = classes_left(r);
	if (!err) {
		r->stats = recstat_open(t, r->packets, options->dir,
					options->stats_ns ? options->stats_ns : RECORDER_STATS_NS);
		err = r->stats ? 0 : -EIO;
	}
	if (!err) {
		err = rings_begin(r);
		if (err)
			log_error("rings for packets: %s; choose a smaller --ring", strerror(-err));
	}
	if (!err)
		err = pipeline_need(t, STAGES_LIVE_record);
	if (err) {
		readers_free(r);
		recstat_close(r->stats);
		packets_close(r->packets);
		free(r);
		return NULL;
	}
	t->settings->recorder_began = process_began(getpid());
	t->settings->recorder = getpid();
	class_generation(t);
	return r;
}

int recorder_close(struct recorder *r, bool leave)
{
	struct tidemark *t = r->t;
	int err;

	if (!leave) {
		t->settings->recording = 0;
		/* New rings are put where no program still writes into the old ones. */
		rings_put(t->map[MAP_packets], t->cpus, 0);
	}
	while (rings_consume(r))
		;
	losses_tell(r);
	packets_settle(r->packets); /* so that the last line says what is on disk */
	recstat_second(r->stats, 0);
	t->settings->recorder = 0;
	readers_free(r);
	err = packets_close(r->packets);
	recstat_close(r->stats);
	free(r);
	return err;
}
