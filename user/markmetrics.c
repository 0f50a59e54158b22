// SPDX-License-Identifier: GPL-2.0-only
/* Marked traffic in Prometheus' text format. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/mark.h"
#include "fireflies.h"
#include "fireflytcp.h"
#include "markmetrics.h"
#include "metrics.h"
#include "node.h"
#include "registry.h"

#define MARKS_MAX 1024 /* pairs of experiment and activity with sums of their own */
#define SERIES_OWN 1
#define SERIES_OTHER 2

/* What came to one experiment and activity since we began. */
struct mark_sum {
	__u32 mark; /* experiment and activity, entropy 0 */
	__u64 bytes[DIRS_NR];
	__u64 started, ended, live;
};

struct markmetrics {
	const struct tidemark *t;
	unsigned flows_most, flows;
	__u64 other[DIRS_NR];
	__u64 others;	/* flows in there, now */
	__u64 unsummed; /* flows of marks beyond MARKS_MAX */
	struct mark_sum sums[MARKS_MAX];
	unsigned sums_n;
};

struct markmetrics *markmetrics_open(const struct tidemark *t, unsigned flows)
{
	struct markmetrics *m = calloc(1, sizeof(*m));

	if (m) {
		m->t = t;
		m->flows_most = flows;
	}
	return m;
}

void markmetrics_close(struct markmetrics *m)
{
	free(m);
}

static struct mark_sum *sum_of(struct markmetrics *m, __u32 mark)
{
	mark &= MARK_LABEL_MASK & ~MARK_ENTROPY_MASK;
	for (unsigned i = 0; i < m->sums_n; i++)
		if (m->sums[i].mark == mark)
			return &m->sums[i];
	if (m->sums_n == MARKS_MAX)
		return NULL;
	m->sums[m->sums_n].mark = mark;
	return &m->sums[m->sums_n++];
}

/* A flow keeps its kind of series for life: a sum that loses flows would run backwards. */
void markmetrics_tell(enum report_type type, struct reported *flow, void *ctx)
{
	struct markmetrics *m = ctx;
	struct mark_sum *sum;

	if (!flow->series) {
		flow->series = m->flows < m->flows_most ? SERIES_OWN : SERIES_OTHER;
		m->flows += flow->series == SERIES_OWN;
		m->others += flow->series == SERIES_OTHER;
	}
	for (int dir = 0; dir < DIRS_NR; dir++)
		m->other[dir] += flow->series == SERIES_OTHER ? flow->more[dir] : 0;
	if (type == REPORT_end) {
		m->flows -= flow->series == SERIES_OWN;
		m->others -= flow->series == SERIES_OTHER;
	}
	if (!(flow->latest.mark & MARK_MARKED))
		return;
	sum = sum_of(m, flow->latest.mark);
	if (!sum) {
		m->unsummed += type == REPORT_start;
		return;
	}
	for (int dir = 0; dir < DIRS_NR; dir++)
		sum->bytes[dir] += flow->more[dir];
	sum->started += type == REPORT_start;
	sum->ended += type == REPORT_end;
	sum->live = sum->started - sum->ended;
}

/* ---- a flow's own series ----------------------------------------------------------------- */

enum unit { PLAIN, MICROSECONDS, TICKS };

struct flow_metric {
	const char *name, *type, *help;
	enum unit unit;
	__u8 has; /* REPORT_* it needs */
	__u64 (*value)(const struct reported *flow);
};

