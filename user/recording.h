/* SPDX-License-Identifier: GPL-2.0-only */
/* The daemon's recording: the recorder in its loop, as a configuration says. */
#ifndef TIDEMARK_RECORDING_H
#define TIDEMARK_RECORDING_H

#include "config_record.h"

struct event_base;
struct recording;

/* The section stays the caller's, as long as it is what holds. NULL: said why. */
struct recording *recording_open(struct tidemark *t, struct event_base *base,
				 const struct config_record *config);

/* Another section from now on: nothing that the kernel keeps meanwhile is lost. -errno, said. */
int recording_set(struct recording *r, const struct config_record *config);

/* Everything that was kept is written. -errno of the disk, said. */
int recording_close(struct recording *r);

const char *recording_dir(const struct recording *r);

#endif
