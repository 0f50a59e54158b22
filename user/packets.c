// SPDX-License-Identifier: GPL-2.0-only
/* Packets on their way to disk: batches, and the thread that writes them. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "batch.h"
#include "log.h"
#include "packets.h"
#include "physical.h"

#define BATCHES_KEPT 8 /* for the next ones, rather than freed */
#define TICK_NS \
	(20 * 1000 * 1000) /* shorter than RECORDER_DRAIN_NS: what is drained is told at once */
#define IDLE_NS (500 * 1000 * 1000) /* when nothing came: age and budgets are still looked at */
#define AHEAD 8			    /* packets whose flows are fetched before they are needed */
#define DEVICES 4096		    /* hash slots; more devices than that are named by numbers */
#define NODES 64		    /* whose gaps are told apart, a class */

struct device {
	__u32 node, device;
	__u32 told; /* classes that know its names, a bit each */
	char node_name[64], device_name[64];
};

/* Packets of a node that were lost, not told yet. */
struct miss {
	__u32 node;
	__u64 from_ns, to_ns, packets, bytes;
};

struct held {
	struct segments *segments;
	char name[CLASS_NAME_MAX];
	__u64 mem_bytes;
	__u64 filling_bytes; /* in what is not handed over yet */
	/* Atomic: both threads. */
	struct amount waiting; /* in what is */
	__u64 lost_packets, lost_bytes;
	/* Under `counts`. */
	struct miss miss[3][NODES]; /* by why */
	bool stuck;
	struct segments_stats stats;
};

struct packets {
	struct packets_options o;
	struct held held[CLASSES];
	struct device *devices[DEVICES];
	struct batch *filling, *free;
	struct entry spare[BATCH_PACKETS];
	unsigned free_n;
	bool told; /* the writer's: nothing was written that the last tick did not tell */

	pthread_mutex_t queue;
	pthread_cond_t changed;
	struct batch *first, **last;
	__u64 writing_since_ns; /* oldest packet of what is in the writer's hands */
	bool stop, waiting;	/* waiting: for the writer, who wakes nobody else */

	pthread_mutex_t disk;	/* held while something is written, which may take long, */
	pthread_mutex_t counts; /* and this never longer than a copy takes */
	pthread_t writer;
	bool running;
	__u64 latest_ns;
	int err;
};

/* ---- names --------------------------------------------------------------------------- */

static struct device *device_find(struct packets *p, __u32 node, __u32 device)
{
	__u32 at = (node * 2654435761U ^ device * 40503U) % DEVICES;
	struct device *d;

	for (unsigned i = 0; i < 16; i++, at = (at + 1) % DEVICES) {
		d = p->devices[at];
		if (d && (d->node != node || d->device != device))
			continue;
		if (d)
			return d;
		d = calloc(1, sizeof(*d));
		if (!d)
			return NULL;
		d->node = node;
		d->device = device;
		p->o.name(node, device, d->node_name, d->device_name, p->o.ctx);
		p->devices[at] = d;
		return d;
	}
	return NULL;
}

/* ---- losses -------------------------------------------------------------------------- */

enum { MISS_DISK, MISS_MEMORY, MISS_RING, MISSES_NR };
static const char *const miss_reasons[MISSES_NR] = { "disk full or failing", "disk too slow",
						     "ring full" };

/* Of a node like this one, or the last slot, in which those of many nodes come together. */
static void miss_note(struct packets *p, struct held *h, int why, const struct miss *new)
{
	struct miss *m = h->miss[why], *end = m + NODES;

	pthread_mutex_lock(&p->counts);
	while (m + 1 < end && m->packets && m->node != new->node)
		m++;
	if (!m->packets)
		*m = (struct miss){ .node = new->node, .from_ns = new->from_ns };
	if (m->node != new->node)
		m->node = 0;
	if (new->from_ns < m->from_ns)
		m->from_ns = new->from_ns;
	if (new->to_ns > m->to_ns)
		m->to_ns = new->to_ns;
	m->packets += new->packets;
	m->bytes += new->bytes;
	pthread_mutex_unlock(&p->counts);
}

