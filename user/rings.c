// SPDX-License-Identifier: GPL-2.0-only
/* The rings of events, one a CPU, and the map that holds them. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "aside.h"
#include "rings.h"

struct rings {
	struct aside filled;
	int map;
	unsigned cpus, bytes;
	int *ring;  /* descriptors, and */
	__u32 *cpu; /* their keys */
};

static unsigned power_of_two(size_t n, unsigned least)
{
	unsigned p = least;

	while (p < n && p < 1U << 30)
		p <<= 1;
	return p;
}

static int rings_create(struct rings *rings)
{
	for (unsigned i = 0; i < rings->cpus; i++) {
		rings->cpu[i] = i;
		rings->ring[i] =
			bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, rings->bytes, NULL);
		if (rings->ring[i] < 0)
			return -errno;
	}
	return 0;
}

/* All in one call waits once. Kernels before 5.13 cannot do that to a map of maps. */
static int rings_fill(void *arg)
{
	struct rings *rings = arg;
	__u32 n = rings->cpus;
	int err = rings_create(rings);

	if (err || !bpf_map_update_batch(rings->map, rings->cpu, rings->ring, &n, NULL))
		return err;
	for (n = 0; n < rings->cpus; n++)
		if (bpf_map_update_elem(rings->map, &n, &rings->ring[n], BPF_ANY))
			return -errno;
	return 0;
}

int rings_holder(const char *name, unsigned cpus)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts);
	/* The map wants to see what it will hold, of any size. */
	int model = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, getpagesize(), NULL);
	int map;

	if (model < 0)
		return -errno;
	opts.inner_map_fd = model;
	map = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, name, sizeof(__u32), sizeof(__u32), cpus,
			     &opts);
	if (map < 0)
		map = -errno;
	close(model);
	return map;
}

struct rings *rings_make(unsigned cpus, size_t bytes)
{
	struct rings *rings = calloc(1, sizeof(*rings));
	int err = ENOMEM;

	if (!rings)
		return NULL;
	rings->map = -1;
	rings->ring = malloc(cpus * sizeof(*rings->ring));
	rings->cpu = calloc(cpus, sizeof(*rings->cpu));
	if (rings->ring && rings->cpu) {
		for (unsigned i = 0; i < cpus; i++)
			rings->ring[i] = -1;
		rings->cpus = cpus;
		rings->bytes = power_of_two(bytes, getpagesize());
		rings->map = rings_holder("events", cpus);
		err = rings->map < 0 ? -rings->map : 0;
	}
	if (!err) {
		aside_start(&rings->filled, rings_fill, rings);
		return rings;
	}
	rings_free(rings);
	errno = err;
	return NULL;
}

int rings_map(const struct rings *rings)
{
	return rings->map;
}

int rings_ready(struct rings *rings)
{
	__u32 id;

	/* In place is enough. What the thread still waits for concerns nobody. */
	for (__u32 i = 0; i < rings->cpus; i++)
		if (bpf_map_lookup_elem(rings->map, &i, &id))
			return aside_join(&rings->filled);
	return 0;
}

void rings_free(struct rings *rings)
{
	if (!rings)
		return;
	aside_join(&rings->filled);
	for (unsigned i = 0; i < rings->cpus; i++)
		if (rings->ring[i] >= 0)
			close(rings->ring[i]);
	if (rings->map >= 0)
		close(rings->map);
	free(rings->ring);
	free(rings->cpu);
	free(rings);
}

int rings_put(int map, unsigned cpus, size_t bytes)
{
	int err = 0, fd;

	bytes = bytes ? power_of_two(bytes, getpagesize()) : 0;
	for (__u32 cpu = 0; cpu < cpus && !err; cpu++) {
		if (!bytes) {
			if (bpf_map_delete_elem(map, &cpu) && errno != ENOENT)
				err = -errno;
			continue;
		}
		fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ring", 0, 0, bytes, NULL);
		if (fd < 0)
			return -errno;
		if (bpf_map_update_elem(map, &cpu, &fd, BPF_ANY))
			err = -errno;
		close(fd);
	}
	return err;
}

struct ring_buffer *rings_reader(int map, unsigned cpu, ring_buffer_sample_fn record, void *ctx)
{
	struct ring_buffer *reader;
	__u32 id;
	int fd;

	if (bpf_map_lookup_elem(map, &cpu, &id))
		return NULL;
	fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return NULL;
	reader = ring_buffer__new(fd, record, ctx, NULL);
	close(fd); /* libbpf has mapped it */
	return reader;
}
