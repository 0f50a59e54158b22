// SPDX-License-Identifier: GPL-2.0-only
/* Values in expressions: addresses, networks, ports, protocols, times. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expr.h"
#include "expr_word.h"
#include "text.h"
#include "units.h"

const struct expr_proto *expr_proto_find(const char *word, size_t len)
{
	static const struct expr_proto protos[] = {
		{ "tcp", 6, true, 0, 0 },	   { "udp", 17, true, 0, 0 },
		{ "icmp", 1, true, 0, FILTER_V4 }, { "icmp6", 58, true, 0, FILTER_V6 },
		{ "sctp", 132, true, 0, 0 },	   { "dccp", 33, true, 0, 0 },
		{ "udplite", 136, true, 0, 0 },	   { "igmp", 2, true, 0, FILTER_V4 },
		{ "gre", 47, true, 0, 0 },	   { "esp", 50, true, 0, 0 },
		{ "ah", 51, true, 0, 0 },	   { "ospf", 89, true, 0, 0 },
		{ "ip", 0, true, 0x0800, 0 },	   { "ip6", 0, true, 0x86dd, 0 },
		{ "arp", 0, true, 0x0806, 0 },
	};

	for (size_t i = 0; i < sizeof(protos) / sizeof(protos[0]); i++)
		if (strlen(protos[i].name) == len && !memcmp(protos[i].name, word, len))
			return &protos[i];
	return NULL;
}

const char *expr_proto(const char *word, bool ether, __u32 *n)
{
	const char *name = word + (*word == '\\');
	const struct expr_proto *proto = expr_proto_find(name, strlen(name));
	unsigned long value;
	char *end;

	if (proto && (ether ? proto->ethertype : proto->number)) {
		*n = ether ? proto->ethertype : proto->number;
		return NULL;
	}
	value = strtoul(word, &end, 0);
	if (!isdigit((unsigned char)*word) || *end || value > (ether ? 0xffff : 0xff))
		return ether ? "an ethertype is a number up to 65535"
			     : "a protocol is a number up to 255";
	*n = (__u32)value;
	return NULL;
}

static const struct {
	const char *name;
	__u16 port;
} services[] = {
	{ "ftp", 21 },	   { "ssh", 22 },    { "telnet", 23 },	     { "smtp", 25 },
	{ "domain", 53 },  { "http", 80 },   { "kerberos", 88 },     { "pop3", 110 },
	{ "ntp", 123 },	   { "imap", 143 },  { "snmp", 161 },	     { "bgp", 179 },
	{ "ldap", 389 },   { "https", 443 }, { "syslog", 514 },	     { "ldaps", 636 },
	{ "mysql", 3306 }, { "rdp", 3389 },  { "postgresql", 5432 }, { "redis", 6379 },
};

static int service_port(const char *word, __u32 *port)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		if (strcmp(services[i].name, word))
			continue;
		*port = services[i].port;
		return 0;
	}
	return -EINVAL;
}

bool expr_is_value(const char *word, size_t len)
{
	char text[64];
	__u32 port;

	if (!len || len >= sizeof(text))
		return false;
	if (isdigit((unsigned char)*word) || memchr(word, ':', len))
		return true;
	memcpy(text, word, len);
	text[len] = 0;
	return !service_port(text, &port);
}

static void address_v4(struct filter_op *op, const void *address, __u32 mask)
{
	op->bytes[2] = htonl(0xffff);
	memcpy(&op->bytes[3], address, 4);
	memset(op->bytes_mask, 0xff, 12);
	op->bytes_mask[3] = htonl(mask);
}

static void mask_bits(__u32 words[4], unsigned bits)
{
	unsigned char *bytes = (unsigned char *)words;

	memset(words, 0, 16);
	for (unsigned i = 0; i < bits; i++)
		bytes[i / 8] |= 0x80 >> i % 8;
}

const char *expr_address(const char *word, struct filter_op *op)
{
	unsigned char address[16];
	const char *colon = strchr(word, ':');
	__u32 port;

	if (colon && strchr(word, '.') && !strchr(colon + 1, ':'))
		return "no address; with a port, it is `host ADDRESS and port N`";
	if (!service_port(word, &port))
		return "a service; write `port` before it";
	if (inet_pton(AF_INET, word, address) == 1) {
		address_v4(op, address, ~0U);
		return NULL;
	}
	if (inet_pton(AF_INET6, word, op->bytes) != 1)
		return "no address; an address is 10.0.0.2 or 2001:db8::2, names are not looked up";
	memset(op->bytes_mask, 0xff, 16);
	op->flags |= FILTER_V6;
	return NULL;
}

static const char *tail_check(const struct filter_op *op)
{
	for (int i = 0; i < 4; i++)
		if (op->bytes[i] & ~op->bytes_mask[i])
			return "has bits behind its prefix; write the network's first address";
	return NULL;
}

/* 10, 192.168, 192.168.1: as many bits as are written. */
static bool net_v4_short(const char *word, unsigned char address[4], unsigned *bits)
{
	unsigned n = 0, value;
	char *end;

	memset(address, 0, 4);
	for (*bits = 0; n < 4; word = end + 1) {
		if (!isdigit((unsigned char)*word))
			return false;
		value = strtoul(word, &end, 10);
		if (value > 255 || (*end && *end != '.'))
			return false;
		address[n++] = value;
		*bits += 8;
		if (!*end)
			return true;
	}
	return false;
}

