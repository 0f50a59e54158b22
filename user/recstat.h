/* SPDX-License-Identifier: GPL-2.0-only */
/* What is told of recording, class by class: in `show record` and in DIR/stats.jsonl. */
#ifndef TIDEMARK_RECSTAT_H
#define TIDEMARK_RECSTAT_H

#include "../bpf/record.h"
#include "out.h"
#include "tidemark.h"

struct packets;
struct recstat;

/* A line per class every `every_ns`. NULL: said why. */
struct recstat *recstat_open(const struct tidemark *t, struct packets *packets, const char *dir,
			     __u64 every_ns);

/* Once a second; with `now_ns` 0 at the end: whatever the time. Never fails: it is only told. */
void recstat_second(struct recstat *s, __u64 now_ns);
/* This class is no more: a last line, and whoever has its slot next begins at zero. */
void recstat_leave(struct recstat *s, __u32 slot);

void recstat_close(struct recstat *s);

/* Each class: its counts since the datapath is up, and what the recorder last said. -errno. */
typedef void (*recstat_fn)(const struct class *c, const struct tally *counts,
			   const struct retention *held, void *ctx);
int recstat_each(const struct tidemark *t, recstat_fn fn, void *ctx);

/* For `show record`: what the kernel has, and what the recorder last said of its side. */
extern const struct out_column recstat_columns[];
int recstat_show(const struct tidemark *t, struct out *out);

#endif
