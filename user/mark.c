// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark mark`: which experiment and activity the traffic of this host belongs to. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "datapath.h"
#include "log.h"
#include "markcode.h"
#include "markio.h"
#include "units.h"

enum {
	OPT_PROTO = 0x100,
	OPT_SRC,
	OPT_DST,
	OPT_UID,
	OPT_COMM,
	OPT_CGROUP,
	OPT_HOW,
	OPT_FOR,
	OPT_INHERIT,
	OPT_ID,
	OPT_ALL,
	OPT_REGISTRY,
	OPT_EXCLUDE,
};

/* Which options were given: a bit each, from OPT_PROTO on, and these. */
#define GIVEN(option) (1U << ((option)-OPT_PROTO))
#define GIVEN_NODE (1U << 20)
#define GIVEN_EXPERIMENT (1U << 21)
#define GIVEN_ACTIVITY (1U << 22)
#define GIVEN_SELECTS                                                                            \
	(GIVEN(OPT_PROTO) | GIVEN(OPT_SRC) | GIVEN(OPT_DST) | GIVEN(OPT_UID) | GIVEN(OPT_COMM) | \
	 GIVEN(OPT_CGROUP) | GIVEN_NODE)
#define GIVEN_GIVES (GIVEN_EXPERIMENT | GIVEN_ACTIVITY | GIVEN(OPT_HOW))

struct marking {
	struct tidemark t;
	struct datapath_options o;
	struct registry *registry;
	const char *registry_file, *experiment, *activity;
	struct mark mark;
	__u64 id;
	unsigned given;
	bool json;
	char **args; /* the action and what follows */
	int args_n;
	struct out *out;
};

static const char doc[] =
	"Give flows a mark: the experiment and the activity they are for (SciTags).\v"
	"ACTION is one of:\n"
	"\n"
	"  add              mark what the options say\n"
	"  del              remove the marks that have all of these options, or --id, or --all\n"
	"  list             the marks; with options, those that have all of them\n"
	"  import FILE      add what `list --json` printed, all of it or nothing (- is stdin)\n"
	"  encode           an experiment and activity as label, header and SciTag number\n"
	"  decode VALUE...  the reverse: a label (0x10024), a number, or a header's bytes\n"
	"\n"
	"What a node sends is marked: --src is the node's own end, --dst the other. ENDPOINT is "
	"ADDR, ADDR:PORT, [V6]:PORT, PREFIX/LEN, :PORT or :LOW-HIGH; a second --src or --dst adds "
	"ports to a prefix. With both ends whole it is one connection's mark and ends with it. "
	"Otherwise it is a rule, and the most specific wins: by prefix, ports, protocol, node, "
	"cgroup, user, process; of equals the older. The datapath must be up; no process needs to "
	"run.\n"
	"\n"
	"Examples:\n"
	"\n"
	"  tidemark mark add --dst 2001:db8:10::/48 --experiment atlas --activity staging\n"
	"  tidemark mark add --proto tcp --dst :1094 --node web --experiment cms --activity 14 "
	"--how hop-by-hop --for 2h\n"
	"  tidemark mark list --json >marks && tidemark mark import marks\n"
	"  tidemark mark encode --experiment 2 --activity 9\n";

static const struct argp_option options[] = {
	{ "proto", OPT_PROTO, "tcp|udp|any", 0, "Protocol, or its number (default any)", 1 },
	{ "src", OPT_SRC, "ENDPOINT", 0, "The sending end; again: also ports", 1 },
	{ "dst", OPT_DST, "ENDPOINT", 0, "The receiving end; again: also ports", 1 },
	{ "node", 'n', "NODE", 0, "The sending node; it may be one still to come", 1 },
	{ "uid", OPT_UID, "USER", 0, "The user whose socket it is, by name or number", 1 },
	{ "comm", OPT_COMM, "NAME", 0, "The process's name, up to 15 characters", 1 },
	{ "cgroup", OPT_CGROUP, "PATH", 0, "Processes in this cgroup or below it", 1 },
	{ "experiment", 'e', "NAME|N", 0, "Experiment, 0 to 511", 2 },
	{ "activity", 'a', "NAME|N", 0, "Activity, 0 to 63", 2 },
	{ "how", OPT_HOW, "label|hop-by-hop|destination|hop-by-hop+destination", 0,
	  "Where packets carry it (default label)", 2 },
	{ "for", OPT_FOR, "SPAN", 0, "Until so much time has passed", 2 },
	{ "inherit", OPT_INHERIT, NULL, 0, "Also what a process opens while it serves such a flow",
	  2 },
	{ "exclude", OPT_EXCLUDE, NULL, 0, "No mark, whatever other rules say", 2 },
	{ "id", OPT_ID, "N", 0, "That one mark (del, list)", 3 },
	{ "all", OPT_ALL, NULL, 0, "Every mark (del)", 3 },
	{ "registry", OPT_REGISTRY, "FILE", 0,
	  "Names and numbers, as published by SciTags (default " REGISTRY_FILE
	  ", else those of September 2025)",
	  4 },
	{ "json", 'j', NULL, 0, "One JSON object per line", 4 },
	{},
};

