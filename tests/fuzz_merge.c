// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: two logs of any bytes are merged into an order, or refused with a reason. What
 * comes out is in order, everything is in it once, and it can be merged and drawn again.
 */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../user/graph.h"
#include "../user/inflight.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A log as a file of its own, without a disk. */
static char *log_made(const uint8_t *data, size_t size, int *fd)
{
	char *path = NULL;

	*fd = memfd_create("log", 0);
	if (*fd < 0 || write(*fd, data, size) != (ssize_t)size ||
	    asprintf(&path, "/proc/self/fd/%d", *fd) < 0)
		abort();
	return path;
}

static void order_walk(struct order *order)
{
	struct inflight *inflight = inflight_new(order, 0x18b2a2b4c5d70001ULL);
	uint64_t now = 0, seen = 0;
	struct order_event event;
	struct text text = {};
	int got;

	while ((got = order_next(order, &event)) > 0) {
		if (event.hlc < now || event.hlc < event.hlc_raw)
			abort();
		now = event.hlc;
		seen++;
		if (inflight_event(inflight, &event) < 0 || order_line_merged(order, &event, &text))
			abort();
	}
	if (got || seen != order_count(order))
		abort();
	inflight_free(inflight);
	text_free(&text);
}

static void order_draw(struct order *order)
{
	struct graph graph = { .order = order, .title = "fuzz" };
	struct graph_window window = { .to = UINT64_MAX, .limit = 1000, .fold = true };
	struct text out = {};

	if (order_rewind(order) || graph_make(&graph, &window))
		abort();
	graph_svg(&graph, &out);
	graph_html(&graph, &out);
	graph_dot(&graph, &out);
	if (graph_shiviz(&graph, &out) || out.err)
		abort();
	text_free(&out);
	graph_free(&graph);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *half = memmem(data, size, "\n\n", 2);
	size_t first = half ? (size_t)(half - data) : size;
	struct logs logs = {};
	struct order *order;
	char *paths[2];
	int fds[2], status;

	paths[0] = log_made(data, first, &fds[0]);
	paths[1] = log_made(data + first, size - first, &fds[1]);
	if (logs_collect(&logs, paths, 2))
		abort();
	order = order_open(&logs, 1 << 20, &status);
	if (order) {
		order_walk(order);
		order_draw(order);
	}
	order_free(order);
	logs_free(&logs);
	for (int i = 0; i < 2; i++) {
		free(paths[i]);
		close(fds[i]);
	}
	return 0;
}
