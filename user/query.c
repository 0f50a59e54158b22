// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark query`: packets of a record, by what they were and when. */
#define _GNU_SOURCE 1
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "cmd.h"
#include "guest.h"
#include "log.h"
#include "query.h"
#include "query_at.h"
#include "secret.h"
#include "units.h"

volatile int query_cancelled;

static void cancel(int signal)
{
	(void)signal;
	query_cancelled = 1;
}

/* ---- the same packet twice ---------------------------------------------------------------------- */

static __u64 packet_hash(const struct gathered *m)
{
	const struct catalog *about = segment_about(m->segment);
	const struct catalog_device *d;
	struct pcapng_packet p;
	__u64 stamp, hash;

	if (segment_packet(m->segment, m->position, &p, &stamp))
		return m->position;
	d = &about->devices[p.interface];
	hash = XXH3_64bits_withSeed(p.frame, p.kept, stamp ^ p.wire ^ (__u64)p.flags << 32);
	hash = XXH3_64bits_withSeed(d->node_name, strlen(d->node_name), hash);
	hash = XXH3_64bits_withSeed(d->name, strlen(d->name), hash);
	return XXH3_64bits_withSeed(about->host, strlen(about->host), hash);
}

/*
 * A packet may well be in one directory twice, having been sent twice in one nanosecond of
 * a coarse clock. So each directory is counted: the n-th of the same is new if no other
 * directory has had n.
 */
int twins_have(struct query_twins *t, const struct gathered *m)
{
	struct query_twin *mine = NULL;
	__u64 hash = packet_hash(m);
	__u32 most = 0;

	if (t->wall_ns != m->wall_ns)
		t->n = 0;
	t->wall_ns = m->wall_ns;
	for (__u32 i = 0; i < t->n; i++) {
		if (t->at[i].hash != hash)
			continue;
		if (t->at[i].source == m->source)
			mine = &t->at[i];
		else if (t->at[i].times > most)
			most = t->at[i].times;
	}
	if (mine)
		return ++mine->times <= most;
	if (array_grow((void **)&t->at, &t->room, t->n + 1, sizeof(*t->at)))
		return -ENOMEM;
	t->at[t->n++] = (struct query_twin){ hash, m->source, 1 };
	return most >= 1;
}

/* ---- running -------------------------------------------------------------------------------------- */

/* As an object of its own among the packets', told by its first key. */
static void gap_print(const struct gather_gap *g)
{
	struct text text = {};

	text_add_str(&text, "{\"gap\":");
	text_add_u64(&text, g->gap.packets);
	text_add_str(&text, ",\"bytes\":");
	text_add_u64(&text, g->gap.bytes);
	text_add_str(&text, ",\"from\":\"");
	text_add_wall(&text, g->gap.from_ns);
	text_add_str(&text, "\",\"to\":\"");
	text_add_wall(&text, g->gap.to_ns);
	text_add_str(&text, "\",\"node\":");
	text_add_json(&text, g->node, strlen(g->node));
	text_add_str(&text, ",\"host\":");
	text_add_json(&text, g->host, strlen(g->host));
	text_add_str(&text, ",\"reason\":");
	text_add_json(&text, g->gap.reason, strlen(g->gap.reason));
	text_add_str(&text, "}\n");
	if (!text.err)
		fwrite(text.at, 1, text.len, stdout);
	text_free(&text);
}

static void gaps_say(const struct query *q)
{
	__u64 packets = 0, from = ~0ULL, to = 0;
	const char *reason = "";
	struct text text = {};

	for (__u32 i = 0; i < q->gather.gaps_n; i++) {
		const struct catalog_gap *gap = &q->gather.gaps[i].gap;

		packets += gap->packets;
		from = gap->from_ns < from ? gap->from_ns : from;
		to = gap->to_ns > to ? gap->to_ns : to;
		reason = gap->reason;
		if (q->json)
			gap_print(&q->gather.gaps[i]);
	}
	if (!packets)
		return;
	text_add_wall(&text, from);
	text_add_str(&text, " to ");
	text_add_wall(&text, to);
	log_warn("%" PRIu64 " packets are not in the record, from %.*s: %s", (uint64_t)packets,
		 (int)text.len, text.at, reason);
	text_free(&text);
}

