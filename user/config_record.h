/* SPDX-License-Identifier: GPL-2.0-only */
/* Section `record`: what is kept of packets, where, and who may ask for it. */
#ifndef TIDEMARK_CONFIG_RECORD_H
#define TIDEMARK_CONFIG_RECORD_H

#include <cyaml/cyaml.h>

#include "config.h"
#include "recorder.h"
#include "serve.h"

struct config_class {
	char *name, *filter, *precedence, *cutoff, *snap, *sample, *mem, *disk, *filesize, *age,
		*flows;
};

struct config_record_socket {
	char *path;
	unsigned *uid, *gid;
};

struct config_record_tls {
	char *listen, *cert, *key, *ca;
};

struct config_record {
	char *dir, *cutoff, *ring, *stats, *key_file;
	char **old_key_files;
	unsigned old_key_files_count;
	bool zstd;
	struct config_class *classes;
	unsigned classes_count;
	char **nodes, **interfaces;
	unsigned nodes_count, interfaces_count;
	struct config_record_socket *socket;
	struct config_record_tls *tls;
	unsigned *queries; /* most at once */

	/* What it comes to, filled by config_record_check(). */
	struct recorder_options options;
	struct class_list *list;
	__u64 cutoff_bytes;
	struct serve_options serve;
};

extern const cyaml_schema_field_t config_record_fields[];

/* Adds its interfaces to file->options. 0, or 2 after saying why. */
int config_record_check(struct config_file *file);

/* Frees what the check has made. */
void config_record_free(struct config_record *record);

#endif
