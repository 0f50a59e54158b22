// SPDX-License-Identifier: GPL-2.0-only
/* One datapath: load and pin it, find it again, take its pins away. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/event.h"
#include "../bpf/flow.h"
#include "../bpf/mark.h"
#include "cgroup.h"
#include "../bpf/stage.h"
#include "log.h"
#include "maps.h"
#include "pipeline.h"
#include "rings.h"
#include "tidemark.h"
#include "tidemark.skel.h"
#include "trace.skel.h"

#define BPF_FS_MAGIC 0xcafe4a11

#define FLOWS_DEFAULT 65536
#define NODES_DEFAULT 4096
#define RING_DEFAULT (4 << 20)
#define FRAGMENTS 4096
#define NAMESPACES 16384
#define HEIRS 16384
#define NEWCOMERS_BYTES (64 << 10)
#define REPORTS_BYTES (256 << 10) /* what it has no room for is found in the table */

const char *const map_names[MAPS_NR] = {
#define X(name) #name,
	MAPS(X)
#undef X
};

void tidemark_init(struct tidemark *t, const char *pin_dir, const char *state_dir)
{
	memset(t, 0, sizeof(*t));
	t->pin_dir = pin_dir ? pin_dir : PIN_DIR;
	t->state_dir = state_dir ? state_dir : STATE_DIR;
	t->dir = -1;
	t->lock = -1;
	t->event_end = -1;
	t->event_node = -1;
	t->flow_tick = -1;
	t->mark_touch = -1;
	t->bursts_end = -1;
	for (int i = 0; i < MAPS_NR; i++)
		t->map[i] = -1;
}

void tidemark_close(struct tidemark *t)
{
	if (t->reads) {
		t->settings->reading = 0;
		t->settings->reader = 0;
	}
	if (t->clocks)
		munmap(t->clocks, t->clocks_n * sizeof(struct clock));
	if (t->settings)
		munmap(t->settings, sizeof(struct settings));
	for (int i = 0; i < MAPS_NR; i++)
		if (t->map[i] >= 0)
			close(t->map[i]);
	if (t->event_end >= 0)
		close(t->event_end);
	if (t->event_node >= 0)
		close(t->event_node);
	if (t->flow_tick >= 0)
		close(t->flow_tick);
	if (t->mark_touch >= 0)
		close(t->mark_touch);
	if (t->bursts_end >= 0)
		close(t->bursts_end);
	if (t->dir >= 0)
		close(t->dir);
	tidemark_unlock(t);
	rings_free(t->rings);
	tidemark_init(t, t->pin_dir, t->state_dir);
}

int exit_of(int err)
{
	return err == -EOPNOTSUPP ? EXIT_CANNOT : 1;
}

static int pin_path(const struct tidemark *t, char path[PATH_MAX], const char *name)
{
	int n = snprintf(path, PATH_MAX, "%s/%s", t->pin_dir, name);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/*
 * Where the datapath lies while it is made: complete or not there at all, see below. A dot
 * in a name is reserved by the bpf file system.
 */
static int pin_starting(const struct tidemark *t, char path[PATH_MAX])
{
	int n = snprintf(path, PATH_MAX, "%s-starting", t->pin_dir);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* The directory above the pins must be a bpf file system. */
static int pin_parent(const struct tidemark *t, char path[PATH_MAX])
{
	struct statfs fs;
	char *slash;

	if (snprintf(path, PATH_MAX, "%s", t->pin_dir) >= PATH_MAX)
		return -ENAMETOOLONG;
	slash = strrchr(path, '/');
	if (!slash || slash == path) {
		log_error("%s: not a directory pins can be in; give an absolute path", t->pin_dir);
		return -EINVAL;
	}
	*slash = 0;
	if (geteuid()) {
		log_error("not root: BPF and other namespaces need it; use sudo");
		return -EPERM;
	}
	if (statfs(path, &fs) || (unsigned)fs.f_type != BPF_FS_MAGIC) {
		log_error("%s: no bpf file system there; mount -t bpf bpf /sys/fs/bpf", path);
		return -ENODEV;
	}
	return 0;
}

int tidemark_lock(struct tidemark *t)
{
	char path[PATH_MAX];
	int err = pin_parent(t, path);

	if (err)
		return err;
	t->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->lock < 0 || flock(t->lock, LOCK_EX)) {
		err = -errno;
		log_error("%s: %s", path, strerror(errno));
		return err;
	}
	return 0;
}

void tidemark_unlock(struct tidemark *t)
{
	if (t->lock >= 0)
		close(t->lock);
	t->lock = -1;
}

static int tidemark_map_memory(struct tidemark *t)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(t->map[MAP_clocks], &info, &len))
		return -errno;
	t->clocks_n = info.max_entries;
	t->clocks = mmap(NULL, t->clocks_n * sizeof(struct clock), PROT_READ | PROT_WRITE,
			 MAP_SHARED, t->map[MAP_clocks], 0);
	if (t->clocks == MAP_FAILED) {
		t->clocks = NULL;
		return -errno;
	}
	t->settings = mmap(NULL, sizeof(struct settings), PROT_READ | PROT_WRITE, MAP_SHARED,
			   t->map[MAP_settings], 0);
	if (t->settings == MAP_FAILED) {
		t->settings = NULL;
		return -errno;
	}
	memset(&info, 0, sizeof(info));
	if (bpf_obj_get_info_by_fd(t->map[MAP_events], &info, &len))
		return -errno;
	t->cpus = info.max_entries;
	return 0;
}

