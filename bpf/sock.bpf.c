// SPDX-License-Identifier: GPL-2.0-only
/* Sockets as they are made: who made them, and in which namespace. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "owner.bpf.h"

/*
 * Every IPv4 and IPv6 socket on the host passes here once, in the process that makes it:
 * the one moment when its owner is known without guessing. For a namespace that is no
 * node one lookup, and nothing is kept.
 */
SEC("cgroup/sock_create")
int sock_made(struct bpf_sock *sk)
{
	struct owner *o;

	if (!namespace_node(bpf_get_netns_cookie(sk)))
		return 1;
	o = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (o) {
		owner_current(o, bpf_get_socket_cookie(sk));
		o->mark = heir_mark();
	}
	return 1;
}
