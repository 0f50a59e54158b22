// SPDX-License-Identifier: GPL-2.0-only
/* Bring the datapath up with the nodes a user chose, and take it down. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "datapath.h"
#include "log.h"
#include "physical.h"
#include "pipeline.h"
#include "state.h"
#include "units.h"

enum {
	OPT_PIN_DIR = 0x100,
	OPT_STATE_DIR,
	OPT_SKEW,
	OPT_CLOCK,
	OPT_EVERY,
	OPT_FLOWS,
	OPT_NODES,
	OPT_RING,
	OPT_ATTACH,
	OPT_PEER,
	OPT_MAX_AHEAD,
	OPT_NO_STAMP,
	OPT_SAMPLE,
	OPT_BURST,
};

static const struct argp_option where_options[] = {
	{ "pin-dir", OPT_PIN_DIR, "DIR", 0,
	  "Where the datapath is pinned (default " PIN_DIR
	  "); another directory is another datapath",
	  20 },
	{ "verbose", 'v', NULL, 0, "Say what is done; twice, what libbpf and the verifier say too",
	  21 },
	{},
};

static const struct argp_option datapath_options[] = {
	{ "node", 'n', "NODE", 0,
	  "Watch this node: netns:NAME, pid:N, path:/run/netns/X, container:NAME-OR-ID, "
	  "compose:PROJECT[/SERVICE], label:KEY[=VALUE], pod:[NAMESPACE/]NAME, cgroup:PATH or host, with NAME= in front to call it NAME; repeats (default: all)",
	  1 },
	{ "interface", 'i', "DEVICE", 0,
	  "Watch this device as a node of its own: a mirror port, a tap, a bridge with its ports; "
	  "repeats",
	  1 },
	{ "clock", OPT_CLOCK, "node|host", 0,
	  "A clock for every node (default), or one for the host, which also orders what nodes tell "
	  "each other by other ways than the network",
	  2 },
	{ "skew", OPT_SKEW, "NODE=+3s", 0,
	  "Shift the node's physical clock: an instrument, to see that order does not depend on it; "
	  "repeats",
	  2 },
	{ "every-packet", OPT_EVERY, NULL, 0, "An event for each segment instead of each burst",
	  2 },
	{ "burst", OPT_BURST, "node|flow", 0,
	  "What a burst is: messages of one flow with nothing else of their node in between "
	  "(default), or whatever else their node does, for hosts with many interleaved flows: then "
	  "the order within bursts is lost, and the log says so",
	  2 },
	{ "flows", OPT_FLOWS, "N", 0, "Size of the connection table (default 65536)", 3 },
	{ "nodes", OPT_NODES, "N", 0, "Most nodes there can be (default 4096)", 3 },
	{ "ring", OPT_RING, "SIZE", 0, "Room for events not read yet, a CPU (default 4m)", 3 },
	{ "attach", OPT_ATTACH, "auto|clsact|tcx", 0,
	  "How to attach to devices: clsact is quick, and stops a device that is up for a tenth of a "
	  "millisecond; tcx stops nothing and takes a hundred times as long (default auto: tcx where "
	  "traffic runs already)",
	  3 },
	{ "peer", OPT_PEER, "CIDR", 0,
	  "Exchange clocks with these addresses, in the packets themselves; repeats (default: none)",
	  4 },
	{ "max-ahead", OPT_MAX_AHEAD, "SPAN|off", 0,
	  "Do not merge a peer's stamp that is further ahead of our clock (default 24h)", 4 },
	{ "no-stamp-port", OPT_NO_STAMP, "PORT", 0,
	  "Leave UDP datagrams from and to this port as they are; repeats", 4 },
	{ "stamp-sample", OPT_SAMPLE, "N", 0,
	  "Stamp one in N bursts of UDP datagrams; what is left out says so in the log (default: all)",
	  4 },
	{ "state-dir", OPT_STATE_DIR, "DIR", 0,
	  "Where stamps that must not come twice are kept over a reboot (default " STATE_DIR ")",
	  20 },
	{},
};

static void *grow(void *array, size_t n, size_t size)
{
	void *grown = realloc(array, (n + 1) * size);

	if (!grown) {
		log_error("out of memory");
		exit(1);
	}
	return grown;
}

static error_t where_parse(int key, char *arg, struct argp_state *state)
{
	struct datapath_options *o = state->input;

	switch (key) {
	case OPT_PIN_DIR:
		o->pin_dir = arg;
		return 0;
	case 'v':
		log_level(++o->verbose);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static void refuse(const char *option, const char *arg, const char *remedy)
{
	log_error("--%s %s: %s", option, arg, remedy);
	exit(2);
}

static void selector_add(struct datapath_options *o, const char *arg)
{
	char words[512];

	o->selectors = grow(o->selectors, o->selectors_n, sizeof(*o->selectors));
	if (selector_parse(arg, &o->selectors[o->selectors_n], words, sizeof(words))) {
		log_error("%s", words);
		exit(2);
	}
	o->selectors_n++;
}

static void skew_add(struct datapath_options *o, const char *arg)
{
	struct node_skew *skew;

	o->skews = grow(o->skews, o->skews_n, sizeof(*o->skews));
	skew = &o->skews[o->skews_n];
	if (skew_parse(arg, skew->name, sizeof(skew->name), &skew->ns))
		refuse("skew", arg, "not a node and a shift; write it like web=+3s or db=-2h");
	o->skews_n++;
}

int attach_how_parse(const char *text, __u32 *how)
{
	if (strcmp(text, "auto") && strcmp(text, "clsact") && strcmp(text, "tcx"))
		return -EINVAL;
	*how = !strcmp(text, "tcx")	 ? ATTACHED_TCX
	       : !strcmp(text, "clsact") ? ATTACHED_CLSACT
					 : ATTACH_AUTO;
	return 0;
}

static __u64 number(const char *option, const char *arg, __u64 most)
{
	__u64 n;

	if (number_parse(arg, most, &n) || !n)
		refuse(option, arg, "not a number from 1 up to what fits a kernel map");
	return n;
}

static error_t datapath_parse(int key, char *arg, struct argp_state *state)
{
	struct datapath_options *o = state->input;
	__u64 bytes;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = o;
		return 0;
	case 'n':
		selector_add(o, arg);
		return 0;
	case 'i':
		if (o->interfaces_n == DATAPATH_INTERFACES)
			refuse("interface", arg, "too many; a bridge brings its ports with it");
		o->interfaces[o->interfaces_n++] = arg;
		return 0;
	case OPT_SKEW:
		skew_add(o, arg);
		return 0;
	case OPT_CLOCK:
		if (strcmp(arg, "node") && strcmp(arg, "host"))
			refuse("clock", arg, "not a kind of clock; node or host");
		o->clock_per_host = !strcmp(arg, "host");
		return 0;
	case OPT_EVERY:
		o->every_packet = true;
		return 0;
	case OPT_BURST:
		if (strcmp(arg, "node") && strcmp(arg, "flow"))
			refuse("burst", arg, "not a kind of burst; node or flow");
		o->burst_flow = !strcmp(arg, "flow");
		return 0;
	case OPT_FLOWS:
		o->sizes.flows = number("flows", arg, 1 << 26);
		return 0;
	case OPT_NODES:
		o->sizes.nodes = number("nodes", arg, 1 << 20);
		return 0;
	case OPT_RING:
		if (size_parse(arg, &bytes) || bytes < 4096 || bytes > 1 << 30)
			refuse("ring", arg, "not a size from 4k to 1g");
		o->sizes.ring_bytes = bytes;
		return 0;
	case OPT_ATTACH:
		if (attach_how_parse(arg, &o->attach_how))
			refuse("attach", arg, "not a way to attach; auto, clsact or tcx");
		return 0;
	case OPT_STATE_DIR:
		o->state_dir = arg;
		return 0;
	case OPT_PEER:
		if (peer_add(&o->peers, arg))
			exit(2);
		return 0;
	case OPT_MAX_AHEAD:
		if (peer_max_ahead(&o->peers, arg))
			exit(2);
		return 0;
	case OPT_NO_STAMP:
		if (peer_no_stamp(&o->peers, arg))
			exit(2);
		return 0;
	case OPT_SAMPLE:
		if (peer_sample(&o->peers, arg))
			exit(2);
		return 0;
	case ARGP_KEY_END:
		if (o->clock_per_host && o->skews_n)
			refuse("skew", o->skews[0].name,
			       "there is one clock for the host (--clock host); nothing to shift");
		if (o->burst_flow && o->every_packet)
			refuse("burst", "flow",
			       "with --every-packet there are no bursts; choose one");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp where_argp = { .options = where_options, .parser = where_parse };

static const struct argp_child datapath_children[] = { { &where_argp, 0, NULL, 20 }, {} };
const struct argp datapath_argp = {
	.options = datapath_options,
	.parser = datapath_parse,
	.children = datapath_children,
};

struct discover_choice datapath_choice(const struct datapath_options *o)
{
	return (struct discover_choice){
		.selectors = o->selectors,
		.selectors_n = o->selectors_n,
		.all = !o->selectors_n && !o->interfaces_n,
		.options = { .skews = o->skews, .skews_n = o->skews_n },
	};
}

int datapath_skew(struct tidemark *t, const struct datapath_options *o)
{
	for (size_t i = 0; i < o->skews_n; i++)
		if (node_skew(t, o->skews[i].name, o->skews[i].ns)) {
			log_error("--skew %s: no such node; `tidemark show nodes` lists them",
				  o->skews[i].name);
			return 2;
		}
	return 0;
}

static int interfaces_add(struct tidemark *t, const struct datapath_options *o)
{
	const struct node_options options = { .skews = o->skews, .skews_n = o->skews_n };
	int err;

	for (size_t i = 0; i < o->interfaces_n; i++) {
		err = node_add_interface(t, o->interfaces[i], &options);
		if (err) {
			log_error("%s: %s", o->interfaces[i],
				  err == -ENODEV ? "no such device" : strerror(-err));
			return err;
		}
	}
	return 0;
}

struct look {
	const struct datapath_options *o;
	struct busy busy;
};

static void datapath_look(void *ctx)
{
	struct look *look = ctx;
	const struct discover_choice choice = datapath_choice(look->o);

	if (look->o->attach_how == ATTACH_AUTO)
		discover_look(&choice, &look->busy);
}

int datapath_up(struct tidemark *t, const struct datapath_options *o, bool temporary)
{
	struct discover_choice choice = datapath_choice(o);
	struct look look = { .o = o };
	const struct meanwhile meanwhile = { datapath_look, &look };
	struct sizes sizes = o->sizes;
	int err, status;

	sizes.parts |= o->peers.peers_n ? PART_WIRE : 0;
	sizes.parts |= o->burst_flow ? PART_BURSTS : 0;
	err = tidemark_create(t, &sizes, &meanwhile);
	if (err) {
		busy_free(&look.busy);
		return exit_of(err);
	}
	choice.options.busy = &look.busy;
	t->settings->clock_per_host = o->clock_per_host;
	t->settings->burst_flow = o->burst_flow;
	t->settings->every_packet = o->every_packet;
	t->settings->every_packet_up = o->every_packet && !temporary;
	t->settings->all = choice.all;
	t->settings->temporary = temporary ? DATAPATH_OF_TRACE : 0;
	t->settings->attach_how = o->attach_how;
	t->settings->reading = temporary;
	t->settings->began_jiffies = tidemark_tick(t);
	t->settings->began_ns = physical_monotonic_ns();
	physical_publish(t);
	err = peers_apply(t, &o->peers);
	if (!err)
		peers_older(t); /* before there are nodes: each is looked through as it comes */
	if (!err)
		err = state_load(t);
	if (!err)
		err = discover_now(t, &choice, o->wait);
	if (!err)
		err = interfaces_add(t, o);
	busy_free(&look.busy);
	status = err == -ENOTUNIQ ? 2 : err ? exit_of(err) : o->wait ? 0 : datapath_skew(t, o);
	if (status) {
		node_remove_all(t);
		tidemark_destroy(t);
		return status;
	}
	t->settings->complete = 1;
	return 0;
}