int tidemark_open(struct tidemark *t)
{
	char path[PATH_MAX];
	int err = pin_parent(t, path), err2;

	if (err)
		return err;
	t->dir = open(t->pin_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t->dir < 0)
		return -errno;
	/* All that there is: `down` can use a part of them. */
	for (int i = 0; i < MAPS_NR; i++) {
		if (pin_path(t, path, map_names[i]))
			return -ENAMETOOLONG;
		t->map[i] = bpf_obj_get(path);
		if (t->map[i] < 0)
			err = -errno;
	}
	if (!err && (pin_path(t, path, "event_end") || (t->event_end = bpf_obj_get(path)) < 0 ||
		     pin_path(t, path, "event_node") || (t->event_node = bpf_obj_get(path)) < 0 ||
		     pin_path(t, path, "flow_tick") || (t->flow_tick = bpf_obj_get(path)) < 0 ||
		     pin_path(t, path, "mark_touch") || (t->mark_touch = bpf_obj_get(path)) < 0 ||
		     pin_path(t, path, "bursts_end") || (t->bursts_end = bpf_obj_get(path)) < 0))
		err = -errno;
	err2 = tidemark_map_memory(t);
	if (!err)
		err = err2;
	if (err) {
		log_error("%s: not a whole datapath (%s); `tidemark down` removes what is left",
			  t->pin_dir, strerror(-err));
		return err == -ENOENT ? -EIO : err;
	}
	return 0;
}

/* Here alone: whoever calls the skeleton's own function gets the whole object once more. */
struct tidemark_bpf *tidemark_object(void)
{
	return tidemark_bpf_unpack();
}

static void sizes_set(struct tidemark_bpf *skel, const struct sizes *sizes)
{
	unsigned flows = sizes->flows ? sizes->flows : FLOWS_DEFAULT;
	unsigned nodes = sizes->nodes ? sizes->nodes : NODES_DEFAULT;
	unsigned brief = flows / 4 > 1024 ? flows / 4 : 1024;

	bpf_map__set_max_entries(skel->maps.flows, flows);
	/* An entry there is of use until it is answered, and here until the packet arrives. */
	bpf_map__set_max_entries(skel->maps.embryonic, brief);
	bpf_map__set_max_entries(skel->maps.sends, brief);
	bpf_map__set_max_entries(skel->maps.fragments, FRAGMENTS);
	bpf_map__set_max_entries(skel->maps.nodes, nodes);
	bpf_map__set_max_entries(skel->maps.attachments, nodes * 16);
	bpf_map__set_max_entries(skel->maps.clocks, nodes);
	bpf_map__set_max_entries(skel->maps.namespaces, NAMESPACES);
	bpf_map__set_max_entries(skel->maps.newcomers, NEWCOMERS_BYTES);
	bpf_map__set_max_entries(skel->maps.reports, REPORTS_BYTES);
	bpf_map__set_max_entries(skel->maps.marks, MARKS_DEFAULT);
	bpf_map__set_max_entries(skel->maps.heirs, HEIRS);
	bpf_map__set_max_entries(skel->maps.packets, libbpf_num_possible_cpus());
	bpf_map__set_max_entries(skel->maps.bursts, sizes->parts & PART_BURSTS ? flows : 1);
}

