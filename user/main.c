// SPDX-License-Identifier: GPL-2.0-only
/* Dispatches; the commands are rows of the table in cmd.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include "cmd.h"
#include "log.h"
#include "version.h"

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "help";
	char title[64];

	libbpf_set_print(log_libbpf);
	argp_err_exit_status = 2;
	setenv("ARGP_HELP_FMT", "no-dup-args-note", 0); /* each option's line says it already */
	if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
		puts("tidemark " VERSION);
		return 0;
	}
	if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "-?"))
		name = "help";
	for (const struct command *c = commands; c->name; c++) {
		if (strcmp(c->name, name))
			continue;
		log_command(c->name);
		if (argc < 2)
			return c->run(1, (char *[]){ "tidemark help", NULL });
		snprintf(title, sizeof(title), "tidemark %s", c->name);
		argv[1] = title; /* what argp calls us in usage and complaints */
		return c->run(argc - 1, argv + 1);
	}
	log_error("%s: no such command; `tidemark help` lists them", name);
	return 2;
}
