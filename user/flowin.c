// SPDX-License-Identifier: GPL-2.0-only
/* Starts and ends of flows, said by others, become marks of single connections. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "../bpf/mark.h"
#include "flowin.h"
#include "log.h"
#include "marks.h"
#include "physical.h"
#include "registry.h"
#include "units.h"

#define FIELDS 8
#define FIELD_MAX 64
#define BATCH 128

enum { STATE, PROTO, SRC, SRC_PORT, DST, DST_PORT, EXPERIMENT, ACTIVITY };

static int bad(char words[FLOWIN_WORDS], const char *what, const char *text)
{
	snprintf(words, FLOWIN_WORDS, "%.63s: %.190s", text, what);
	return -EBADMSG;
}

static int fields_split(const char *line, size_t n, char fields[FIELDS][FIELD_MAX],
			char words[FLOWIN_WORDS])
{
	const char *at = line, *past = line + n;
	unsigned i = 0;

	while (at < past) {
		size_t len = 0;

		while (at < past && strchr(" \t\r\v\f", *at) && *at)
			at++;
		while (at + len < past && !(strchr(" \t\r\v\f", at[len]) && at[len]))
			len++;
		if (!len)
			break;
		if (i == FIELDS || len >= FIELD_MAX || memchr(at, 0, len)) {
			snprintf(words, FLOWIN_WORDS, "a field too many, or one too long");
			return -EBADMSG;
		}
		memcpy(fields[i], at, len);
		fields[i++][len] = 0;
		at += len;
	}
	if (i == FIELDS)
		return 0;
	snprintf(words, FLOWIN_WORDS,
		 "%u fields instead of %d: state protocol source port destination port experiment "
		 "activity",
		 i, FIELDS);
	return -EBADMSG;
}

static int address_parse(const char *text, __u8 out[16])
{
	memset(out, 0, 16);
	if (inet_pton(AF_INET6, text, out) == 1)
		return 0;
	out[10] = out[11] = 0xff;
	return inet_pton(AF_INET, text, out + 12) == 1 ? 0 : -EBADMSG;
}

static int ids_parse(const struct flowin *in, const char *experiment, const char *activity,
		     struct firefly *out, char words[FLOWIN_WORDS])
{
	char why[FLOWIN_WORDS - FIELD_MAX];

	if (registry_experiment(in->registry, experiment, &out->experiment, why, sizeof(why)))
		return bad(words, why, experiment);
	if (registry_activity(in->registry, out->experiment, activity, &out->activity, why,
			      sizeof(why)))
		return bad(words, why, activity);
	return 0;
}

static int fields_parse(const struct flowin *in, char fields[FIELDS][FIELD_MAX],
			struct firefly *out, char words[FLOWIN_WORDS])
{
	__u64 src_port, dst_port;

	if (!strcasecmp(fields[STATE], "start"))
		out->state = REPORT_start;
	else if (!strcasecmp(fields[STATE], "end"))
		out->state = REPORT_end;
	else
		return bad(words, "not a state; start or end", fields[STATE]);
	if (!strcasecmp(fields[PROTO], "tcp"))
		out->proto = IPPROTO_TCP;
	else if (!strcasecmp(fields[PROTO], "udp"))
		out->proto = IPPROTO_UDP;
	else
		return bad(words, "not a protocol; tcp or udp", fields[PROTO]);
	if (address_parse(fields[SRC], out->src))
		return bad(words, "not an address", fields[SRC]);
	if (address_parse(fields[DST], out->dst))
		return bad(words, "not an address", fields[DST]);
	if (!addresses_meet(out->src, out->dst))
		return bad(words, "not of the family of the source", fields[DST]);
	if (number_parse(fields[SRC_PORT], 65535, &src_port) || !src_port)
		return bad(words, "not a port from 1 to 65535", fields[SRC_PORT]);
	if (number_parse(fields[DST_PORT], 65535, &dst_port) || !dst_port)
		return bad(words, "not a port from 1 to 65535", fields[DST_PORT]);
	out->src_port = src_port;
	out->dst_port = dst_port;
	return ids_parse(in, fields[EXPERIMENT], fields[ACTIVITY], out, words);
}

int flowin_line(const struct flowin *in, const char *line, size_t n, struct firefly *out,
		char words[FLOWIN_WORDS])
{
	char fields[FIELDS][FIELD_MAX];
	int err = fields_split(line, n, fields, words);

	memset(out, 0, sizeof(*out));
	return err ? err : fields_parse(in, fields, out, words);
}

static void exact(struct endpoint *e, const __u8 address[16], __u16 port)
{
	memcpy(e->address, address, sizeof(e->address));
	e->bits = 128;
	e->addressed = e->ported = true;
	e->low = e->high = port;
}

static void key_of(struct flow_key *key, const struct firefly *f)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->local, f->src, sizeof(key->local));
	memcpy(key->remote, f->dst, sizeof(key->remote));
	key->local_port = f->src_port;
	key->remote_port = f->dst_port;
	key->proto = f->proto;
}

/* Starts without an end between them, in one go. */
static int starts_take(struct flowin *in, const struct firefly *flows, size_t n)
{
	struct mark marks[BATCH] = {};
	size_t at;
	int err;

	for (size_t i = 0; i < n; i++) {
		exact(&marks[i].src, flows[i].src, flows[i].src_port);
		exact(&marks[i].dst, flows[i].dst, flows[i].dst_port);
		marks[i].proto = flows[i].proto;
		marks[i].experiment = flows[i].experiment;
		marks[i].activity = flows[i].activity;
		marks[i].how = in->how;
	}
	err = marks_add(in->t, marks, n, &at);
	if (!err) {
		in->counts.started += n;
		return 0;
	}
	/* All or nothing is for users at a terminal; here each flow is its own. */
	for (size_t i = 0; i < n; i++) {
		int one = marks_add(in->t, &marks[i], 1, &at);

		in->counts.started += !one;
		in->counts.failed += one != 0;
		err = one ? one : err;
	}
	return err;
}

int flowin_take(struct flowin *in, const struct firefly *flows, size_t n)
{
	struct flow_key key;
	int err = 0, one;

	if (!n)
		return 0;
	if (tidemark_lock(in->t))
		return -EIO;
	for (size_t i = 0, same; i < n; i += same) {
		for (same = 0; i + same < n && same < BATCH; same++)
			if (flows[i + same].state != REPORT_start)
				break;
		if (same) {
			one = starts_take(in, flows + i, same);
			err = one ? one : err;
			continue;
		}
		same = 1;
		if (flows[i].state != REPORT_end)
			continue;
		key_of(&key, &flows[i]);
		/* Its connection may have closed before, and the mark gone with it. */
		marks_forget(in->t, &key);
		in->counts.ended++;
	}
	tidemark_unlock(in->t);
	return err;
}

void flowin_refuse(struct flowin *in, const char *where, const char *words)
{
	__u64 now = physical_monotonic_ns();

	in->counts.refused++;
	if (in->complained_ns && now - in->complained_ns < 1000000000) {
		in->unsaid++;
		return;
	}
	if (in->unsaid)
		log_warn("%s: %s; and %llu others", where, words, (unsigned long long)in->unsaid);
	else
		log_warn("%s: %s", where, words);
	in->complained_ns = now;
	in->unsaid = 0;
}
