/* SPDX-License-Identifier: GPL-2.0-only */
/* Sections `api` and `metrics`: where the daemon answers, whom, and what it tells. */
#ifndef TIDEMARK_CONFIG_API_H
#define TIDEMARK_CONFIG_API_H

#include <cyaml/cyaml.h>

#include "config.h"

struct config_api {
	char **listen; /* ADDRESS:PORT or unix:PATH */
	unsigned listen_count;
	char *token;	     /* a file; what its first line says must be shown */
	unsigned *uid, *gid; /* who may use a unix socket besides root; NULL: nobody */
};

struct config_metrics {
	bool off;     /* no /metrics at all */
	bool summary; /* no series per node */
};

extern const cyaml_schema_field_t config_api_fields[];
extern const cyaml_schema_field_t config_metrics_fields[];

/* 0, or 2 after saying why. */
int config_api_check(struct config_file *file);

#endif