/*
 * Sockets are told of their owner where they are made, and their segments get room for a
 * stamp: cgroup hooks, on all of them.
 */
static int socket_attach(struct bpf_program *program, int cgroup, const char *dir)
{
	struct bpf_link *link = bpf_program__attach_cgroup(program, cgroup);
	char path[PATH_MAX];
	int err;

	if (!link)
		return -errno;
	if (snprintf(path, sizeof(path), "%s/%s", dir, bpf_program__name(program)) >=
	    (int)sizeof(path))
		err = -ENAMETOOLONG;
	else
		err = bpf_link__pin(link, path);
	bpf_link__destroy(link);
	return err;
}

static int sockets_attach(struct tidemark_bpf *skel, const char *dir)
{
	int fd = cgroup_root_open(), err;

	if (fd == -ENODEV)
		log_error("no cgroup2 mounted, which tells whose sockets are whose; "
			  "mount -t cgroup2 none /sys/fs/cgroup/unified");
	else if (fd < 0)
		log_error("cgroup2: %s", strerror(-fd));
	if (fd < 0)
		return fd;
	err = socket_attach(skel->progs.sock_made, fd, dir);
	if (!err)
		err = socket_attach(skel->progs.wire_ops, fd, dir);
	if (err)
		log_error("cgroup2: cannot attach there: %s", strerror(-err));
	close(fd);
	return err;
}

/* The pipeline: where attachments jump to it, and for who looks. */
static int pipeline_pin(struct tidemark_bpf *skel, int fd, const char *dir)
{
	char path[PATH_MAX];
	int zero = 0;

	if (snprintf(path, sizeof(path), "%s/pipeline", dir) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.pipelines), &zero, &fd, BPF_ANY) ||
	    bpf_obj_pin(fd, path))
		return -errno;
	return 0;
}

static int pins_make(struct tidemark_bpf *skel, const char *dir)
{
	static const char *const programs[] = { "event_end",  "event_node",	"flow_tick",
						"mark_touch", "record_suspend", "bursts_end" };
	struct bpf_map *map;
	char path[PATH_MAX];
	int err;

	for (int i = 0; i < MAPS_NR; i++) {
		if (snprintf(path, sizeof(path), "%s/%s", dir, map_names[i]) >= (int)sizeof(path))
			return -ENAMETOOLONG;
		map = bpf_object__find_map_by_name(skel->obj, map_names[i]);
		err = map ? bpf_map__pin(map, path) : -ENOENT;
		if (err)
			return err;
	}
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
		if (snprintf(path, sizeof(path), "%s/%s", dir, programs[i]) >= (int)sizeof(path))
			return -ENAMETOOLONG;
		err = bpf_program__pin(bpf_object__find_program_by_name(skel->obj, programs[i]),
				       path);
		if (err)
			return err;
	}
	return 0;
}

static int pins_remove(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
	struct dirent *entry;
	DIR *list;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	list = fdopendir(fd);
	if (!list) {
		err = -errno;
		close(fd);
		return err;
	}
	while ((entry = readdir(list)))
		if (entry->d_name[0] != '.' && unlinkat(fd, entry->d_name, 0))
			err = -errno;
	closedir(list);
	if (!err && rmdir(dir))
		err = -errno;
	return err;
}

static int load_failed(int err)
{
	if (err == -EPERM || err == -EACCES)
		log_error("the kernel refuses BPF programs (%s); run as root, and see "
			  "`tidemark doctor`",
			  strerror(-err));
	else
		log_error("this kernel cannot run the packet programs (%s); `tidemark doctor` says "
			  "what is missing, -vv what the verifier said",
			  strerror(-err));
	return err == -EPERM || err == -EACCES ? err : -EOPNOTSUPP;
}

/*
 * Everything is pinned in a directory of another name first, which then takes its place
 * in one step: whoever is killed in between leaves either a whole datapath or rubbish that
 * the next start clears away.
 */
static int pins_place(struct tidemark *t, struct tidemark_bpf *skel, int pipeline, const char *path)
{
	int err = mkdir(path, 0700) ? -errno : 0;

	if (!err)
		err = pipeline_pin(skel, pipeline, path);
	if (!err)
		err = pins_make(skel, path);
	if (!err)
		err = rings_ready(t->rings);
	if (err)
		log_error("%s: cannot make the datapath: %s", t->pin_dir, strerror(-err));
	if (!err)
		err = sockets_attach(skel, path);
	if (!err && rename(path, t->pin_dir)) {
		err = -errno;
		log_error("%s: cannot make the datapath: %s", t->pin_dir, strerror(-err));
	}
	return err;
}

