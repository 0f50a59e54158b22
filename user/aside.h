/* SPDX-License-Identifier: GPL-2.0-only */
/* Something done by a thread of its own while its caller does something else. */
#ifndef TIDEMARK_ASIDE_H
#define TIDEMARK_ASIDE_H

#include <pthread.h>
#include <stdbool.h>

struct aside {
	pthread_t thread;
	bool running;
	int (*fn)(void *ctx);
	void *ctx;
	int result;
};

/*
 * Signals stay the business of the caller's thread. Where no thread can be made, this does it
 * before it returns. `a` stays where it is until aside_join().
 */
void aside_start(struct aside *a, int (*fn)(void *ctx), void *ctx);

/* What fn returned, once it has; may be asked again. 0 if nothing was ever started. */
int aside_join(struct aside *a);

#endif
