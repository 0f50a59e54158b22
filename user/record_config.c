// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark record --config`: what the daemon's configuration says of recording. */
#include <stdlib.h>
#include <string.h>

#include "config_record.h"
#include "log.h"
#include "record_config.h"

int record_config_read(struct record_config *from, const char *name)
{
	int status = config_load(&from->file, name);

	if (status || from->file.config->record)
		return status;
	log_error("%s: no section record, which says where to and what; docs/daemon.md has it",
		  name);
	record_config_free(from);
	return 2;
}

void record_config_free(struct record_config *from)
{
	config_free(&from->file);
}

void record_config_apply(const struct record_config *from, struct recorder_options *to,
			 struct datapath_options *o)
{
	const struct config_record *config = from->file.config->record;
	const struct datapath_options *nodes = &from->file.options;

	if (!to->dir)
		to->dir = config->options.dir;
	if (!to->stats_ns)
		to->stats_ns = config->options.stats_ns;
	if (!to->ring_bytes)
		to->ring_bytes = config->options.ring_bytes;
	to->zstd |= config->options.zstd;
	if (!o || o->selectors_n || o->interfaces_n)
		return;
	o->selectors = nodes->selectors;
	o->selectors_n = nodes->selectors_n;
	memcpy(o->interfaces, nodes->interfaces, sizeof(o->interfaces));
	o->interfaces_n = nodes->interfaces_n;
}

static int class_add(struct class_list *list, const struct class_spec *spec)
{
	struct class_spec *to = &list->at[list->n];

	for (size_t i = 0; i < list->n; i++)
		if (!strcmp(list->at[i].name, spec->name)) {
			log_error("class %s: in the configuration and in --class; leave one out",
				  spec->name);
			return 2;
		}
	if (list->n == CLASSES) {
		log_error("class %s: more than %d classes", spec->name, CLASSES);
		return 2;
	}
	*to = *spec;
	to->filter = spec->filter ? strdup(spec->filter) : NULL;
	if (spec->filter && !to->filter) {
		log_error("class %s: out of memory", spec->name);
		return 2;
	}
	/* What is for all of them was put here for those that have none of their own. */
	if (!spec->cutoff_given)
		to->cutoff = CLASS_WHOLE;
	list->n++;
	return 0;
}

int record_config_classes(const struct record_config *from, struct class_list *list, bool others)
{
	const struct config_record *config = from->file.config->record;
	int status = 0;

	list->wait = true; /* for nodes that a filter names */
	if (others && !config->classes_count)
		return 0; /* its one class would be of everything */
	for (size_t i = 0; i < config->list->n && !status; i++)
		status = class_add(list, &config->list->at[i]);
	return status;
}
