/* SPDX-License-Identifier: GPL-2.0-only */
/* The commands, as rows of one table: cmd.c has it, main.c dispatches by it. */
#ifndef TIDEMARK_CMD_H
#define TIDEMARK_CMD_H

#include <argp.h>

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const struct argp *argp; /* for `help`, the manual and completion */
	const char *arguments;	 /* in the usage line, after the options */
	const char *what;	 /* one line */
};

extern const struct command commands[];

int cmd_up(int argc, char **argv);
int cmd_down(int argc, char **argv);
int cmd_show(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_flows(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_mark(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_past(int argc, char **argv);
int cmd_future(int argc, char **argv);
int cmd_graph(int argc, char **argv);
int cmd_record(int argc, char **argv);
int cmd_query(int argc, char **argv);
int cmd_help(int argc, char **argv);

extern const struct argp up_argp;
extern const struct argp down_argp;
extern const struct argp show_argp;
extern const struct argp doctor_argp;
extern const struct argp flows_argp;
extern const struct argp trace_argp;
extern const struct argp check_argp;
extern const struct argp run_argp;
extern const struct argp merge_argp;
extern const struct argp past_argp;
extern const struct argp future_argp;
extern const struct argp graph_argp;
extern const struct argp help_argp;
extern const struct argp mark_argp;
extern const struct argp record_argp;
extern const struct argp query_argp;

#endif
