/* SPDX-License-Identifier: GPL-2.0-only */
/* What is said to a recorder that runs: other classes for hosts, no cutoff for a flow. */
#ifndef TIDEMARK_ASSIGN_H
#define TIDEMARK_ASSIGN_H

#include "tidemark.h"

/* All return an exit status, and say why. */

/* `PREFIX:CLASS[:orig|resp|both][:SPAN]`, the prefix with or without its length. */
int assign_add(const struct tidemark *t, const char *text);
int assign_remove(const struct tidemark *t, const char *prefix);

/* `conn A:p B:p`, or without the word: in every node that has it, whichever end is whose. */
int suspend(const struct tidemark *t, const char *conn, bool on);

#endif
