// SPDX-License-Identifier: GPL-2.0-only
/* Fireflies are written as the schema wants them, and read back; STUN answers are understood. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "../bpf/mark.h"
#include "../user/fireflies.h"
#include "../user/stun.h"
#include "tap.h"

static struct reported flow;

static void address(__u8 out[16], const char *text)
{
	struct sockaddr_in6 a;

	if (fireflies_address(text, 1, &a))
		abort();
	memcpy(out, &a.sin6_addr, 16);
}

static void flow_make(const char *local, const char *remote, __u8 proto)
{
	struct report *r = &flow.latest;

	memset(&flow, 0, sizeof(flow));
	address(r->key.local, local);
	address(r->key.remote, remote);
	r->key.local_port = 41234;
	r->key.remote_port = 1094;
	r->key.proto = proto;
	r->mark = MARK_MARKED | mark_label(2, 9, ~0U);
	strcpy(r->comm, "xrootd");
	r->has = REPORT_FLOW;
	r->bytes[DIR_OUT] = 3000;
	r->bytes[DIR_IN] = 400;
	flow.hz = 250;
	flow.started_ns = 1795000000000001000ULL;
	flow.now_ns = 1795000003500000000ULL;
	flow.ended_ns = 1795000002000000999ULL;
}

static void socket_add(__u8 has)
{
	struct report *r = &flow.latest;

	r->has |= has;
	r->state = 1;
	r->tcp.bytes_acked = 1001;
	r->tcp.bytes_sent = 1500;
	r->tcp.bytes_retrans = 500;
	r->tcp.bytes_received = 71;
	r->tcp_flags[DIR_IN] = 1; /* FIN */
	r->opener = FLOW_OPENER_LOCAL;
	r->tcp.srtt_us = 8 * 2500;
	r->tcp.mdev_us = 4 * 300;
	r->tcp.mss = 1448;
	r->tcp.rate_delivered = 10;
	r->tcp.rate_interval_us = 1000;
	r->tcp.rto_ticks = 51;
	r->tcp.options = REPORT_TIMESTAMPS | REPORT_SACK;
	strcpy(r->tcp.congestion, "bbr");
}