static void miss_packet(struct packets *p, struct held *h, int why, const struct packet *packet)
{
	const struct miss one = { packet->track.flow.node, packet->wall_ns, packet->wall_ns, 1,
				  packet->wire };

	__atomic_add_fetch(&h->lost_packets, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&h->lost_bytes, packet->wire, __ATOMIC_RELAXED);
	miss_note(p, h, why, &one);
}

/* Told once the disk takes something again; till then they add up. */
static void misses_tell(struct packets *p, struct held *h)
{
	struct miss m;

	for (int why = 0; why < MISSES_NR; why++)
		for (int i = 0; i < NODES; i++) {
			pthread_mutex_lock(&p->counts);
			m = h->miss[why][i];
			h->miss[why][i] = (struct miss){};
			pthread_mutex_unlock(&p->counts);
			if (m.packets && segments_gap(h->segments, m.node, m.from_ns, m.to_ns,
						      m.packets, m.bytes, miss_reasons[why])) {
				miss_note(p, h, why, &m);
				return;
			}
		}
}

/* ---- the writer ---------------------------------------------------------------------- */

static void disk_state(struct packets *p, struct held *h, int err)
{
	if (err && !h->stuck) {
		log_error("%s: class %s: %s: packets are lost and counted until there is room",
			  p->o.dir, h->name, strerror(-err));
		p->err = err;
	} else if (!err && h->stuck) {
		log_info("%s: class %s: written again", p->o.dir, h->name);
	}
	h->stuck = err != 0;
}

static void entry_write(struct packets *p, const struct batch *b, const struct entry *e)
{
	const struct packet *packet = (const void *)(b->bytes + e->at);
	struct held *h = &p->held[e->class];
	struct device *d = e->device;
	int err = h->segments ? 0 : -EBADF; /* its class could not be opened again */

	if (!err && d && !(d->told & 1U << e->class)) {
		d->told |= 1U << e->class;
		segments_device(h->segments, d->node, d->device, d->node_name, d->device_name,
				p->o.linktype		    ? p->o.linktype
				: packet->flags & PACKET_L3 ? 101
							    : 1);
	}
	if (!err)
		err = segments_write_hashed(h->segments, packet, packet + 1, e->hash);
	if (err)
		miss_packet(p, h, MISS_DISK, packet);
	if (err)
		disk_state(p, h, err);
	if (e->wall_ns > p->latest_ns)
		p->latest_ns = e->wall_ns;
}

static void entry_await(struct packets *p, const struct batch *b, __u32 i, bool near)
{
	if (i < b->n && p->held[b->entry[i].class].segments)
		segments_await(p->held[b->entry[i].class].segments, b->entry[i].hash, near);
}

static void batch_write(struct packets *p, const struct batch *b)
{
	for (__u32 i = 0; i < b->n; i++) {
		entry_await(p, b, i + 2 * AHEAD, false);
		entry_await(p, b, i + AHEAD, true);
		entry_write(p, b, &b->entry[i]);
	}
	for (__u32 i = 0; i < CLASSES; i++)
		if (b->amounts[i].packets) {
			__atomic_sub_fetch(&p->held[i].waiting.bytes, b->amounts[i].bytes,
					   __ATOMIC_RELAXED);
			__atomic_sub_fetch(&p->held[i].waiting.packets, b->amounts[i].packets,
					   __ATOMIC_RELAXED);
		}
	p->told = false;
}

static void ticks(struct packets *p)
{
	__u64 now = p->o.patient ? p->latest_ns : physical_now_ns();
	struct segments_stats stats;
	int err;

	p->told = true;
	for (__u32 i = 0; i < CLASSES; i++) {
		struct held *h = &p->held[i];

		if (!h->segments)
			continue;
		err = segments_tick(h->segments, now);
		p->told &= !err;
		disk_state(p, h, err);
		if (!err)
			misses_tell(p, h);
		segments_stats(h->segments, &stats);
		pthread_mutex_lock(&p->counts);
		h->stats = stats;
		pthread_mutex_unlock(&p->counts);
	}
}

static __u64 monotonic_ns(void)
{
	return physical_monotonic_ns();
}

