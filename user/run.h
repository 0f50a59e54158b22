/* SPDX-License-Identifier: GPL-2.0-only */
/* The daemon: what it holds, and what a new configuration changes of that. */
#ifndef TIDEMARK_RUN_H
#define TIDEMARK_RUN_H

#include <limits.h>

#include "api.h"
#include "config.h"
#include "marking.h"
#include "queryapi.h"
#include "recording.h"

struct run {
	const char *config; /* the file */
	char config_path[PATH_MAX];
	bool check;		   /* --check-config */
	bool show;		   /* --print-config */
	bool foreign;		   /* --from: the file is flowd-go's */
	const char *token;	   /* --token, for that */
	struct datapath_options o; /* of the command line */
	struct config_file file;   /* with those of the command line added */
	struct discover_choice choice;
	struct tidemark t;
	bool open; /* the datapath: ours to tidy up */
	struct event_base *base;
	struct tracer *tracer;
	struct http *http;
	struct daemon daemon;
	struct metrics_source metrics;
	struct api api;
	struct marking *marking;     /* NULL: the configuration has no section mark */
	struct recording *recording; /* NULL: it has no section record; */
	struct serve *serve;	     /* queries come and go with that */
	struct queryapi queries;
};

/* Reads the configuration anew, options of the command line added. 0, or a status, said. */
int run_load(struct run *run, struct config_file *file);

/* Make run->file so, `before` being what it was (NULL: nothing). -errno, said. */
int run_sinks(struct run *run, const struct config *before);
int run_mark(struct run *run);
int run_peers(struct run *run, const struct peer_options *was);
int run_record(struct run *run);
int run_api(struct run *run, const struct config *before);

/* Nodes are those of run->file: those that are not go, those that are not there come. */
int run_choose(struct run *run);
void run_every_packet(struct run *run);

/* SIGHUP. */
void run_reload(struct run *run);

#endif
