// SPDX-License-Identifier: GPL-2.0-only
/* Ends of flows as users write them: addresses, prefixes, ports. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "endpoint.h"
#include "units.h"

static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

static bool is_v4(const __u8 address[16])
{
	return !memcmp(address, mapped, sizeof(mapped));
}

static int address_parse(const char *text, size_t length, __u8 address[16], bool *v4)
{
	char copy[INET6_ADDRSTRLEN];

	if (!length || length >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, length);
	copy[length] = 0;
	*v4 = true;
	memcpy(address, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, copy, address + 12) == 1)
		return 0;
	if (inet_pton(AF_INET6, copy, address) != 1)
		return -EINVAL;
	*v4 = is_v4(address);
	return 0;
}

static int port_parse(const char *text, size_t length, __u16 *port)
{
	char copy[6];
	__u64 n;

	if (!length || length >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, length);
	copy[length] = 0;
	if (number_parse(copy, 65535, &n) || !n)
		return -EINVAL;
	*port = n;
	return 0;
}

static int ports_parse(const char *text, bool range, struct endpoint *e, const char **words)
{
	const char *dash = range ? strchr(text, '-') : NULL;
	size_t length = strlen(text);

	*words = "not a port from 1 to 65535";
	if (!dash) {
		if (port_parse(text, length, &e->low))
			return -EINVAL;
		e->high = e->low;
	} else {
		if (port_parse(text, dash - text, &e->low) ||
		    port_parse(dash + 1, length - (dash + 1 - text), &e->high))
			return -EINVAL;
		*words = "the lower port comes first";
		if (e->low > e->high)
			return -EINVAL;
	}
	e->ported = true;
	return 0;
}

static int prefix_parse(const char *text, const char *slash, struct endpoint *e, const char **words)
{
	__u64 bits;
	bool v4;

	*words = "not an address before the /";
	if (address_parse(text, slash - text, e->address, &v4))
		return -EINVAL;
	v4 = v4 && !memchr(text, ':', slash - text);
	*words = "not a length a prefix can have";
	if (number_parse(slash + 1, v4 ? 32 : 128, &bits))
		return -EINVAL;
	bits += v4 ? 96 : 0;
	*words = "the address has bits behind the prefix";
	for (unsigned i = bits; i < 128; i++)
		if (e->address[i / 8] & 0x80 >> i % 8)
			return -EINVAL;
	e->bits = bits;
	e->addressed = true;
	return 0;
}

static int one_parse(const char *text, struct endpoint *e, const char **words)
{
	const char *colon = strrchr(text, ':'), *slash = strchr(text, '/');
	bool v4;

	if (*text == ':' && text[1] != ':')
		return ports_parse(text + 1, true, e, words);
	if (slash)
		return prefix_parse(text, slash, e, words);
	*words = "not an endpoint; write ADDR, ADDR:PORT, [V6]:PORT, PREFIX/LEN, :PORT or "
		 ":LOW-HIGH";
	e->bits = 128;
	e->addressed = true;
	if (*text == '[') {
		if (!colon || colon[-1] != ']')
			return -EINVAL;
		if (address_parse(text + 1, colon - 1 - (text + 1), e->address, &v4) ||
		    !memchr(text, ':', colon - text))
			return -EINVAL;
		return ports_parse(colon + 1, false, e, words);
	}
	if (!address_parse(text, strlen(text), e->address, &v4))
		return 0;
	if (!colon || address_parse(text, colon - text, e->address, &v4) ||
	    memchr(text, ':', colon - text))
		return -EINVAL;
	return ports_parse(colon + 1, false, e, words);
}

int endpoint_parse(const char *text, struct endpoint *e, const char **words)
{
	struct endpoint got = {};
	int err = one_parse(text, &got, words);

	if (err)
		return err;
	*words = "given twice; one address, and one port or range";
	if ((got.addressed && e->addressed) || (got.ported && e->ported))
		return -EINVAL;
	if (got.addressed) {
		memcpy(e->address, got.address, sizeof(e->address));
		e->bits = got.bits;
		e->addressed = true;
	}
	if (got.ported) {
		e->low = got.low;
		e->high = got.high;
		e->ported = true;
	}
	return 0;
}

bool endpoint_is_exact(const struct endpoint *e)
{
	return e->addressed && e->bits == 128 && e->ported && e->low == e->high;
}

bool addresses_meet(const __u8 a[16], const __u8 b[16])
{
	return is_v4(a) == is_v4(b);
}

bool endpoints_meet(const struct endpoint *a, const struct endpoint *b)
{
	const struct endpoint *ends[] = { a, b };
	bool v4 = true, v6 = true;

	for (int i = 0; i < 2; i++) {
		if (!ends[i]->addressed)
			continue;
		if (is_v4(ends[i]->address) && ends[i]->bits >= 96)
			v6 = false;
		for (unsigned bit = 0; bit < ends[i]->bits && bit < 96; bit++)
			v4 = v4 &&
			     !((ends[i]->address[bit / 8] ^ mapped[bit / 8]) & 0x80 >> bit % 8);
	}
	return v4 || v6;
}

bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
	return a->addressed == b->addressed && a->ported == b->ported &&
	       (!a->addressed ||
		(a->bits == b->bits && !memcmp(a->address, b->address, sizeof(a->address)))) &&
	       (!a->ported || (a->low == b->low && a->high == b->high));
}

void endpoint_print(const struct endpoint *e, char address[ENDPOINT_TEXT_MAX],
		    char ports[ENDPOINT_TEXT_MAX])
{
	bool v4 = is_v4(e->address) && e->bits >= 96;
	char text[INET6_ADDRSTRLEN] = "", range[16] = "";

	*address = *ports = 0;
	if (e->ported && e->low == e->high)
		snprintf(range, sizeof(range), ":%u", e->low);
	else if (e->ported)
		snprintf(range, sizeof(range), ":%u-%u", e->low, e->high);
	if (e->addressed && v4)
		inet_ntop(AF_INET, e->address + 12, text, sizeof(text));
	else if (e->addressed)
		inet_ntop(AF_INET6, e->address, text, sizeof(text));
	if (endpoint_is_exact(e)) {
		snprintf(address, ENDPOINT_TEXT_MAX, v4 ? "%s%s" : "[%s]%s", text, range);
		return;
	}
	if (e->addressed && e->bits == 128)
		snprintf(address, ENDPOINT_TEXT_MAX, "%s", text);
	else if (e->addressed)
		snprintf(address, ENDPOINT_TEXT_MAX, "%s/%u", text, e->bits - (v4 ? 96U : 0));
	snprintf(*address ? ports : address, ENDPOINT_TEXT_MAX, "%s", range);
}
