// SPDX-License-Identifier: GPL-2.0-only
/* Batches of packets on their way to disk, put in the order of time. */
#include <string.h>

#include "batch.h"

#define UNRIPE_NS (100 * 1000 * 1000)

__u32 batch_size(const struct packet *packet)
{
	return (sizeof(*packet) + packet->kept + 7) & ~7U;
}

/* Two runs, each in order and one behind the other: only the first needs another place. */
static void runs_merge(struct entry *spare, struct entry *from, __u32 middle, __u32 n)
{
	__u32 left = 0, right = middle;

	memcpy(spare, from, middle * sizeof(*from));
	for (__u32 to = 0; left < middle; to++)
		if (right < n && from[right].wall_ns < spare[left].wall_ns)
			from[to] = from[right++];
		else
			from[to] = spare[left++];
}

static __u32 run_end(const struct batch *b, __u32 i)
{
	for (i++; i < b->n && b->entry[i].wall_ns >= b->entry[i - 1].wall_ns; i++)
		;
	return i;
}

/* Each CPU's packets are in order already, so there are about as many runs as CPUs. */
void batch_sort(struct batch *b, struct entry *spare)
{
	__u32 end = run_end(b, 0);

	while (end < b->n) {
		for (__u32 from = 0, middle = end; from < b->n; from = end) {
			middle = run_end(b, from);
			end = middle < b->n ? run_end(b, middle) : middle;
			runs_merge(spare, b->entry + from, middle - from, end - from);
		}
		end = run_end(b, 0);
	}
}

__u32 batch_ripe(const struct batch *b, __u64 until_ns)
{
	__u32 n = b->n;

	while (n && b->entry[n - 1].wall_ns > until_ns &&
	       b->entry[n - 1].wall_ns - until_ns < UNRIPE_NS)
		n--;
	return n;
}

void batch_part(struct batch *b, __u32 n, struct batch *rest)
{
	for (__u32 i = n; i < b->n; i++) {
		__u32 from = b->entry[i].at, size = b->entry[i].size;

		rest->entry[rest->n] = b->entry[i];
		rest->entry[rest->n++].at = rest->used;
		memcpy(rest->bytes + rest->used, b->bytes + from, size);
		rest->used += size;
	}
	b->n = n;
}

void batch_count(struct batch *b)
{
	memset(b->amounts, 0, sizeof(b->amounts));
	for (__u32 i = 0; i < b->n; i++) {
		b->amounts[b->entry[i].class].bytes += b->entry[i].size;
		b->amounts[b->entry[i].class].packets++;
	}
}
