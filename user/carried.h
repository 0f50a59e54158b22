/* SPDX-License-Identifier: GPL-2.0-only */
/* The stamp a packet carries, read in its bytes: whoever changes addresses lets it by. */
#ifndef TIDEMARK_CARRIED_H
#define TIDEMARK_CARRIED_H

#include <linux/types.h>

#include "dissect.h"

/* Of what dissect() has read; 0: it carries none. */
__u64 carried_stamp(const unsigned char *frame, __u32 kept, __u8 proto,
		    const struct dissected *packet);

#endif
