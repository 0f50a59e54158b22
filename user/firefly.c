// SPDX-License-Identifier: GPL-2.0-only
/* Fireflies as text: the JSON of SciTags' schema, version 1, behind the header syslog wants. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "../bpf/mark.h"
#include "firefly.h"
#include "fireflytcp.h"
#include "version.h"

#define SECOND_NS 1000000000ULL

static const char *const states[REPORTS_NR] = {
	[REPORT_start] = "start",
	[REPORT_ongoing] = "ongoing",
	[REPORT_end] = "end",
};

int firefly_form_parse(const char *word, enum firefly_form *form)
{
	if (!strcmp(word, "lean"))
		*form = FIREFLY_LEAN;
	else if (!strcmp(word, "full"))
		*form = FIREFLY_FULL;
	else if (!strcmp(word, "compatible"))
		*form = FIREFLY_COMPATIBLE;
	else
		return -EINVAL;
	return 0;
}

/* RFC 3339 in UTC, to the microsecond, always all six digits. */
static const char *time_text(__u64 ns, char text[40])
{
	time_t seconds = ns / SECOND_NS;
	struct tm tm;
	size_t n;

	gmtime_r(&seconds, &tm);
	n = strftime(text, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, 40 - n, ".%06u+00:00", (unsigned)(ns % SECOND_NS / 1000));
	return text;
}

static bool is_v4(const __u8 address[16])
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(address, mapped, sizeof(mapped));
}

static const char *address_text(const __u8 address[16], char text[INET6_ADDRSTRLEN])
{
	bool v4 = is_v4(address);

	return inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? address + 12 : address, text,
			 INET6_ADDRSTRLEN);
}

/*
 * Of TCP the payload. Where only the connection table knows the flow, whole packets. What
 * was acknowledged counts SYN and FIN, what was received counts FIN; but bytes_sent does not.
 */
static void usage_of(const struct reported *flow, struct firefly *out)
{
	const struct report *r = &flow->latest;
	const struct report_tcp *tcp = &r->tcp;
	__u64 received = tcp->bytes_received, acked = tcp->bytes_acked;
	__u64 syn = r->opener == FLOW_OPENER_LOCAL;

	out->has_usage = true;
	if (!(r->has & REPORT_SOCKET)) {
		out->sent = r->bytes[DIR_OUT];
		out->received = r->bytes[DIR_IN];
		return;
	}
	out->received = received - (received && r->tcp_flags[DIR_IN] & 1);
	if (r->has & REPORT_BTF)
		out->sent = tcp->bytes_sent - tcp->bytes_retrans;
	else
		out->sent = acked > syn ? acked - syn : 0;
}

static void application_of(const struct reported *flow, char out[FIREFLY_APPLICATION_MAX])
{
	char comm[sizeof(flow->latest.comm) + 1] = "";

	/* Whatever bytes a process calls itself by; JSON wants UTF-8. */
	for (unsigned i = 0; i < sizeof(flow->latest.comm) && flow->latest.comm[i]; i++)
		comm[i] = isprint((unsigned char)flow->latest.comm[i]) ? flow->latest.comm[i] : '?';
	snprintf(out, FIREFLY_APPLICATION_MAX, "%s", *comm ? comm : "tidemark-" VERSION);
}

int firefly_of(enum report_type state, const struct reported *flow, struct firefly *out)
{
	const struct flow_key *key = &flow->latest.key;

	if ((key->proto != IPPROTO_TCP && key->proto != IPPROTO_UDP) || !key->local_port ||
	    !key->remote_port || is_v4(key->local) != is_v4(key->remote))
		return -EINVAL;
	memset(out, 0, sizeof(*out));
	out->state = state;
	out->start_ns = flow->started_ns;
	out->end_ns = flow->ended_ns;
	out->now_ns = flow->now_ns;
	memcpy(out->src, key->local, sizeof(out->src));
	memcpy(out->dst, key->remote, sizeof(out->dst));
	out->src_port = key->local_port;
	out->dst_port = key->remote_port;
	out->proto = key->proto;
	out->experiment = mark_experiment(flow->latest.mark);
	out->activity = mark_activity(flow->latest.mark);
	usage_of(flow, out);
	application_of(flow, out->application);
	return 0;
}

