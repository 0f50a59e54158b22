/* SPDX-License-Identifier: GPL-2.0-only */
/* `tidemark record --config`: what the daemon's configuration says of recording. */
#ifndef TIDEMARK_RECORD_CONFIG_H
#define TIDEMARK_RECORD_CONFIG_H

#include "config.h"
#include "recorder.h"

/* Sections `record` and `nodes`, of which the strings live as long as this. */
struct record_config {
	struct config_file file;
};

/* 0; 2 after saying why. */
int record_config_read(struct record_config *from, const char *name);
void record_config_free(struct record_config *from);

/* What the options do not say already; nodes and interfaces unless `o` is NULL. */
void record_config_apply(const struct record_config *from, struct recorder_options *to,
			 struct datapath_options *o);

/* Its classes, into a list; `others`: there are some of the command line. 0, or 2, said. */
int record_config_classes(const struct record_config *from, struct class_list *list, bool others);

#endif
