/* SPDX-License-Identifier: GPL-2.0-only */
/* Interfaces that hand on what is meant for others, too. */
#ifndef TIDEMARK_PROMISC_H
#define TIDEMARK_PROMISC_H

#include <stddef.h>

/*
 * A mirror port hands on what is meant for others only while somebody asks it to: as long
 * as this socket is open. With no interfaces -1; -errno, said.
 */
int promiscuous(const char *const *interfaces, size_t n);

#endif
