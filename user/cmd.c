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
	{ "mark", cmd_mark, &mark_argp, "ACTION", "which experiment and activity flows are for" },
	{ "record", cmd_record, &record_argp, "",
	  "keep packets on disk, as much of each as asked" },
	{ "query", cmd_query, &query_argp, "[EXPRESSION]", "packets of a record, by expression" },
	{ "run", cmd_run, &run_argp, "", "the daemon: drain, write and serve as a file says" },
	{ "merge", cmd_merge, &merge_argp, "LOG...", "logs of many hosts into one order" },
	{ "past", cmd_past, &past_argp, "EVENT LOG...", "what can have led to an event" },
	{ "future", cmd_future, &future_argp, "EVENT LOG...", "what an event can have led to" },
	{ "graph", cmd_graph, &graph_argp, "LOG...",
	  "a space-time diagram: SVG, HTML, DOT, ShiViz" },
	{ "help", cmd_help, &help_argp, "[COMMAND]", "this list, or a command's options" },
	{},
};
