// SPDX-License-Identifier: GPL-2.0-only
/* What the kernel notes of a packet is what dissect() reads in its bytes: for rebuilt indexes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../user/class.h"
#include "../user/dissect.h"
#include "../user/rings.h"
#include "rig.h"
#include "spoil.h"
#include "tap.h"
#include "tidemark.skel.h"

static struct rig r;
static struct frame f;
static struct tidemark t;
static struct ring_buffer **rings;
static struct dissector dissector;
static struct packet kernel;
static struct track user;
static unsigned recorded;

static int record(void *ctx, void *data, size_t size)
{
	struct dissected more;

	(void)ctx;
	kernel = *(struct packet *)data;
	if (size < sizeof(kernel) + kernel.kept)
		return 0;
	recorded++;
	memset(&user, 0, sizeof(user));
	user.flow.node = kernel.track.flow.node;
	dissect(&dissector, (unsigned char *)data + sizeof(kernel), kernel.kept, kernel.wire,
		kernel.flags, &user, &more);
	user.class = kernel.track.class;
	user.device = kernel.track.device;
	user.mark = kernel.track.mark;
	user.pid = kernel.track.pid;
	memcpy(user.comm, kernel.track.comm, sizeof(user.comm));
	return 0;
}

static int recording(void)
{
	static struct class_list classes;
	__u32 slots[CLASSES];
	int err;

	tidemark_init(&t, NULL, NULL);
	for (int i = 0; i < MAPS_NR; i++)
		t.map[i] = bpf_object__find_map_fd_by_name(r.skel->obj, map_names[i]);
	t.settings = r.settings;
	t.cpus = libbpf_num_possible_cpus();
	rings = calloc(t.cpus, sizeof(*rings));
	err = rings ? rings_put(t.map[MAP_packets], t.cpus, 1 << 20) : -ENOMEM;
	for (unsigned cpu = 0; cpu < t.cpus && !err; cpu++) {
		rings[cpu] = rings_reader(t.map[MAP_packets], cpu, record, NULL);
		err = rings[cpu] ? 0 : -errno;
	}
	if (!err)
		err = class_finish(&classes, CLASS_WHOLE, NULL);
	if (!err)
		err = class_publish(&t, &classes, UINT32_MAX, slots);
	class_generation(&t);
	return err;
}

static void again(void)
{
	rig_reset(&r);
	memset(&dissector, 0, sizeof(dissector));
	class_generation(&t);
}

/* Was it recorded, and do both say the same of it? */
static bool agrees(__u32 how)
{
	recorded = 0;
	if (rig_run(&r, &f, how) == RIG_REFUSED)
		return true;
	for (unsigned cpu = 0; cpu < t.cpus; cpu++)
		ring_buffer__consume(rings[cpu]);
	return recorded == 1 && !memcmp(&kernel.track, &user, sizeof(user));
}

static void differ_print(void)
{
	const unsigned char *a = (void *)&kernel.track, *b = (void *)&user;

	for (size_t i = 0; i < sizeof(user); i++)
		if (a[i] != b[i])
			printf("# byte %zu of the track: kernel %02x, dissect %02x\n", i, a[i],
			       b[i]);
	spoil_print(&f);
}

int main(void)
{
	const __u64 seed = spoil_number("PKT_SEED", time(NULL));
	const __u64 runs = spoil_number("PKT_RUNS", 200000);
	static const __u32 ways[] = { IN, OUT, IN | 1, OUT | 2 };
	unsigned long long differ = 0, ran = 0;
	const char *name;
	unsigned end;

	if (rig_open(&r, NULL))
		return skip_all("this kernel does not load the packet programs");
	if (recording())
		return 1;
	for (unsigned i = 0; (name = frame_sample(&f, i, &end)); i++)
		for (unsigned w = 0; w < 2; w++)
			if (!ok(agrees(ways[w]), "the same track of %s, %s", name,
				w ? "sent" : "received"))
				differ_print();
	spoil_seed(seed);
	printf("# PKT_SEED=%llu PKT_RUNS=%llu\n", seed, runs);
	for (__u64 i = 0; i < runs; i++) {
		/* Which of too many fragments are forgotten first may differ. */
		if (i % 512 == 0)
			again();
		spoil_make(&f);
		if (agrees(ways[spoil_below(4)])) {
			ran += recorded;
			continue;
		}
		if (differ++ < 8)
			differ_print();
	}
	ok(!differ, "the same of %llu spoiled packets (%llu differ)", ran, differ);
	rig_close(&r);
	return done();
}
