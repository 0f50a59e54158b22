/* SPDX-License-Identifier: GPL-2.0-only */
/* Values in expressions: addresses, networks, ports, protocols. Each returns NULL or what is wrong. */
#ifndef TIDEMARK_EXPR_WORD_H
#define TIDEMARK_EXPR_WORD_H

#include <stdbool.h>
#include <stddef.h>

#include "../bpf/filter.h"

struct expr_proto {
	const char *name;
	__u8 number;	 /* of IP; 0 when it is an ethertype */
	bool leads;	 /* may stand before host, net, port */
	__u16 ethertype; /* 0: a protocol of IP */
	__u8 family;	 /* FILTER_V4: of IPv4 alone, FILTER_V6: of IPv6 */
};

const struct expr_proto *expr_proto_find(const char *word, size_t len);

/* Could this be an address, a network or a port, rather than a word? */
bool expr_is_value(const char *word, size_t len);

const char *expr_address(const char *word, struct filter_op *op);
const char *expr_net(const char *word, struct filter_op *op);
const char *expr_net_mask(const char *word, const char *mask, struct filter_op *op);
const char *expr_ports(const char *word, bool range, __u32 *low, __u32 *high);
/* `6`, `tcp`, `\tcp`, how tcpdump wants names that are keywords; an ethertype if `ether`. */
const char *expr_proto(const char *word, bool ether, __u32 *n);
const char *expr_endpoint(const char *word, struct filter_op *op);

#endif
