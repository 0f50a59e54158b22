/* SPDX-License-Identifier: GPL-2.0-only */
/* Time Machine's configuration, read as what it means here. */
#ifndef TIDEMARK_TIMEMACHINE_H
#define TIDEMARK_TIMEMACHINE_H

#include "class.h"

#define TIMEMACHINE_TEXT_MOST (1U << 20)

/* What is not of a class. Empty, or 0: it does not say. */
struct timemachine {
	char device[64];
	char read_tracefile[4096];
	char workdir[4096];
	__u64 stats_ns;
};

/*
 * Adds its classes to the list, with Time Machine's own defaults where it leaves something
 * out. What means nothing here is said, each by name; what cannot be translated is said with
 * its line and is -EINVAL, and nothing may be used of it then.
 */
int timemachine_parse(const char *name, const char *text, struct timemachine *tm,
		      struct class_list *classes);

/* The same of a file. -errno, said. */
int timemachine_read(const char *path, struct timemachine *tm, struct class_list *classes);

#endif
