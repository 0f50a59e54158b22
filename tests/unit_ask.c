// SPDX-License-Identifier: GPL-2.0-only
/* Questions to a daemon, and the sections of the configuration that let them be asked. */
#define _GNU_SOURCE 1
#include <netinet/in.h>
#include <stdlib.h>

#include "../user/ask.h"
#include "../user/config_record.h"
#include "tap.h"

static void refused(const char *line, const char *why)
{
	char words[160] = "";
	struct ask ask;

	ok(ask_parse(line, strlen(line), &ask, words, sizeof(words)) && strstr(words, why),
	   "refused: %.60s", line);
}

static void questions(void)
{
	struct ask ask = { .format = ASK_pcapng, .follow = true, .by = "time", .limit = 7 }, same;
	char words[160], *line;

	strcpy(ask.text, "host 10.0.0.1 and \"x\"");
	strcpy(ask.since, "5m ago");
	line = ask_print(&ask);
	ok(line && !ask_parse(line, strlen(line), &same, words, sizeof(words)) &&
		   !memcmp(&ask, &same, sizeof(ask)),
	   "a question that is printed is read as the same one");
	free(line);
	strcpy(ask.text, "\xff");
	ok(!ask_print(&ask), "what is not UTF-8 is not asked");
	refused("", "JSON");
	refused("[1]", "JSON");
	refused("{\"query\":\"a\",\"query\":\"b\"}", "JSON");
	refused("{}", "neither");
	refused("{\"query\":\"a\\u0000b\"}", "");
	refused("{\"query\":\"udp\",\"format\":\"xml\"}", "a format is");
	refused("{\"query\":\"udp\",\"by\":\"size\"}", "an order is");
	refused("{\"query\":\"udp\",\"limit\":0}", "a limit is");
	refused("{\"query\":\"udp\",\"limits\":5}", "not known");
	refused("{\"cancel\":4294967296}", "number");
	refused("{\"cancel\":\"1\"}", "number");
}

static void addresses(void)
{
	struct sockaddr_storage at;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&at;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&at;
	socklen_t len;

	ok(!query_address_parse("192.0.2.1", &at, &len) && ntohs(v4->sin_port) == QUERY_PORT,
	   "an address without a port has the usual one");
	ok(!query_address_parse("2001:db8::1", &at, &len) && at.ss_family == AF_INET6 &&
		   ntohs(v6->sin6_port) == QUERY_PORT,
	   "an IPv6 address too, without brackets");
	ok(!query_address_parse("[2001:db8::1]:99", &at, &len) && ntohs(v6->sin6_port) == 99,
	   "and with");
	ok(!query_address_parse("unix:/x/y", &at, &len) && at.ss_family == AF_UNIX,
	   "a path is one of a unix socket");
	ok(query_address_parse("host.example", &at, &len) &&
		   query_address_parse("unix:x", &at, &len) && query_address_parse("", &at, &len),
	   "names and relative paths are refused");
}

static void frames(void)
{
	unsigned char head[FRAME_HEAD];
	char kind;
	__u32 n;

	frame_head(head, FRAME_DATA, FRAME_MOST);
	ok(!frame_read(head, &kind, &n) && kind == FRAME_DATA && n == FRAME_MOST,
	   "a frame's head is read as it was written");
	frame_head(head, FRAME_DATA, FRAME_MOST + 1);
	ok(frame_read(head, &kind, &n), "a frame that is too long is refused");
	frame_head(head, FRAME_END, 2);
	ok(frame_read(head, &kind, &n), "and an end of more than a status");
	frame_head(head, 'x', 1);
	ok(frame_read(head, &kind, &n), "and one of no kind");
}

static void section(void)
{
	static const char text[] = "record:\n"
				   "  dir: /r\n"
				   "  cutoff: 15k\n"
				   "  nodes: [web, db]\n"
				   "  interfaces: [eth1]\n"
				   "  classes: [{name: a, filter: tcp or udp, precedence: 3}, "
				   "{name: b, cutoff: no}]\n"
				   "  socket: {path: /s, gid: 5}\n"
				   "peers: {ranges: [10.0.0.0/8], max_ahead: off}\n";
	struct config_file file;
	const struct config_record *r;

	if (!ok(!config_parse(&file, "f", text, sizeof(text) - 1), "the sections are taken"))
		return;
	r = file.config->record;
	is_str(r->list->at[0].filter, "(node web or node db or node eth1) and (tcp or udp)",
	       "of nodes and interfaces only, whatever a class's filter says");
	is_int(r->list->at[0].cutoff, 15 << 10, "a class has the cutoff of all");
	is_int(r->list->at[1].cutoff, CLASS_WHOLE, "unless it has its own");
	is_int(file.options.interfaces_n, 1, "an interface is one of the datapath");
	is_int(file.options.peers.peers_n, 1, "a range is a peer");
	ok(file.options.peers.max_ahead_given && !file.options.peers.max_ahead_ns,
	   "`off` is a bound too");
	config_free(&file);
}

static void sections_refused(void)
{
	static const char *const bad[] = {
		"record: {}",
		"record: {dir: r}",
		"record: {dir: /r, cutoff: some}",
		"record: {dir: /r, ring: 1k}",
		"record: {dir: /r, queries: 0}",
		"record: {dir: /r, queries: 33}",
		"record: {dir: /r, classes: [{name: 'a b'}]}",
		"record: {dir: /r, classes: [{name: a}, {name: a}]}",
		"record: {dir: /r, classes: [{name: a, filter: prt 5}]}",
		"record: {dir: /r, classes: [{name: a, mem: 5}]}",
		"record: {dir: /r, socket: {path: s}}",
		"record: {dir: /r, tls: {listen: 1.2.3.4}}",
		"record: {dir: /r, tls: {listen: host, cert: /c, key: /k, ca: /a}}",
		"record: {dir: /r, tls: {listen: 1.2.3.4, cert: c, key: /k, ca: /a}}",
		"peers: {ranges: [10.0.0.0/33]}",
		"peers: {max_ahead: soon}",
		"peers: {no_stamp_ports: [0]}",
	};
	struct config_file file;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		is_int(config_parse(&file, "f", bad[i], strlen(bad[i])), 2, bad[i]);
}

int main(void)
{
	questions();
	addresses();
	frames();
	section();
	sections_refused();
	return done();
}
