// SPDX-License-Identifier: GPL-2.0-only
/* The pipeline in force, and a larger one in its place when more is asked of it. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "log.h"
#include "maps.h"
#include "pipeline.h"
#include "tidemark.skel.h"

/* What is loaded first is there by itself: of it the compiler has left out what it has not. */
static struct bpf_program *pipeline_of(const struct tidemark_bpf *skel, __u32 parts)
{
	return parts == PARTS_FIRST ? skel->progs.pipeline_first : skel->progs.pipeline;
}

/* The datapath's maps, and of the programs only the one. What it keeps of a packet is its own. */
static int pipeline_prepare(const int map[MAPS_NR], struct tidemark_bpf *skel, __u32 parts)
{
	struct bpf_program *program;
	int err = maps_give(skel->obj, map);

	skel->rodata->stages = parts;
	bpf_object__for_each_program(program, skel->obj)
		bpf_program__set_autoload(program, program == pipeline_of(skel, parts));
	if (!err)
		err = bpf_map__set_autocreate(skel->maps.heads, false);
	if (!err)
		err = bpf_map__set_autocreate(skel->maps.replayed, false);
	return err;
}

/* For these maps, attached to nothing: its descriptor, or -errno. `skel` is used up. */
static int pipeline_load(struct tidemark_bpf *skel, const int map[MAPS_NR], __u32 parts)
{
	int err, fd = -1;

	if (!skel)
		return -errno;
	err = pipeline_prepare(map, skel, parts);
	if (!err)
		err = tidemark_bpf__load(skel);
	if (!err)
		fd = fcntl(bpf_program__fd(pipeline_of(skel, parts)), F_DUPFD_CLOEXEC, 3);
	if (!err && fd < 0)
		err = -errno;
	tidemark_bpf__destroy(skel);
	return err ? err : fd;
}

/*
 * Every attachment jumps through `pipelines`, so one store puts the new one in force: a
 * packet runs all of the one or all of the other. The pin is for who looks; without it, if
 * we are killed just here, nothing goes otherwise. What is in force is noted last, so that
 * a kill costs another load and nothing else.
 */
static int pipeline_replace(struct tidemark *t, int fd, __u32 parts)
{
	char path[PATH_MAX];
	int zero = 0;

	if (bpf_map_update_elem(t->map[MAP_pipelines], &zero, &fd, BPF_ANY))
		return -errno;
	if (snprintf(path, sizeof(path), "%s/pipeline", t->pin_dir) < (int)sizeof(path)) {
		unlink(path);
		bpf_obj_pin(fd, path);
	}
	t->settings->parts = parts;
	return 0;
}

static int pipeline_change(struct tidemark *t, __u32 parts)
{
	int fd = pipeline_load(tidemark_object(), t->map, parts), err;

	if (fd < 0)
		return fd;
	err = pipeline_replace(t, fd, parts);
	close(fd);
	return err;
}

int pipeline_need(struct tidemark *t, __u32 parts)
{
	bool alone = t->lock < 0;
	int err = 0;

	if (!(parts & ~t->settings->parts))
		return 0;
	if (alone && tidemark_lock(t))
		return -EIO;
	/* Somebody else may have been quicker. */
	parts |= t->settings->parts;
	if (parts != t->settings->parts)
		err = pipeline_change(t, parts);
	if (alone)
		tidemark_unlock(t);
	if (err)
		log_error("%s: cannot give the packet programs what this needs: %s; -vv says what "
			  "the verifier said",
			  t->pin_dir, strerror(-err));
	return err;
}

static int pipeline_opened(void *ctx)
{
	struct pipeline_making *m = ctx;

	m->skel = tidemark_object();
	return m->skel ? 0 : -errno;
}

static int pipeline_made(void *ctx)
{
	struct pipeline_making *m = ctx;
	struct tidemark_bpf *skel = m->skel;

	m->skel = NULL;
	return pipeline_load(skel, m->map, m->parts);
}

void pipeline_begin(struct pipeline_making *m)
{
	m->skel = NULL;
	aside_start(&m->aside, pipeline_opened, m);
}

int programs_load(struct tidemark_bpf *skel, struct pipeline_making *m,
		  const struct meanwhile *meanwhile)
{
	int err, fd;

	bpf_program__set_autoload(skel->progs.pipeline, false);
	bpf_map__set_autocreate(skel->maps.heads, false);
	bpf_map__set_autocreate(skel->maps.replayed, false);
	err = maps_make(skel->obj, m->map);
	if (!err)
		err = aside_join(&m->aside);
	if (err)
		return err;
	aside_start(&m->aside, pipeline_made, m);
	err = tidemark_bpf__load(skel);
	if (!err && meanwhile)
		meanwhile->fn(meanwhile->ctx);
	fd = aside_join(&m->aside);
	if (err && fd >= 0)
		close(fd);
	return err ? err : fd;
}

void pipeline_end(struct pipeline_making *m)
{
	aside_join(&m->aside);
	tidemark_bpf__destroy(m->skel);
}