/* How many, without looking at a packet where the index can tell. */
static int count_fast(struct query *q)
{
	struct gather *m = &q->gather;
	__u64 from, to;

	expr_bounds(q->expr, &from, &to);
	if (m->of_packets || q->directories_n > 1 || q->limit)
		return 0;
	for (__u32 i = 0; i < m->cursors_n; i++) {
		struct segment *s = &m->cursors[i]->segment;
		const struct catalog *about = segment_about(s);

		if (about->first_ns < m->from_ns || about->last_ns > m->to_ns)
			return 0;
	}
	for (__u32 i = 0; i < m->cursors_n && !query_cancelled; i++)
		if (segment_count(&m->cursors[i]->segment, &q->found))
			gather_wrong(m, &m->cursors[i]->segment);
	return 1;
}

static int packets_run(struct query *q, struct query_sink *sink)
{
	struct query_twins twins = {};
	struct gathered packet;
	int got = 0, err = 0;

	while (!query_cancelled && (!q->limit || q->found < q->limit)) {
		got = gather_next(&q->gather, &packet);
		if (got <= 0)
			break;
		if (!(q->gather.looked & 0xfff))
			log_progress("%llu packets looked at, %llu found", q->gather.looked,
				     q->found);
		if (q->directories_n > 1) {
			got = twins_have(&twins, &packet);
			if (got)
				continue;
		}
		err = sink_packet(sink, &packet);
		if (err)
			break;
		q->found++;
	}
	free(twins.at);
	if (got == -ENOMEM || err == -ENOMEM)
		log_error("%s", strerror(ENOMEM));
	return got < 0 ? got : err;
}

static int query_run(struct query *q)
{
	struct query_sink *sink;
	int err = 0, status;

	for (unsigned i = 0; i < q->directories_n; i++)
		if (gather_add(&q->gather, q->directories[i], i))
			q->gather.failed = true;
	log_debug("%u of %u segments looked at, after %u joint indexes", q->gather.opened,
		  q->gather.segments, q->gather.joints);
	/* Told before the answer, which may be long or never end. */
	gaps_say(q);
	if (!q->count || !count_fast(q)) {
		err = gather_begin(&q->gather);
		sink = sink_open(q);
		if (!sink || err) {
			gather_free(&q->gather);
			return 1;
		}
		err = packets_run(q, sink);
		if (!err && q->follow && !query_cancelled && (!q->limit || q->found < q->limit))
			err = query_follow(q, sink);
		log_progress_end();
		status = sink_close(sink, err && err != -EPIPE ? 1 : 0);
	} else {
		log_progress_end();
		status = 0;
	}
	if (query_cancelled && !q->follow) {
		log_warn("cancelled; there may be more");
		status = 1;
	} else if (q->count && !status) {
		printf("%llu\n", q->found);
		status = fflush(stdout) ? 1 : 0;
		if (status)
			log_error("stdout: %m");
	}
	if (q->gather.failed && !status)
		status = 1;
	gather_free(&q->gather);
	return status;
}

/* ---- the command ---------------------------------------------------------------------------------- */

enum {
	OPT_COUNT = 0x100,
	OPT_FLOWS,
	OPT_SINCE,
	OPT_UNTIL,
	OPT_FOLLOW,
	OPT_LIMIT,
	OPT_BY,
	OPT_KEY_FILE,
};

static const struct argp_option options[] = {
	{ "directory", 'd', "DIR", 0, "Where `record` keeps packets; repeats", 0 },
	{ "write", 'w', "FILE", 0, "Write pcapng to FILE, - for stdout, instead of a table", 0 },
	{ "count", OPT_COUNT, NULL, 0, "Print how many packets there are, and nothing else", 0 },
	{ "flows", OPT_FLOWS, NULL, 0,
	  "Print flows instead of packets, also those whose packets are deleted already", 0 },
	{ "json", 'j', NULL, 0, "One JSON object per line", 0 },
	{ "since", OPT_SINCE, "TIME", 0, "From TIME on: 2026-11-20T22:31:05Z, 1763676000, 5m ago",
	  0 },
	{ "until", OPT_UNTIL, "TIME", 0, "Up to TIME", 0 },
	{ "follow", OPT_FOLLOW, NULL, 0, "Go on with packets as they are recorded", 0 },
	{ "limit", OPT_LIMIT, "N", 0, "Stop after N packets", 0 },
	{ "by", OPT_BY, "ORDER", 0,
	  "Order by `time`, or by `hlc`, the stamp: default for several directories", 0 },
	{ "key-file", OPT_KEY_FILE, "FILE", 0, "A key that the record was encrypted with; repeats",
	  0 },
	{ "verbose", 'v', NULL, 0, "Say how many segments were looked at", 0 },
	{},
};

