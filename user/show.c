// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark show`: look at a datapath without changing it. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/counter.h"
#include "cmd.h"
#include "daemon.h"
#include "datapath.h"
#include "group.h"
#include "log.h"
#include "out.h"
#include "peers.h"
#include "physical.h"
#include "recstat.h"
#include "show.h"

struct show {
	struct tidemark t;
	struct datapath_options o;
	FILE *file;
	bool json, titled, skew;
	struct out *out;
	struct members *members;
	char **sections;
	int sections_n;
};

static struct out *table_open(struct show *show, const char *title,
			      const struct out_column *columns)
{
	if (!show->json)
		printf("%s%s\n", show->titled ? "\n" : "", title);
	show->titled = true;
	return out_open(show->file, columns, show->json ? OUT_JSON : 0);
}

/* ---- nodes ------------------------------------------------------------------------- */

enum {
	N_SHOW,
	N_NODE,
	N_ID,
	N_NETNS,
	N_KIND,
	N_HLC,
	N_AHEAD,
	N_SKEW,
	N_DEVICES,
	N_LOST,
	N_SINCE,
	N_PATH,
	N_CONTAINERS
};

static const struct out_column node_columns[] = {
	[N_SHOW] = { .key = "show" },
	[N_NODE] = { "node", "NODE", 32, 10, 0 },
	[N_ID] = { "id", "ID", 10, 0, OUT_RIGHT },
	[N_NETNS] = { "netns", "NETNS", 10, 0, OUT_RIGHT },
	[N_KIND] = { "kind", "KIND", 9, 0, 0 },
	[N_HLC] = { "hlc", "CLOCK", 16, 0, 0 },
	[N_AHEAD] = { "ahead_ns", "AHEAD", 7, 0, OUT_RIGHT },
	[N_SKEW] = { "skew_ns", "SKEW", 7, 0, OUT_RIGHT | OUT_OPTIONAL },
	[N_DEVICES] = { "devices", "DEVICES", 24, 8, OUT_OPTIONAL },
	[N_LOST] = { "lost", "LOST", 8, 0, OUT_RIGHT },
	[N_SINCE] = { .key = "since" },
	[N_PATH] = { .key = "path" },
	[N_CONTAINERS] = { .key = "containers" },
	{},
};

static void devices_of(const struct tidemark *t, __u32 id, char *text, size_t size)
{
	struct attachment_key key;
	struct attachment a;
	size_t used = 0;

	*text = 0;
	for (void *at = NULL; !bpf_map_get_next_key(t->map[MAP_attachments], at, &key); at = &key)
		if (key.node == id && !bpf_map_lookup_elem(t->map[MAP_attachments], &key, &a) &&
		    used < size)
			used += snprintf(text + used, size - used, "%s%s", used ? "," : "",
					 a.device);
}

static int show_node(__u32 id, const struct node *node, void *ctx)
{
	struct show *show = ctx;
	const struct clock *c = &show->t.clocks[node->clock];
	char devices[512], containers[1024];
	__u64 now = physical_now_ns() + c->skew_ns;

	devices_of(&show->t, id, devices, sizeof(devices));
	out_str(show->out, N_SHOW, "node");
	out_str(show->out, N_NODE, node->name);
	out_u64(show->out, N_ID, id);
	out_u64(show->out, N_NETNS, node->inode);
	out_str(show->out, N_KIND,
		node->flags & NODE_INTERFACE ? "interface"
		: node->flags & NODE_HOST    ? "host"
					     : "netns");
	out_stamp(show->out, N_HLC, c->now);
	out_span(show->out, N_AHEAD, clock_ahead_ns(c->now, now));
	if (c->skew_ns)
		out_shift(show->out, N_SKEW, c->skew_ns);
	out_str(show->out, N_DEVICES, devices);
	out_u64(show->out, N_LOST, c->lost);
	out_wall(show->out, N_SINCE, node->since_ns);
	if (*node->path)
		out_str(show->out, N_PATH, node->path);
	if (show->members && !(node->flags & NODE_INTERFACE) &&
	    members_of(show->members, node->inode, containers, sizeof(containers)))
		out_str(show->out, N_CONTAINERS, containers);
	return out_row(show->out);
}

static int show_nodes(struct show *show)
{
	show->out = table_open(show, "NODES", node_columns);
	if (!show->out)
		return 1;
	/* For programs only: a table has no room for them, and looking takes a moment. */
	show->members = show->json ? members_read() : NULL;
	node_each(&show->t, show_node, show);
	members_free(show->members);
	return out_finish(show->out, 0);
}

/* ---- stages and counters ------------------------------------------------------------ */