static json_t *lifecycle(const struct firefly *f)
{
	char start[40], now[40], end[40];

	return json_pack("{s:s, s:s, s:s, s:s*}", "state", states[f->state], "current-time",
			 time_text(f->now_ns, now), "start-time", time_text(f->start_ns, start),
			 "end-time", f->state == REPORT_end ? time_text(f->end_ns, end) : NULL);
}

static json_t *flow_id(const struct firefly *f)
{
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];

	return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i}", "afi", is_v4(f->src) ? "ipv4" : "ipv6",
			 "src-ip", address_text(f->src, src), "dst-ip", address_text(f->dst, dst),
			 "protocol", f->proto == IPPROTO_TCP ? "tcp" : "udp", "src-port",
			 f->src_port, "dst-port", f->dst_port);
}

int firefly_json(const struct firefly *f, const struct reported *flow, enum firefly_form form,
		 char *out, size_t size)
{
	json_t *usage = NULL, *all;
	size_t n;

	if (f->has_usage)
		usage = json_pack("{s:I, s:I}", "received", (json_int_t)f->received, "sent",
				  (json_int_t)f->sent);
	all = json_pack("{s:i, s:o, s:o, s:o*, s:{s:i, s:i, s:s}, s:o*}", "version", 1,
			"flow-lifecycle", lifecycle(f), "flow-id", flow_id(f), "usage", usage,
			"context", "experiment-id", f->experiment, "activity-id", f->activity,
			"application", f->application, "netlink",
			flow ? firefly_tcp(flow, form) : NULL);
	if (!all)
		return -ENOMEM;
	n = json_dumpb(all, out, size, JSON_COMPACT);
	json_decref(all);
	return !n ? -EINVAL : n > size ? -ENOSPC : (int)n;
}

int firefly_message(const struct firefly *f, const struct reported *flow, enum firefly_form form,
		    const char *host, char *out, size_t size)
{
	char now[40];
	int header, n;

	/* 134 is local0.info: facility 16 times 8, and 6. */
	header = snprintf(out, size, "<134>1 %s %s tidemark-%s - firefly-json - ",
			  time_text(f->now_ns, now), host, VERSION);
	if (header < 0 || header >= (int)size)
		return -ENOSPC;
	n = firefly_json(f, flow, form, out + header, size - header);
	return n < 0 ? n : header + n;
}

void firefly_host(char *out, size_t size)
{
	size_t n = 0;
	char name[256] = "";

	gethostname(name, sizeof(name) - 1);
	for (const char *at = name; *at && n + 1 < size; at++, n++)
		out[n] = isalnum((unsigned char)*at) || *at == '.' ? *at : '-';
	while (n && (out[n - 1] == '-' || out[n - 1] == '.'))
		n--;
	out[n] = 0;
	if (!n || !isalnum((unsigned char)*out))
		snprintf(out, size, "localhost");
}

/* ---- from elsewhere --------------------------------------------------------------------- */

