// SPDX-License-Identifier: GPL-2.0-only
/* Fields of packets as both the event log and the connection table print them. */
#include <string.h>
#include <sys/socket.h>

#include "wire.h"

void out_address(struct out *out, unsigned column, const __u8 address[16], int port)
{
	static const __u8 v4[12] = { [10] = 0xff, [11] = 0xff };

	if (!memcmp(address, v4, sizeof(v4)))
		out_endpoint(out, column, AF_INET, address + 12, port);
	else
		out_endpoint(out, column, AF_INET6, address, port);
}

void out_tcp_flags(struct out *out, unsigned column, __u8 flags)
{
	static const char letters[] = "FSRPAUEC";
	char text[9];
	int n = 0;

	for (int i = 0; i < 8; i++)
		if (flags & 1U << i)
			text[n++] = letters[i];
	text[n] = 0;
	out_str(out, column, text);
}