__attribute__((noreturn)) static void refuse(const char *option, const char *arg, const char *words)
{
	log_error("--%s %s: %s", option, arg, words);
	exit(2);
}

static void uid_parse(struct mark *m, const char *arg)
{
	if (mark_uid_parse(arg, m))
		refuse("uid", arg, "no such user in /etc/passwd, and not a number");
}

static void end_parse(const char *option, const char *arg, struct endpoint *e)
{
	const char *words = "";

	if (endpoint_parse(arg, e, &words))
		refuse(option, arg, words);
}

static void name_take(const char *option, const char *arg, char *to, size_t size, const char *words)
{
	if (!*arg || strlen(arg) >= size)
		refuse(option, arg, words);
	memset(to, 0, size);
	memcpy(to, arg, strlen(arg));
}

static void node_take(struct mark *m, const char *arg)
{
	const char *name = !strncmp(arg, "netns:", 6) ? arg + 6 : arg; /* as -n elsewhere */

	name_take("node", name, m->node, sizeof(m->node), "not a node's name");
}

static error_t selector_parse_option(int key, char *arg, struct mark *m)
{
	switch (key) {
	case OPT_PROTO:
		if (mark_proto_parse(arg, &m->proto))
			refuse("proto", arg, "not a protocol; tcp, udp, any or a number");
		return 0;
	case OPT_SRC:
		end_parse("src", arg, &m->src);
		return 0;
	case OPT_DST:
		end_parse("dst", arg, &m->dst);
		return 0;
	case OPT_UID:
		uid_parse(m, arg);
		return 0;
	case OPT_COMM:
		name_take("comm", arg, m->comm, sizeof(m->comm),
			  "not a process's name, which has up to 15 characters");
		return 0;
	case OPT_CGROUP:
		if (mark_cgroup_parse(arg, m))
			refuse("cgroup", arg, "no such cgroup (version 2)");
		return 0;
	case OPT_HOW:
		if (mark_how_parse(arg, &m->how))
			refuse("how", arg,
			       "not a way; label, hop-by-hop, destination or "
			       "hop-by-hop+destination");
		return 0;
	case OPT_FOR:
		if (span_parse(arg, &m->for_ns) || !m->for_ns)
			refuse("for", arg, "not a span of time; write 90s, 15m, 2h or 7d");
		return 0;
	case OPT_INHERIT:
		m->inherit = true;
		return 0;
	case OPT_EXCLUDE:
		m->exclude = true;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct marking *m = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &m->o;
		return 0;
	case 'n':
		node_take(&m->mark, arg);
		m->given |= GIVEN_NODE;
		return 0;
	case 'e':
		m->experiment = arg;
		m->given |= GIVEN_EXPERIMENT;
		return 0;
	case 'a':
		m->activity = arg;
		m->given |= GIVEN_ACTIVITY;
		return 0;
	case 'j':
		m->json = true;
		return 0;
	case OPT_ID:
		if (number_parse(arg, 0xffffffff, &m->id) || !m->id)
			refuse("id", arg, "not a mark's id; `tidemark mark list` shows them");
		m->given |= GIVEN(key);
		return 0;
	case OPT_ALL:
		m->given |= GIVEN(key);
		return 0;
	case OPT_REGISTRY:
		m->registry_file = arg;
		return 0;
	case ARGP_KEY_ARGS:
		m->args = state->argv + state->next;
		m->args_n = state->argc - state->next;
		return 0;
	}
	if (selector_parse_option(key, arg, &m->mark))
		return ARGP_ERR_UNKNOWN;
	m->given |= GIVEN(key);
	return 0;
}

static const struct argp_child children[] = { { &where_argp, 0, NULL, 5 }, {} };
const struct argp mark_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "ACTION [FILE|VALUE...]",
	.doc = doc,
	.children = children,
};

/* ---- actions ------------------------------------------------------------------------ */

static int where_open(struct marking *m)
{
	int err = tidemark_open(&m->t);

	if (err == -ENOENT)
		log_error("%s: no datapath is up there; `tidemark up`", m->t.pin_dir);
	return err;
}

static int where_change(struct marking *m)
{
	int err = tidemark_lock(&m->t);

	return err ? err : where_open(m);
}