/* RFC 3339 with any number of decimals and any offset; a `T`, or as some write, a space. */
static int time_parse(const char *text, __u64 *ns)
{
	int used = 0, hours = 0, minutes = 0;
	__u64 fraction = 0, unit = SECOND_NS / 10;
	struct tm tm = {};
	char t, sign;
	time_t at;

	if (sscanf(text, "%4d-%2d-%2d%c%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &t,
		   &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 7 ||
	    (t != 'T' && t != 't' && t != ' '))
		return -EBADMSG;
	if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
	    tm.tm_mday > 31 || tm.tm_hour < 0 || tm.tm_hour > 23 || tm.tm_min < 0 ||
	    tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
		return -EBADMSG;
	text += used;
	if (*text == '.') {
		for (text++; isdigit((unsigned char)*text); text++, unit /= 10)
			fraction += (*text - '0') * unit;
	}
	if (*text == 'Z' || *text == 'z') {
		text++;
	} else if (*text == '+' || *text == '-') {
		if (sscanf(text, "%c%2d:%2d%n", &sign, &hours, &minutes, &used) != 3 || hours < 0 ||
		    hours > 23 || minutes < 0 || minutes > 59)
			return -EBADMSG;
		text += used;
		if (sign == '-')
			hours = -hours, minutes = -minutes;
	} else {
		return -EBADMSG;
	}
	tm.tm_year -= 1900;
	tm.tm_mon--;
	at = timegm(&tm) - hours * 3600 - minutes * 60;
	if (*text || at < 0)
		return -EBADMSG;
	*ns = at * SECOND_NS + fraction;
	return 0;
}

static int address_parse(const char *text, bool v4, __u8 out[16])
{
	memset(out, 0, 16);
	if (!v4)
		return inet_pton(AF_INET6, text, out) == 1 ? 0 : -EBADMSG;
	out[10] = out[11] = 0xff;
	return inet_pton(AF_INET, text, out + 12) == 1 ? 0 : -EBADMSG;
}

static int bad(char *words, size_t size, const char *what)
{
	snprintf(words, size, "%s", what);
	return -EBADMSG;
}

static int parse_lifecycle(const char *state, const char *start, const char *end,
			   struct firefly *out, char *words, size_t size)
{
	for (out->state = 0; out->state < REPORTS_NR; out->state++)
		if (!strcmp(state, states[out->state]))
			break;
	if (out->state == REPORTS_NR)
		return bad(words, size, "state is none of start, ongoing, end");
	if (time_parse(start, &out->start_ns))
		return bad(words, size, "start-time is no time");
	if (out->state == REPORT_end && (!end || time_parse(end, &out->end_ns)))
		return bad(words, size, "an end without end-time");
	return 0;
}

static int parse_flow(const char *afi, const char *src, const char *dst, const char *proto,
		      struct firefly *out, char *words, size_t size)
{
	bool v4 = !strcmp(afi, "ipv4");

	if (!v4 && strcmp(afi, "ipv6"))
		return bad(words, size, "afi is neither ipv4 nor ipv6");
	if (address_parse(src, v4, out->src) || address_parse(dst, v4, out->dst))
		return bad(words, size, "an address is none of its family");
	if (!strcmp(proto, "tcp"))
		out->proto = IPPROTO_TCP;
	else if (!strcmp(proto, "udp"))
		out->proto = IPPROTO_UDP;
	else
		return bad(words, size, "protocol is neither tcp nor udp");
	return 0;
}

static int parse_json(json_t *json, struct firefly *out, char *words, size_t size)
{
	const char *state, *start, *end = NULL, *afi, *src, *dst, *proto, *application = NULL;
	int version, src_port, dst_port, experiment, activity, err;
	json_error_t error;

	if (json_unpack_ex(json, &error, 0,
			   "{s:i, s:{s:s, s:s, s?s}, s:{s:s, s:s, s:s, s:s, s:i, s:i}, "
			   "s:{s:i, s:i, s?s}}",
			   "version", &version, "flow-lifecycle", "state", &state, "start-time",
			   &start, "end-time", &end, "flow-id", "afi", &afi, "src-ip", &src,
			   "dst-ip", &dst, "protocol", &proto, "src-port", &src_port, "dst-port",
			   &dst_port, "context", "experiment-id", &experiment, "activity-id",
			   &activity, "application", &application))
		return bad(words, size, error.text);
	if (version != 1)
		return bad(words, size, "a version other than 1");
	err = parse_lifecycle(state, start, end, out, words, size);
	if (!err)
		err = parse_flow(afi, src, dst, proto, out, words, size);
	if (err)
		return err;
	if (src_port < 1 || src_port > 65535 || dst_port < 1 || dst_port > 65535)
		return bad(words, size, "a port is not in 1..65535");
	if (experiment < 0 || experiment > MARK_EXPERIMENT_MAX || activity < 0 ||
	    activity > MARK_ACTIVITY_MAX)
		return bad(words, size, "experiment is not in 0..511, or activity not in 0..63");
	out->src_port = src_port;
	out->dst_port = dst_port;
	out->experiment = experiment;
	out->activity = activity;
	snprintf(out->application, sizeof(out->application), "%s", application ?: "");
	return 0;
}

int firefly_parse(const char *bytes, size_t n, struct firefly *out, char *words, size_t size)
{
	const char *json_at = memchr(bytes, '{', n);
	json_error_t error;
	json_t *json;
	int err;

	memset(out, 0, sizeof(*out));
	if (!json_at)
		return bad(words, size, "no JSON in it");
	json = json_loadb(json_at, n - (json_at - bytes), JSON_REJECT_DUPLICATES, &error);
	if (!json)
		return bad(words, size, error.text);
	err = parse_json(json, out, words, size);
	json_decref(json);
	return err;
}