const char *expr_net(const char *word, struct filter_op *op)
{
	static const char what[] = "no network; a network is 10.0.0.0/8, 192.168 or 2001:db8::/32";
	char text[64], *slash;
	unsigned char v4[4];
	unsigned implied;
	__u64 bits = 0;

	snprintf(text, sizeof(text), "%s", word);
	slash = strchr(text, '/');
	if (slash) {
		*slash = 0;
		if (number_parse(slash + 1, 128, &bits))
			return what;
	}
	if (net_v4_short(text, v4, &implied)) {
		if (slash && bits > 32)
			return "a prefix of IPv4 has at most 32 bits";
		if (!slash)
			bits = implied;
		address_v4(op, v4, bits ? ~0U << (32 - bits) : 0);
	} else if (inet_pton(AF_INET6, text, op->bytes) == 1) {
		mask_bits(op->bytes_mask, slash ? bits : 128);
		op->flags |= FILTER_V6;
	} else {
		return what;
	}
	return tail_check(op);
}

const char *expr_net_mask(const char *word, const char *mask, struct filter_op *op)
{
	unsigned char v4[4], bits[4];
	unsigned implied;

	if (!net_v4_short(word, v4, &implied) || inet_pton(AF_INET, mask, bits) != 1)
		return "a mask is for IPv4: 10.0.0.0 mask 255.0.0.0";
	address_v4(op, v4, 0);
	memcpy(&op->bytes_mask[3], bits, 4);
	return tail_check(op);
}

static int port_parse(const char *word, __u32 *port)
{
	__u64 n;

	if (!service_port(word, port))
		return 0;
	if (number_parse(word, 65535, &n))
		return -EINVAL;
	*port = (__u32)n;
	return 0;
}

const char *expr_ports(const char *word, bool range, __u32 *low, __u32 *high)
{
	char text[64], *dash;

	snprintf(text, sizeof(text), "%s", word);
	dash = strchr(text, '-');
	if (!range && dash)
		return "no port; a range is asked for as portrange 8000-8080";
	if (!range)
		return port_parse(text, low) || (*high = *low, false)
			       ? "no port; a port is a number up to 65535; several are 80 or 443"
			       : NULL;
	if (!dash)
		return "no range of ports; a range is 8000-8080";
	*dash = 0;
	if (port_parse(text, low) || port_parse(dash + 1, high))
		return "no range of ports; a range is 8000-8080";
	if (*low > *high)
		return "ends before it begins";
	return NULL;
}

const char *expr_endpoint(const char *word, struct filter_op *op)
{
	static const char what[] = "no endpoint; an endpoint is 10.0.0.2:80 or [2001:db8::2]:80";
	char text[64], *colon, *address = text;
	size_t len;

	snprintf(text, sizeof(text), "%s", word);
	colon = strrchr(text, ':');
	if (!colon || port_parse(colon + 1, &op->low))
		return what;
	*colon = 0;
	op->high = op->low;
	len = strlen(text);
	if (*text == '[') {
		if (text[len - 1] != ']')
			return what;
		text[len - 1] = 0;
		address++;
	} else if (strchr(text, ':')) {
		return what;
	}
	if (expr_address(address, op))
		return what;
	op->flags |= FILTER_ADDRESS | FILTER_PORT;
	return NULL;
}

/* Completed to RFC 3339: what is not said is the beginning of it, and UTC. */
static int wall_parse(const char *text, __u64 *ns)
{
	static const char rest[] = "T00:00:00";
	char whole[64];
	uint64_t wall;
	size_t len = strlen(text);

	if (len < 10 || len + sizeof(rest) >= sizeof(whole) || text[4] != '-')
		return -EINVAL;
	strcpy(whole, text);
	if (whole[len - 1] == 'Z')
		whole[--len] = 0;
	if (len == 10 || len == 13 || len == 16)
		strcpy(whole + len, rest + (len - 10));
	strcat(whole, "Z");
	if (text_parse_wall(whole, &wall))
		return -EINVAL;
	*ns = wall;
	return 0;
}

/* 1763676000, 1763676000.25 */
static int epoch_parse(const char *text, __u64 *ns)
{
	__u64 scale = 100000000, seconds;
	char *end;

	errno = 0;
	seconds = strtoull(text, &end, 10);
	if (errno || seconds > 18446744072ULL || (*end && *end != '.'))
		return -EINVAL;
	*ns = seconds * 1000000000;
	if (!*end)
		return 0;
	for (end++; isdigit((unsigned char)*end); end++, scale /= 10)
		*ns += scale * (__u64)(*end - '0');
	return *end ? -EINVAL : 0;
}

int expr_time(const char *text, __u64 now_ns, __u64 *ns)
{
	char span[64];
	size_t len = strlen(text);
	__u64 back;

	if (!len || len >= sizeof(span) || !isdigit((unsigned char)*text))
		return -EINVAL;
	strcpy(span, text);
	if (len > 4 && !strcmp(span + len - 4, " ago"))
		span[len - 4] = 0;
	if (!span_parse(span, &back)) {
		*ns = back > now_ns ? 0 : now_ns - back;
		return 0;
	}
	if (span[len - 1] != text[len - 1]) /* "... ago" of no span */
		return -EINVAL;
	return wall_parse(text, ns) && epoch_parse(text, ns) ? -EINVAL : 0;
}
