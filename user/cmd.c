// SPDX-License-Identifier: GPL-2.0-only
/* The table of commands: adding one is adding a row. */
#include "cmd.h"

const struct command commands[] = {
	{ "up", cmd_up, &up_argp, "", "attach the datapath to nodes" },
	{ "down", cmd_down, &down_argp, "", "remove the datapath, and nothing else" },
	{ "show", cmd_show, &show_argp, "[SECTION...]",
	  "nodes, stages, counters, maps, attachments" },
	{ "doctor", cmd_doctor, &doctor_argp, "",
	  "what this kernel can do, and what is used instead" },
	{ "flows", cmd_flows, &flows_argp, "", "the connection table" },
	{ "trace", cmd_trace, &trace_argp, "", "print events as they happen, in causal order" },
	{ "check", cmd_check, &check_argp, "LOG...", "is any effect before its cause?" },
	{ "record", cmd_record, &record_argp, "",
	  "keep packets on disk, as much of each as asked" },
	{ "run", cmd_run, &run_argp, "", "the daemon: drain, write and serve as a file says" },
	{ "query", cmd_query, &query_argp, "[EXPRESSION]", "packets of a record, by expression" },
	{ "help", cmd_help, &help_argp, "[COMMAND]", "this list, or a command's options" },
	{},
};