static void batch_free(struct packets *p, struct batch *b)
{
	if (p->free_n >= BATCHES_KEPT) {
		free(b);
		return;
	}
	b->next = p->free;
	p->free = b;
	p->free_n++;
}

/* The next batch, or NULL when a tick is due; `queue` is held. */
static struct batch *batch_await(struct packets *p, __u64 due_ns)
{
	struct timespec until = { .tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000 };
	struct batch *b;

	while (!p->first && !p->stop)
		if (pthread_cond_timedwait(&p->changed, &p->queue, &until))
			break;
	b = p->first;
	if (b) {
		p->first = b->next;
		if (!p->first)
			p->last = &p->first;
		p->writing_since_ns = b->entry[0].wall_ns;
	}
	return b;
}

/* With what is there to say, and nothing more to write first; but not for ever. */
static void tick_if_due(struct packets *p, bool more, __u64 *due_ns)
{
	__u64 now = monotonic_ns();

	if (now < *due_ns || (more && now < *due_ns + TICK_NS))
		return;
	ticks(p);
	*due_ns = monotonic_ns() + TICK_NS;
}

static void *write_all(void *arg)
{
	struct packets *p = arg;
	__u64 due_ns = monotonic_ns() + TICK_NS;
	struct batch *b;
	bool more;

	pthread_mutex_lock(&p->queue);
	for (;;) {
		b = batch_await(p, p->told ? due_ns + IDLE_NS : due_ns);
		if (!b && p->stop)
			break;
		more = p->first != NULL;
		pthread_mutex_unlock(&p->queue);
		pthread_mutex_lock(&p->disk);
		if (b)
			batch_write(p, b);
		tick_if_due(p, more, &due_ns);
		pthread_mutex_unlock(&p->disk);
		pthread_mutex_lock(&p->queue);
		p->writing_since_ns = 0;
		if (b)
			batch_free(p, b);
		if (p->waiting)
			pthread_cond_broadcast(&p->changed);
	}
	pthread_mutex_unlock(&p->queue);
	return NULL;
}

static int writer_start(struct packets *p)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&p->writer, NULL, write_all, p);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	p->running = !err;
	return err;
}

/* ---- what comes in ------------------------------------------------------------------- */

struct packets *packets_open(const struct packets_options *options)
{
	struct packets *p = calloc(1, sizeof(*p));
	pthread_condattr_t attr;

