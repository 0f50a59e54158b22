/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of container runtimes say about one container. */
#ifndef TIDEMARK_CONTAINER_H
#define TIDEMARK_CONTAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONTAINER_ID_MAX 128
#define CONTAINER_NAME_MAX 256
#define CONTAINER_PATH_MAX 1024
/* The largest file we read: an OCI config.json with all its mounts is some 30 KiB. */
#define CONTAINER_FILE_MAX (1 << 20)

/** A container; what its runtime does not tell is empty or 0. */
struct container {
	char id[CONTAINER_ID_MAX];
	char name[CONTAINER_NAME_MAX];
	char pod[CONTAINER_NAME_MAX];	  /* NAMESPACE/NAME with Kubernetes, NAME with podman */
	char project[CONTAINER_NAME_MAX]; /* of compose, or the stack of a swarm */
	char service[CONTAINER_NAME_MAX];
	char sandbox[CONTAINER_ID_MAX]; /* the container that holds its pod's namespaces */
	char host[CONTAINER_NAME_MAX];	/* its host name, where it was given one */
	unsigned number;		/* which of a service's containers, from 1 */
	bool pause;			/* holds the namespaces of its pod, and does nothing else */
	bool guest;			/* lives in the network of another container */
	pid_t pid;			/* its first process, 0 if it is not running */
	unsigned long long started;	/* of that process, in ticks since boot; 0 if not told */
	struct json_t *labels;		/* an object; whoever parsed it calls container_free() */
};

/** Frees the labels, and nothing else: a container that was copied out has none. */
void container_free(struct container *container);

/** Takes labels (an object) in: what they say of compose and pods, and all of them as they are. */
void container_label_all(struct container *container, struct json_t *labels);

/** The label @key, or NULL. */
const char *container_label_get(const struct container *container, const char *key);

/*
 * Readers of foreign bytes: whatever @text holds, they return 0 with every string terminated, or
 * -EBADMSG. They open nothing.
 */

/** runc's state.json; the status file of crun has the same facts under other keys. */
int container_parse_runc(const char *text, size_t len, struct container *out);
int container_parse_crun(const char *text, size_t len, struct container *out);

/** docker's config.v2.json. */
int container_parse_docker(const char *text, size_t len, struct container *out);

/** docker's daemon.json: @out->name is the directory it keeps its data in, or "". */
int container_parse_data_root(const char *text, size_t len, struct container *out);

/**
 * The annotations of an OCI config.json of containerd, CRI-O or podman: they are its labels, and
 * name the pod of a CRI container, or the container of nerdctl.
 */
int container_parse_oci(const char *text, size_t len, struct container *out);

/** conmon's command line: name, id, @pidfile, which has the pid, and its bundle's directory. */
int container_parse_conmon(const char *text, size_t len, struct container *out,
			   char pidfile[CONTAINER_PATH_MAX], char bundle[CONTAINER_PATH_MAX]);

/**
 * What podman's service answers when asked for its containers, headers and all: a list, for
 * container_take_podman(). NULL if it is none. The caller frees it with json_decref().
 */
struct json_t *container_parse_podman(const char *text, size_t len);

/** Takes in what that list says of the container with this id, if anything. */
void container_take_podman(struct container *container, struct json_t *list);

/** The argument of an option in a command line (words ended by NUL): "--x A" and "--x=A". */
int cmdline_option(const char *text, size_t len, const char *option, char *out, size_t size);

#endif