/*	X(name, type, unit, needs, value, help) */
#define FLOW_METRICS(X)                                                                            \
	X(tcp_rtt_seconds, gauge, MICROSECONDS, SOCKET, tcp_rtt_us(tcp), "Smoothed round trip.")   \
	X(tcp_rttvar_seconds, gauge, MICROSECONDS, BTF, tcp_rttvar_us(tcp),                        \
	  "Variance of the round trip.")                                                           \
	X(tcp_min_rtt_seconds, gauge, MICROSECONDS, SOCKET, tcp->rtt_min_us,                       \
	  "Least round trip of late.")                                                             \
	X(tcp_rto_seconds, gauge, TICKS, BTF, tcp->rto_ticks, "Retransmission timeout.")           \
	X(tcp_cwnd_segments, gauge, PLAIN, SOCKET, tcp->cwnd, "Congestion window.")                \
	X(tcp_ssthresh_segments, gauge, PLAIN, SOCKET, tcp->ssthresh, "Slow start threshold.")     \
	X(tcp_mss_bytes, gauge, PLAIN, SOCKET, tcp->mss, "Segment size sent.")                     \
	X(tcp_advmss_bytes, gauge, PLAIN, BTF, tcp->advmss, "Segment size advertised.")            \
	X(tcp_rcvmss_bytes, gauge, PLAIN, BTF, tcp->rcv_mss, "Segment size received.")             \
	X(tcp_pmtu_bytes, gauge, PLAIN, BTF, tcp->pmtu, "Path MTU.")                               \
	X(tcp_retransmits_total, counter, PLAIN, SOCKET, tcp->retrans, "Segments sent again.")     \
	X(tcp_lost_segments, gauge, PLAIN, SOCKET, tcp->lost_out, "Segments taken for lost.")      \
	X(tcp_unacked_segments, gauge, PLAIN, SOCKET, tcp->packets_out, "Segments in flight.")     \
	X(tcp_delivered_segments_total, counter, PLAIN, SOCKET, tcp->delivered,                    \
	  "Segments that arrived.")                                                                \
	X(tcp_delivered_ce_segments_total, counter, PLAIN, SOCKET, tcp->delivered_ce,              \
	  "Segments that arrived marked by ECN.")                                                  \
	X(tcp_delivery_rate_bytes, gauge, PLAIN, SOCKET, tcp_delivery_rate(tcp),                   \
	  "Delivered bytes a second.")                                                             \
	X(tcp_pacing_rate_bytes, gauge, PLAIN, BTF, tcp->pacing_rate, "Pacing, bytes a second.")   \
	X(tcp_bytes_sent_total, counter, PLAIN, BTF, tcp->bytes_sent,                              \
	  "Payload sent, retransmissions included.")                                               \
	X(tcp_bytes_retrans_total, counter, PLAIN, BTF, tcp->bytes_retrans, "Payload sent again.") \
	X(tcp_bytes_acked_total, counter, PLAIN, SOCKET, tcp->bytes_acked,                         \
	  "Payload acknowledged.")                                                                 \
	X(tcp_bytes_received_total, counter, PLAIN, SOCKET, tcp->bytes_received,                   \
	  "Payload received.")                                                                     \
	X(tcp_segments_out_total, counter, PLAIN, SOCKET, tcp->segs_out, "Segments sent.")         \
	X(tcp_segments_in_total, counter, PLAIN, SOCKET, tcp->segs_in, "Segments received.")       \
	X(tcp_data_segments_out_total, counter, PLAIN, SOCKET, tcp->data_segs_out,                 \
	  "Segments with payload sent.")                                                           \
	X(tcp_data_segments_in_total, counter, PLAIN, SOCKET, tcp->data_segs_in,                   \
	  "Segments with payload received.")                                                       \
	X(tcp_busy_seconds_total, counter, TICKS, BTF, tcp->busy_ticks,                            \
	  "Time with something to send.")                                                          \
	X(tcp_rwnd_limited_seconds_total, counter, TICKS, BTF, tcp->rwnd_limited_ticks,            \
	  "Time held back by the receiver's window.")                                              \
	X(tcp_sndbuf_limited_seconds_total, counter, TICKS, BTF, tcp->sndbuf_limited_ticks,        \
	  "Time held back by the send buffer.")                                                    \
	X(tcp_last_sent_seconds, gauge, TICKS, BTF, tcp->sent_ticks,                               \
	  "Since data was last sent, when this was reported.")                                     \
	X(tcp_last_received_seconds, gauge, TICKS, BTF, tcp->received_ticks,                       \
	  "Since data was last received, when this was reported.")                                 \
	X(tcp_last_acked_seconds, gauge, TICKS, BTF, tcp->acked_ticks,                             \
	  "Since an acknowledgement was last received, when this was reported.")                   \
	X(tcp_rcv_space_bytes, gauge, PLAIN, BTF, tcp->rcv_space, "Receive buffer's space.")       \
	X(tcp_rcv_ssthresh_bytes, gauge, PLAIN, BTF, tcp->rcv_ssthresh, "Receive window's clamp.") \
	X(tcp_snd_wnd_bytes, gauge, PLAIN, BTF, tcp->snd_wnd, "The peer's receive window.")        \
	X(tcp_notsent_bytes, gauge, PLAIN, BTF, tcp->notsent, "Written and not sent yet.")

#define X(name, type, unit, needs, expression, help)              \
	static __u64 value_##name(const struct reported *flow)    \
	{                                                         \
		const struct report_tcp *tcp = &flow->latest.tcp; \
                                                                  \
		return expression;                                \
	}
