/* SPDX-License-Identifier: GPL-2.0-only */
/* Containers that conmon looks after: those of podman and CRI-O. */
#ifndef TIDEMARK_PODMAN_H
#define TIDEMARK_PODMAN_H

#include <stdbool.h>

#include "runtime.h"

/** What is known of podman during one walk; starts as {}. */
struct podman {
	bool ask;   /* labels are wanted: ask its service */
	bool asked; /* once is enough for a walk */
	struct json_t *list;
};

/** Tells of the container that a conmon with this command line runs. */
int podman_read(struct podman *podman, const char *cmdline, size_t len, container_fn fn, void *ctx);

void podman_forget(struct podman *podman);

#endif
