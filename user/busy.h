/* SPDX-License-Identifier: GPL-2.0-only */
/* Which devices carry traffic right now: two looks at their counts of packets. */
#ifndef TIDEMARK_BUSY_H
#define TIDEMARK_BUSY_H

#include "link.h"

/* What a first look saw, of any number of namespaces. Zero: nothing. */
struct busy {
	struct busy_count *counts;
	size_t n, room;
	size_t at; /* where the last one was found that was looked for */
};

/*
 * The first look, at all devices of the namespace the thread is in, which is called `cookie`
 * later. What it could not see is looked at twice by busy_ask().
 */
void busy_look(struct busy *busy, __u64 cookie);

/*
 * Which of these devices have carried 500 packets a second since then, or if there was no first
 * look at them, within two milliseconds from now: there are never less between the two looks.
 * `busy` may be NULL.
 */
void busy_ask(struct busy *busy, __u64 cookie, const struct link *links, size_t n, bool *is);

void busy_free(struct busy *busy);

#endif
