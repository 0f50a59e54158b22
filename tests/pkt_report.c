// SPDX-License-Identifier: GPL-2.0-only
/* Connections over loopback are reported, start to end, with what TCP itself says of them. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <dirent.h>
#include <linux/tcp.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/mark.h"
#include "../user/datapath.h"
#include "../user/log.h"
#include "../user/reports.h"
#include "tap.h"

#define PIN "/sys/fs/bpf/tidemark-report"
#define SEEN_MAX 65536

static struct tidemark t;
static char state_dir[] = "/tmp/tidemark-report-XXXXXX";

struct seen {
	enum report_type type;
	struct reported flow;
};

static struct seen *seen;
static unsigned seen_n;

static void see(enum report_type type, struct reported *flow, void *ctx)
{
	(void)ctx;
	if (seen_n < SEEN_MAX)
		seen[seen_n++] = (struct seen){ type, *flow };
}

/* The report of this type whose local port is `port`, or NULL. */
static const struct reported *find(enum report_type type, unsigned port)
{
	for (unsigned i = 0; i < seen_n; i++)
		if (seen[i].type == type && seen[i].flow.latest.key.local_port == port)
			return &seen[i].flow;
	return NULL;
}

static unsigned count(enum report_type type)
{
	unsigned n = 0;

	for (unsigned i = 0; i < seen_n; i++)
		n += seen[i].type == type;
	return n;
}

struct pair {
	int listener, client, server;
	unsigned port, client_port;
	int family;
};

static unsigned port_of(int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	return getsockname(fd, (void *)&a, &len) ? 0 : ntohs(a.sin6_port);
}

static bool pair_listen(struct pair *p, int family)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	void *address = family == AF_INET ? (void *)&v4 : &v6;

	p->family = family;
	p->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(p->listener, address, family == AF_INET ? sizeof(v4) : sizeof(v6)) ||
	    listen(p->listener, 128))
		return false;
	p->port = port_of(p->listener);
	return true;
}

static bool pair_connect(struct pair *p)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	getsockname(p->listener, (void *)&a, &len);
	p->client = socket(p->family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(p->client, (void *)&a, len))
		return false;
	p->client_port = port_of(p->client);
	p->server = accept(p->listener, NULL, NULL);
	return p->server >= 0;
}

static bool pair_send(int from, int to, size_t bytes)
{
	static char buffer[65536];
	size_t got = 0;
	ssize_t n;

	for (size_t sent = 0; got < bytes;) {
		size_t more = bytes - sent < sizeof(buffer) ? bytes - sent : sizeof(buffer);

		if (sent < bytes && send(from, buffer, more, 0) != (ssize_t)more)
			return false;
		sent += more;
		while (got < sent && (n = recv(to, buffer, sizeof(buffer), 0)) > 0)
			got += n;
	}
	return true;
}

/* The client closes first and the server after it: both ends come to their end. */
static void pair_close(struct pair *p)
{
	char byte;

	shutdown(p->client, SHUT_WR);
	if (recv(p->server, &byte, 1, 0) != 0)
		ok(false, "the server sees the end");
	close(p->server);
	if (recv(p->client, &byte, 1, 0) != 0)
		ok(false, "the client sees the end");
	close(p->client);
}

static bool plain; /* as where there is no BTF */

static struct reports *open_for(enum report_whose whose, __u64 period_ns)
{
	struct reports_options o = REPORTS_OPTIONS_DEFAULT;
	struct reports *r;

	o.whose = whose;
	o.plain = plain;
	o.period_ns = period_ns;
	seen_n = 0;
	r = reports_open(&t, &o, see, NULL);
	if (!r)
		exit(1);
	return r;
}

static void tcp_matches(const struct reported *flow, const struct tcp_info *info,
			const char *congestion)
{
	const struct report_tcp *tcp = &flow->latest.tcp;

	is_int(flow->latest.has, REPORT_FLOW | REPORT_SOCKET | REPORT_BTF, "all three sources");
	is_str(tcp->congestion, congestion, "the congestion control's name");
	is_int(tcp->mss, info->tcpi_snd_mss, "mss as TCP_INFO has it");
	is_int(tcp->pmtu, info->tcpi_pmtu, "pmtu as TCP_INFO has it");
	is_int(tcp->advmss, info->tcpi_advmss, "advmss as TCP_INFO has it");
	is_int(tcp->cwnd, info->tcpi_snd_cwnd, "cwnd as TCP_INFO has it");
	is_int(tcp->retrans, info->tcpi_total_retrans, "retransmissions as TCP_INFO has them");
	is_int(tcp->data_segs_out, info->tcpi_data_segs_out, "data segments as TCP_INFO has them");
	is_int(tcp->rtt_min_us, info->tcpi_min_rtt, "least round trip as TCP_INFO has it");
	is_int(tcp->bytes_sent - tcp->bytes_retrans, 300000, "bytes sent, exactly");
	ok(tcp->srtt_us / 8 > 0 && tcp->mdev_us / 4 > 0, "a round trip and its variance");
	ok(tcp->pacing_rate > 0 && tcp->snd_wnd > 0, "pacing rate and window");
	is_int(tcp->options & (REPORT_SACK | REPORT_TIMESTAMPS | REPORT_SCALED),
	       REPORT_SACK | REPORT_TIMESTAMPS | REPORT_SCALED, "what was negotiated");
}

