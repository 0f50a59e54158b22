/* SPDX-License-Identifier: GPL-2.0-only */
/* Labels of containerd's containers, those of Kubernetes' pods among them, from its socket. */
#ifndef TIDEMARK_CONTAINERD_H
#define TIDEMARK_CONTAINERD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Of all containers of one of its namespaces (`k8s.io`, `default`): an object of objects, labels
 * by the container's id. NULL: nobody listens there, or does not answer within two seconds.
 */
json_t *containerd_labels(const char *socket, const char *space);

/* What has come of an answer, piece by piece. */
struct containerd_answer {
	char *at; /* the message, behind gRPC's prefix of five bytes */
	size_t len, size;
	bool ended;
	unsigned settings, pings; /* to be acknowledged */
	unsigned char ping[8];
};

/* One more frame: how many bytes it was, 0 if not all of it is here, -EBADMSG. */
long containerd_frame(struct containerd_answer *answer, const unsigned char *at, size_t len);

/* The answer's message as containerd_labels() gives it. NULL: damaged. */
json_t *containerd_parse(const char *at, size_t len);

#endif