static const char doc[] =
	"Packets of a record, by what they were and when.\v"
	"EXPRESSION is in the words of tcpdump: host, net, port, portrange, src, dst, tcp, udp, sctp, "
	"icmp, icmp6, arp, ip, ip6, proto, vlan, mpls, with and, or, not and parentheses. Beyond those: "
	"`node web`, `class dns`, `mark atlas` or `mark 2/26`, `comm nginx`, `pid 812`, `vni 42`, "
	"`inner host A`, `conn A:PORT B:PORT`, `before TIME`, `after TIME`, `stamp S`, `past of "
	"S[@NODE]`, `future of S[@NODE]`. Without it, everything.\n"
	"\n"
	"Exit status: 0 ok, also when nothing matches; 1 something could not be read, or there is no "
	"record; 2 the expression is wrong.\n"
	"\n"
	"Examples:\n"
	"\n"
	"  tidemark query -d /var/lib/tidemark/record 'host 10.0.0.2 and tcp port 443'\n"
	"  tidemark query -d rec 'node web and after 5m ago' -w - | tshark -r -\n"
	"  tidemark query -d rec 'udp port 53' --flows\n"
	"  tidemark query -d a -d b 'future of 18e9f429b9d00002@shop and past of "
	"18e9f42a00170000@db'\n"
	"  tidemark query --at unix:" QUERY_SOCKET " 'host 10.0.0.2' -w - | tshark -r -\n"
	"  tidemark query --at 192.0.2.1 --cert me.crt --key me.key --ca ca.crt --list\n";

static void time_option(struct query *q, struct argp_state *state, const char *arg, __u64 *ns)
{
	if (expr_time(arg, q->now_ns, ns))
		argp_error(state,
			   "%s: a time is `5m ago`, 2026-11-20, 2026-11-20T22:31:05Z or seconds "
			   "since 1970",
			   arg);
}