static void connection(int family)
{
	struct reports *r = open_for(REPORTS_TCP, 1000000000);
	struct pair p;
	const struct reported *end;
	struct tcp_info info;
	char congestion[16] = "";
	socklen_t len = sizeof(info), name_len = sizeof(congestion);

	ok(r && pair_listen(&p, family) && pair_connect(&p), "connected, IPv%d",
	   family == AF_INET ? 4 : 6);
	reports_step(r);
	ok(find(REPORT_start, p.client_port) && find(REPORT_start, p.port),
	   "both ends have started");
	is_int(count(REPORT_end), 0, "and not ended");
	is_int(reports_live(r), 2, "both live");
	ok(pair_send(p.client, p.server, 300000) && pair_send(p.server, p.client, 1234),
	   "bytes went both ways");
	getsockopt(p.client, IPPROTO_TCP, TCP_INFO, &info, &len);
	getsockopt(p.client, IPPROTO_TCP, TCP_CONGESTION, congestion, &name_len);
	pair_close(&p);
	reports_step(r);
	is_int(count(REPORT_start), 2, "each has started once");
	is_int(count(REPORT_end), 2, "and ended once");
	is_int(reports_live(r), 0, "none lives");
	end = find(REPORT_end, p.client_port);
	if (ok(end, "the client's end")) {
		ok(end->ended_ns > end->started_ns, "its end is after its start");
		is_int(end->latest.state, 7, "it is closed");
		is_int(end->latest.pid, getpid(), "it is ours");
		tcp_matches(end, &info, congestion);
	}
	end = find(REPORT_end, p.port);
	ok(end && end->latest.tcp.bytes_received - 1 == 300000,
	   "the server has received that, and the FIN that counts as one");
	close(p.listener);
	reports_close(r);
}

static void refused(void)
{
	struct reports *r = open_for(REPORTS_TCP, 1000000000);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_port = htons(1);
	ok(connect(fd, (void *)&a, sizeof(a)), "a connection is refused");
	close(fd);
	reports_step(r);
	is_int(seen_n, 0, "which is no flow that began");
	reports_close(r);
}

static bool mark_flow(unsigned local, unsigned remote, __u32 mark)
{
	struct flow_key key, next;
	struct flow f;
	int err = bpf_map_get_next_key(t.map[MAP_flows], NULL, &key);
	bool done = false;

	for (; !err; key = next) {
		err = bpf_map_get_next_key(t.map[MAP_flows], &key, &next);
		if (key.local_port != local || key.remote_port != remote ||
		    bpf_map_lookup_elem(t.map[MAP_flows], &key, &f))
			continue;
		f.mark = mark;
		done = !bpf_map_update_elem(t.map[MAP_flows], &key, &f, BPF_EXIST);
	}
	return done;
}

static void only_marked(void)
{
	struct reports *r = open_for(REPORTS_MARKED, 1000000);
	const __u32 mark = MARK_MARKED | mark_label(2, 9, 0);
	const struct reported *flow;
	struct pair p;

	ok(r && pair_listen(&p, AF_INET6) && pair_connect(&p), "connected");
	pair_send(p.client, p.server, 1000);
	reports_step(r);
	is_int(seen_n, 0, "a flow without a mark is not told of");
	ok(mark_flow(p.client_port, p.port, mark), "it gets its mark while it runs");
	for (int i = 0; i < 1000 && !count(REPORT_start); i++) { /* until a period is over */
		pair_send(p.client, p.server, 1000);
		reports_step(r);
	}
	flow = find(REPORT_start, p.client_port);
	ok(flow && mark_experiment(flow->latest.mark) == 2 && mark_activity(flow->latest.mark) == 9,
	   "and is told of from then on, with its mark");
	is_int(count(REPORT_start), 1, "the other end is not");
	reports_close(r);
	r = open_for(REPORTS_MARKED, 1000000);
	flow = find(REPORT_start, p.client_port);
	ok(flow, "who comes later adopts it");
	ok(mark_flow(p.client_port, p.port, MARK_MARKED | mark_label(3, 9, 0)), "another mark");
	for (int i = 0; i < 1000 && !count(REPORT_end); i++) {
		usleep(1000);
		reports_step(r);
	}
	flow = find(REPORT_end, p.client_port);
	ok(flow && mark_experiment(flow->latest.mark) == 2, "ends the flow under its first mark");
	is_int(count(REPORT_start), 2, "and starts it again");
	pair_close(&p);
	reports_step(r);
	is_int(count(REPORT_end), 2, "which ends with the connection");
	flow = &seen[seen_n - 1].flow;
	is_int(mark_experiment(flow->latest.mark), 3, "under the second mark");
	close(p.listener);
	reports_close(r);
}

