// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark up` and `tidemark down`: undoing is part of doing. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <string.h>

#include <bpf/bpf.h>

#include "cmd.h"
#include "datapath.h"
#include "log.h"
#include "state.h"

static const char up_doc[] =
	"Attach the datapath to nodes, and return when everything is attached.\v"
	"The datapath is pinned and needs no process: clocks tick, flows are counted. Without -n or "
	"-i every network namespace becomes a node. Namespaces and devices that come later are "
	"followed while a `tidemark trace` runs.\n"
	"\n"
	"Exit status: 0 up (or up already, with these nodes), 1 failed and nothing changed, 2 usage, "
	"77 this kernel cannot.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark up -n netns:web -n db=pid:812 && tidemark show nodes\n";

static error_t up_parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key != ARGP_KEY_INIT)
		return ARGP_ERR_UNKNOWN;
	state->child_inputs[0] = state->input;
	return 0;
}

static const struct argp_child up_children[] = { { &datapath_argp, 0, NULL, 5 }, {} };
const struct argp up_argp = { .parser = up_parse, .doc = up_doc, .children = up_children };

static int selector_is_node(const struct netns_seen *seen, const char *name, void *ctx)
{
	struct tidemark *t = ctx;
	struct netns ns;
	__u32 id;

	if (!netns_identify(seen->fd, &ns) && !node_by_cookie(t, ns.cookie, &id))
		return 0;
	log_error("%s: already up, without node %s; `tidemark down` first to choose others",
		  t->pin_dir, name);
	return 1;
}

/* Up already: fine if it is what is asked for. */
static int up_again(struct tidemark *t, const struct datapath_options *o)
{
	const char *differs = datapath_differs(t, o);
	char words[512];
	int ret;

	if (!differs && o->every_packet && !t->settings->every_packet_up)
		differs = "--every-packet";
	if (!differs && o->sizes.ring_bytes)
		differs = "--ring";
	if (differs) {
		log_error("%s: already up, without %s; `tidemark down` first", t->pin_dir, differs);
		return 1;
	}
	for (size_t i = 0; i < o->selectors_n; i++) {
		ret = selector_each(&o->selectors[i], selector_is_node, t, words, sizeof(words));
		if (ret < 0)
			log_error("%s", words);
		if (ret)
			return 1;
	}
	for (size_t i = 0; i < o->interfaces_n; i++)
		if (node_by_name(t, o->interfaces[i], NULL, NULL)) {
			log_error("%s: already up, without -i %s; `tidemark down` first",
				  t->pin_dir, o->interfaces[i]);
			return 1;
		}
	if (datapath_skew(t, o))
		return 2;
	if (peers_apply(t, &o->peers))
		return 1;
	peers_older(t);
	t->settings->temporary = 0; /* what a trace made for itself stays now */
	log_info("already up, %u nodes", node_count(t));
	return 0;
}

int cmd_up(int argc, char **argv)
{
	struct datapath_options o = {};
	struct tidemark t;
	int err, status;

	argp_parse(&up_argp, argc, argv, 0, NULL, &o);
	tidemark_init(&t, o.pin_dir, o.state_dir);
	if (tidemark_lock(&t))
		return 1;
	err = tidemark_open(&t);
	if (!err && !t.settings->complete) {
		log_info("%s: taking down what an interrupted start has left", t.pin_dir);
		state_load(&t);
		if (datapath_down(&t))
			return 1;
		tidemark_close(&t);
		if (tidemark_lock(&t))
			return 1;
		err = -ENOENT;
	}
	if (!err)
		return up_again(&t, &o);
	if (err != -ENOENT)
		return 1;
	status = datapath_up(&t, &o, false);
	if (status)
		return status;
	err = tidemark_watch_processes(&t);
	if (err)
		log_warn("processes are not watched (%s); `tidemark doctor` says more",
			 strerror(-err));
	state_save(&t, STATE_AHEAD_NS);
	log_info("up, %u nodes", node_count(&t));
	tidemark_close(&t);
	return 0;
}

static const char down_doc[] =
	"Remove the datapath: every program, map, pin, filter and qdisc that `up` or `trace` made, "
	"and nothing else.\v"
	"Clocks are remembered: a node of the same name goes on above its last stamp.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark down && bpftool prog list\n";

const struct argp_option state_options[] = {
	{ "state-dir", 's', "DIR", 0, "Where stamps are kept (default " STATE_DIR ")", 0 },
	{},
};

static error_t down_parse(int key, char *arg, struct argp_state *state)
{
	struct datapath_options *o = state->input;

	if (key == ARGP_KEY_INIT)
		state->child_inputs[0] = o;
	else if (key == 's')
		o->state_dir = arg;
	else
		return ARGP_ERR_UNKNOWN;
	return 0;
}

static const struct argp_child down_children[] = { { &where_argp, 0, NULL, 5 }, {} };
const struct argp down_argp = {
	.options = state_options,
	.parser = down_parse,
	.doc = down_doc,
	.children = down_children,
};

static bool is_attached(const struct tidemark *t)
{
	struct attachment_key key;

	return t->map[MAP_attachments] >= 0 &&
	       !bpf_map_get_next_key(t->map[MAP_attachments], NULL, &key);
}

int cmd_down(int argc, char **argv)
{
	struct datapath_options o = {};
	struct tidemark t;
	int err, status;

	argp_parse(&down_argp, argc, argv, 0, NULL, &o);
	tidemark_init(&t, o.pin_dir, o.state_dir);
	if (tidemark_lock(&t))
		return 1;
	err = tidemark_open(&t);
	if (err == -ENOENT) {
		log_info("%s: no datapath is up there", t.pin_dir);
		return tidemark_destroy(&t) ? 1 : 0; /* what a start may have left beside it */
	}
	if (err && !is_attached(&t)) /* an interrupted `down` had got that far */
		return tidemark_destroy(&t) ? 1 : 0;
	if (err && (t.map[MAP_nodes] < 0 || !t.clocks || !t.settings)) {
		log_error("%s: what is attached cannot be told any more; remove the filters with "
			  "tc, then the directory",
			  t.pin_dir);
		return 1;
	}
	state_load(&t);
	status = datapath_down(&t);
	if (!status)
		log_info("down");
	tidemark_close(&t);
	return status;
}