int tidemark_create(struct tidemark *t, const struct sizes *sizes,
		    const struct meanwhile *meanwhile)
{
	struct pipeline_making making = { .parts = PARTS_FIRST | sizes->parts };
	int err, cpus = libbpf_num_possible_cpus(), pipeline = -1;
	struct tidemark_bpf *skel;
	char path[PATH_MAX];

	err = pin_parent(t, path);
	if (!err)
		err = pin_starting(t, path);
	if (err)
		return err;
	pins_remove(path);
	for (int i = 0; i < MAPS_NR; i++)
		making.map[i] = -1;
	pipeline_begin(&making);
	skel = tidemark_object();
	if (!skel) {
		err = -errno;
		goto out;
	}
	sizes_set(skel, sizes);
	skel->rodata->stages = making.parts;
	/* A ring for each CPU that may ever be. The outer map holds them; nobody else does. */
	t->rings = rings_make(cpus, sizes->ring_bytes ? sizes->ring_bytes : RING_DEFAULT);
	err = t->rings ? 0 : -errno;
	if (err) {
		log_error("%s: cannot make the datapath: %s", t->pin_dir, strerror(-err));
		goto out;
	}
	making.map[MAP_events] = rings_map(t->rings);
	pipeline = programs_load(skel, &making, meanwhile);
	err = pipeline < 0 ? load_failed(pipeline) : pins_place(t, skel, pipeline, path);
	if (!err)
		err = tidemark_open(t);
	if (!err)
		t->settings->parts = making.parts;
out:
	pipeline_end(&making);
	making.map[MAP_events] = -1; /* the rings' */
	for (int i = 0; i < MAPS_NR; i++)
		if (making.map[i] >= 0)
			close(making.map[i]);
	if (pipeline >= 0)
		close(pipeline);
	if (err)
		pins_remove(path);
	tidemark_bpf__destroy(skel);
	return err;
}

int tidemark_private(struct tidemark *t, const struct sizes *sizes, unsigned batch, int *program,
		     int *heads, int *replayed)
{
	struct tidemark_bpf *skel = tidemark_object();
	struct bpf_map *map;
	int err, zero = 0, fd;

	if (!skel)
		return -errno;
	sizes_set(skel, sizes);
	bpf_map__set_max_entries(skel->maps.clocks, 1);
	bpf_map__set_max_entries(skel->maps.events, libbpf_num_possible_cpus());
	bpf_map__set_max_entries(skel->maps.heads, batch);
	bpf_program__set_autoload(skel->progs.replay, true);
	bpf_program__set_autoload(skel->progs.sock_made, false);
	skel->rodata->stages = (PARTS_FIRST & ~STAGES_LIVE_clock) | STAGES_LIVE_record;
	err = tidemark_bpf__load(skel);
	if (err) {
		err = load_failed(err);
		goto out;
	}
	fd = bpf_program__fd(skel->progs.pipeline);
	if (bpf_map_update_elem(bpf_map__fd(skel->maps.pipelines), &zero, &fd, BPF_ANY))
		err = -errno;
	for (int i = 0; i < MAPS_NR && !err; i++) {
		map = bpf_object__find_map_by_name(skel->obj, map_names[i]);
		t->map[i] = map ? fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3) : -1;
		if (t->map[i] < 0)
			err = -ENOENT;
	}
	*program = fcntl(bpf_program__fd(skel->progs.replay), F_DUPFD_CLOEXEC, 3);
	*heads = fcntl(bpf_map__fd(skel->maps.heads), F_DUPFD_CLOEXEC, 3);
	*replayed = fcntl(bpf_map__fd(skel->maps.replayed), F_DUPFD_CLOEXEC, 3);
	if (!err)
		err = tidemark_map_memory(t);
	if (err)
		log_error("cannot make a datapath: %s", strerror(-err));
out:
	tidemark_bpf__destroy(skel);
	return err;
}

static int link_pin(const struct tidemark *t, struct bpf_program *program)
{
	struct bpf_link *link;
	char path[PATH_MAX];
	int err = pin_path(t, path, bpf_program__name(program));

	if (err)
		return err;
	link = bpf_program__attach(program);
	if (!link)
		return -errno;
	err = bpf_link__pin(link, path);
	bpf_link__destroy(link);
	return err;
}

