/* SPDX-License-Identifier: GPL-2.0-only */
/* The configuration of `tidemark run`: one YAML file, a section each for what can be set. */
#ifndef TIDEMARK_CONFIG_H
#define TIDEMARK_CONFIG_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "datapath.h"
#include "text.h"

#define CONFIG_FILE "/etc/tidemark/tidemark.yaml"

struct config_api;
struct config_mark;
struct config_metrics;
struct config_peers;
struct config_record;
struct config_trace;

/*
 * The sections, NULL if absent. Each has its struct, its schema and its check in files of
 * its own: config_<section>.h and .c; adding one is a line here and one each in two tables
 * of config.c.
 */
struct config {
	char **nodes;
	unsigned nodes_count;
	struct config_trace *trace;
	struct config_metrics *metrics;
	struct config_api *api;
	struct config_mark *mark;
	struct config_peers *peers;
	struct config_record *record;
};

/* A file that was read: the sections, and the options of the datapath they come to. */
struct config_file {
	const char *name;
	struct config *config;
	struct datapath_options options;
	struct config_places *places; /* where in the file a value stands */
};

/*
 * Reads, and checks everything that can be wrong without looking at this machine. 0, or 2
 * after saying FILE:LINE:COLUMN, what is wrong there, and what would be right.
 */
int config_load(struct config_file *file, const char *name);

/* The same from memory; `name` is what to call it. */
int config_parse(struct config_file *file, const char *name, const char *text, size_t len);

/* Something else's configuration, as YAML of ours. 0, or a status after saying why. */
typedef int (*config_translate)(const char *name, const char *text, size_t len, void *ctx,
				struct text *out);

/* Reads another program's configuration; `show`, if not NULL: also prints what it comes to. */
int config_load_foreign(struct config_file *file, const char *name, config_translate translate,
			void *ctx, FILE *show);

void config_free(struct config_file *file);

/*
 * For checks: the value at this path ("trace.write.age", "nodes.2") is refused. Says so and
 * returns 2.
 */
__attribute__((format(printf, 3, 4))) int config_refuse(const struct config_file *file,
							const char *path, const char *format, ...);

/* A value given as text, absent if NULL, through the parsers of the options. 0 or 2, said. */
int config_span(const struct config_file *file, const char *path, const char *text, __u64 *ns);
int config_size(const struct config_file *file, const char *path, const char *text, __u64 *bytes);

#endif
