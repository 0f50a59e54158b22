// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark flows`: the connection table. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../bpf/flow.h"
#include "cmd.h"
#include "datapath.h"
#include "log.h"
#include "markio.h"
#include "out.h"
#include "physical.h"
#include "show.h"
#include "units.h"
#include "wire.h"

struct flows {
	struct tidemark t;
	struct datapath_options o;
	bool json;
	__u64 watch_ns;
	const char *node;
	__u64 most;    /* 0: all of them */
	__u32 hz, now; /* jiffies */
	struct out *out;
	struct registry *registry; /* NULL: numbers do */
};

enum {
	NODE,
	PROTO,
	LOCAL,
	REMOTE,
	STATE,
	OPENER,
	OUT_BYTES,
	IN_BYTES,
	OUT_PACKETS,
	IN_PACKETS,
	IDLE,
	RETRANSMITS,
	IN_DUPLICATES,
	FLAGS_OUT,
	FLAGS_IN,
	PID,
	COMM,
	UID,
	CGROUP,
	FIRST,
	ADMITTED,
	EXPERIMENT,
	ACTIVITY,
	MARK_HOW
};

static const struct out_column columns[] = {
	[NODE] = { "node", "NODE", 16, 6, 0 },
	[PROTO] = { "proto", "PROTO", 5, 0, 0 },
	[LOCAL] = { "local", "LOCAL", 45, 15, 0 },
	[REMOTE] = { "remote", "REMOTE", 45, 15, 0 },
	[STATE] = { "state", "STATE", 11, 0, 0 },
	[OPENER] = { "opener", "OPENED", 7, 0, OUT_OPTIONAL },
	[OUT_BYTES] = { "out_bytes", "OUT", 6, 0, OUT_RIGHT },
	[IN_BYTES] = { "in_bytes", "IN", 6, 0, OUT_RIGHT },
	[OUT_PACKETS] = { .key = "out_packets" },
	[IN_PACKETS] = { .key = "in_packets" },
	[IDLE] = { "idle_ns", "IDLE", 6, 0, OUT_RIGHT },
	[RETRANSMITS] = { "retransmits", "RETR", 5, 0, OUT_RIGHT | OUT_OPTIONAL },
	[IN_DUPLICATES] = { .key = "in_duplicates" },
	[FLAGS_OUT] = { .key = "out_flags" },
	[FLAGS_IN] = { .key = "in_flags" },
	[PID] = { "pid", "PID", 7, 0, OUT_RIGHT | OUT_OPTIONAL },
	[COMM] = { "comm", "PROCESS", 15, 6, OUT_OPTIONAL },
	[UID] = { .key = "uid" },
	[CGROUP] = { .key = "cgroup" },
	[FIRST] = { .key = "first" },
	[ADMITTED] = { .key = "admitted" },
	[EXPERIMENT] = { "experiment", "MARK", 16, 6, OUT_OPTIONAL },
	[ACTIVITY] = { "activity", "ACTIVITY", 24, 8, OUT_OPTIONAL },
	[MARK_HOW] = { .key = "mark_how" },
	{},
};

static const char *const states[FLOW_STATES_NR] = {
	[FLOW_OPEN] = "open",	    [FLOW_SYN] = "syn",
	[FLOW_SYN_ACK] = "syn-ack", [FLOW_ESTABLISHED] = "established",
	[FLOW_CLOSING] = "closing", [FLOW_CLOSED] = "closed",
	[FLOW_RESET] = "reset",
};

static const char *const openers[] = {
	[FLOW_OPENER_UNKNOWN] = "before",
	[FLOW_OPENER_LOCAL] = "local",
	[FLOW_OPENER_REMOTE] = "remote",
};

static void out_proto(struct out *out, __u8 proto)
{
	char number[4];

	switch (proto) {
	case IPPROTO_TCP:
		out_str(out, PROTO, "tcp");
		break;
	case IPPROTO_UDP:
		out_str(out, PROTO, "udp");
		break;
	case IPPROTO_ICMP:
		out_str(out, PROTO, "icmp");
		break;
	case IPPROTO_ICMPV6:
		out_str(out, PROTO, "icmp6");
		break;
	default:
		snprintf(number, sizeof(number), "%u", proto);
		out_str(out, PROTO, number);
	}
}

static void out_end(struct out *out, unsigned column, const struct flow_key *key, bool local)
{
	const __u8 *address = local ? key->local : key->remote;
	int port = local ? key->local_port : key->remote_port;

	if (!flow_has_ports(key->proto) && !port)
		port = OUT_NO_PORT;
	out_address(out, column, address, port);
}

static int flow_print(struct flows *flows, const struct flow_key *key, const struct flow *f,
		      const char *node, bool admitted)
{
	const struct flow_dir *in = &f->dir[DIR_IN], *out = &f->dir[DIR_OUT];
	struct out *o = flows->out;

	out_str(o, NODE, node);
	out_proto(o, key->proto);
	out_end(o, LOCAL, key, true);
	out_end(o, REMOTE, key, false);
	out_str(o, STATE, f->state < FLOW_STATES_NR ? states[f->state] : "?");
	out_str(o, OPENER, f->opener <= FLOW_OPENER_REMOTE ? openers[f->opener] : "?");
	out_bytes(o, OUT_BYTES, out->bytes);
	out_bytes(o, IN_BYTES, in->bytes);
	out_u64(o, OUT_PACKETS, out->packets);
	out_u64(o, IN_PACKETS, in->packets);
	out_span(o, IDLE, (__u64)(__u32)(flows->now - f->last) * (1000000000ULL / flows->hz));
	if (key->proto == IPPROTO_TCP) {
		out_u64(o, RETRANSMITS, f->retransmits[DIR_OUT]);
		out_u64(o, IN_DUPLICATES, f->retransmits[DIR_IN]);
		out_tcp_flags(o, FLAGS_OUT, out->tcp_flags);
		out_tcp_flags(o, FLAGS_IN, in->tcp_flags);
	}
	if (f->pid) {
		out_u64(o, PID, f->pid);
		out_mem(o, COMM, f->comm, sizeof(f->comm));
		out_u64(o, UID, f->uid);
		out_u64(o, CGROUP, f->cgroup);
	}
	out_wall(o, FIRST, f->first_ns);
	out_bool(o, ADMITTED, admitted);
	if (f->mark & MARK_MARKED)
		out_mark(o, EXPERIMENT, ACTIVITY, MARK_HOW, flows->registry, f->mark);
	return out_row(o);
}

