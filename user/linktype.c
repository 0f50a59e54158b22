// SPDX-License-Identifier: GPL-2.0-only
/* What a frame of a file begins with, where that is not Ethernet. */
#include <errno.h>
#include <net/ethernet.h>

#include "capture.h"
#include "linktype.h"

static __u16 sll_type(__u16 protocol)
{
	return protocol >= 0x600 ? protocol : 0; /* 802.3 and the like: no ethertype */
}

int link_header(__u16 linktype, const __u8 *bytes, __u32 kept, __u32 *skip, __u16 *type)
{
	__u32 family;

	*skip = 0;
	*type = 0;
	switch (linktype) {
	case LINKTYPE_RAW:
	case LINKTYPE_IPV4:
	case LINKTYPE_IPV6:
		if (kept)
			*type = bytes[0] >> 4 == 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP;
		return 0;
	case LINKTYPE_LINUX_SLL:
		*skip = 16;
		if (kept >= 16)
			*type = sll_type(bytes[14] << 8 | bytes[15]);
		return 0;
	case LINKTYPE_LINUX_SLL2:
		*skip = 20;
		if (kept >= 20)
			*type = sll_type(bytes[0] << 8 | bytes[1]);
		return 0;
	case LINKTYPE_NULL: /* in the byte order of who captured: either */
	case LINKTYPE_LOOP:
		*skip = 4;
		if (kept < 4)
			return 0;
		family = bytes[0] ? bytes[0] : bytes[3];
		*type = family == 2 ? ETHERTYPE_IP
			: family == 10 || family == 24 || family == 28 || family == 30
				? ETHERTYPE_IPV6
				: 0;
		return 0;
	}
	return -EPROTONOSUPPORT;
}
