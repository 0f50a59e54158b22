// SPDX-License-Identifier: GPL-2.0-only
/* Section `peers`: with whom clocks are exchanged in packets. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_peers.h"
#include "units.h"

#define POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 128) };
static const cyaml_schema_value_t port = { CYAML_VALUE_UINT(CYAML_FLAG_DEFAULT, unsigned) };

const cyaml_schema_field_t config_peers_fields[] = {
	CYAML_FIELD_SEQUENCE("ranges", POINTER, struct config_peers, ranges, &string, 0,
			     PEERS_MOST),
	CYAML_FIELD_STRING_PTR("max_ahead", POINTER, struct config_peers, max_ahead, 1, 128),
	CYAML_FIELD_SEQUENCE("no_stamp_ports", POINTER, struct config_peers, no_stamp_ports, &port,
			     0, PEER_PORTS),
	CYAML_FIELD_END,
};

static int ranges_check(struct config_file *file, const struct config_peers *peers)
{
	struct peer_options *o = &file->options.peers;
	char path[32];

	o->peers = calloc(peers->ranges_count ? peers->ranges_count : 1, sizeof(*o->peers));
	if (!o->peers)
		return config_refuse(file, "peers", "out of memory");
	for (unsigned i = 0; i < peers->ranges_count; i++) {
		snprintf(path, sizeof(path), "peers.ranges.%u", i);
		if (peer_parse(peers->ranges[i], &o->peers[o->peers_n++]))
			return config_refuse(
				file, path,
				"%s: not a range of addresses; write 10.0.0.0/8 or fd00::/16",
				peers->ranges[i]);
	}
	return 0;
}

int config_peers_check(struct config_file *file)
{
	const struct config_peers *peers = file->config->peers;
	struct peer_options *o = &file->options.peers;
	char path[40];
	int status;

	if (!peers)
		return 0;
	status = ranges_check(file, peers);
	if (!status && peers->max_ahead) {
		o->max_ahead_given = true;
		if (strcmp(peers->max_ahead, "off"))
			status = config_span(file, "peers.max_ahead", peers->max_ahead,
					     &o->max_ahead_ns);
	}
	for (unsigned i = 0; i < peers->no_stamp_ports_count && !status; i++) {
		snprintf(path, sizeof(path), "peers.no_stamp_ports.%u", i);
		if (!peers->no_stamp_ports[i] || peers->no_stamp_ports[i] > 65535)
			status = config_refuse(file, path, "not a port from 1 to 65535");
		else
			o->no_stamp[o->no_stamp_n++] = peers->no_stamp_ports[i];
	}
	return status;
}
