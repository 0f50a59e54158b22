// SPDX-License-Identifier: GPL-2.0-only
/* Reports of TCP sockets where the kernel's own types are not known: what its API gives. */
#include "socket.bpf.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline int socket_more(struct report_tcp *r, struct bpf_sock *sk)
{
	return 0;
}

SEC("sockops")
int report_socket(struct bpf_sock_ops *ctx)
{
	return socket_callback(ctx);
}
