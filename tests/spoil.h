/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets spoiled at random, of which one seed repeats a run exactly. */
#ifndef TIDEMARK_SPOIL_H
#define TIDEMARK_SPOIL_H

#include "pkt.h"

void spoil_seed(__u64 seed);
__u64 spoil_next(void);
unsigned spoil_below(unsigned n);

/* PKT_SEED and the like, from the environment. */
__u64 spoil_number(const char *name, __u64 otherwise);

/* A sample, perhaps turned round, and up to three things done to it. */
void spoil_make(struct frame *f);

/* As a line of hexadecimal bytes, behind `#`. */
void spoil_print(const struct frame *f);

#endif
