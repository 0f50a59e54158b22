// SPDX-License-Identifier: GPL-2.0-only
/* Process events: who starts in which namespace, and who reads an accepted socket. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "owner.bpf.h"

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

/*
 * Runs when a process has read from a TCP socket. An accepted socket begins with its
 * listener's owner, often a parent; who reads it first is who serves it. Also finds the
 * owners of sockets older than we are. Once it has been told, one lookup a read.
 */
SEC("tp_btf/tcp_rcv_space_adjust")
int socket_read(__u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
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