/* Says why marks_add() could not. */
static void add_failed(const struct marking *m, const struct mark *mark, const char *where, int err)
{
	if (err == -ENODEV)
		log_error("%s%s: no such node, and one flow's mark can not wait for it; `tidemark "
			  "show nodes` lists them",
			  where, mark->node);
	else if (err == -ENOSPC)
		log_error("%s%s: full (%d flows, %d rules); nothing was added", where, m->t.pin_dir,
			  MARKS_DEFAULT, RULES_MAX);
	else
		log_error("%s%s: %s; nothing was added", where, m->t.pin_dir, strerror(-err));
}

static int node_warn(struct marking *m, const struct mark *mark)
{
	if (*mark->node && node_by_name(&m->t, mark->node, NULL, NULL))
		log_warn("%s: no such node yet; the mark waits for it", mark->node);
	return 0;
}

static int action_add(struct marking *m)
{
	const char *never;
	size_t bad;
	int err;

	if (m->mark.exclude ? m->experiment || m->activity : !m->experiment || !m->activity) {
		log_error("add: needs --experiment and --activity, or else --exclude");
		return 2;
	}
	if (m->given & (GIVEN(OPT_ID) | GIVEN(OPT_ALL))) {
		log_error("add: --id and --all are for marks there are; ids are given, not chosen");
		return 2;
	}
	never = mark_never(&m->mark);
	if (never) {
		log_error("add: %s", never);
		return 2;
	}
	if (where_change(m))
		return 1;
	err = marks_add(&m->t, &m->mark, 1, &bad);
	if (err) {
		add_failed(m, &m->mark, "", err);
		return 1;
	}
	node_warn(m, &m->mark);
	if (!m->json) {
		log_info("mark %u", m->mark.id);
		return 0;
	}
	m->out = marks_out(stdout, true);
	if (!m->out)
		return 1;
	mark_print(m->out, m->registry, &m->mark);
	return out_finish(m->out, 0);
}

static bool is_chosen(const struct mark *mark, void *ctx)
{
	const struct marking *m = ctx;
	const struct mark *want = &m->mark;
	unsigned given = m->given;

	return (!(given & GIVEN(OPT_ID)) || mark->id == m->id) &&
	       (!(given & GIVEN(OPT_PROTO)) || mark->proto == want->proto) &&
	       (!(given & GIVEN(OPT_SRC)) || endpoint_same(&mark->src, &want->src)) &&
	       (!(given & GIVEN(OPT_DST)) || endpoint_same(&mark->dst, &want->dst)) &&
	       (!(given & GIVEN_NODE) || !strcmp(mark->node, want->node)) &&
	       (!(given & GIVEN(OPT_UID)) || (mark->by_uid && mark->uid == want->uid)) &&
	       (!(given & GIVEN(OPT_COMM)) || !strcmp(mark->comm, want->comm)) &&
	       (!(given & GIVEN(OPT_CGROUP)) || mark->cgroup == want->cgroup) &&
	       (!(given & GIVEN_EXPERIMENT) || mark->experiment == want->experiment) &&
	       (!(given & GIVEN_ACTIVITY) || mark->activity == want->activity) &&
	       (!(given & GIVEN(OPT_HOW)) || mark->how == want->how) &&
	       (!(given & GIVEN(OPT_INHERIT)) || mark->inherit);
}

static int action_del(struct marking *m)
{
	int removed;

	if (!(m->given & (GIVEN_SELECTS | GIVEN_GIVES | GIVEN(OPT_ID) | GIVEN(OPT_ALL)))) {
		log_error("del: which? give --id, the options it was added with, or --all");
		return 2;
	}
	if (where_change(m))
		return 1;
	removed = marks_remove(&m->t, is_chosen, m);
	if (removed < 0)
		log_error("%s: %s", m->t.pin_dir, strerror(-removed));
	else if (!removed && !(m->given & GIVEN(OPT_ALL)))
		log_error("del: no such mark; `tidemark mark list` shows them");
	else
		log_info("removed %d", removed);
	return removed > 0 || (!removed && m->given & GIVEN(OPT_ALL)) ? 0 : 1;
}

static int list_one(const struct mark *mark, void *ctx)
{
	struct marking *m = ctx;

	return is_chosen(mark, m) ? mark_print(m->out, m->registry, mark) : 0;
}

static int action_list(struct marking *m)
{
	if (where_open(m))
		return 1;
	m->out = marks_out(stdout, m->json);
	if (!m->out)
		return 1;
	return out_finish(m->out, marks_each(&m->t, list_one, m) ? 1 : 0);
}

struct lines {
	struct mark *marks;
	unsigned *line; /* of each */
	size_t n, size;
};

static int lines_room(struct lines *lines)
{
	size_t size = lines->size ? 2 * lines->size : 256;
	struct mark *marks;
	unsigned *line;

	if (lines->n < lines->size)
		return 0;
	marks = reallocarray(lines->marks, size, sizeof(*marks));
	if (!marks)
		return -ENOMEM;
	lines->marks = marks;
	line = reallocarray(lines->line, size, sizeof(*line));
	if (!line)
		return -ENOMEM;
	lines->line = line;
	lines->size = size;
	return 0;
}

