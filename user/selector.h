/* SPDX-License-Identifier: GPL-2.0-only */
/* The argument of -n: which namespaces are meant, and what each is called. */
#ifndef TIDEMARK_SELECTOR_H
#define TIDEMARK_SELECTOR_H

#include <stdbool.h>
#include <stddef.h>

#include "netns.h"

#define NODE_NAME_MAX 64
#define SELECTOR_WHAT_MAX 512

enum selector_kind {
	SELECTOR_WORD,	    /* NAME: a netns or else a container of that name */
	SELECTOR_NETNS,	    /* netns:NAME, as in /run/netns */
	SELECTOR_PID,	    /* pid:N */
	SELECTOR_PATH,	    /* path:/run/netns/x */
	SELECTOR_CONTAINER, /* container:NAME-OR-ID */
	SELECTOR_CGROUP,    /* cgroup:PATH, the processes in and below it */
	SELECTOR_HOST,	    /* host, the namespace we were started in */
	SELECTOR_COMPOSE,   /* compose:PROJECT[/SERVICE] */
	SELECTOR_LABEL,	    /* label:KEY[=VALUE] */
	SELECTOR_POD,	    /* pod:[NAMESPACE/]NAME */
};

struct selector {
	enum selector_kind kind;
	pid_t pid;
	char name[NODE_NAME_MAX]; /* given with NAME= in front; "" if none was */
	char what[SELECTOR_WHAT_MAX];
};

/**
 * Reads "[NAME=]KIND:WHAT". On -EINVAL, @words says what is wrong with it and what would be
 * right, without "tidemark:" in front and without a newline.
 */
int selector_parse(const char *text, struct selector *out, char *words, size_t size);

/** Return non-zero to stop; selector_each() hands that value back. */
typedef int (*selector_fn)(const struct netns_seen *seen, const char *name, void *ctx);

/**
 * Calls @fn for each namespace that is meant and is here now: several only for a cgroup, a compose
 * project, a label, a pod. -ENOENT if there is none (yet); that and other errors are explained in
 * @words. Names may repeat.
 */
int selector_each(const struct selector *selector, selector_fn fn, void *ctx, char *words,
		  size_t size);

/** The same for who wants one only: @fd is the caller's to close. */
int selector_open(const struct selector *selector, int *fd, char name[NODE_NAME_MAX], char *words,
		  size_t size);

/** Does it name containers by what their runtime says of them? Those may well start later. */
bool selector_is_container(const struct selector *selector);

/** Is a namespace that turned up later among those meant? If so, @name is what to call it. */
bool selector_matches(const struct selector *selector, const struct netns_seen *seen,
		      char name[NODE_NAME_MAX]);

/**
 * What to call a namespace that nobody named: host, its name in /run/netns, that of its container,
 * its service or program, and at last net-INODE.
 */
void netns_name(const struct netns_seen *seen, char name[NODE_NAME_MAX]);

/** Makes a name fit to be shown anywhere: whole valid UTF-8, no control characters, never empty. */
void name_clean(const char *text, char name[NODE_NAME_MAX]);

#endif