static int flows_of(struct flows *flows, enum map map)
{
	struct flow_key key, next;
	struct node node;
	struct flow f;
	int err = bpf_map_get_next_key(flows->t.map[map], NULL, &key);

	for (int ret = 0; !err && !ret; key = next) {
		/* Ask for the next first: this one may be evicted any time. */
		err = bpf_map_get_next_key(flows->t.map[map], &key, &next);
		if (bpf_map_lookup_elem(flows->t.map[map], &key, &f))
			continue;
		if (node_get(&flows->t, key.node, &node))
			snprintf(node.name, sizeof(node.name), "node-%u", key.node);
		if (flows->node && strcmp(flows->node, node.name))
			continue;
		ret = flow_print(flows, &key, &f, node.name, map == MAP_flows);
		if (ret)
			return ret;
		if (flows->most && !--flows->most)
			return 1;
	}
	return 0;
}

static void ticks_read(struct flows *flows)
{
	flows->now = tidemark_tick(&flows->t);
	flows->hz = physical_hz(&flows->t, flows->now);
}

static int flows_print(struct flows *flows)
{
	int err;

	ticks_read(flows);
	err = flows_of(flows, MAP_flows);
	return err ? err : flows_of(flows, MAP_embryonic);
}

int flows_json(const struct tidemark *t, const char *node, __u64 most, FILE *file)
{
	struct flows flows = { .t = *t, .node = node, .most = most };

	flows.out = out_open(file, columns, OUT_JSON);
	if (!flows.out)
		return 1;
	flows_print(&flows);
	return out_finish(flows.out, 0);
}

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	stopped = signal;
}

/* Again and again, until interrupted. */
static int flows_watch(struct flows *flows)
{
	const struct timespec pause = { .tv_sec = flows->watch_ns / 1000000000,
					.tv_nsec = flows->watch_ns % 1000000000 };
	const struct sigaction action = { .sa_handler = stop };
	bool screen = !flows->json && isatty(STDOUT_FILENO);
	int err = 0;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	while (!stopped && !err) {
		if (screen)
			fputs("\033[H\033[2J", stdout);
		err = flows_print(flows);
		if (!err)
			err = out_flush(flows->out);
		fflush(stdout);
		if (!err)
			nanosleep(&pause, NULL);
	}
	return err;
}

static const char doc[] =
	"The connection table: who talks with whom, how much, and whose process it is.\v"
	"LOCAL is the node's end. OUT and IN count whole packets with their headers, a GSO or GRO "
	"packet as its segments. OPENED says who spoke first; `before` is a connection older than "
	"the datapath. Flows of which only one side has spoken are listed last.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark flows --watch 1s -n web\n";

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "One JSON object per line", 0 },
	{ "watch", 'w', "SPAN", OPTION_ARG_OPTIONAL, "Print again every SPAN (default 1s)", 0 },
	{ "node", 'n', "NAME", 0, "Only this node's", 0 },
	{},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct flows *flows = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &flows->o;
		return 0;
	case 'j':
		flows->json = true;
		return 0;
	case 'n':
		flows->node = arg;
		return 0;
	case 'w':
		flows->watch_ns = 1000000000;
		if (arg && (span_parse(arg, &flows->watch_ns) || !flows->watch_ns)) {
			log_error("--watch %s: not a span of time; write 1s, 500ms", arg);
			exit(2);
		}
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = { { &where_argp, 0, NULL, 5 }, {} };
const struct argp flows_argp = {
	.options = options,
	.parser = parse,
	.doc = doc,
	.children = children,
};

int cmd_flows(int argc, char **argv)
{
	struct flows flows = {};
	char words[256];
	int err;

	argp_parse(&flows_argp, argc, argv, 0, NULL, &flows);
	tidemark_init(&flows.t, flows.o.pin_dir, NULL);
	err = tidemark_open(&flows.t);
	if (err == -ENOENT)
		log_error("%s: no datapath is up there; `tidemark up`", flows.t.pin_dir);
	if (err)
		return 1;
	/* netns:web is what -n takes elsewhere */
	if (flows.node && !strncmp(flows.node, "netns:", 6))
		flows.node += 6;
	if (flows.node && node_by_name(&flows.t, flows.node, NULL, NULL)) {
		log_error("%s: no such node; `tidemark show nodes` lists them", flows.node);
		return 1;
	}
	flows.registry = registry_open(NULL, words, sizeof(words));
	if (!flows.registry)
		log_warn("%s: %s; marks are shown by number", REGISTRY_FILE, words);
	flows.out = out_open(stdout, columns, flows.json ? OUT_JSON : 0);
	if (!flows.out)
		return 1;
	err = flows.watch_ns ? flows_watch(&flows) : flows_print(&flows);
	err = out_finish(flows.out, err ? 1 : 0);
	registry_close(flows.registry);
	tidemark_close(&flows.t);
	return err;
}
