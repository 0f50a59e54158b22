/* SPDX-License-Identifier: GPL-2.0-only */
/* What a frame of a file begins with, where that is not Ethernet. */
#ifndef TIDEMARK_LINKTYPE_H
#define TIDEMARK_LINKTYPE_H

#include <linux/types.h>

/*
 * How many bytes come before what an Ethernet header would be followed by, and the ethertype
 * that it would have; 0: none, or cut short before that. -EPROTONOSUPPORT.
 */
int link_header(__u16 linktype, const __u8 *bytes, __u32 kept, __u32 *skip, __u16 *type);

#endif
