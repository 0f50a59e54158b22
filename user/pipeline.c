// SPDX-License-Identifier: GPL-2.0-only
/* The pipeline in force, and a larger one in its place when more is asked of it. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "log.h"
#include "pipeline.h"
#include "tidemark.skel.h"

/* The same maps, and of the programs only the one. What it keeps of a packet is its own. */
static int pipeline_prepare(const struct tidemark *t, struct tidemark_bpf *skel)
{
	struct bpf_program *program;
	struct bpf_map *map;
	int err = 0;

	bpf_object__for_each_program(program, skel->obj)
		bpf_program__set_autoload(program, program == skel->progs.pipeline);
	bpf_object__for_each_map(map, skel->obj)
		for (int i = 0; i < MAPS_NR && !err; i++)
			if (!strcmp(bpf_map__name(map), map_names[i]))
				err = bpf_map__reuse_fd(map, t->map[i]);
	if (!err)
		err = bpf_map__set_autocreate(skel->maps.heads, false);
	if (!err)
		err = bpf_map__set_autocreate(skel->maps.replayed, false);
	return err;
}

/*
 * Every attachment jumps through `pipelines`, so one store puts the new one in force: a
 * packet runs all of the one or all of the other. The pin is for who looks; without it, if
 * we are killed just here, nothing goes otherwise. What is in force is noted last, so that
 * a kill costs another load and nothing else.
 */
static int pipeline_replace(struct tidemark *t, struct tidemark_bpf *skel, __u32 parts)
{
	int fd = bpf_program__fd(skel->progs.pipeline), zero = 0;
	char path[PATH_MAX];

	if (bpf_map_update_elem(t->map[MAP_pipelines], &zero, &fd, BPF_ANY))
		return -errno;
	if (snprintf(path, sizeof(path), "%s/pipeline", t->pin_dir) < (int)sizeof(path)) {
		unlink(path);
		bpf_obj_pin(fd, path);
	}
	t->settings->parts = parts;
	return 0;
}

static int pipeline_load(struct tidemark *t, __u32 parts)
{
	struct tidemark_bpf *skel = tidemark_object();
	int err;

	if (!skel)
		return -errno;
	skel->rodata->stages = parts;
	err = pipeline_prepare(t, skel);
	if (!err)
		err = tidemark_bpf__load(skel);
	if (!err)
		err = pipeline_replace(t, skel, parts);
	tidemark_bpf__destroy(skel);
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
		err = pipeline_load(t, parts);
	if (alone)
		tidemark_unlock(t);
	if (err)
		log_error("%s: cannot give the packet programs what this needs: %s; -vv says what "
			  "the verifier said",
			  t->pin_dir, strerror(-err));
	return err;
}