int tidemark_watch_processes(struct tidemark *t)
{
	struct trace_bpf *skel;
	char path[PATH_MAX];
	int err = pin_path(t, path, "process_started");

	if (err || !access(path, F_OK)) /* they run already */
		return err;
	skel = trace_bpf_unpack();
	if (!skel)
		return -errno;
	bpf_map__reuse_fd(skel->maps.owners, t->map[MAP_owners]);
	bpf_map__reuse_fd(skel->maps.namespaces, t->map[MAP_namespaces]);
	bpf_map__reuse_fd(skel->maps.newcomers, t->map[MAP_newcomers]);
	bpf_map__reuse_fd(skel->maps.heirs, t->map[MAP_heirs]);
	bpf_map__reuse_fd(skel->maps.settings, t->map[MAP_settings]);
	bpf_map__reuse_fd(skel->maps.flows, t->map[MAP_flows]);
	bpf_map__reuse_fd(skel->maps.embryonic, t->map[MAP_embryonic]);
	err = trace_bpf__load(skel);
	if (!err)
		err = link_pin(t, skel->progs.socket_read);
	if (!err)
		err = link_pin(t, skel->progs.process_started);
	trace_bpf__destroy(skel);
	return err;
}

int tidemark_sum(const struct tidemark *t, enum map map, __u32 key, __u64 *sum, size_t size)
{
	size_t cpus = (size_t)libbpf_num_possible_cpus(), counts = size / sizeof(*sum);
	__u64 *each = calloc(cpus, size);
	int err = 0;

	memset(sum, 0, size);
	if (!each)
		return -ENOMEM;
	if (bpf_map_lookup_elem(t->map[map], &key, each))
		err = -errno;
	for (size_t i = 0; i < cpus * counts && !err; i++)
		sum[i % counts] += each[i];
	free(each);
	return err;
}

__u32 tidemark_tick(const struct tidemark *t)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	return bpf_prog_test_run_opts(t->flow_tick, &opts) ? 0 : opts.retval;
}

/* Map ids, largest last, of an open datapath. */
static size_t map_ids(const struct tidemark *t, __u32 ids[MAPS_NR])
{
	struct bpf_map_info info;
	__u32 len = sizeof(info);
	size_t n = 0;

	for (int i = 0; i < MAPS_NR; i++) {
		memset(&info, 0, sizeof(info));
		if (t->map[i] >= 0 && !bpf_obj_get_info_by_fd(t->map[i], &info, &len))
			ids[n++] = info.id;
	}
	return n;
}

/*
 * By walking the ids, not by opening one: a dying program array that is opened and closed
 * drops its last user reference twice, and kernels up to 6.18 at least then lose count and
 * keep it for ever (prog_array_map_clear() takes a reference for work that is queued
 * already).
 */
static bool map_is_there(__u32 id)
{
	__u32 next;

	return !bpf_map_get_next_id(id - 1, &next) && next == id;
}

/*
 * The kernel frees programs, and then their maps, some milliseconds after the last pin has
 * gone. Who lists them right after `down` should find nothing; so wait for that, a while.
 */
static void maps_await_end(const __u32 *ids, size_t n)
{
	const struct timespec pause = { .tv_nsec = 2000000 };

	for (int tries = 0; n && tries < 1500; tries++) {
		if (!map_is_there(ids[n - 1]))
			n--;
		else
			nanosleep(&pause, NULL);
	}
}

int tidemark_destroy(struct tidemark *t)
{
	__u32 ids[MAPS_NR];
	char path[PATH_MAX];
	size_t n = map_ids(t, ids);
	int err = pin_starting(t, path), lock = t->lock;

	if (!err)
		pins_remove(path);
	t->reads = false; /* whatever we told ourselves goes with the map */
	err = pins_remove(t->pin_dir);
	if (err) {
		log_error("%s: %s", t->pin_dir, strerror(-err));
		return err;
	}
	t->lock = -1;
	tidemark_close(t);
	t->lock = lock;
	maps_await_end(ids, n);
	return 0;
}

int tidemark_read_events(struct tidemark *t)
{
	if (flock(t->dir, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	t->reads = true;
	t->settings->reader = getpid();
	t->settings->reading = 1;
	return 0;
}
