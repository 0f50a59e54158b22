/* SPDX-License-Identifier: GPL-2.0-only */
/* What `show` and `flows` print, for others that ask: the API, the metrics. */
#ifndef TIDEMARK_SHOW_H
#define TIDEMARK_SHOW_H

#include <stdio.h>

#include "../bpf/counter.h"
#include "tidemark.h"

/* A section of `show --json`. 0 or 1. */
int show_json(const struct tidemark *t, const char *section, FILE *file);

/* `flows --json`, of one node or of all (NULL), at most so many (0: all). 0 or 1. */
int flows_json(const struct tidemark *t, const char *node, __u64 most, FILE *file);

/* One direction's counters, all CPUs added up; -errno. */
int counters_read(const struct tidemark *t, __u32 dir, struct counters *sum);

/* How many entries a map has, by walking it. */
__u64 map_entries(int fd);

#endif
