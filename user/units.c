// SPDX-License-Identifier: GPL-2.0-only
/* Spans of time, sizes and numbers as users write them. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "units.h"

struct unit {
	const char *name;
	__u64 factor;
};

static int scaled_parse(const char *text, const struct unit *units, __u64 most, __u64 *out)
{
	unsigned long long n;
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return -ERANGE;
	for (; units->name; units++) {
		if (strcmp(end, units->name))
			continue;
		if (n > most / units->factor)
			return -ERANGE;
		*out = n * units->factor;
		return 0;
	}
	return -EINVAL;
}

int span_parse(const char *text, __u64 *ns)
{
	static const struct unit units[] = {
		{ "ms", 1000000ULL },		{ "s", 1000000000ULL },
		{ "m", 60 * 1000000000ULL },	{ "h", 3600 * 1000000000ULL },
		{ "d", 86400 * 1000000000ULL }, {},
	};

	return scaled_parse(text, units, LLONG_MAX, ns);
}

int size_parse(const char *text, __u64 *bytes)
{
	static const struct unit units[] = {
		{ "", 1 }, { "k", 1ULL << 10 }, { "m", 1ULL << 20 }, { "g", 1ULL << 30 }, {},
	};

	return scaled_parse(text, units, LLONG_MAX, bytes);
}

int number_parse(const char *text, __u64 most, __u64 *number)
{
	static const struct unit units[] = { { "", 1 }, {} };

	return scaled_parse(text, units, most, number);
}

int skew_parse(const char *text, char *name, unsigned name_size, __s64 *ns)
{
	const char *equals = strrchr(text, '=');
	__u64 span;
	int err;

	if (!equals || equals == text || (size_t)(equals - text) >= name_size)
		return -EINVAL;
	if (equals[1] != '+' && equals[1] != '-')
		return -EINVAL;
	err = span_parse(equals + 2, &span);
	if (err)
		return err;
	/* A clock below 1970 would come round to the far future, and stay there. */
	if (span > 50 * 365 * 86400 * 1000000000ULL)
		return -ERANGE;
	memcpy(name, text, equals - text);
	name[equals - text] = 0;
	*ns = equals[1] == '-' ? -(__s64)span : (__s64)span;
	return 0;
}