/* Without the kernel's own types: less is known, by name, and nothing of it is wrong. */
static void less(void)
{
	struct reports *r;
	const struct reported *end;
	struct pair p;

	plain = true;
	r = open_for(REPORTS_TCP, 1000000000);
	is_int(reports_how(r), REPORTS_PLAIN, "without BTF");
	ok(pair_listen(&p, AF_INET6) && pair_connect(&p), "connected");
	pair_send(p.client, p.server, 5000);
	pair_close(&p);
	reports_step(r);
	end = find(REPORT_end, p.client_port);
	if (ok(end, "the connection's end is told")) {
		is_int(end->latest.has, REPORT_FLOW | REPORT_SOCKET, "as of two sources");
		ok(end->latest.tcp.srtt_us && end->latest.tcp.mss && end->latest.tcp.cwnd &&
			   end->latest.tcp.congestion[0],
		   "with what BPF's API has");
		is_int(end->latest.tcp.bytes_acked - 2, 5000, "bytes, SYN and FIN");
		is_int(end->latest.tcp.pmtu, 0, "and not the rest");
	}
	reports_close(r);
	close(p.listener);
	plain = false;
}

/* One after the other on many ports, none longer than a moment. */
static void short_ones(void)
{
	struct reports *r = open_for(REPORTS_TCP, 1000000000);
	struct pair p;
	unsigned n = 0;

	ok(r && pair_listen(&p, AF_INET), "a listener");
	for (; n < 2000 && pair_connect(&p); n++) {
		pair_send(p.client, p.server, 10);
		pair_close(&p);
		if (n % 100 == 0)
			reports_step(r);
	}
	reports_step(r);
	is_int(count(REPORT_start), 2 * n, "each of 2000 short connections starts at both ends");
	is_int(count(REPORT_end), 2 * n, "and ends");
	is_int(reports_counts(r)->lost, 0, "nothing is lost");
	is_int(n, 2000, "all were made");
	close(p.listener);
	reports_close(r);
}

static void overflow(void)
{
	struct reports *r = open_for(REPORTS_TCP, 1000000000);
	struct pair p;
	unsigned n = 0;

	ok(r && pair_listen(&p, AF_INET), "a listener");
	/* Four reports a connection, 352 bytes each with the ring's header, into 256 KiB. */
	for (; n < 2000 && pair_connect(&p); n++)
		pair_close(&p);
	reports_step(r);
	ok(reports_counts(r)->lost > 0, "what the ring has no room for is counted");
	is_int(count(REPORT_start) - count(REPORT_end), reports_live(r),
	       "and what was told is consistent");
	is_int(count(REPORT_start), 2 * n, "but the table knows: every connection was told");
	/* Of one whose start was told and whose end was lost the period's look finds it. */
	for (int i = 0; i < 800 && reports_live(r); i++, usleep(10000))
		reports_step(r);
	is_int(count(REPORT_end), 2 * n, "and its end");
	for (int i = 0; i < 3; i++) {
		((struct reports_counts *)reports_counts(r))->lost--; /* look again */
		reports_step(r);
	}
	is_int(count(REPORT_end), 2 * n, "none of them twice, however often it is looked for");
	reports_close(r);
	close(p.listener);
}

static void state_remove(void)
{
	DIR *dir = opendir(state_dir);

	for (struct dirent *entry; dir && (entry = readdir(dir));)
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	rmdir(state_dir);
}

int main(void)
{
	struct datapath_options o = { .pin_dir = PIN };
	struct selector host = { .kind = SELECTOR_HOST };

	seen = calloc(SEEN_MAX, sizeof(*seen));
	if (!seen || !mkdtemp(state_dir))
		return 1;
	log_level(getenv("VERBOSE") ? 2 : 0);
	libbpf_set_print(log_libbpf);
	o.state_dir = state_dir;
	o.selectors = &host;
	o.selectors_n = 1;
	tidemark_init(&t, PIN, state_dir);
	if (tidemark_lock(&t) || datapath_up(&t, &o, true))
		return 1;
	connection(AF_INET);
	connection(AF_INET6);
	refused();
	only_marked();
	short_ones();
	overflow();
	/* What is attached stays; take it off to attach the other one. */
	ok(!unlink(PIN "/report_socket"), "the program is pinned");
	less();
	ok(!datapath_down(&t), "down takes off what was attached");
	tidemark_close(&t);
	state_remove();
	return done();
}
