// SPDX-License-Identifier: GPL-2.0-only
/* Packets on their way to disk: batches, and the thread that writes them. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "packets.h"
#include "physical.h"

#define BATCH_BYTES (2 << 20)
#define BATCH_PACKETS 16384
#define BATCHES_KEPT 8 /* for the next ones, rather than freed */
#define TICK_NS (40 * 1000 * 1000)
#define DEVICES 4096 /* hash slots; more devices than that are named by numbers */
#define NODES 64     /* whose gaps are told apart, a class */

struct device {
	__u32 node, device;
	__u32 told; /* classes that know its names, a bit each */
	char node_name[64], device_name[64];
};

struct entry {
	__u64 wall_ns;
	__u32 at; /* in bytes */
	struct device *device;
};

struct batch {
	struct batch *next;
	__u32 n, used;
	struct entry entry[BATCH_PACKETS];
	char bytes[BATCH_BYTES];
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
	/* Atomic: both threads. */
	__u64 waiting_bytes, waiting_packets;
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
	unsigned free_n;

	pthread_mutex_t queue;
	pthread_cond_t changed;
	struct batch *first, **last;
	__u64 writing_since_ns; /* oldest packet of what is in the writer's hands */
	bool stop;

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
	struct held *h = &p->held[packet->track.class];
	struct device *d = e->device;
	int err = 0;

	if (d && !(d->told & 1U << packet->track.class)) {
		d->told |= 1U << packet->track.class;
		segments_device(h->segments, d->node, d->device, d->node_name, d->device_name,
				p->o.linktype		    ? p->o.linktype
				: packet->flags & PACKET_L3 ? 101
							    : 1);
	}
	err = segments_write(h->segments, packet, packet + 1);
	if (err)
		miss_packet(p, h, MISS_DISK, packet);
	if (err)
		disk_state(p, h, err);
	__atomic_sub_fetch(&h->waiting_bytes, sizeof(*packet) + packet->kept, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&h->waiting_packets, 1, __ATOMIC_RELAXED);
	if (packet->wall_ns > p->latest_ns)
		p->latest_ns = packet->wall_ns;
}

static void ticks(struct packets *p)
{
	__u64 now = p->o.patient ? p->latest_ns : physical_now_ns();
	struct segments_stats stats;
	int err;

	for (__u32 i = 0; i < CLASSES; i++) {
		struct held *h = &p->held[i];

		if (!h->segments)
			continue;
		err = segments_tick(h->segments, now);
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

static void *write_all(void *arg)
{
	struct packets *p = arg;
	__u64 due_ns = monotonic_ns() + TICK_NS;
	struct batch *b;

	pthread_mutex_lock(&p->queue);
	for (;;) {
		b = batch_await(p, due_ns);
		if (!b && p->stop)
			break;
		pthread_mutex_unlock(&p->queue);
		pthread_mutex_lock(&p->disk);
		for (__u32 i = 0; b && i < b->n; i++)
			entry_write(p, b, &b->entry[i]);
		if (monotonic_ns() >= due_ns) {
			ticks(p);
			due_ns = monotonic_ns() + TICK_NS;
		}
		pthread_mutex_unlock(&p->disk);
		pthread_mutex_lock(&p->queue);
		p->writing_since_ns = 0;
		if (b)
			batch_free(p, b);
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

int packets_class(struct packets *p, __u32 slot, const struct class_spec *spec)
{
	struct held *h = &p->held[slot];
	struct segments_options o = {
		.dir = p->o.dir,
		.class_name = spec->name,
		.file_bytes = spec->file_bytes,
		.budget_bytes = spec->disk_bytes,
		.age_ns = spec->age_ns,
		.zstd = p->o.zstd,
		.zstd_after_ns = p->o.zstd_after_ns,
		.key_file = p->o.key_file,
	};
	char host[64] = "";
	int err = 0;

	gethostname(host, sizeof(host) - 1);
	o.host = host;
	pthread_mutex_lock(&p->disk);
	if (h->segments && strcmp(h->name, spec->name)) { /* the slot has another now */
		misses_tell(p, h);
		segments_close(h->segments);
		h->segments = NULL;
		for (int i = 0; i < DEVICES; i++)
			if (p->devices[i])
				p->devices[i]->told &= ~(1U << slot);
	}
	h->mem_bytes = spec->mem_bytes;
	memcpy(h->name, spec->name, sizeof(h->name));
	if (!h->segments) {
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
	__u64 waiting = __atomic_load_n(&h->waiting_bytes, __ATOMIC_RELAXED);

	if (waiting + size <= h->mem_bytes)
		return true;
	if (!p->o.patient)
		return false;
	packets_flush(p);
	pthread_mutex_lock(&p->queue);
	while (__atomic_load_n(&h->waiting_bytes, __ATOMIC_RELAXED) + size > h->mem_bytes &&
	       __atomic_load_n(&h->waiting_bytes, __ATOMIC_RELAXED))
		pthread_cond_wait(&p->changed, &p->queue);
	pthread_mutex_unlock(&p->queue);
	return true;
}

void packets_put(struct packets *p, const struct packet *packet, const void *bytes)
{
	size_t size = (sizeof(*packet) + packet->kept + 7) & ~7ULL;
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
		.device = device_find(p, packet->track.flow.node, packet->track.device),
	};
	memcpy(b->bytes + b->used, packet, sizeof(*packet));
	memcpy(b->bytes + b->used + sizeof(*packet), bytes, packet->kept);
	b->used += size;
	__atomic_add_fetch(&h->waiting_bytes, sizeof(*packet) + packet->kept, __ATOMIC_RELAXED);
	__atomic_add_fetch(&h->waiting_packets, 1, __ATOMIC_RELAXED);
}

static int entry_compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->wall_ns != y->wall_ns)
		return x->wall_ns < y->wall_ns ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* One CPU's packets are in order already; a file's stay in the file's. */
static void batch_sort(struct batch *b)
{
	for (__u32 i = 1; i < b->n; i++)
		if (b->entry[i].wall_ns < b->entry[i - 1].wall_ns) {
			qsort(b->entry, b->n, sizeof(*b->entry), entry_compare);
			return;
		}
}

void packets_flush(struct packets *p)
{
	struct batch *b = p->filling;

	if (!b || !b->n)
		return;
	if (!p->o.patient)
		batch_sort(b);
	p->filling = NULL;
	pthread_mutex_lock(&p->queue);
	*p->last = b;
	p->last = &b->next;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->queue);
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
	stats->waiting_bytes = __atomic_load_n(&h->waiting_bytes, __ATOMIC_RELAXED);
	stats->waiting_packets = __atomic_load_n(&h->waiting_packets, __ATOMIC_RELAXED);
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

int packets_close(struct packets *p)
{
	struct batch *b;
	int err, one;

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
		one = segments_close(p->held[i].segments);
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
