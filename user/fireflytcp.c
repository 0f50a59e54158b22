// SPDX-License-Identifier: GPL-2.0-only
/* TCP's state of a connection as JSON: tcp_info's names, or the flat ones of flowd. */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <string.h>

#include "fireflytcp.h"

static const char *const tcp_states[] = {
	"unknown",   "established", "syn_sent",	  "syn_recv", "fin_wait1", "fin_wait2",
	"time_wait", "close",	    "close_wait", "last_ack", "listen",	   "closing",
};

__u64 tcp_delivery_rate(const struct report_tcp *tcp)
{
	if (!tcp->rate_interval_us)
		return 0;
	return (__u64)tcp->rate_delivered * tcp->mss * 1000000 / tcp->rate_interval_us;
}

static void set(json_t *o, const char *name, __u64 value)
{
	json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void set_ms(json_t *o, const char *name, double value)
{
	json_object_set_new(o, name, json_real(value));
}

static __u64 ticks_us(const struct reported *flow, __u32 ticks)
{
	return flow->hz ? (__u64)ticks * 1000000 / flow->hz : 0;
}

static json_t *lean(const struct reported *flow)
{
	const struct report_tcp *tcp = &flow->latest.tcp;
	json_t *o = json_object();

	set(o, "Retransmits", tcp->retransmits);
	set(o, "totalRetrans", tcp->retrans);
	set(o, "sndMss", tcp->mss);
	set(o, "rtt", tcp_rtt_us(tcp));
	set(o, "minRtt", tcp->rtt_min_us);
	set(o, "sndSsThresh", tcp->ssthresh);
	set(o, "sndCwnd", tcp->cwnd);
	set(o, "deliveryRate", tcp_delivery_rate(tcp));
	if (flow->latest.has & REPORT_BTF) {
		set(o, "pMtu", tcp->pmtu);
		set(o, "rttVar", tcp_rttvar_us(tcp));
		set(o, "advMss", tcp->advmss);
		set(o, "bytesSent", tcp->bytes_sent);
	}
	return o;
}

/* What only the kernel's own types tell. */
static void full_more(const struct reported *flow, json_t *o)
{
	const struct report_tcp *tcp = &flow->latest.tcp;

	set(o, "caState", tcp->ca_state);
	set(o, "options", tcp->options);
	set(o, "sndWscale", tcp->snd_wscale);
	set(o, "rcvWscale", tcp->rcv_wscale);
	set(o, "rto", ticks_us(flow, tcp->rto_ticks));
	set(o, "rcvMss", tcp->rcv_mss);
	set(o, "lastDataSent", ticks_us(flow, tcp->sent_ticks) / 1000);
	set(o, "lastDataRecv", ticks_us(flow, tcp->received_ticks) / 1000);
	set(o, "lastAckRecv", ticks_us(flow, tcp->acked_ticks) / 1000);
	set(o, "rcvSsThresh", tcp->rcv_ssthresh);
	set(o, "rcvRtt", tcp->rcv_rtt_us >> 3);
	set(o, "rcvSpace", tcp->rcv_space);
	set(o, "reordering", tcp->reordering);
	set(o, "pacingRate", tcp->pacing_rate);
	set(o, "notSentBytes", tcp->notsent);
	set(o, "busyTime", ticks_us(flow, tcp->busy_ticks));
	set(o, "rWndLimited", ticks_us(flow, tcp->rwnd_limited_ticks));
	set(o, "sndBufLimited", ticks_us(flow, tcp->sndbuf_limited_ticks));
	set(o, "bytesRetrans", tcp->bytes_retrans);
	set(o, "sndWnd", tcp->snd_wnd);
}

static json_t *full(const struct reported *flow)
{
	const struct report_tcp *tcp = &flow->latest.tcp;
	json_t *o = lean(flow);

	set(o, "state", flow->latest.state);
	set(o, "unacked", tcp->packets_out);
	set(o, "sacked", tcp->sacked_out);
	set(o, "lost", tcp->lost_out);
	set(o, "retrans", tcp->retrans_out);
	set(o, "bytesAcked", tcp->bytes_acked);
	set(o, "bytesReceived", tcp->bytes_received);
	set(o, "segsOut", tcp->segs_out);
	set(o, "segsIn", tcp->segs_in);
	set(o, "dataSegsIn", tcp->data_segs_in);
	set(o, "dataSegsOut", tcp->data_segs_out);
	set(o, "delivered", tcp->delivered);
	set(o, "deliveredCE", tcp->delivered_ce);
	set(o, "dSackDups", tcp->dsack_dups);
	if (flow->latest.has & REPORT_BTF)
		full_more(flow, o);
	return o;
}

static json_t *options(const struct report_tcp *tcp)
{
	json_t *o = json_array();

	if (tcp->options & REPORT_TIMESTAMPS)
		json_array_append_new(o, json_string("ts"));
	if (tcp->options & REPORT_SACK)
		json_array_append_new(o, json_string("sack"));
	if (tcp->options & REPORT_ECN)
		json_array_append_new(o, json_string("ecn"));
	return o;
}

static void compatible_more(const struct reported *flow, json_t *o)
{
	const struct report_tcp *tcp = &flow->latest.tcp;

	json_object_set_new(o, "opts", options(tcp));
	set_ms(o, "rto", ticks_us(flow, tcp->rto_ticks) / 1000.0);
	set_ms(o, "rtt_var", tcp_rttvar_us(tcp) / 1000.0);
	set(o, "pmtu", tcp->pmtu);
	set(o, "rcvmss", tcp->rcv_mss);
	set(o, "advmss", tcp->advmss);
	set(o, "bytes_sent", tcp->bytes_sent);
	set(o, "bytes_retrans", tcp->bytes_retrans);
	set(o, "snd_wscale", tcp->snd_wscale);
	set(o, "rcv_wscale", tcp->rcv_wscale);
	set_ms(o, "lastsnd", ticks_us(flow, tcp->sent_ticks) / 1000.0);
	set_ms(o, "lastrcv", ticks_us(flow, tcp->received_ticks) / 1000.0);
	set_ms(o, "lastack", ticks_us(flow, tcp->acked_ticks) / 1000.0);
	set(o, "pacing_rate", tcp->pacing_rate);
	set_ms(o, "busy", ticks_us(flow, tcp->busy_ticks) / 1000.0);
	set_ms(o, "rwnd_limited", ticks_us(flow, tcp->rwnd_limited_ticks) / 1000.0);
	set_ms(o, "sndbuf_limited", ticks_us(flow, tcp->sndbuf_limited_ticks) / 1000.0);
	set_ms(o, "rcv_rtt", (tcp->rcv_rtt_us >> 3) / 1000.0);
	set(o, "rcv_space", tcp->rcv_space);
	set(o, "rcv_ssthresh", tcp->rcv_ssthresh);
	set(o, "snd_wnd", tcp->snd_wnd);
	set(o, "notsent", tcp->notsent);
	set(o, "reordering", tcp->reordering);
	set(o, "ca_state", tcp->ca_state);
}

static json_t *compatible(const struct reported *flow)
{
	const struct report_tcp *tcp = &flow->latest.tcp;
	json_t *o = json_object();
	__u8 state = flow->latest.state;

	if (state >= sizeof(tcp_states) / sizeof(tcp_states[0]))
		state = 0;
	json_object_set_new(o, "state", json_string(tcp_states[state]));
	json_object_set_new(o, "cong", json_string(tcp->congestion));
	set(o, "retrans", tcp->retrans);
	set_ms(o, "rtt", tcp_rtt_us(tcp) / 1000.0);
	set_ms(o, "minrtt", tcp->rtt_min_us / 1000.0);
	set(o, "mss", tcp->mss);
	set(o, "cwnd", tcp->cwnd);
	set(o, "ssthresh", tcp->ssthresh);
	set(o, "bytes_acked", tcp->bytes_acked);
	set(o, "bytes_received", tcp->bytes_received);
	set(o, "segs_out", tcp->segs_out);
	set(o, "segs_in", tcp->segs_in);
	set(o, "data_segs_out", tcp->data_segs_out);
	set(o, "data_segs_in", tcp->data_segs_in);
	set(o, "unacked", tcp->packets_out);
	set(o, "lost", tcp->lost_out);
	set(o, "sacked", tcp->sacked_out);
	set(o, "dsack_dups", tcp->dsack_dups);
	set(o, "delivered", tcp->delivered);
	set(o, "delivered_ce", tcp->delivered_ce);
	set(o, "delivery_rate", tcp_delivery_rate(tcp));
	if (flow->latest.has & REPORT_BTF)
		compatible_more(flow, o);
	return o;
}

json_t *firefly_tcp(const struct reported *flow, enum firefly_form form)
{
	json_t *info;

	if (!(flow->latest.has & REPORT_SOCKET))
		return NULL;
	if (form == FIREFLY_COMPATIBLE)
		return compatible(flow);
	info = form == FIREFLY_FULL ? full(flow) : lean(flow);
	return json_pack("{s:o, s:{s:s}}", "tcpInfo", info, "cong", "algorithm",
			 flow->latest.tcp.congestion);
}
