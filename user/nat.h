/* SPDX-License-Identifier: GPL-2.0-only */
/* Connections that have one name where they were sent and another where they were received. */
#ifndef TIDEMARK_NAT_H
#define TIDEMARK_NAT_H

#include <stdint.h>

struct nat;
struct ref;
struct sorter;

struct nat *nat_new(uint64_t budget);

/* Everything of connections of which only one end was seen. */
int nat_add(struct nat *nat, const struct ref *ref);

/* The same refs again, sorted, those received under the name they were sent by; NULL if nobody
 * rewrote anything. For the caller to free.
 */
int nat_finish(struct nat *nat, struct sorter **renamed, uint64_t budget);

void nat_free(struct nat *nat);

#endif
