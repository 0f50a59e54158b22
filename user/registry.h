/* SPDX-License-Identifier: GPL-2.0-only */
/* The SciTags registry: names of experiments and their activities, and their numbers. */
#ifndef TIDEMARK_REGISTRY_H
#define TIDEMARK_REGISTRY_H

#include <stddef.h>

#define REGISTRY_FILE "/etc/tidemark/registry.json"

struct registry;

/*
 * The file, in the format of the public registry; NULL: REGISTRY_FILE if it is there, else
 * what the program carries. NULL when it cannot be read, and @words says why.
 */
struct registry *registry_open(const char *path, char *words, size_t size);
struct registry *registry_parse(const char *json, size_t length, char *words, size_t size);
void registry_close(struct registry *registry);

/* A name, whatever its case, or a number in range. -EINVAL, and @words names the remedy. */
int registry_experiment(const struct registry *registry, const char *text, unsigned *experiment,
			char *words, size_t size);
int registry_activity(const struct registry *registry, unsigned experiment, const char *text,
		      unsigned *activity, char *words, size_t size);

#define REGISTRY_NAME_MAX 64

/* The names, or the numbers as text of what has none. */
void registry_names(const struct registry *registry, unsigned experiment, unsigned activity,
		    char experiment_name[REGISTRY_NAME_MAX], char activity_name[REGISTRY_NAME_MAX]);

#endif
