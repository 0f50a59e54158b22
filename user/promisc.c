// SPDX-License-Identifier: GPL-2.0-only
/* Interfaces that hand on what is meant for others, too. */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "promisc.h"

int promiscuous(const char *const *interfaces, size_t n)
{
	struct packet_mreq ask = { .mr_type = PACKET_MR_PROMISC };
	int fd = n ? socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0) : -1, err = 0;

	if (!n)
		return -1;
	if (fd < 0) {
		err = -errno;
		log_error("%s: promiscuous mode: %s", interfaces[0], strerror(errno));
		return err;
	}
	for (size_t i = 0; i < n && !err; i++) {
		ask.mr_ifindex = if_nametoindex(interfaces[i]);
		if (setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &ask, sizeof(ask))) {
			err = -errno;
			log_error("%s: promiscuous mode: %s", interfaces[i], strerror(errno));
		}
	}
	if (!err)
		return fd;
	close(fd);
	return err;
}
