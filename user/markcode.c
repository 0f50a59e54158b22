// SPDX-License-Identifier: GPL-2.0-only
/* Marks as they are written elsewhere: flow labels, options, SciTag numbers. */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/mark.h"
#include "log.h"
#include "markcode.h"
#include "out.h"

#define OPTION_TYPE 0x1e
#define OPTION_DATA 3
#define HEADER_BYTES_MAX 2048

unsigned scitag_of(unsigned experiment, unsigned activity)
{
	return experiment << 6 | activity;
}

int scitag_read(__u64 scitag, unsigned *experiment, unsigned *activity)
{
	if (scitag > scitag_of(MARK_EXPERIMENT_MAX, MARK_ACTIVITY_MAX))
		return -ERANGE;
	*experiment = scitag >> 6;
	*activity = scitag & MARK_ACTIVITY_MAX;
	return 0;
}

void option_write(__u8 bytes[8], __u8 next, unsigned experiment, unsigned activity)
{
	const __u8 header[8] = {
		next, 0, OPTION_TYPE, OPTION_DATA, experiment >> 8, experiment, activity, 0,
	};

	memcpy(bytes, header, sizeof(header));
}

static int option_find(const __u8 *bytes, size_t n, size_t at, unsigned *experiment,
		       unsigned *activity)
{
	while (at < n) {
		if (!bytes[at]) { /* Pad1 */
			at++;
			continue;
		}
		if (at + 2 > n || at + 2 + bytes[at + 1] > n)
			return -EINVAL;
		if (bytes[at] == OPTION_TYPE && bytes[at + 1] == OPTION_DATA) {
			*experiment = bytes[at + 2] << 8 | bytes[at + 3];
			*activity = bytes[at + 4];
			return *experiment <= MARK_EXPERIMENT_MAX && *activity <= MARK_ACTIVITY_MAX
				       ? 0
				       : -ERANGE;
		}
		at += 2 + bytes[at + 1];
	}
	return -ENOENT;
}

static int nibble(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

int option_read(const char *hex, unsigned *experiment, unsigned *activity)
{
	__u8 bytes[HEADER_BYTES_MAX];
	size_t n = 0;

	while (*hex) {
		if (n && (*hex == ':' || *hex == '-' || *hex == ' '))
			hex++;
		if (!isxdigit((unsigned char)hex[0]) || !isxdigit((unsigned char)hex[1]) ||
		    n == sizeof(bytes))
			return -EINVAL;
		bytes[n++] = nibble(hex[0]) << 4 | nibble(hex[1]);
		hex += 2;
	}
	if (n == 5)
		return option_find(bytes, n, 0, experiment, activity);
	/* A header says its own length. */
	if (n < 8 || n < (bytes[1] + 1U) * 8)
		return -EINVAL;
	return option_find(bytes, (bytes[1] + 1U) * 8, 2, experiment, activity);
}

enum { FORM, VALUE, NUMBER, EXPERIMENT, ACTIVITY, EXPERIMENT_ID, ACTIVITY_ID, WHAT };

static const struct out_column columns[] = {
	[FORM] = { "form", "FORM", 11, 0, 0 },
	[VALUE] = { "value", "VALUE", 23, 0, 0 },
	[NUMBER] = { "number", "NUMBER", 7, 0, OUT_RIGHT },
	[EXPERIMENT] = { "experiment", "EXPERIMENT", 16, 8, 0 },
	[ACTIVITY] = { "activity", "ACTIVITY", 24, 8, 0 },
	[EXPERIMENT_ID] = { .key = "experiment_id" },
	[ACTIVITY_ID] = { .key = "activity_id" },
	[WHAT] = { "what", "WHAT IT IS", 64, 12, OUT_OPTIONAL },
	{},
};

static void row(struct out *out, const struct registry *registry, const char *form,
		unsigned experiment, unsigned activity, const char *what)
{
	char experiment_name[REGISTRY_NAME_MAX], activity_name[REGISTRY_NAME_MAX];

	registry_names(registry, experiment, activity, experiment_name, activity_name);
	out_str(out, FORM, form);
	out_str(out, EXPERIMENT, experiment_name);
	out_str(out, ACTIVITY, activity_name);
	out_u64(out, EXPERIMENT_ID, experiment);
	out_u64(out, ACTIVITY_ID, activity);
	out_str(out, WHAT, what);
}

int markcode_encode(const struct registry *registry, unsigned experiment, unsigned activity,
		    bool json)
{
	struct out *out = out_open(stdout, columns, json ? OUT_JSON : 0);
	__u32 label = mark_label(experiment, activity, 0);
	char text[32];
	__u8 b[8];

	if (!out)
		return 1;
	row(out, registry, "label", experiment, activity,
	    "IPv6 flow label; on the wire with entropy in bits 0xc0103");
	snprintf(text, sizeof(text), "0x%05x", label);
	out_str(out, VALUE, text);
	out_u64(out, NUMBER, label);
	out_row(out);

	option_write(b, IPPROTO_TCP, experiment, activity);
	row(out, registry, "header", experiment, activity,
	    "IPv6 hop-by-hop or destination header, here before TCP");
	snprintf(text, sizeof(text), "%02x%02x%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3],
		 b[4], b[5], b[6], b[7]);
	out_str(out, VALUE, text);
	out_row(out);

	row(out, registry, "scitag", experiment, activity,
	    "what HTTP's SciTag header and XRootD's scitag.flow say; never on the wire");
	snprintf(text, sizeof(text), "%u", scitag_of(experiment, activity));
	out_str(out, VALUE, text);
	out_u64(out, NUMBER, scitag_of(experiment, activity));
	out_row(out);
	return out_finish(out, 0);
}

static int decode_one(struct out *out, const struct registry *registry, const char *value)
{
	bool hex = !strncasecmp(value, "0x", 2);
	unsigned experiment, activity;
	unsigned long long number;
	char *end;
	int err;

	errno = 0;
	number = strtoull(value, &end, hex ? 16 : 10);
	if (!isdigit((unsigned char)*value) || *end || errno || number > MARK_LABEL_MASK) {
		err = option_read(value, &experiment, &activity);
		if (err) {
			log_error("%s: %s", value,
				  err == -ENOENT   ? "has no option of type 0x1e"
				  : err == -ERANGE ? "its option is out of range: experiment 0 to "
						     "511, activity 0 to 63"
						   : "neither a label (up to 0xfffff), nor a "
						     "SciTag number, nor a header's bytes in hex");
			return 2;
		}
		row(out, registry, "header", experiment, activity, "extension header or option");
		out_str(out, VALUE, value);
		out_row(out);
		return 0;
	}
	row(out, registry, "label", mark_experiment(number), mark_activity(number),
	    "if it is an IPv6 flow label");
	out_str(out, VALUE, value);
	out_u64(out, NUMBER, number);
	out_row(out);
	if (hex || scitag_read(number, &experiment, &activity))
		return 0;
	row(out, registry, "scitag", experiment, activity, "if it is HTTP's or XRootD's number");
	out_str(out, VALUE, value);
	out_u64(out, NUMBER, number);
	out_row(out);
	return 0;
}

int markcode_decode(const struct registry *registry, char **values, int n, bool json)
{
	struct out *out = out_open(stdout, columns, json ? OUT_JSON : 0);
	int status = 0;

	if (!out)
		return 1;
	for (int i = 0; i < n && !status; i++)
		status = decode_one(out, registry, values[i]);
	return out_finish(out, status);
}