static char *message(enum report_type state, enum firefly_form form)
{
	static char text[FIREFLY_BYTES_MAX];
	struct firefly f;
	int n;

	if (firefly_of(state, &flow, &f))
		return NULL;
	n = firefly_message(&f, &flow, form, "node.example.org", text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = 0;
	return text;
}

static void write_plain(void)
{
	char *text, *json;

	flow_make("2001:db8::1", "2001:db8::2", IPPROTO_UDP);
	text = message(REPORT_end, FIREFLY_LEAN);
	ok(!strncmp(text, "<134>1 2026-11-18T", 18), "a header with priority, version and time");
	ok(strstr(text, " node.example.org tidemark-") && strstr(text, " - firefly-json - {"),
	   "host, application and kind");
	json = strchr(text, '{');
	is_str(json,
	       "{\"version\":1,\"flow-lifecycle\":{\"state\":\"end\","
	       "\"current-time\":\"2026-11-18T11:06:43.500000+00:00\","
	       "\"start-time\":\"2026-11-18T11:06:40.000001+00:00\","
	       "\"end-time\":\"2026-11-18T11:06:42.000000+00:00\"},"
	       "\"flow-id\":{\"afi\":\"ipv6\",\"src-ip\":\"2001:db8::1\","
	       "\"dst-ip\":\"2001:db8::2\",\"protocol\":\"udp\",\"src-port\":41234,"
	       "\"dst-port\":1094},\"usage\":{\"received\":400,\"sent\":3000},"
	       "\"context\":{\"experiment-id\":2,\"activity-id\":9,\"application\":\"xrootd\"}}",
	       "and every field of a flow without a socket");
	text = message(REPORT_start, FIREFLY_LEAN);
	ok(!strstr(text, "end-time"), "a start has no end");
	flow_make("192.0.2.1", "192.0.2.2", IPPROTO_TCP);
	text = message(REPORT_ongoing, FIREFLY_LEAN);
	ok(strstr(text, "\"afi\":\"ipv4\",\"src-ip\":\"192.0.2.1\"") &&
		   strstr(text, "\"state\":\"ongoing\""),
	   "IPv4 addresses are written as such");
	flow.latest.comm[0] = '\xff';
	ok(strstr(message(REPORT_start, FIREFLY_LEAN), "\"?rootd\""),
	   "a process may call itself what JSON cannot say");
}

static void refuse(void)
{
	struct firefly f;

	flow_make("192.0.2.1", "192.0.2.2", IPPROTO_ICMP);
	is_int(firefly_of(REPORT_start, &flow, &f), -EINVAL, "ICMP has no firefly");
	flow_make("192.0.2.1", "192.0.2.2", IPPROTO_TCP);
	flow.latest.key.remote_port = 0;
	is_int(firefly_of(REPORT_start, &flow, &f), -EINVAL, "nor has what has no port");
}

static json_int_t number(json_t *json, const char *a, const char *b, const char *c)
{
	json_t *at = json_object_get(json, a);

	at = b ? json_object_get(at, b) : at;
	at = c ? json_object_get(at, c) : at;
	return json_is_number(at) ? (json_int_t)json_number_value(at) : -1;
}

static json_t *json_of(enum firefly_form form)
{
	char *at = strchr(message(REPORT_end, form), '{');

	return json_loads(at, 0, NULL);
}

static void write_tcp(void)
{
	json_t *j;

	flow_make("192.0.2.1", "192.0.2.2", IPPROTO_TCP);
	socket_add(REPORT_SOCKET);
	j = json_of(FIREFLY_LEAN);
	is_int(number(j, "usage", "sent", NULL), 1000, "what was acknowledged, without the SYN");
	is_int(number(j, "usage", "received", NULL), 70, "what was received, without the FIN");
	is_int(number(j, "netlink", "tcpInfo", "rtt"), 2500, "round trip in microseconds");
	is_int(number(j, "netlink", "tcpInfo", "rttVar"), -1, "no field that is not known");
	json_decref(j);
	socket_add(REPORT_BTF);
	j = json_of(FIREFLY_LEAN);
	is_int(number(j, "usage", "sent", NULL), 1000, "what was sent, each byte once");
	is_int(number(j, "netlink", "tcpInfo", "rttVar"), 300, "variance in microseconds");
	is_int(number(j, "netlink", "tcpInfo", "deliveryRate"), 14480000, "bytes a second");
	is_int(number(j, "netlink", "tcpInfo", "segsIn"), -1, "lean is lean");
	is_str(json_string_value(json_object_get(
		       json_object_get(json_object_get(j, "netlink"), "cong"), "algorithm")),
	       "bbr", "congestion control by name");
	json_decref(j);
	j = json_of(FIREFLY_FULL);
	is_int(number(j, "netlink", "tcpInfo", "rto"), 204000, "full has times in microseconds");
	json_decref(j);
	j = json_of(FIREFLY_COMPATIBLE);
	is_int(number(j, "netlink", "rto", NULL), 204, "flowd has them in milliseconds");
	is_str(json_string_value(json_object_get(json_object_get(j, "netlink"), "state")),
	       "established", "and states by name");
	is_int(json_array_size(json_object_get(json_object_get(j, "netlink"), "opts")), 2,
	       "and options in a list");
	json_decref(j);
	ok(strlen(message(REPORT_end, FIREFLY_FULL)) < 1452,
	   "the longest form fits a datagram of an IPv6 Ethernet");
}

static int parse(const char *text, char words[128])
{
	struct firefly f;

	*words = 0;
	return firefly_parse(text, strlen(text), &f, words, 128);
}

/* The good one with one thing in it replaced. */
static void bad(const char *from, const char *to, const char *word, const char *sentence)
{
	char good[FIREFLY_BYTES_MAX], spoiled[FIREFLY_BYTES_MAX * 2], words[128];
	char *at;
	int err;

	strcpy(good, message(REPORT_end, FIREFLY_LEAN));
	at = strstr(good, from);
	if (!ok(at, "there is %s to be replaced", from))
		return;
	snprintf(spoiled, sizeof(spoiled), "%.*s%s%s", (int)(at - good), good, to,
		 at + strlen(from));
	err = parse(spoiled, words);
	if (!ok(err == -EBADMSG && strstr(words, word), "%s", sentence))
		printf("# %d, \"%s\"\n", err, words);
}

static void read_back(void)
{
	struct firefly f, g;
	char words[128], *text;

	flow_make("2001:db8::1", "2001:db8::2", IPPROTO_TCP);
	firefly_of(REPORT_end, &flow, &f);
	text = message(REPORT_end, FIREFLY_LEAN);
	is_int(firefly_parse(text, strlen(text), &g, words, sizeof(words)), 0, "ours is read");
	ok(g.state == REPORT_end && !memcmp(g.src, f.src, 16) && !memcmp(g.dst, f.dst, 16) &&
		   g.src_port == 41234 && g.dst_port == 1094 && g.proto == IPPROTO_TCP,
	   "as the flow it was");
	ok(g.start_ns == f.start_ns && g.end_ns == f.end_ns / 1000 * 1000 && g.experiment == 2 &&
		   g.activity == 9 && !strcmp(g.application, "xrootd"),
	   "with times, mark and application");
	text = strchr(text, '{');
	is_int(firefly_parse(text, strlen(text), &g, words, sizeof(words)), 0,
	       "without its header too");
	is_int(parse("<134>1 no json", words), -EBADMSG, "what is no JSON is refused");
	is_int(parse("{\"version\":1}", words), -EBADMSG, "and what lacks everything");
	bad("\"state\":\"end\"", "\"state\":\"over\"", "state", "a state there is not");
	bad("\"version\":1", "\"version\":2", "version", "another version");
	bad("T11:06:40", "T25:06:40", "start-time", "an hour there is not");
	bad("\"ipv6\"", "\"ipv4\"", "address", "an address of another family");
	bad("\"tcp\"", "\"sctp\"", "protocol", "another protocol");
	bad("41234", "0", "port", "port 0");
	bad("41234", "65536", "port", "a port beyond the last");
	bad("\"activity-id\":9", "\"activity-id\":64", "activity", "an activity beyond the last");
	bad("\"end-time\"", "\"eend-time\"", "end-time", "an end without its time");
}

static void ends(void)
{
	struct sockaddr_in6 a;

	is_int(fireflies_address("192.0.2.1", 10514, &a), 0, "an address alone");
	is_int(ntohs(a.sin6_port), 10514, "has the usual port");
	is_int(fireflies_address("192.0.2.1:99", 10514, &a), 0, "one with a port");
	is_int(ntohs(a.sin6_port), 99, "has that");
	is_int(fireflies_address("[2001:db8::1]:99", 1, &a), 0, "IPv6 in brackets");
	is_int(fireflies_address("2001:db8::1", 1, &a), 0, "IPv6 without");
	is_int(fireflies_address("collector.example.org", 1, &a), -EINVAL, "no name");
	is_int(fireflies_address("192.0.2.1:0", 1, &a), -EINVAL, "no port 0");
	is_int(fireflies_address("192.0.2.1:65536", 1, &a), -EINVAL, "no port beyond the last");
	is_int(fireflies_address("[192.0.2.1]", 1, &a), -EINVAL, "no IPv4 in brackets");
	is_int(fireflies_address("[2001:db8::1", 1, &a), -EINVAL, "no bracket left open");
}

/* The samples of RFC 5769, sections 2.2 and 2.3. */
static const char answer_v4[] =
	"0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147"
	"e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
static const char answer_v6[] =
	"010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147"
	"0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004"
	"c8fb0b4c";

static size_t unhex(const char *hex, __u8 *out)
{
	size_t n = strlen(hex) / 2;

	for (size_t i = 0; i < n; i++)
		sscanf(hex + 2 * i, "%2hhx", &out[i]);
	return n;
}

static void stun(void)
{
	__u8 bytes[256], found[16], want[16], request[STUN_REQUEST_BYTES];
	const __u8 *id = bytes + 8;
	__u8 other[STUN_ID_BYTES] = {};
	size_t n = unhex(answer_v4, bytes);
	unsigned wrong = 0;

	is_int(stun_answer(bytes, n, id, found), 0, "RFC 5769's IPv4 answer is understood");
	address(want, "192.0.2.1");
	ok(!memcmp(found, want, 16), "as 192.0.2.1");
	is_int(stun_answer(bytes, n, other, found), -EBADMSG, "not as an answer to another");
	for (size_t cut = 0; cut < n; cut++)
		wrong += !stun_answer(bytes, cut, id, found);
	is_int(wrong, 0, "nor any piece of it as a whole");
	bytes[n - 1] ^= 1;
	is_int(stun_answer(bytes, n, id, found), -EBADMSG, "nor one whose checksum is wrong");
	n = unhex(answer_v6, bytes);
	is_int(stun_answer(bytes, n, id, found), 0, "the IPv6 answer is understood");
	address(want, "2001:db8:1234:5678:11:2233:4455:6677");
	ok(!memcmp(found, want, 16), "as the address it says");
	stun_request(request, other);
	is_int(stun_answer(request, sizeof(request), other, found), -EBADMSG,
	       "a question is no answer");
	request[0] = 1, request[1] = 0x11;
	is_int(stun_answer(request, sizeof(request), other, found), -ECONNREFUSED,
	       "an error is told as such");
}

static void addresses(void)
{
	static const char *const private[] = { "10.1.2.3",   "172.16.0.1",  "192.168.1.1",
					       "100.64.0.1", "169.254.1.1", "fd00::1",
					       "fe80::1" };
	static const char *const public[] = { "11.0.0.1", "172.32.0.1", "192.169.0.1",
					      "100.128.0.1", "2001:db8::1" };
	struct publicaddr_options o = {};
	struct publicaddr *p;
	__u8 a[16], want[16];
	unsigned n = 0;

	for (size_t i = 0; i < sizeof(private) / sizeof(*private); i++)
		address(a, private[i]), n += address_is_private(a);
	is_int(n, sizeof(private) / sizeof(*private), "private addresses are known");
	for (size_t i = n = 0; i < sizeof(public) / sizeof(*public); i++)
		address(a, public[i]), n += address_is_private(a);
	is_int(n, 0, "and others are not taken for such");
	is_int(publicaddr_pair_parse("10.0.0.5=192.0.2.5", &o.map[0]), 0, "a pair");
	is_int(publicaddr_pair_parse("10.0.0.5=2001:db8::1", &o.map[1]), -EINVAL,
	       "of one family only");
	is_int(publicaddr_pair_parse("10.0.0.5", &o.map[1]), -EINVAL, "and whole");
	ok(publicaddr_url_valid("http://192.0.2.1/ip") && publicaddr_url_valid("http://[::1]:80"),
	   "an address to ask by HTTP");
	ok(!publicaddr_url_valid("https://192.0.2.1/") && !publicaddr_url_valid("192.0.2.1") &&
		   !publicaddr_url_valid("http://[192.0.2.1]/"),
	   "and what can not be asked");
	o.map_n = 1;
	p = publicaddr_open(NULL, &o);
	if (!ok(p, "a map alone asks nobody"))
		return;
	address(a, "10.0.0.5");
	address(want, "192.0.2.5");
	publicaddr_apply(p, a);
	ok(!memcmp(a, want, 16), "what the map names is replaced");
	address(a, "10.0.0.6");
	memcpy(want, a, 16);
	publicaddr_apply(p, a);
	ok(!memcmp(a, want, 16), "and nothing else while nothing is known");
	publicaddr_close(p);
}

int main(void)
{
	write_plain();
	refuse();
	write_tcp();
	read_back();
	ends();
	stun();
	addresses();
	return done();
}