void datapath_every_packet(struct tidemark *t, bool every)
{
	t->settings->every_packet = every;
	for (__u32 i = 0; i < t->clocks_n; i++) {
		__u32 *flags = &t->clocks[i].flags;

		*flags = every ? *flags | CLOCK_EVERY_PACKET : *flags & ~CLOCK_EVERY_PACKET;
	}
}

static bool entries_differ(const struct tidemark *t, enum map map, unsigned wanted)
{
	struct bpf_map_info info = {};
	__u32 len = sizeof(info);

	return wanted && !bpf_obj_get_info_by_fd(t->map[map], &info, &len) &&
	       info.max_entries != wanted;
}

const char *datapath_differs(const struct tidemark *t, const struct datapath_options *o)
{
	if (o->clock_per_host && !t->settings->clock_per_host)
		return "--clock host";
	if (o->burst_flow && !t->settings->burst_flow)
		return "--burst flow";
	if (o->attach_how != ATTACH_AUTO && t->settings->attach_how != o->attach_how)
		return "another --attach";
	if (entries_differ(t, MAP_flows, o->sizes.flows) ||
	    entries_differ(t, MAP_nodes, o->sizes.nodes))
		return "other table sizes";
	return NULL;
}

int datapath_down(struct tidemark *t)
{
	int err = node_remove_all(t);

	if (err) /* said; nothing is forgotten, so it can be tried again */
		return 1;
	state_save(t, 0);
	return tidemark_destroy(t) ? 1 : 0;
}

struct chosen {
	struct tidemark *t;
	__u32 **only;
	size_t *n;
};

static int chosen_add(const struct netns_seen *seen, const char *name, void *ctx)
{
	struct chosen *chosen = ctx;
	struct netns ns;
	__u32 id = 0, *grown;

	if (netns_identify(seen->fd, &ns) || node_by_cookie(chosen->t, ns.cookie, &id)) {
		log_error("%s: not a node of the datapath that is up; `tidemark show nodes` lists "
			  "them, `tidemark down` first to choose others",
			  name);
		return 1;
	}
	grown = realloc(*chosen->only, (*chosen->n + 1) * sizeof(*grown));
	if (!grown)
		return 1;
	*chosen->only = grown;
	grown[(*chosen->n)++] = id;
	return 0;
}

int datapath_only(struct tidemark *t, const struct datapath_options *o, __u32 **only, size_t *n)
{
	struct chosen chosen = { .t = t, .only = only, .n = n };
	char words[512];
	int ret = 0;

	for (size_t i = 0; i < o->selectors_n && !ret; i++) {
		ret = selector_each(&o->selectors[i], chosen_add, &chosen, words, sizeof(words));
		if (ret < 0)
			log_error("%s", words);
	}
	return ret ? 1 : 0;
}
