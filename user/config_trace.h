/* SPDX-License-Identifier: GPL-2.0-only */
/* Section `trace`: the datapath's clocks and tables, and where its events go. */
#ifndef TIDEMARK_CONFIG_TRACE_H
#define TIDEMARK_CONFIG_TRACE_H

#include <cyaml/cyaml.h>

#include "config.h"
#include "sinks.h"

struct config_trace {
	char *clock, *attach, *ring, *burst;
	char **skew;
	unsigned skew_count;
	unsigned flows, nodes;
	bool every_packet, keep;
	struct sink_write_options *write;
	struct sink_socket_options *socket;
	struct sink_otlp_options *otlp;
};

extern const cyaml_schema_field_t config_trace_fields[];

/* Sets file->options. 0, or 2 after saying why. */
int config_trace_check(struct config_file *file);

#endif
