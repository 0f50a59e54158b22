// SPDX-License-Identifier: GPL-2.0-only
/* What a sink has lost, by node, until it can be told. */
#include <stdlib.h>
#include <string.h>

#include "gaps.h"

static void gap_add(struct gap *gap, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count)
{
	gap->node = node;
	gap->count += count;
	if (stamp >= gap->stamp) {
		gap->stamp = stamp;
		gap->wall_ns = wall_ns;
	}
}

void gaps_add(struct gaps *gaps, __u32 node, __u64 stamp, __u64 wall_ns, __u64 count)
{
	struct gap *grown;
	size_t i;

	for (i = 0; i < gaps->n && gaps->all[i].node != node; i++)
		;
	if (i == gaps->n) {
		grown = realloc(gaps->all, (gaps->n + 1) * sizeof(*grown));
		if (!grown) {
			gap_add(&gaps->rest, node, stamp, wall_ns, count);
			return;
		}
		gaps->all = grown;
		memset(&gaps->all[gaps->n++], 0, sizeof(*grown));
	}
	gap_add(&gaps->all[i], node, stamp, wall_ns, count);
}

bool gaps_any(const struct gaps *gaps)
{
	return gaps->n || gaps->rest.count;
}

static int gap_tell(const struct gap *gap, struct lines *lines, const char *reason,
		    int (*fn)(const char *line, size_t len, void *ctx), void *ctx)
{
	size_t len;
	const char *line =
		lines_gap(lines, gap->node, gap->stamp, gap->wall_ns, gap->count, reason, &len);

	return fn(line, len, ctx);
}

int gaps_tell(struct gaps *gaps, struct lines *lines, const char *reason,
	      int (*fn)(const char *line, size_t len, void *ctx), void *ctx)
{
	int err = 0;

	while (gaps->n && !err) {
		err = gap_tell(&gaps->all[gaps->n - 1], lines, reason, fn, ctx);
		if (!err)
			gaps->n--;
	}
	if (!err && gaps->rest.count) {
		err = gap_tell(&gaps->rest, lines, reason, fn, ctx);
		if (!err)
			memset(&gaps->rest, 0, sizeof(gaps->rest));
	}
	return err;
}

void gaps_free(struct gaps *gaps)
{
	free(gaps->all);
	memset(gaps, 0, sizeof(*gaps));
}
