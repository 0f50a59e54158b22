// SPDX-License-Identifier: GPL-2.0-only
/* Process events: who starts in which namespace, and who reads an accepted socket. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "mark.h"
#include "node.h"
#include "owner.bpf.h"
#include "uapi.bpf.h"

char LICENSE[] SEC("license") = "GPL";

/*
 * A program starts. If its namespace is one we never heard of, userspace is rung here,
 * while the program is still being linked: milliseconds before its first packet, which
 * is time enough to attach.
 */
SEC("tp_btf/sched_process_exec")
int process_started(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	__u64 cookie = BPF_CORE_READ(task, nsproxy, net_ns, net_cookie);

	if (cookie)
		namespace_node(cookie);
	return 0;
}

/* The datapath's own, by their names. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps"), embryonic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

static __always_inline void address_from_v4(__u8 to[16], __be32 from)
{
	__u32 *word = (__u32 *)to;

	word[2] = bpf_htonl(0xffff);
	word[3] = from;
}

/* A TCP socket's flow; its key starts as {}. */
static __always_inline void key_of_socket(struct flow_key *key, struct sock *sk)
{
	struct in6_addr *local = (void *)key->local, *remote = (void *)key->remote;

	key->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	key->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	key->proto = IPPROTO_TCP;
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET) {
		address_from_v4(key->local, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
		address_from_v4(key->remote, BPF_CORE_READ(sk, __sk_common.skc_daddr));
		return;
	}
	/* Of an IPv4 connection too these are its addresses, as ::ffff:a.b.c.d. */
	BPF_CORE_READ_INTO(local, sk, __sk_common.skc_v6_rcv_saddr);
	BPF_CORE_READ_INTO(remote, sk, __sk_common.skc_v6_daddr);
}

/*
 * What this thread opens from now on is for whom it has just read from. Whatever else it
 * reads ends that: a thread that serves many serves the last.
 */
static __always_inline void heir_learn(struct sock *sk)
{
	__u64 cookie = BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie);
	__u32 *node = bpf_map_lookup_elem(&namespaces, &cookie);
	__u64 thread = bpf_get_current_pid_tgid();
	struct heir heir = { .since_ns = bpf_ktime_get_ns() };
	struct flow_key key = {};
	struct flow *f;

	if (!node || !*node)
		return;
	key.node = *node;
	key_of_socket(&key, sk);
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		f = bpf_map_lookup_elem(&embryonic, &key);
	if (f && f->mark & MARK_MARKED && f->mark & MARK_INHERIT) {
		heir.mark = f->mark & MARK_GIVEN;
		bpf_map_update_elem(&heirs, &thread, &heir, BPF_ANY);
	} else {
		bpf_map_delete_elem(&heirs, &thread);
	}
}

/*
 * Runs when a process has read from a TCP socket. An accepted socket begins with its
 * listener's owner, often a parent; who reads it first is who serves it. Also finds the
 * owners of sockets older than we are. Once it has been told, one lookup a read.
 */
static __always_inline int owner_learn(struct sock *sk)
{
	struct owner *o = bpf_sk_storage_get(&owners, sk, 0, 0);
	__u64 socket;

	if (o) {
		socket = bpf_get_socket_cookie(sk);
		if (o->socket == socket)
			return 0;
	} else {
		if (!namespace_node(BPF_CORE_READ(sk, __sk_common.skc_net.net, net_cookie)))
			return 0;
		socket = bpf_get_socket_cookie(sk);
		o = bpf_sk_storage_get(&owners, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!o)
			return 0;
	}
	owner_current(o, socket);
	return 0;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int socket_read(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct settings *s;
	__u32 zero = 0;

	owner_learn(sk);
	s = bpf_map_lookup_elem(&settings, &zero);
	if (s && s->marks_flags & MARKS_INHERIT)
		heir_learn(sk);
	return 0;
}
