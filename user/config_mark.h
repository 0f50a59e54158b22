/* SPDX-License-Identifier: GPL-2.0-only */
/* Section `mark`: which flows are told of, to whom, and who may say what flows are for. */
#ifndef TIDEMARK_CONFIG_MARK_H
#define TIDEMARK_CONFIG_MARK_H

#include <cyaml/cyaml.h>

#include "config.h"
#include "fireflies.h"
#include "marks.h"
#include "reports.h"

struct config_address {
	char **map, **stun, **http;
	unsigned map_count, stun_count, http_count;
	char *refresh;
};

struct config_fireflies {
	bool *destination, *ongoing, *header; /* true if absent */
	unsigned port;
	char **collectors;
	unsigned collectors_count;
	char *form;
	struct config_address *address;
};

struct config_pipe {
	char *path;
	unsigned *uid, *gid; /* who may write besides root; NULL: nobody */
	bool anybody;
};

struct config_rule;

struct config_mark {
	char *registry, *period, *idle, *flows;
	unsigned *series; /* flows with metrics of their own */
	struct config_fireflies *fireflies;
	struct config_pipe **pipes;
	unsigned pipes_count;
	char **receive; /* ADDRESS:PORT, of UDP */
	unsigned receive_count;
	char **relay; /* to whom what is received goes on: ADDRESS:PORT or NAME:PORT */
	unsigned relay_count;
	char *how_text; /* of what does not say it */
	bool *packets;	/* false: they stay as they are, and marks are for reports alone */
	struct config_rule **rules;
	unsigned rules_count;
	char **exclude; /* `private`, or as --dst */
	unsigned exclude_count;

	/* What it comes to, filled by config_mark_check(). */
	struct reports_options reports;
	struct fireflies_options tell;
	struct publicaddr_options *addresses; /* NULL: none */
	struct sockaddr_in6 *receivers;
	struct sockaddr_in6 *relays;
	struct mark *marks; /* rules */
	size_t marks_n;
	enum mark_how how;
};

extern const cyaml_schema_field_t config_mark_fields[];

/* 0, or 2 after saying why. */
int config_mark_check(struct config_file *file);

/* Frees what the check has made. */
void config_mark_free(struct config_mark *mark);

#endif
