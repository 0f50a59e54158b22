/* SPDX-License-Identifier: GPL-2.0-only */
/* The rig with marks: what `tidemark mark` does, on the rig's own maps. */
#ifndef TIDEMARK_PKT_MARK_H
#define TIDEMARK_PKT_MARK_H

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../user/marks.h"
#include "rig.h"
#include "tidemark.skel.h"

__attribute__((unused)) static void marking_reset(struct rig *r, struct tidemark *t)
{
	struct node node = {};

	rig_reset(r);
	t->settings = r->settings;
	for (__u32 id = 1; id <= RIG_CLOCKS; id++) {
		snprintf(node.name, sizeof(node.name), "n%u", id);
		bpf_map_update_elem(t->map[MAP_nodes], &id, &node, BPF_ANY);
	}
}

__attribute__((unused)) static void marking_open(struct rig *r, struct tidemark *t)
{
	tidemark_init(t, NULL, NULL);
	t->map[MAP_nodes] = bpf_map__fd(r->skel->maps.nodes);
	t->map[MAP_marks] = bpf_map__fd(r->skel->maps.marks);
	t->map[MAP_rules] = bpf_map__fd(r->skel->maps.rules);
	t->map[MAP_rules_spare] = bpf_map__fd(r->skel->maps.rules_spare);
	t->flow_tick = bpf_program__fd(r->skel->progs.flow_tick);
	t->mark_touch = bpf_program__fd(r->skel->progs.mark_touch);
	marking_reset(r, t);
}

__attribute__((unused)) static void marking_add(struct tidemark *t, struct mark *m)
{
	size_t bad;
	int err = marks_add(t, m, 1, &bad);

	if (err) {
		printf("Bail out! no mark: %s\n", strerror(-err));
		exit(1);
	}
}

/* Test runs are on lo, which is this test's own. */
__attribute__((unused)) static void marking_mtu(int mtu)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_mtu = mtu };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFMTU, &request)) {
		printf("Bail out! no MTU\n");
		exit(1);
	}
	close(fd);
}

#endif
