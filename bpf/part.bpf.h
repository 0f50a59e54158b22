/* SPDX-License-Identifier: GPL-2.0-only */
/* What this pipeline has been loaded with. */
#ifndef TIDEMARK_PART_BPF_H
#define TIDEMARK_PART_BPF_H

#include "pkt.bpf.h"

/* Stages and parts, decided before load: the verifier removes the others. */
const volatile __u32 stages __attribute__((weak)) = PARTS_ALL;

static __always_inline int part_is_here(__u32 part)
{
	return !!(stages & part);
}

/*
 * The same for what is inlined into a pipeline: of the one that is loaded first the compiler
 * knows, and leaves out also the functions that only the others call, which the kernel would
 * take in, look through and remove one after the other.
 */
static __always_inline int pass_has(const struct pass *at, __u32 part)
{
	return !!(at->parts & part);
}

#endif
