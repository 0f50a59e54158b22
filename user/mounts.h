/* SPDX-License-Identifier: GPL-2.0-only */
/* Walks the mounts of our mount namespace. */
#ifndef TIDEMARK_MOUNTS_H
#define TIDEMARK_MOUNTS_H

/** One line of mountinfo; the strings are unescaped and live as long as the line. */
struct mount {
	unsigned int id;
	const char *root;  /* what is mounted; for a namespace "net:[4026531840]" */
	const char *point; /* where */
	const char *fstype;
};

/** Return non-zero to stop the walk; mounts_each() hands that value back. */
typedef int (*mount_fn)(const struct mount *mount, void *ctx);

/** Cuts @line in place. -EBADMSG if it is not a line of mountinfo. */
int mount_parse(char *line, struct mount *out);

/** Calls @fn for every mount whose type is @fstype, in the order they were mounted. */
int mounts_each(const char *fstype, mount_fn fn, void *ctx);

#endif
