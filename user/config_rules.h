/* SPDX-License-Identifier: GPL-2.0-only */
/* Of section `mark`: rules, what is excluded, and how packets carry marks. */
#ifndef TIDEMARK_CONFIG_RULES_H
#define TIDEMARK_CONFIG_RULES_H

#include "config_mark.h"

/* With the words and the meaning of `mark add`'s options. */
struct config_rule {
	char *src, *src_ports, *dst, *dst_ports, *proto, *node, *uid, *comm, *cgroup;
	char *experiment, *activity, *how, *lasts, *pick;
	char **ids; /* EXPERIMENT/ACTIVITY, handed out */
	unsigned ids_count;
	bool inherit, exclude;
};

extern const cyaml_schema_value_t config_rule_schema;

/* Into mark->marks, mark->how. 0, or 2 after saying why. */
int config_rules_check(const struct config_file *file, struct config_mark *mark);

#endif
