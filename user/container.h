/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of container runtimes say about one container. */
#ifndef TIDEMARK_CONTAINER_H
#define TIDEMARK_CONTAINER_H

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
	pid_t pid;		    /* its first process, 0 if it is not running */
	unsigned long long started; /* of that process, in ticks since boot; 0 if not told */
};

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

/** The name in an OCI config.json of containerd: that of the CRI container, pod, or nerdctl. */
int container_parse_oci(const char *text, size_t len, struct container *out);

/** conmon's command line: name, id, and @pidfile, which has the pid. */
int container_parse_conmon(const char *text, size_t len, struct container *out,
			   char pidfile[CONTAINER_PATH_MAX]);

/** The argument of an option in a command line (words ended by NUL): "--x A" and "--x=A". */
int cmdline_option(const char *text, size_t len, const char *option, char *out, size_t size);

#endif
