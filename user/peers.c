// SPDX-License-Identifier: GPL-2.0-only
/* Peers and their observed clocks, as `show` prints them. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>

#include "node.h"
#include "peer.h"
#include "peers.h"
#include "wire.h"

enum { P_SHOW, P_PEER, P_MAX_AHEAD, P_NO_STAMP, P_SAMPLE };

const struct out_column peer_columns[] = {
	[P_SHOW] = { .key = "show" },
	[P_PEER] = { "peer", "PEER", 43, 18, 0 },
	[P_MAX_AHEAD] = { "max_ahead_ns", "MAX AHEAD", 9, 0, OUT_RIGHT },
	[P_NO_STAMP] = { "no_stamp_ports", "UDP PORTS LEFT ALONE", 40, 20, OUT_OPTIONAL },
	[P_SAMPLE] = { .key = "udp_stamped_one_in" },
	{},
};

struct showing {
	struct tidemark *t;
	struct out *out;
};

static int peer_show(const struct peer_key *key, void *ctx)
{
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };
	const struct showing *show = ctx;
	const struct settings *s = show->t->settings;
	bool v4 = key->bits >= 96 && !memcmp(key->address, mapped, 12);
	char address[INET6_ADDRSTRLEN], text[64], ports[128] = "";
	size_t used = 0;

	inet_ntop(v4 ? AF_INET : AF_INET6, key->address + (v4 ? 12 : 0), address, sizeof(address));
	snprintf(text, sizeof(text), "%s/%u", address, key->bits - (v4 ? 96 : 0));
	out_str(show->out, P_SHOW, "peer");
	out_str(show->out, P_PEER, text);
	if (s->max_ahead_ns)
		out_span(show->out, P_MAX_AHEAD, s->max_ahead_ns);
	for (__u32 i = 0; i < s->unstamped_n && i < PEER_PORTS; i++)
		used += snprintf(ports + used, sizeof(ports) - used, "%s%u", used ? "," : "",
				 s->unstamped[i]);
	if (*ports)
		out_str(show->out, P_NO_STAMP, ports);
	if (s->stamp_one_in > 1)
		out_u64(show->out, P_SAMPLE, s->stamp_one_in);
	return out_row(show->out);
}

int peers_show(struct tidemark *t, struct out *out)
{
	struct showing show = { t, out };

	peers_each(t, peer_show, &show);
	return out_finish(out, 0);
}

enum { K_SHOW, K_NODE, K_REMOTE, K_LEAST, K_MOST, K_STAMPS, K_PHYSICAL };

const struct out_column skew_columns[] = {
	[K_SHOW] = { .key = "show" },
	[K_NODE] = { "node", "NODE", 32, 10, 0 },
	[K_REMOTE] = { "remote", "REMOTE", 41, 15, 0 },
	[K_LEAST] = { "least_ns", "AHEAD BY", 9, 0, OUT_RIGHT },
	[K_MOST] = { "most_ns", "TO AT MOST", 10, 0, OUT_RIGHT },
	[K_STAMPS] = { "stamps", "STAMPS", 10, 0, OUT_RIGHT },
	[K_PHYSICAL] = { "physical", "PHYSICAL", 10, 0, OUT_RIGHT | OUT_OPTIONAL },
	{},
};

int skews_show(struct tidemark *t, struct out *out)
{
	struct skew_key key;
	struct skew skew;
	struct node node;

	for (void *at = NULL; !bpf_map_get_next_key(t->map[MAP_skews], at, &key); at = &key) {
		if (bpf_map_lookup_elem(t->map[MAP_skews], &key, &skew) || !skew.stamps)
			continue;
		out_str(out, K_SHOW, "skew");
		out_str(out, K_NODE, node_get(t, key.node, &node) ? "?" : node.name);
		out_address(out, K_REMOTE, key.remote, OUT_NO_PORT);
		if (skew.physical)
			out_shift(out, K_LEAST, skew.least_ns);
		/* What was cut off the physical time that the stamp came from is added. */
		if (skew.most_ns < INT64_MAX - (__s64)CLOCK_COUNTER_MASK)
			out_shift(out, K_MOST, skew.most_ns + (__s64)CLOCK_COUNTER_MASK);
		out_u64(out, K_STAMPS, skew.stamps);
		out_u64(out, K_PHYSICAL, skew.physical);
		if (out_row(out))
			break;
	}
	return out_finish(out, 0);
}
