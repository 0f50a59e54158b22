/* SPDX-License-Identifier: GPL-2.0-only */
/* Put the pipeline on a device, and take it off again. */
#ifndef TIDEMARK_ATTACH_H
#define TIDEMARK_ATTACH_H

#include "link.h"
#include "tidemark.h"

/*
 * Attach a device of the namespace the thread is in, both directions, as `node`. `flags`
 * are ATTACH_*, `clock` an index. What is done is noted in the map before it is done, so
 * that `down` finds it whatever happens in between. A device that is attached already is
 * left as it is. -errno.
 *
 * Making a clsact qdisc stops a device that is up for about a tenth of a millisecond, and
 * what is sent meanwhile is lost; tcx stops nothing and takes a hundred times as long. So
 * a `busy` device gets tcx, where the kernel has it, unless the user said which.
 */
int attach_device(struct tidemark *t, __u32 node, __u32 clock, __u32 flags, const struct link *link,
		  bool busy);

/* The reverse, in the same namespace. What others have put there stays. -errno */
int detach_device(struct tidemark *t, const struct attachment_key *key);

/* Forget a device that is gone: its filters went with it. */
void detach_gone(struct tidemark *t, const struct attachment_key *key);

/* What marks our filters, so that two datapaths on one device do not take each other's. */
__u32 attach_handle(const struct tidemark *t);

#endif