static const char *const dir_names[DIRS_NR] = { [DIR_IN] = "in", [DIR_OUT] = "out" };

int counters_read(const struct tidemark *t, __u32 dir, struct counters *sum)
{
	return tidemark_sum(t, MAP_counters, dir, (__u64 *)sum, sizeof(*sum));
}

enum { S_SHOW, S_STAGE, S_STATE, S_DIR, S_SEEN, S_DONE, S_VERDICT, S_WHAT };

static const struct out_column stage_columns[] = {
	[S_SHOW] = { .key = "show" },
	[S_STAGE] = { "stage", "STAGE", 8, 0, 0 },
	[S_STATE] = { "state", "STATE", 5, 0, 0 },
	[S_DIR] = { "dir", "DIR", 3, 0, 0 },
	[S_SEEN] = { "seen", "SEEN", 16, 0, OUT_RIGHT },
	[S_DONE] = { "done", "DONE", 16, 0, OUT_RIGHT },
	[S_VERDICT] = { "verdict", "VERDICT", 12, 0, OUT_RIGHT },
	[S_WHAT] = { "what", "WHAT IT DOES", 46, 12, OUT_OPTIONAL },
	{},
};

static int show_stage(struct show *show, const char *name, int live, __u32 dir,
		      const struct stage_count *count, const char *what)
{
	out_str(show->out, S_SHOW, "stage");
	out_str(show->out, S_STAGE, name);
	out_str(show->out, S_STATE, live ? "on" : "off");
	out_str(show->out, S_DIR, dir_names[dir]);
	out_u64(show->out, S_SEEN, count->seen);
	out_u64(show->out, S_DONE, count->done);
	out_u64(show->out, S_VERDICT, count->verdict);
	out_str(show->out, S_WHAT, what);
	return out_row(show->out);
}

