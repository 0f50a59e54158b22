/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of a file through the same programs as those of the wire. */
#ifndef TIDEMARK_REPLAY_H
#define TIDEMARK_REPLAY_H

#include "class.h"

struct replay_options {
	const char *file; /* "-": standard input */
	const char *dir, *key_file;
	bool zstd;
	unsigned flows; /* 0: the default */
};

/*
 * Records a file into a directory by classes, in a datapath of its own that nobody else
 * sees: no clock is moved by the file's timestamps. An exit status; what was done is said.
 */
int replay_file(const struct replay_options *options, struct class_list *classes, __u64 cutoff);

#endif