static int lines_read(struct marking *m, FILE *file, const char *name, struct lines *lines)
{
	char *line = NULL, words[512];
	size_t size = 0;
	unsigned at = 0;
	int status = 0;
	ssize_t length;

	while (!status && (length = getline(&line, &size, file)) >= 0) {
		at++;
		if (strspn(line, " \t\r\n") == (size_t)length)
			continue;
		if (lines_room(lines)) {
			log_error("out of memory");
			status = 1;
		} else if (mark_read(line, length, m->registry, &lines->marks[lines->n], words,
				     sizeof(words))) {
			log_error("%s:%u: %s; nothing was added", name, at, words);
			status = 2;
		} else {
			lines->line[lines->n++] = at;
		}
	}
	if (!status && ferror(file)) {
		log_error("%s: %s", name, strerror(errno));
		status = 2;
	}
	free(line);
	return status;
}

static int lines_add(struct marking *m, const char *name, const struct lines *lines)
{
	char where[4200];
	size_t bad;
	int err;

	if (where_change(m))
		return 1;
	err = marks_add(&m->t, lines->marks, lines->n, &bad);
	if (err) {
		snprintf(where, sizeof(where), "%.4000s:%u: ", name,
			 lines->n ? lines->line[bad] : 0);
		add_failed(m, &lines->marks[lines->n ? bad : 0], where, err);
		return 1;
	}
	log_info("%zu marks", lines->n);
	return 0;
}

static int action_import(struct marking *m)
{
	const char *name = m->args[1];
	bool standard = !strcmp(name, "-");
	FILE *file = standard ? stdin : fopen(name, "re");
	struct lines lines = {};
	int status;

	if (!file) {
		log_error("%s: %s", name, strerror(errno));
		return 2;
	}
	status = lines_read(m, file, name, &lines);
	if (!standard)
		fclose(file);
	if (!status)
		status = lines_add(m, name, &lines);
	free(lines.marks);
	free(lines.line);
	return status;
}

static int action_encode(struct marking *m)
{
	if (!m->experiment || !m->activity) {
		log_error("encode: needs --experiment and --activity");
		return 2;
	}
	return markcode_encode(m->registry, m->mark.experiment, m->mark.activity, m->json);
}

static int action_decode(struct marking *m)
{
	return markcode_decode(m->registry, m->args + 1, m->args_n - 1, m->json);
}

static const struct {
	const char *name;
	int (*run)(struct marking *m);
	int least, most; /* arguments after it */
} actions[] = {
	{ "add", action_add, 0, 0 },	   { "del", action_del, 0, 0 },
	{ "list", action_list, 0, 0 },	   { "import", action_import, 1, 1 },
	{ "encode", action_encode, 0, 0 }, { "decode", action_decode, 1, 1 << 20 },
};

static int names_resolve(struct marking *m)
{
	char words[512];

	m->registry = registry_open(m->registry_file, words, sizeof(words));
	if (!m->registry) {
		log_error("%s: %s", m->registry_file ? m->registry_file : REGISTRY_FILE, words);
		return 2;
	}
	if (m->experiment && registry_experiment(m->registry, m->experiment, &m->mark.experiment,
						 words, sizeof(words)))
		refuse("experiment", m->experiment, words);
	if (m->activity && !m->experiment && m->activity[strspn(m->activity, "0123456789")])
		refuse("activity", m->activity, "whose? give --experiment too");
	if (m->activity && registry_activity(m->registry, m->mark.experiment, m->activity,
					     &m->mark.activity, words, sizeof(words)))
		refuse("activity", m->activity, words);
	return 0;
}

int cmd_mark(int argc, char **argv)
{
	struct marking m = {};
	int status;
	size_t i;

	argp_parse(&mark_argp, argc, argv, 0, NULL, &m);
	for (i = 0; m.args_n && i < sizeof(actions) / sizeof(actions[0]); i++)
		if (!strcmp(actions[i].name, m.args[0]))
			break;
	if (!m.args_n || i == sizeof(actions) / sizeof(actions[0])) {
		log_error(
			"%s: add, del, list, import, encode or decode; see `tidemark mark --help`",
			m.args_n ? m.args[0] : "do what?");
		return 2;
	}
	if (m.args_n - 1 < actions[i].least || m.args_n - 1 > actions[i].most) {
		log_error("%s: %s", m.args[0],
			  m.args_n - 1 < actions[i].least ? "needs an argument"
							  : "too many arguments");
		return 2;
	}
	status = names_resolve(&m);
	if (!status) {
		tidemark_init(&m.t, m.o.pin_dir, NULL);
		status = actions[i].run(&m);
		tidemark_close(&m.t);
	}
	registry_close(m.registry);
	return status;
}
