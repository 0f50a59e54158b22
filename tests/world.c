// SPDX-License-Identifier: GPL-2.0-only
/* A world that writes logs, and knows what really happened. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/clock.h"
#include "../user/text.h"
#include "world.h"

#define START_NS 1790000000000000000ULL
#define HOUR_NS (3600ULL * 1000000000)

uint64_t world_random(struct world *world, uint64_t below)
{
	world->random ^= world->random << 13;
	world->random ^= world->random >> 7;
	world->random ^= world->random << 17;
	return world->random % below;
}

static bool chance(struct world *world, unsigned percent)
{
	return world_random(world, 100) < percent;
}

static void flow_make(struct world *world, unsigned i)
{
	struct world_flow *flow = &world->flows[i];

	flow->from = (unsigned)world_random(world, world->nodes_n);
	flow->to = (flow->from + 1 + (unsigned)world_random(world, world->nodes_n - 1)) %
		   world->nodes_n;
	flow->tcp = world_random(world, 3) != 0;
	flow->seq = (uint32_t)world_random(world, UINT64_MAX);
	if (!world_random(world, 4)) /* comes round soon */
		flow->seq = UINT32_MAX - (uint32_t)world_random(world, 3000);
	flow->nat = chance(world, world->nat_percent);
	snprintf(flow->src, sizeof(flow->src), "10.0.%u.1:%u", flow->from, 20000 + i);
	snprintf(flow->dst, sizeof(flow->dst), "10.0.%u.1:80", flow->to);
	memcpy(flow->nat_src, flow->src, sizeof(flow->src));
	memcpy(flow->nat_dst, flow->dst, sizeof(flow->dst));
	/* Source, destination, or both. */
	if (flow->nat && i % 3 != 0)
		snprintf(flow->nat_src, sizeof(flow->nat_src), "192.0.2.1:%u", 40000 + i);
	if (flow->nat && i % 3 != 1)
		snprintf(flow->nat_dst, sizeof(flow->nat_dst), "172.16.%u.9:8080", flow->to);
}

void world_make(struct world *world, uint64_t seed)
{
	world->random = seed * 0x9e3779b97f4a7c15ULL + 88172645463325252ULL;
	for (int i = 0; i < 8; i++)
		world_random(world, 2);
	world->nodes_n = 2 + (unsigned)world_random(world, WORLD_NODES - 1);
	world->flows_n = 1 + (unsigned)world_random(world, WORLD_FLOWS);
	world->files_n = 1 + (unsigned)world_random(world, WORLD_FILES);
	world->now_ns = START_NS;
	for (unsigned i = 0; i < world->nodes_n; i++) {
		world->skew_ns[i] =
			(int64_t)world_random(world, 4 * HOUR_NS) - (int64_t)(2 * HOUR_NS);
		if (!world_random(world, 3))
			world->skew_ns[i] /= 1000000;
		world->last[i] = UINT32_MAX;
	}
	for (unsigned i = 0; i < world->flows_n; i++)
		flow_make(world, i);
}

static struct world_event *event_new(struct world *world, unsigned node, unsigned flow,
				     uint64_t carried)
{
	struct world_event *event;

	if (world->n == world->size) {
		world->size = world->size * 2 + 256;
		world->events = reallocarray(world->events, world->size, sizeof(*event));
	}
	event = &world->events[world->n];
	*event = (struct world_event){
		.node = node,
		.flow = flow,
		.wall_ns = world->now_ns + (uint64_t)world->skew_ns[node],
		.before = world->last[node],
		.packets = 1,
	};
	world->clock[node] = clock_next(world->clock[node], carried, event->wall_ns);
	event->hlc = world->clock[node];
	world->last[node] = world->n++;
	return event;
}

static void message_send(struct world *world, unsigned i)
{
	struct world_flow *flow = &world->flows[i];
	struct world_event *event = event_new(world, flow->from, i, 0);
	struct world_message *message;

	event->seq = flow->seq;
	event->bytes = 1 + (uint32_t)world_random(world, 1448);
	event->hash = world_random(world, UINT64_MAX);
	flow->seq += event->bytes;
	/* TCP would send again what was lost, so for it nothing is. */
	if (flow->waiting_n == WORLD_WAITING || (!flow->tcp && chance(world, world->lose_percent)))
		return;
	message = &flow->waiting[flow->waiting_n++];
	*message = (struct world_message){
		.event = world->n - 1,
		.seq = event->seq,
		.bytes = event->bytes,
		.hash = event->hash,
		.stamp = event->hlc,
		.stripped = chance(world, world->strip_percent),
	};
}