FLOW_METRICS(X)
#undef X

static const struct flow_metric flow_metrics[] = {
#define X(name, type, unit, needs, value, help) \
	{ "tidemark_flow_" #name, #type, help, unit, REPORT_##needs, value_##name },
	FLOW_METRICS(X)
#undef X
};

/* One flow while a page is written: its labels once, for thirty families. */
struct series {
	const struct reported *flow;
	struct text labels;
};

struct page {
	struct text *text;
	struct markmetrics *m;
	const struct registry *registry;
	struct series *series;
	unsigned n, most;
};

static void label_mark(const struct page *page, struct text *text, __u32 mark)
{
	char experiment[REGISTRY_NAME_MAX], activity[REGISTRY_NAME_MAX];

	registry_names(page->registry, mark_experiment(mark), mark_activity(mark), experiment,
		       activity);
	metric_label(text, "experiment", experiment);
	metric_label(text, "activity", activity);
}

static void label_end(struct text *text, const char *name, const char *port_name,
		      const __u8 address[16], __u16 port)
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool v4 = !memcmp(address, mapped, sizeof(mapped));
	char word[INET6_ADDRSTRLEN];

	metric_label(text, name,
		     inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, word,
			       sizeof(word)));
	snprintf(word, sizeof(word), "%u", port);
	metric_label(text, port_name, word);
}

static void labels_make(const struct page *page, struct text *text, const struct reported *flow)
{
	const struct flow_key *key = &flow->latest.key;
	struct node node;
	char proto[4];

	snprintf(proto, sizeof(proto), "%u", key->proto);
	label_end(text, "src", "sport", key->local, key->local_port);
	label_end(text, "dst", "dport", key->remote, key->remote_port);
	metric_label(text, "proto",
		     key->proto == IPPROTO_TCP	 ? "tcp"
		     : key->proto == IPPROTO_UDP ? "udp"
						 : proto);
	if (!node_get(page->m->t, key->node, &node))
		metric_label(text, "node", node.name);
	if (flow->latest.mark & MARK_MARKED)
		label_mark(page, text, flow->latest.mark);
}

static void series_take(const struct reported *flow, void *ctx)
{
	struct page *page = ctx;

	if (flow->series != SERIES_OWN || page->n == page->most)
		return;
	page->series[page->n].flow = flow;
	labels_make(page, &page->series[page->n].labels, flow);
	if (page->series[page->n].labels.err)
		page->text->err = page->series[page->n].labels.err;
	page->n++;
}

static void sample(struct page *page, const char *name, const struct series *series)
{
	metric_name(page->text, name);
	text_add(page->text, series->labels.at, series->labels.len);
}

static void flows_write(struct page *page, const struct flow_metric *metric)
{
	bool begun = false;
	__u64 value;

	for (unsigned i = 0; i < page->n; i++) {
		const struct reported *flow = page->series[i].flow;

		if (!(flow->latest.has & metric->has))
			continue;
		if (!begun)
			metric_family(page->text, metric->name, metric->type, metric->help);
		begun = true;
		sample(page, metric->name, &page->series[i]);
		value = metric->value(flow);
		if (metric->unit == PLAIN)
			metric_u64(page->text, value);
		else if (metric->unit == MICROSECONDS)
			metric_seconds(page->text, value * 1000);
		else
			metric_seconds(page->text, value * (1000000000ULL / (flow->hz ?: 1)));
	}
}

static const char *const dirs[DIRS_NR] = { [DIR_IN] = "in", [DIR_OUT] = "out" };

static void bytes_write(struct page *page)
{
	static const char name[] = "tidemark_flow_bytes_total";

	metric_family(page->text, name, "counter",
		      "Bytes on the wire, headers included; flows beyond the bound are in other.");
	for (int dir = 0; dir < DIRS_NR; dir++) {
		for (unsigned i = 0; i < page->n; i++) {
			sample(page, name, &page->series[i]);
			metric_label(page->text, "dir", dirs[dir]);
			metric_u64(page->text, page->series[i].flow->latest.bytes[dir]);
		}
		metric_name(page->text, name);
		metric_label(page->text, "src", "other");
		metric_label(page->text, "dst", "other");
		metric_label(page->text, "dir", dirs[dir]);
		metric_u64(page->text, page->m->other[dir]);
	}
}