static int show_stages(struct show *show)
{
	struct counters sum[DIRS_NR];

	for (__u32 dir = 0; dir < DIRS_NR; dir++)
		if (counters_read(&show->t, dir, &sum[dir]))
			return 1;
	show->out = table_open(show, "STAGES", stage_columns);
	if (!show->out)
		return 1;
#define X(name, live, all, what)                  \
	for (__u32 dir = 0; dir < DIRS_NR; dir++) \
		show_stage(show, #name, live, dir, &sum[dir].stage.name, what);
	STAGES(X)
#undef X
	return out_finish(show->out, 0);
}

enum { C_SHOW, C_REASON, C_STAGE, C_IN, C_OUT, C_WHAT };

static const struct out_column counter_columns[] = {
	[C_SHOW] = { .key = "show" },
	[C_REASON] = { "counter", "COUNTER", 18, 0, 0 },
	[C_STAGE] = { "stage", "STAGE", 6, 0, 0 },
	[C_IN] = { "in", "IN", 12, 0, OUT_RIGHT },
	[C_OUT] = { "out", "OUT", 12, 0, OUT_RIGHT },
	[C_WHAT] = { "what", "WHAT IT COUNTS", 56, 20, 0 },
	{},
};

static int show_counters(struct show *show)
{
	struct counters in, out;

	if (counters_read(&show->t, DIR_IN, &in) || counters_read(&show->t, DIR_OUT, &out))
		return 1;
	show->out = table_open(show, "COUNTERS", counter_columns);
	if (!show->out)
		return 1;
#define X(name, at, meaning)                        \
	out_str(show->out, C_SHOW, "counter");      \
	out_str(show->out, C_REASON, #name);        \
	out_str(show->out, C_STAGE, #at);           \
	out_u64(show->out, C_IN, in.reason.name);   \
	out_u64(show->out, C_OUT, out.reason.name); \
	out_str(show->out, C_WHAT, meaning);        \
	out_row(show->out);
	REASONS(X)
#undef X
	return out_finish(show->out, 0);
}

/* ---- maps --------------------------------------------------------------------------- */

enum { M_SHOW, M_MAP, M_ID, M_ENTRIES, M_MOST, M_EVICTED, M_KEY, M_VALUE, M_BYTES };

static const struct out_column map_columns[] = {
	[M_SHOW] = { .key = "show" },
	[M_MAP] = { "map", "MAP", 12, 0, 0 },
	[M_ID] = { "id", "ID", 8, 0, OUT_RIGHT },
	[M_ENTRIES] = { "entries", "ENTRIES", 10, 0, OUT_RIGHT },
	[M_MOST] = { "max_entries", "MOST", 10, 0, OUT_RIGHT },
	[M_EVICTED] = { "evicted", "EVICTED", 10, 0, OUT_RIGHT },
	[M_KEY] = { "key_bytes", "KEY", 6, 0, OUT_RIGHT },
	[M_VALUE] = { "value_bytes", "VALUE", 8, 0, OUT_RIGHT },
	{},
};

/* Room for any key of ours. */
__u64 map_entries(int fd)
{
	char key[256];
	__u64 n = 0;

	for (void *at = NULL; !bpf_map_get_next_key(fd, at, key); at = key)
		n++;
	return n;
}

static bool is_hash(__u32 type)
{
	return type == BPF_MAP_TYPE_HASH || type == BPF_MAP_TYPE_LRU_HASH;
}

/* The kernel does not say what an LRU map let go; what came in and is not there it did. */
static void evicted_set(struct show *show, int map, __u64 entries)
{
	struct counters in, out;
	__u64 came;

	if (counters_read(&show->t, DIR_IN, &in) || counters_read(&show->t, DIR_OUT, &out))
		return;
	if (map == MAP_flows)
		came = in.reason.flow_admitted + out.reason.flow_admitted;
	else if (map == MAP_embryonic)
		came = in.reason.flow_new + out.reason.flow_new - in.reason.flow_admitted -
		       out.reason.flow_admitted;
	else
		return;
	out_u64(show->out, M_EVICTED, came > entries ? came - entries : 0);
}

static int show_maps(struct show *show)
{
	struct bpf_map_info info;
	__u32 len = sizeof(info);
	__u64 entries;

	show->out = table_open(show, "MAPS", map_columns);
	if (!show->out)
		return 1;
	for (int i = 0; i < MAPS_NR; i++) {
		memset(&info, 0, sizeof(info));
		if (bpf_obj_get_info_by_fd(show->t.map[i], &info, &len))
			continue;
		out_str(show->out, M_SHOW, "map");
		out_str(show->out, M_MAP, map_names[i]);
		out_u64(show->out, M_ID, info.id);
		if (is_hash(info.type)) {
			entries = map_entries(show->t.map[i]);
			out_u64(show->out, M_ENTRIES, entries);
			evicted_set(show, i, entries);
		}
		if (info.max_entries)
			out_u64(show->out, M_MOST, info.max_entries);
		if (info.key_size)
			out_u64(show->out, M_KEY, info.key_size);
		if (info.value_size)
			out_u64(show->out, M_VALUE, info.value_size);
		out_row(show->out);
	}
	return out_finish(show->out, 0);
}

/* ---- attachments -------------------------------------------------------------------- */

enum { A_SHOW, A_NODE, A_DEVICE, A_IFINDEX, A_HOW, A_SIDE, A_LAYER, A_PRIORITY, A_HANDLE, A_QDISC };

static const struct out_column attachment_columns[] = {
	[A_SHOW] = { .key = "show" },
	[A_NODE] = { "node", "NODE", 32, 10, 0 },
	[A_DEVICE] = { "device", "DEVICE", 16, 0, 0 },
	[A_IFINDEX] = { "ifindex", "IFINDEX", 8, 0, OUT_RIGHT },
	[A_HOW] = { "how", "HOW", 6, 0, 0 },
	[A_SIDE] = { "side", "SIDE", 4, 0, 0 },
	[A_LAYER] = { "layer", "LAYER", 5, 0, OUT_RIGHT },
	[A_PRIORITY] = { "priority", "PRIORITY", 8, 0, OUT_RIGHT },
	[A_HANDLE] = { "handle", "HANDLE", 10, 0, OUT_RIGHT | OUT_OPTIONAL },
	[A_QDISC] = { "qdisc_ours", "QDISC OURS", 10, 0, OUT_OPTIONAL },
	{},
};

static int show_attachments(struct show *show)
{
	struct attachment_key key;
	struct attachment a;
	struct node node;

	show->out = table_open(show, "ATTACHMENTS", attachment_columns);
	if (!show->out)
		return 1;
	for (void *at = NULL; !bpf_map_get_next_key(show->t.map[MAP_attachments], at, &key);
	     at = &key) {
		if (bpf_map_lookup_elem(show->t.map[MAP_attachments], &key, &a))
			continue;
		out_str(show->out, A_SHOW, "attachment");
		out_str(show->out, A_NODE, node_get(&show->t, key.node, &node) ? "?" : node.name);
		out_mem(show->out, A_DEVICE, a.device, sizeof(a.device));
		out_u64(show->out, A_IFINDEX, key.ifindex);
		out_str(show->out, A_HOW, a.how == ATTACHED_TCX ? "tcx" : "clsact");
		out_str(show->out, A_SIDE, a.flags & ATTACH_FAR ? "far" : "near");
		out_u64(show->out, A_LAYER, a.flags & ATTACH_L3 ? 3 : 2);
		if (a.how == ATTACHED_CLSACT) {
			out_u64(show->out, A_PRIORITY, a.priority);
			out_u64(show->out, A_HANDLE, a.handle);
			out_bool(show->out, A_QDISC, a.qdisc_is_ours);
		}
		out_row(show->out);
	}
	return out_finish(show->out, 0);
}

static int show_record(struct show *show)
{
	show->out = table_open(show, "RECORD", recstat_columns);
	if (!show->out)
		return 1;
	return out_finish(show->out, recstat_show(&show->t, show->out) ? 1 : 0);
}

static int show_daemon(struct show *show)
{
	int status;

	if (!show->json && show->titled)
		fputc('\n', show->file);
	status = daemon_show(&show->t, show->file, show->json);
	if (status == -ENOENT && show->sections_n) {
		log_error("no daemon runs; `tidemark run`");
		return 1;
	}
	return status == -ENOENT ? 0 : status;
}

/* ---- peers and what their stamps say ------------------------------------------------- */

static int show_peers(struct show *show)
{
	show->out = table_open(show, "PEERS", peer_columns);
	return show->out ? peers_show(&show->t, show->out) : 1;
}

static int show_skew(struct show *show)
{
	show->out = table_open(show, "SKEW", skew_columns);
	return show->out ? skews_show(&show->t, show->out) : 1;
}

/* ---- the command -------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*show)(struct show *show);
} sections[] = {
	{ "nodes", show_nodes },
	{ "stages", show_stages },
	{ "counters", show_counters },
	{ "maps", show_maps },
	{ "attachments", show_attachments },
	{ "daemon", show_daemon },
	{ "peers", show_peers },
	{ "skew", show_skew },
	{ "record", show_record },
};

#define SECTIONS (sizeof(sections) / sizeof(sections[0]))

int show_json(const struct tidemark *t, const char *section, FILE *file)
{
	struct show show = { .t = *t, .file = file, .json = true };

	for (size_t s = 0; s < SECTIONS; s++)
		if (!strcmp(section, sections[s].name))
			return sections[s].show(&show);
	return 1;
}

static const char doc[] =
	"Look at the datapath.\v"
	"SECTION is nodes, stages, counters, maps, attachments, daemon, peers, skew or record; "
	"all of them by default. Nothing is loaded or changed. In JSON every line says in `show` what it is.\n"
	"\n"
	"Examples:\n"
	"\n"
	"  tidemark show nodes\n"
	"  tidemark show counters --json | jq 'select(.in + .out > 0)'\n";

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "One JSON object per line", 0 },
	{ "skew", 'k', NULL, 0, "The same as the section skew alone", 0 },
	{ "state-dir", 's', "DIR", 0, "Where a daemon keeps its state (default " STATE_DIR ")", 0 },
	{},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct show *show = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &show->o;
		return 0;
	case 'j':
		show->json = true;
		return 0;
	case 'k':
		show->skew = true;
		return 0;
	case 's':
		show->o.state_dir = arg;
		return 0;
	case ARGP_KEY_ARGS:
		show->sections = state->argv + state->next;
		show->sections_n = state->argc - state->next;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = { { &where_argp, 0, NULL, 5 }, {} };
const struct argp show_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[SECTION...]",
	.doc = doc,
	.children = children,
};

int cmd_show(int argc, char **argv)
{
	struct show show = { .file = stdout };
	int err, status = 0;
	size_t s;

	argp_parse(&show_argp, argc, argv, 0, NULL, &show);
	for (int i = 0; i < show.sections_n; i++) {
		for (s = 0; s < SECTIONS && strcmp(show.sections[i], sections[s].name); s++)
			;
		if (s == SECTIONS) {
			log_error(
				"%s: nothing to show by that name; nodes, stages, counters, maps, "
				"attachments, daemon, peers, skew or record",
				show.sections[i]);
			return 2;
		}
	}
	tidemark_init(&show.t, show.o.pin_dir, show.o.state_dir);
	err = tidemark_open(&show.t);
	if (err == -ENOENT)
		log_error("%s: no datapath is up there; `tidemark up`", show.t.pin_dir);
	if (err)
		return 1;
	for (s = 0; s < SECTIONS && !status; s++) {
		bool wanted = !show.sections_n && !show.skew;

		if (show.skew && sections[s].show == show_skew)
			wanted = true;
		for (int i = 0; i < show.sections_n && !wanted; i++)
			wanted = !strcmp(show.sections[i], sections[s].name);
		if (wanted)
			status = sections[s].show(&show);
	}
	tidemark_close(&show.t);
	return status;
}
