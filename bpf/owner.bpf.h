/* SPDX-License-Identifier: GPL-2.0-only */
/* Which process a flow belongs to, from the storage of its socket. */
#ifndef TIDEMARK_OWNER_BPF_H
#define TIDEMARK_OWNER_BPF_H

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "owner.h"

/*
 * Cloned when a connection is accepted: the child starts as its listener's and is told
 * from a socket that was asked about itself by the cookie.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} owners __attribute__((weak)) SEC(".maps");

/* Namespaces by cookie: the node's id, or 0 for one that is known and not a node. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, __u32);
} namespaces __attribute__((weak)) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1);
} newcomers __attribute__((weak)) SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct heir);
} heirs __attribute__((weak)) SEC(".maps");

/* The mark of whom the current thread serves, or 0. */
static __always_inline __u32 heir_mark(void)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct heir *heir = bpf_map_lookup_elem(&heirs, &thread);

	if (!heir || bpf_ktime_get_ns() - heir->since_ns > HEIR_NS)
		return 0;
	return heir->mark;
}

/* The current process. */
static __always_inline void owner_current(struct owner *o, __u64 socket)
{
	o->pid = bpf_get_current_pid_tgid() >> 32;
	o->uid = bpf_get_current_uid_gid();
	o->cgroup = bpf_get_current_cgroup_id();
	o->socket = socket;
	o->mark = 0;
	o->_pad = 0;
	bpf_get_current_comm(o->comm, sizeof(o->comm));
}

/*
 * Is this namespace a node? One we never heard of rings, once: userspace looks whether it
 * should become one, and is quick, because somebody in it is about to speak.
 */
static __always_inline __u32 namespace_node(__u64 cookie)
{
	__u32 *node = bpf_map_lookup_elem(&namespaces, &cookie), none = 0;
	struct newcomer *n;

	if (node)
		return *node;
	if (bpf_map_update_elem(&namespaces, &cookie, &none, BPF_NOEXIST))
		return 0;
	n = bpf_ringbuf_reserve(&newcomers, sizeof(*n), 0);
	if (!n) {
		bpf_map_delete_elem(&namespaces, &cookie); /* ring again next time */
		return 0;
	}
	n->cookie = cookie;
	n->pid = bpf_get_current_pid_tgid() >> 32;
	n->_pad = 0;
	bpf_ringbuf_submit(n, BPF_RB_FORCE_WAKEUP);
	return 0;
}

#endif