static error_t option_parse(int key, char *arg, struct argp_state *state)
{
	struct query *q = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = q->at;
		return 0;
	case 'd':
		if (q->directories_n == QUERY_DIRECTORIES_MAX)
			argp_error(state, "more than %d directories", QUERY_DIRECTORIES_MAX);
		q->directories[q->directories_n++] = arg;
		return 0;
	case 'w':
		q->write = arg;
		return 0;
	case 'j':
		q->json = true;
		return 0;
	case 'v':
		log_level(1);
		return 0;
	case OPT_COUNT:
		q->count = true;
		return 0;
	case OPT_FLOWS:
		q->flows = true;
		return 0;
	case OPT_FOLLOW:
		q->follow = true;
		return 0;
	case OPT_SINCE:
		q->since = arg;
		time_option(q, state, arg, &q->since_ns);
		return 0;
	case OPT_UNTIL:
		q->until = arg;
		time_option(q, state, arg, &q->until_ns);
		return 0;
	case OPT_LIMIT:
		if (number_parse(arg, ~0ULL, &q->limit) || !q->limit)
			argp_error(state, "%s: a limit is a number of packets", arg);
		return 0;
	case OPT_BY:
		if (strcmp(arg, "time") && strcmp(arg, "hlc"))
			argp_error(state, "%s: an order is time or hlc", arg);
		q->by = arg[0];
		return 0;
	case OPT_KEY_FILE:
		if (secret_read_with(arg))
			exit(2);
		q->keys = true;
		return 0;
	case ARGP_KEY_ARG:
		if (q->text)
			argp_error(state, "%s: one EXPRESSION only; put it in quotes", arg);
		q->text = arg;
		return 0;
	case ARGP_KEY_END:
		if (at_asked(q->at) == (q->directories_n > 0))
			argp_error(state, q->directories_n ? "either -d DIR or a daemon"
							   : "no -d DIR given, nor --at a daemon");
		if (q->keys && !q->directories_n)
			argp_error(state, "--key-file goes with -d; a daemon has keys of its own");
		if (q->count + q->flows + (q->write != NULL) + (q->json && !q->flows) > 1)
			argp_error(state, "one of -w, --count, --flows, --json");
		if (q->follow && (q->count || q->flows))
			argp_error(state,
				   "--follow goes with packets, not with --count or --flows");
		if (q->follow && q->by == 'h')
			argp_error(state, "--follow is in order of arrival, not --by hlc");
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

static const struct argp_child children[] = {
	{ &at_argp, 0, "A daemon instead of a directory:", 10 }, {}
};
const struct argp query_argp = {
	.options = options,
	.parser = option_parse,
	.args_doc = "[EXPRESSION]",
	.doc = doc,
	.children = children,
};

static int expression_read(struct query *q)
{
	const struct expr *origins[EXPR_ORIGINS_MAX];
	struct expr_error error;
	__u64 from, to;

	if (!q->text)
		q->text = "";
	if (expr_parse(q->text, q->now_ns, &q->expr, &error)) {
		log_error("column %d: %s", error.column, error.why);
		expr_say(q->text, &error);
		return 2;
	}
	if (expr_origins(q->expr, origins) && (q->flows || q->follow)) {
		log_error("`past of` and `future of` are about packets that are there, without "
			  "--flows and --follow");
		return 2;
	}
	q->gather.expr = q->expr;
	q->gather.of_packets = expr_is_of_packets(q->expr);
	expr_bounds(q->expr, &from, &to);
	q->gather.from_ns = from > q->since_ns ? from : q->since_ns;
	q->gather.to_ns = to < q->until_ns ? to : q->until_ns;
	return 0;
}

/* What was said, in the daemon's words; it has the clock that `5m ago` is of. */
static int daemon_query(const struct query *q)
{
	struct ask ask = {
		.format = q->write		? ASK_pcapng
			  : q->count		? ASK_count
			  : q->flows && q->json ? ASK_flows_json
			  : q->flows		? ASK_flows
			  : q->json		? ASK_json
						: ASK_table,
		.follow = q->follow,
		.limit = q->limit,
	};

	if (q->text && strlen(q->text) > ASK_TEXT_MOST) {
		log_error("an expression of more than %d bytes", ASK_TEXT_MOST);
		return 2;
	}
	snprintf(ask.text, sizeof(ask.text), "%s", q->text ? q->text : "");
	snprintf(ask.by, sizeof(ask.by), "%s", !q->by ? "" : q->by == 'h' ? "hlc" : "time");
	snprintf(ask.since, sizeof(ask.since), "%s", q->since ? q->since : "");
	snprintf(ask.until, sizeof(ask.until), "%s", q->until ? q->until : "");
	return query_at(q->at, &ask, q->write, q->json);
}

int cmd_query(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = cancel };
	struct at_options at = {};
	struct query q = { .until_ns = ~0ULL, .at = &at };
	struct query_past *past = NULL;
	struct rlimit files;
	struct timespec now;
	int status;

	if (argc > 1 && !strcmp(argv[1], "--guest"))
		return guest_main(argc, argv);
	clock_gettime(CLOCK_REALTIME, &now);
	q.now_ns = (__u64)now.tv_sec * 1000000000 + (__u64)now.tv_nsec;
	argp_parse(&query_argp, argc, argv, 0, NULL, &q);
	status = expression_read(&q);
	if (status)
		return status;
	q.gather.by_stamp = q.by ? q.by == 'h' : q.directories_n > 1 && !q.follow;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (!q.directories_n) {
		status = daemon_query(&q);
		expr_free(q.expr);
		return status;
	}
	/* Journals of classes being written need one each. */
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	status = query_directories(&q);
	if (!status)
		status = query_apart(&q);
	if (!status)
		status = query_past_begin(&q, &past);
	if (!status)
		status = q.flows ? query_flows(&q) : query_run(&q);
	query_past_end(past);
	expr_free(q.expr);
	return status;
}
