// SPDX-License-Identifier: GPL-2.0-only
/* Peers: options read, the kernel told. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "log.h"
#include "netns.h"
#include "node.h"
#include "older.skel.h"
#include "peer.h"
#include "pipeline.h"
#include "units.h"

#define V4_PREFIX_BITS 96

/* What is behind the prefix is zero: so that one range is one key. */
static void prefix_cut(struct peer_key *key)
{
	for (unsigned bit = key->bits; bit < 128; bit++)
		key->address[bit / 8] &= ~(0x80 >> bit % 8);
}

int peer_parse(const char *text, struct peer_key *key)
{
	char address[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	__u64 bits;
	bool v4;

	memset(key, 0, sizeof(*key));
	if (n >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, n);
	address[n] = 0;
	v4 = inet_pton(AF_INET, address, key->address + 12) == 1;
	if (v4)
		key->address[10] = key->address[11] = 0xff;
	else if (inet_pton(AF_INET6, address, key->address) != 1)
		return -EINVAL;
	bits = v4 ? 32 : 128;
	if (slash && number_parse(slash + 1, bits, &bits))
		return -EINVAL;
	key->bits = bits + (v4 ? V4_PREFIX_BITS : 0);
	prefix_cut(key);
	return 0;
}

int peer_add(struct peer_options *o, const char *text)
{
	struct peer_key key, *grown;

	if (peer_parse(text, &key)) {
		log_error("--peer %s: not a range of addresses; write 10.0.0.0/8 or fd00::/16",
			  text);
		return -EINVAL;
	}
	if (o->peers_n == PEERS_MOST) {
		log_error("--peer %s: more than %d; join ranges", text, PEERS_MOST);
		return -E2BIG;
	}
	grown = realloc(o->peers, (o->peers_n + 1) * sizeof(*grown));
	if (!grown) {
		log_error("out of memory");
		return -ENOMEM;
	}
	o->peers = grown;
	o->peers[o->peers_n++] = key;
	return 0;
}

int peer_max_ahead(struct peer_options *o, const char *text)
{
	o->max_ahead_given = true;
	o->max_ahead_ns = 0;
	if (!strcmp(text, "off"))
		return 0;
	if (!span_parse(text, &o->max_ahead_ns) && o->max_ahead_ns)
		return 0;
	log_error("--max-ahead %s: not a span of time; write 24h, 500ms, or off", text);
	return -EINVAL;
}

int peer_no_stamp(struct peer_options *o, const char *text)
{
	__u64 port;

	if (number_parse(text, 65535, &port) || !port) {
		log_error("--no-stamp-port %s: not a port; a number from 1 to 65535", text);
		return -EINVAL;
	}
	if (o->no_stamp_n == PEER_PORTS) {
		log_error("--no-stamp-port %s: more than %d", text, PEER_PORTS);
		return -E2BIG;
	}
	o->no_stamp[o->no_stamp_n++] = port;
	return 0;
}

int peer_sample(struct peer_options *o, const char *text)
{
	__u64 one_in;

	if (number_parse(text, 1000000, &one_in) || !one_in) {
		log_error("--stamp-sample %s: not one in how many; a number from 1 to 1000000",
			  text);
		return -EINVAL;
	}
	o->stamp_one_in = one_in;
	return 0;
}

int peers_apply(struct tidemark *t, const struct peer_options *o)
{
	const __u32 flags = PEER_CLOCKS;
	struct settings *s = t->settings;
	__u32 n = s->unstamped_n;
	int err;

	if (o->no_stamp_n + n > PEER_PORTS) {
		log_error("--no-stamp-port: more than %d", PEER_PORTS);
		return -E2BIG;
	}
	err = o->peers_n ? pipeline_need(t, PART_WIRE) : 0;
	if (err)
		return err;
	for (size_t i = 0; i < o->no_stamp_n; i++)
		s->unstamped[n++] = o->no_stamp[i];
	s->unstamped_n = n;
	if (o->stamp_one_in)
		s->stamp_one_in = o->stamp_one_in;
	if (o->max_ahead_given || !s->flag_ahead_ns)
		s->max_ahead_ns = o->max_ahead_given ? o->max_ahead_ns : CLOCK_MAX_AHEAD_NS;
	s->flag_ahead_ns = CLOCK_FLAG_AHEAD_NS;
	for (size_t i = 0; i < o->peers_n; i++)
		if (bpf_map_update_elem(t->map[MAP_peers], &o->peers[i], &flags, BPF_ANY)) {
			err = -errno;
			log_error("peers: no room for another (%s)", strerror(errno));
			return err;
		}
	if (o->peers_n)
		s->in_band = 1; /* only now: everything it needs is there */
	return 0;
}

static bool peer_among(const struct peer_key *key, const struct peer_options *o)
{
	for (size_t i = 0; i < o->peers_n; i++)
		if (!memcmp(&o->peers[i], key, sizeof(*key)))
			return true;
	return false;
}

static bool port_among(__u16 port, const struct peer_options *o)
{
	for (size_t i = 0; i < o->no_stamp_n; i++)
		if (o->no_stamp[i] == port)
			return true;
	return false;
}

/* From the start after each that goes: a key that is gone has no next. */
static bool peers_drop(struct tidemark *t, const struct peer_options *now,
		       const struct peer_options *was)
{
	struct peer_key key, gone;
	void *at = NULL;

	while (!bpf_map_get_next_key(t->map[MAP_peers], at, &key)) {
		at = &key;
		if (peer_among(&key, now) || (was && !peer_among(&key, was)))
			continue;
		gone = key;
		if (!bpf_map_delete_elem(t->map[MAP_peers], &gone))
			at = NULL;
	}
	return bpf_map_get_next_key(t->map[MAP_peers], NULL, &key) == 0;
}

int peers_set(struct tidemark *t, const struct peer_options *now, const struct peer_options *was)
{
	struct peer_options add = *now;
	struct settings *s = t->settings;
	__u32 n = 0;

	for (__u32 i = 0; i < s->unstamped_n; i++)
		if (port_among(s->unstamped[i], now) || (was && !port_among(s->unstamped[i], was)))
			s->unstamped[n++] = s->unstamped[i];
	s->unstamped_n = n;
	add.no_stamp_n = 0;
	for (size_t i = 0; i < now->no_stamp_n; i++) {
		bool had = false;

		for (__u32 k = 0; k < n && !had; k++)
			had = s->unstamped[k] == now->no_stamp[i];
		if (!had)
			add.no_stamp[add.no_stamp_n++] = now->no_stamp[i];
	}
	if (!peers_drop(t, now, was))
		s->in_band = 0;
	if (!now->max_ahead_given && was && was->max_ahead_given)
		s->flag_ahead_ns = 0; /* the default again */
	return peers_apply(t, &add);
}

#define OLDER "older_sockets"

/* An iterator sees the sockets of the namespace it is made in. */
void peers_older_here(const struct tidemark *t)
{
	char path[PATH_MAX], nothing[64];
	int link, fd;

	if (!t->settings->in_band ||
	    snprintf(path, sizeof(path), "%s/" OLDER, t->pin_dir) >= (int)sizeof(path))
		return;
	link = bpf_obj_get(path);
	if (link < 0)
		return;
	fd = bpf_iter_create(link);
	while (fd >= 0 && read(fd, nothing, sizeof(nothing)) > 0)
		;
	if (fd >= 0)
		close(fd);
	close(link);
}

static int older_pin(const struct tidemark *t, struct older_bpf *skel)
{
	struct bpf_link *link;
	struct bpf_map *map;
	char path[PATH_MAX];
	int err;

	bpf_object__for_each_map(map, skel->obj)
		for (int i = 0; i < MAPS_NR; i++)
			if (!strcmp(bpf_map__name(map), map_names[i]))
				bpf_map__reuse_fd(map, t->map[i]);
	err = older_bpf__load(skel);
	if (err)
		return err;
	link = bpf_program__attach_iter(skel->progs.older_sockets, NULL);
	if (!link)
		return -errno;
	if (snprintf(path, sizeof(path), "%s/" OLDER, t->pin_dir) >= (int)sizeof(path))
		err = -ENAMETOOLONG;
	else
		err = bpf_link__pin(link, path);
	bpf_link__destroy(link);
	return err;
}

static int older_node(__u32 id, const struct node *node, void *ctx)
{
	int fd = node_open(node), home;

	(void)id;
	if (fd < 0)
		return 0;
	home = netns_enter(fd);
	close(fd);
	if (home < 0)
		return 0;
	peers_older_here(ctx);
	if (netns_leave(home)) {
		log_error("cannot go back to the namespace we came from");
		exit(1);
	}
	return 0;
}

void peers_older(struct tidemark *t)
{
	struct older_bpf *skel;
	int err;

	if (!t->settings->in_band || !faccessat(t->dir, OLDER, F_OK, 0))
		return;
	skel = older_bpf_unpack();
	if (!skel)
		return;
	err = older_pin(t, skel);
	if (err)
		log_debug("sockets older than the datapath are not stamped (%s)", strerror(-err));
	older_bpf__destroy(skel);
	if (!err)
		node_each(t, older_node, t);
}

int peers_each(const struct tidemark *t, int (*fn)(const struct peer_key *key, void *ctx),
	       void *ctx)
{
	struct peer_key key;
	int ret;

	for (void *at = NULL; !bpf_map_get_next_key(t->map[MAP_peers], at, &key); at = &key) {
		ret = fn(&key, ctx);
		if (ret)
			return ret;
	}
	return 0;
}
