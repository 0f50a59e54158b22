/* SPDX-License-Identifier: GPL-2.0-only */
/* Stamps of local senders, kept for local receivers: the wire without a wire. */
#ifndef TIDEMARK_SEND_BPF_H
#define TIDEMARK_SEND_BPF_H

#include "pkt.bpf.h"
#include "send.h"

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct send_key);
	__type(value, struct sends);
} sends SEC(".maps");

static const struct sends sends_empty;

static __always_inline void send_key_of(struct send_key *key, const struct pkt *p)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->proto = p->key.proto;
	if (p->from_local) {
		addr_copy(key->src, p->key.local);
		addr_copy(key->dst, p->key.remote);
		key->src_port = p->key.local_port;
		key->dst_port = p->key.remote_port;
	} else {
		addr_copy(key->src, p->key.remote);
		addr_copy(key->dst, p->key.local);
		key->src_port = p->key.remote_port;
		key->dst_port = p->key.local_port;
	}
}

/*
 * Leave the stamp of what is about to be sent, before it is. A receiver on another CPU
 * that reads an entry while it is overwritten sees the oldest one torn: it may then take
 * a later stamp for its cause, which is on the safe side of the order.
 *
 * `fresh`: a connection begins; what an older one on the same ends left is forgotten.
 */
static __always_inline void send_note(const struct pkt *p, __u32 seq, __u64 stamp, int fresh)
{
	struct send_key key;
	struct sends *s;
	__u32 i;

	send_key_of(&key, p);
	s = bpf_map_lookup_elem(&sends, &key);
	if (!s || fresh) {
		bpf_map_update_elem(&sends, &key, &sends_empty, BPF_ANY);
		s = bpf_map_lookup_elem(&sends, &key);
		if (!s)
			return;
	}
	i = (s->newest + 1) % SENDS_KEPT;
	s->seq[i] = seq;
	s->stamp[i] = stamp;
	s->clock = p->clock;
	WRITE_ONCE(s->newest, i);
}

struct send_found {
	__u64 stamp;	/* 0: the sender is no node of this host */
	__u32 clock;	/* the sender's */
	__u8 forgotten; /* it is, but the stamp is no longer kept: `stamp` is a later one */
};

/*
 * The stamp of the burst that held the byte `seq`: the newest that began at or before it.
 * Without sequence numbers (UDP, RST), the newest of all: exact unless more is in flight
 * than was received, and never too old.
 */
__checked int send_find(struct pkt *p, int by_seq, __u32 seq, struct send_found *found)
{
	struct send_key key;
	struct sends *s;
	__u32 newest, i;

	if (!p || !found)
		return 0;
	found->stamp = 0;
	found->forgotten = 0;
	send_key_of(&key, p);
	s = bpf_map_lookup_elem(&sends, &key);
	if (!s)
		return 0;
	found->clock = s->clock;
	newest = READ_ONCE(s->newest) % SENDS_KEPT;
	found->stamp = s->stamp[newest];
	if (!by_seq)
		return 0;
#pragma clang loop unroll(disable)
	for (int k = 0; k < SENDS_KEPT; k++) {
		i = (newest - k) % SENDS_KEPT;
		if (s->stamp[i] && (__s32)(seq - s->seq[i]) >= 0) {
			found->stamp = s->stamp[i];
			return 0;
		}
	}
	found->forgotten = 1;
	return 0;
}

#endif