/* What a receiver folds into the event before: the next bytes, with nothing in between, and no stamp
 * that says who else was heard of.
 */
static struct world_event *burst_open(struct world *world, unsigned i,
				      const struct world_message *message)
{
	struct world_flow *flow = &world->flows[i];
	struct world_event *event;

	if (world->last[flow->to] == UINT32_MAX || !flow->tcp || !message->stripped)
		return NULL;
	event = &world->events[world->last[flow->to]];
	if (!event->recv || event->flow != i || !event->stripped ||
	    event->causes_n == WORLD_CAUSES || world_random(world, 4) == 0)
		return NULL;
	return event;
}

static void message_receive(struct world *world, unsigned i)
{
	struct world_flow *flow = &world->flows[i];
	unsigned k = flow->tcp ? 0 : (unsigned)world_random(world, flow->waiting_n);
	struct world_message message = flow->waiting[k];
	struct world_event *event;

	/* A datagram may come twice. */
	if (flow->tcp || !chance(world, world->twice_percent)) {
		flow->waiting_n--;
		memmove(&flow->waiting[k], &flow->waiting[k + 1],
			(flow->waiting_n - k) * sizeof(message));
	}
	event = burst_open(world, i, &message);
	if (event) {
		event->bytes += message.bytes;
		event->packets++;
	} else {
		event = event_new(world, flow->to, i, message.stripped ? 0 : message.stamp);
		event->recv = true;
		event->seq = message.seq;
		event->bytes = message.bytes;
		event->hash = message.hash;
		event->stripped = message.stripped;
		event->cause = message.stamp;
	}
	event->causes[event->causes_n++] = message.event;
}

void world_run(struct world *world, unsigned steps)
{
	for (unsigned step = 0; step < steps; step++) {
		unsigned i = (unsigned)world_random(world, world->flows_n);

		world->now_ns += world_random(world, 200000);
		if (world->flows[i].waiting_n && world_random(world, 5) < 3)
			message_receive(world, i);
		else
			message_send(world, i);
	}
	world->twice_percent = 0;
	for (unsigned i = 0; i < world->flows_n; i++)
		while (world->flows[i].waiting_n) {
			world->now_ns += world_random(world, 200000);
			message_receive(world, i);
		}
}

static void line_write(const struct world *world, const struct world_event *event, FILE *file)
{
	const struct world_flow *flow = &world->flows[event->flow];
	struct text wall = {};

	text_add_wall(&wall, event->wall_ns);
	fprintf(file,
		"{\"hlc\":\"%016" PRIx64 "\",\"type\":\"%s\",\"node\":\"n%u\",\"host\":\"h%u\","
		"\"wall\":\"%.*s\",\"proto\":\"%s\",\"src\":\"%s\",\"dst\":\"%s\","
		"\"bytes\":%" PRIu32 ",\"packets\":%" PRIu32 ",",
		event->hlc, event->recv ? "recv" : "send", event->node,
		event->node % world->files_n, (int)wall.len, wall.at, flow->tcp ? "tcp" : "udp",
		event->recv ? flow->nat_src : flow->src, event->recv ? flow->nat_dst : flow->dst,
		event->bytes, event->packets);
	if (flow->tcp)
		fprintf(file, "\"seq\":%" PRIu32 ",", event->seq);
	else
		fprintf(file, "\"hash\":%" PRIu32 ",", (uint32_t)event->hash | 1);
	if (event->recv && !event->stripped)
		fprintf(file, "\"cause\":\"%016" PRIx64 "\",\"cause_last\":\"%016" PRIx64 "\",",
			event->cause, event->cause);
	fprintf(file, "\"hlc_last\":\"%016" PRIx64 "\"}\n", event->hlc);
	text_free(&wall);
}

void world_write(struct world *world, FILE *const files[], bool shuffled)
{
	uint32_t *at = calloc(world->n + 1, sizeof(*at));
	unsigned lines[WORLD_FILES] = {};

	for (uint32_t i = 0; i < world->n; i++)
		at[i] = i;
	for (uint32_t i = world->n; shuffled && i > 1; i--) {
		uint32_t k = (uint32_t)world_random(world, i), kept = at[i - 1];

		at[i - 1] = at[k];
		at[k] = kept;
	}
	for (uint32_t i = 0; i < world->n; i++) {
		struct world_event *event = &world->events[at[i]];

		event->file = event->node % world->files_n;
		event->line = ++lines[event->file];
		line_write(world, event, files[event->file]);
	}
	free(at);
}

void world_free(struct world *world)
{
	free(world->events);
}