	if (!p)
		return NULL;
	p->o = *options;
	p->last = &p->first;
	pthread_mutex_init(&p->queue, NULL);
	pthread_mutex_init(&p->disk, NULL);
	pthread_mutex_init(&p->counts, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (writer_start(p)) {
		log_error("cannot start the writer");
		free(p);
		return NULL;
	}
	return p;
}

/* Seals what the slot's class has; `disk` is held. */
static void held_end(struct packets *p, __u32 slot)
{
	struct held *h = &p->held[slot];

	misses_tell(p, h);
	segments_close(h->segments);
	h->segments = NULL;
	for (int i = 0; i < DEVICES; i++)
		if (p->devices[i])
			p->devices[i]->told &= ~(1U << slot);
}

bool packets_class_end(struct packets *p, __u32 slot)
{
	struct held *h = &p->held[slot];
	bool waits;

	pthread_mutex_lock(&p->disk);
	waits = h->filling_bytes || __atomic_load_n(&h->waiting.packets, __ATOMIC_RELAXED);
	if (h->segments && !waits) {
		held_end(p, slot);
		__atomic_store_n(&h->lost_packets, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&h->lost_bytes, 0, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&p->disk);
	return !waits;
}

int packets_class(struct packets *p, __u32 slot, const struct class_spec *spec)
{
	struct held *h = &p->held[slot];
	struct segments_options o = {
		.dir = p->o.dir,
		.class_name = spec->name,
		.file_bytes = spec->file_bytes,
		.budget_bytes = spec->disk_bytes,
		.age_ns = spec->age_ns,
		.flow_bytes = spec->flow_bytes,
		.zstd = p->o.zstd,
		.zstd_after_ns = p->o.zstd_after_ns,
		.key_file = p->o.key_file,
	};
	char host[64] = "";
	int err = 0;

	gethostname(host, sizeof(host) - 1);
	o.host = host;
	pthread_mutex_lock(&p->disk);
	if (h->segments && strcmp(h->name, spec->name)) /* the slot has another now */
		held_end(p, slot);
	h->mem_bytes = spec->mem_bytes;
	memcpy(h->name, spec->name, sizeof(h->name));
	if (h->segments) {
		segments_limit(h->segments, &o);
	} else {
		h->segments = segments_open(&o);
		if (!h->segments)
			err = errno ? -errno : -EIO;
		else
			segments_stats(h->segments, &h->stats);
	}
	pthread_mutex_unlock(&p->disk);
	return err;
}

static struct batch *batch_new(struct packets *p)
{
	struct batch *b;

	pthread_mutex_lock(&p->queue);
	b = p->free;
	if (b) {
		p->free = b->next;
		p->free_n--;
	}
	pthread_mutex_unlock(&p->queue);
	if (!b)
		b = malloc(sizeof(*b));
	if (b) {
		b->next = NULL;
		b->n = b->used = 0;
	}
	return b;
}

/* Without memory, or more of this class waiting than it may. */
static bool has_room(struct packets *p, struct held *h, size_t size)
{
	__u64 waiting = __atomic_load_n(&h->waiting.bytes, __ATOMIC_RELAXED);

	if (waiting + h->filling_bytes + size <= h->mem_bytes)
		return true;
	if (!p->o.patient)
		return false;
	packets_flush(p);
	pthread_mutex_lock(&p->queue);
	p->waiting = true;
	while (__atomic_load_n(&h->waiting.bytes, __ATOMIC_RELAXED) + size > h->mem_bytes &&
	       __atomic_load_n(&h->waiting.bytes, __ATOMIC_RELAXED))
		pthread_cond_wait(&p->changed, &p->queue);
	p->waiting = false;
	pthread_mutex_unlock(&p->queue);
	return true;
}

void packets_put(struct packets *p, const struct packet *packet, const void *bytes)
{
	size_t size = batch_size(packet);
	struct held *h;
	struct batch *b;

	if (packet->track.class >= CLASSES || !p->held[packet->track.class].segments ||
	    size > BATCH_BYTES)
		return;
	h = &p->held[packet->track.class];
	if (!has_room(p, h, size)) {
		miss_packet(p, h, MISS_MEMORY, packet);
		return;
	}
	b = p->filling;
	if (b && (b->n == BATCH_PACKETS || b->used + size > BATCH_BYTES)) {
		packets_flush(p);
		b = NULL;
	}
	if (!b)
		b = p->filling = batch_new(p);
	if (!b) {
		miss_packet(p, h, MISS_MEMORY, packet);
		return;
	}
	b->entry[b->n++] = (struct entry){
		.wall_ns = packet->wall_ns,
		.at = b->used,
		.size = (__u32)size,
		.hash = segments_hash(packet),
		.class = packet->track.class,
		.device = device_find(p, packet->track.flow.node, packet->track.device),
	};
	memcpy(b->bytes + b->used, packet, sizeof(*packet));
	memcpy(b->bytes + b->used + sizeof(*packet), bytes, packet->kept);
	b->used += size;
	h->filling_bytes += size;
}

/* Both threads look at these. */
static void batch_told(struct packets *p, struct batch *b)
{
	batch_count(b);
	for (__u32 i = 0; i < CLASSES; i++) {
		if (!b->amounts[i].packets)
			continue;
		p->held[i].filling_bytes -= b->amounts[i].bytes;
		__atomic_add_fetch(&p->held[i].waiting.bytes, b->amounts[i].bytes,
				   __ATOMIC_RELAXED);
		__atomic_add_fetch(&p->held[i].waiting.packets, b->amounts[i].packets,
				   __ATOMIC_RELAXED);
	}
}

static void hand_over(struct packets *p, __u64 until_ns)
{
	struct batch *b = p->filling, *rest = NULL;
	__u32 n;

	if (!b || !b->n)
		return;
	if (!p->o.patient)
		batch_sort(b, p->spare);
	n = batch_ripe(b, until_ns);
	if (!n)
		return;
	if (n < b->n)
		rest = batch_new(p);
	if (rest)
		batch_part(b, n, rest);
	batch_told(p, b);
	p->filling = rest;
	pthread_mutex_lock(&p->queue);
	*p->last = b;
	p->last = &b->next;
	pthread_mutex_unlock(&p->queue);
	pthread_cond_broadcast(&p->changed);
}

void packets_flush(struct packets *p)
{
	hand_over(p, ~0ULL);
}

void packets_flush_until(struct packets *p, __u64 until_ns)
{
	hand_over(p, until_ns);
}

void packets_settle(struct packets *p)
{
	packets_flush(p);
	pthread_mutex_lock(&p->queue);
	p->waiting = true;
	while (p->first || p->writing_since_ns)
		pthread_cond_wait(&p->changed, &p->queue);
	p->waiting = false;
	pthread_mutex_unlock(&p->queue);
	pthread_mutex_lock(&p->disk);
	ticks(p);
	pthread_mutex_unlock(&p->disk);
}

void packets_gap(struct packets *p, __u32 slot, __u32 node, __u64 from_ns, __u64 to_ns,
		 __u64 packets, __u64 bytes)
{
	const struct miss m = { node, from_ns, to_ns, packets, bytes };

	if (slot < CLASSES)
		miss_note(p, &p->held[slot], MISS_RING, &m);
}

void packets_stats(struct packets *p, __u32 slot, struct packets_stats *stats)
{
	struct held *h = &p->held[slot];

	memset(stats, 0, sizeof(*stats));
	stats->known = h->segments != NULL;
	stats->waiting_bytes = __atomic_load_n(&h->waiting.bytes, __ATOMIC_RELAXED);
	stats->waiting_packets = __atomic_load_n(&h->waiting.packets, __ATOMIC_RELAXED);
	stats->lost_packets = __atomic_load_n(&h->lost_packets, __ATOMIC_RELAXED);
	stats->lost_bytes = __atomic_load_n(&h->lost_bytes, __ATOMIC_RELAXED);
	pthread_mutex_lock(&p->counts);
	stats->stuck = h->stuck;
	stats->disk = h->stats;
	pthread_mutex_unlock(&p->counts);
	if (!stats->waiting_packets)
		return;
	pthread_mutex_lock(&p->queue);
	stats->waiting_since_ns = p->writing_since_ns ? p->writing_since_ns
				  : p->first	      ? p->first->entry[0].wall_ns
						      : 0;
	pthread_mutex_unlock(&p->queue);
}

/* What was lost on the way, and what still waits for a disk that is full. */
static __u64 held_close(struct packets *p, struct held *h, int *err)
{
	__u64 waits = segments_unwritten(h->segments), lost;

	*err = segments_close(h->segments);
	lost = __atomic_load_n(&h->lost_packets, __ATOMIC_RELAXED) + (*err ? waits : 0);
	if (lost)
		log_error("%s: class %s: %" PRIu64 " packets were lost for want of memory or disk",
			  p->o.dir, h->name, (uint64_t)lost);
	return lost;
}

int packets_close(struct packets *p)
{
	__u64 lost;

	return packets_close_lost(p, &lost);
}

int packets_close_lost(struct packets *p, __u64 *lost)
{
	struct batch *b;
	int err, one;

	*lost = 0;
	if (!p)
		return 0;
	packets_flush(p);
	pthread_mutex_lock(&p->queue);
	p->stop = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->queue);
	if (p->running)
		pthread_join(p->writer, NULL);
	ticks(p);
	err = 0;
	for (__u32 i = 0; i < CLASSES; i++) {
		if (!p->held[i].segments)
			continue;
		if (p->held[i].stuck)
			err = p->err;
		*lost += held_close(p, &p->held[i], &one);
		err = err ? err : one;
	}
	while ((b = p->free)) {
		p->free = b->next;
		free(b);
	}
	free(p->filling);
	for (int i = 0; i < DEVICES; i++)
		free(p->devices[i]);
	free(p);
	return err;
}
