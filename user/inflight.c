// SPDX-License-Identifier: GPL-2.0-only
/* The state of the world at a stamp: which events are in it, and which messages are on their way.
 *
 * An event is inside up to the stamp. A send is stamped below its receives, so no receive is inside
 * whose send is not. A receive that is a burst may begin inside and end with bytes that were sent
 * after the cut: then it is outside, as what follows at its node is too.
 */
#include <errno.h>
#include <stdlib.h>

#include "inflight.h"
#include "log.h"
#include "names.h"

struct way {
	uint32_t from, to;
	uint64_t messages, bytes;
};

struct inflight {
	const struct order *order;
	uint64_t cut;
	uint8_t *sent, *received; /* bits, by ord: inside; anywhere */
	uint64_t sends, receives; /* inside; of those sends, anywhere */
	struct names keys;	  /* from and to */
	struct way *ways;
	size_t ways_room;
};

struct inflight *inflight_new(const struct order *order, uint64_t cut)
{
	struct inflight *inflight = calloc(1, sizeof(*inflight));

	if (!inflight)
		return NULL;
	inflight->order = order;
	inflight->cut = cut;
	inflight->sent = calloc(order_count(order) / 8 + 1, 1);
	inflight->received = calloc(order_count(order) / 8 + 1, 1);
	if (!inflight->sent || !inflight->received) {
		inflight_free(inflight);
		return NULL;
	}
	return inflight;
}

void inflight_free(struct inflight *inflight)
{
	if (!inflight)
		return;
	free(inflight->sent);
	free(inflight->received);
	free(inflight->ways);
	names_free(&inflight->keys);
	free(inflight);
}

static bool bit_get(const uint8_t *bits, uint64_t at)
{
	return bits[at / 8] >> at % 8 & 1;
}

static void bit_set(uint8_t *bits, uint64_t at)
{
	bits[at / 8] |= (uint8_t)(1 << at % 8);
}

static int way_add(struct inflight *inflight, uint32_t from, uint32_t to, uint32_t bytes)
{
	uint32_t key[2] = { from, to };
	int64_t id = names_id(&inflight->keys, (const char *)key, sizeof(key));

	if (id < 0)
		return (int)id;
	if ((size_t)id >= inflight->ways_room) {
		size_t room = (size_t)id * 2 + 16;
		struct way *ways = reallocarray(inflight->ways, room, sizeof(*ways));

		if (!ways)
			return -ENOMEM;
		for (size_t i = inflight->ways_room; i < room; i++)
			ways[i] = (struct way){};
		inflight->ways = ways;
		inflight->ways_room = room;
	}
	inflight->ways[id].from = from;
	inflight->ways[id].to = to;
	inflight->ways[id].messages++;
	inflight->ways[id].bytes += bytes;
	return 0;
}

static int cause_seen(struct inflight *inflight, const struct order_event *event,
		      const struct order_cause *cause, bool inside)
{
	if (!cause->known || !bit_get(inflight->sent, cause->ord) ||
	    bit_get(inflight->received, cause->ord))
		return 0;
	bit_set(inflight->received, cause->ord);
	inflight->receives++;
	return inside ? 0 : way_add(inflight, cause->node, event->node, cause->bytes);
}

int inflight_event(struct inflight *inflight, const struct order_event *event)
{
	bool inside = event->hlc <= inflight->cut &&
		      !(event->has_cause && event->cause_last > inflight->cut);
	int err;

	if (inside && !event->effect &&
	    (event->type == CAUSAL_SEND || event->type == CAUSAL_CONNECT)) {
		bit_set(inflight->sent, event->ord);
		inflight->sends++;
	}
	err = cause_seen(inflight, event, &event->first, inside);
	if (!err)
		err = cause_seen(inflight, event, &event->last, inside);
	return err ? err : inside;
}

void inflight_say(const struct inflight *inflight)
{
	uint64_t messages = 0;

	for (uint32_t i = 0; i < inflight->keys.n; i++)
		messages += inflight->ways[i].messages;
	log_info("at %016llx: %llu messages sent, %llu of them in flight",
		 (unsigned long long)inflight->cut, (unsigned long long)inflight->sends,
		 (unsigned long long)messages);
	for (uint32_t i = 0; i < inflight->keys.n; i++)
		log_info("in flight from %s to %s: %llu messages, %llu bytes",
			 order_node(inflight->order, inflight->ways[i].from),
			 order_node(inflight->order, inflight->ways[i].to),
			 (unsigned long long)inflight->ways[i].messages,
			 (unsigned long long)inflight->ways[i].bytes);
	if (inflight->sends > inflight->receives)
		log_info(
			"%llu messages are received in none of these logs: in flight, lost, or gone "
			"to somebody who is not traced",
			(unsigned long long)(inflight->sends - inflight->receives));
}
