/* SPDX-License-Identifier: GPL-2.0-only */
/* Section `peers`: with whom clocks are exchanged in packets. */
#ifndef TIDEMARK_CONFIG_PEERS_H
#define TIDEMARK_CONFIG_PEERS_H

#include <cyaml/cyaml.h>

#include "config.h"

struct config_peers {
	char **ranges;
	unsigned ranges_count;
	char *max_ahead;
	unsigned *no_stamp_ports;
	unsigned no_stamp_ports_count;
};

extern const cyaml_schema_field_t config_peers_fields[];

/* Sets file->options.peers. 0, or 2 after saying why. */
int config_peers_check(struct config_file *file);

#endif
