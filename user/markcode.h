/* SPDX-License-Identifier: GPL-2.0-only */
/* Marks as they are written elsewhere: flow labels, options, SciTag numbers. */
#ifndef TIDEMARK_MARKCODE_H
#define TIDEMARK_MARKCODE_H

#include <linux/types.h>
#include <stdbool.h>

#include "registry.h"

/* The number of HTTP's SciTag header and of XRootD's scitag.flow. */
unsigned scitag_of(unsigned experiment, unsigned activity);
int scitag_read(__u64 scitag, unsigned *experiment, unsigned *activity);

/* An extension header of its own, before `next`. */
void option_write(__u8 bytes[8], __u8 next, unsigned experiment, unsigned activity);

/* From the bytes of an extension header, or of the option alone, in hex; : and - may part them. */
int option_read(const char *hex, unsigned *experiment, unsigned *activity);

/* Print every form; every reading of each value. Exit statuses. */
int markcode_encode(const struct registry *registry, unsigned experiment, unsigned activity,
		    bool json);
int markcode_decode(const struct registry *registry, char **values, int n, bool json);

#endif