static void congestion_write(struct page *page)
{
	static const char name[] = "tidemark_flow_tcp_congestion_info";
	bool begun = false;

	for (unsigned i = 0; i < page->n; i++) {
		const struct report *r = &page->series[i].flow->latest;
		char algorithm[sizeof(r->tcp.congestion) + 1] = "";

		if (!(r->has & REPORT_SOCKET))
			continue;
		if (!begun)
			metric_family(page->text, name, "gauge", "Congestion control by name.");
		begun = true;
		memcpy(algorithm, r->tcp.congestion, sizeof(r->tcp.congestion));
		sample(page, name, &page->series[i]);
		metric_label(page->text, "algorithm", algorithm);
		metric_u64(page->text, 1);
	}
}

/* ---- sums -------------------------------------------------------------------------------- */

static void sums_write(struct page *page)
{
	static const struct {
		const char *name, *type, *help;
		size_t at;
	} families[] = {
		{ "tidemark_mark_flows", "gauge", "Flows of this mark that live.",
		  offsetof(struct mark_sum, live) },
		{ "tidemark_mark_flows_started_total", "counter", "Flows of this mark so far.",
		  offsetof(struct mark_sum, started) },
	};
	static const char bytes[] = "tidemark_mark_bytes_total";

	for (size_t f = 0; page->m->sums_n && f < sizeof(families) / sizeof(families[0]); f++) {
		metric_family(page->text, families[f].name, families[f].type, families[f].help);
		for (unsigned i = 0; i < page->m->sums_n; i++) {
			const struct mark_sum *sum = &page->m->sums[i];

			metric_name(page->text, families[f].name);
			label_mark(page, page->text, sum->mark);
			metric_u64(page->text,
				   *(const __u64 *)((const char *)sum + families[f].at));
		}
	}
	if (page->m->sums_n)
		metric_family(page->text, bytes, "counter",
			      "Bytes on the wire of flows of this mark, headers included.");
	for (unsigned i = 0; i < page->m->sums_n; i++)
		for (int dir = 0; dir < DIRS_NR; dir++) {
			metric_name(page->text, bytes);
			label_mark(page, page->text, page->m->sums[i].mark);
			metric_label(page->text, "dir", dirs[dir]);
			metric_u64(page->text, page->m->sums[i].bytes[dir]);
		}
}

static void one(struct page *page, const char *name, const char *type, const char *help,
		__u64 value)
{
	metric_family(page->text, name, type, help);
	metric_name(page->text, name);
	metric_u64(page->text, value);
}

static void counts_write(struct page *page, const struct reports *reports,
			 const struct fireflies *fireflies)
{
	const struct reports_counts *counts = reports_counts(reports);

	one(page, "tidemark_reported_flows", "gauge", "Flows that are told of and live.",
	    reports_live(reports));
	one(page, "tidemark_other_flows", "gauge", "Of these, without series of their own.",
	    page->m->others);
	one(page, "tidemark_unsummed_flows_total", "counter",
	    "Flows of more marks than there are sums for.", page->m->unsummed);
	one(page, "tidemark_reports_lost_total", "counter",
	    "Reports the kernel had no room for: their flows are found in the table.",
	    counts->lost);
	one(page, "tidemark_reports_refused_total", "counter",
	    "Flows beyond as many as are told of at once.", counts->refused);
	if (!fireflies)
		return;
	one(page, "tidemark_fireflies_sent_total", "counter", "Fireflies sent.",
	    fireflies_counts(fireflies)->sent);
	one(page, "tidemark_fireflies_failed_total", "counter",
	    "Fireflies the kernel would not send.", fireflies_counts(fireflies)->failed);
}

void markmetrics_write(struct text *text, struct markmetrics *m, const struct reports *reports,
		       const struct fireflies *fireflies, const struct registry *registry)
{
	struct page page = { .text = text, .m = m, .registry = registry, .most = m->flows_most };

	page.series = calloc(page.most ? page.most : 1, sizeof(*page.series));
	if (!page.series) {
		text->err = -1;
		return;
	}
	reports_each(reports, series_take, &page);
	bytes_write(&page);
	for (size_t i = 0; i < sizeof(flow_metrics) / sizeof(flow_metrics[0]); i++)
		flows_write(&page, &flow_metrics[i]);
	congestion_write(&page);
	sums_write(&page);
	counts_write(&page, reports, fireflies);
	for (unsigned i = 0; i < page.n; i++)
		text_free(&page.series[i].labels);
	free(page.series);
}
