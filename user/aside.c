// SPDX-License-Identifier: GPL-2.0-only
/* Something done by a thread of its own while its caller does something else. */
#include <signal.h>

#include "aside.h"

static void *aside_run(void *arg)
{
	struct aside *a = arg;

	a->result = a->fn(a->ctx);
	return NULL;
}

void aside_start(struct aside *a, int (*fn)(void *ctx), void *ctx)
{
	sigset_t all, before;

	*a = (struct aside){ .fn = fn, .ctx = ctx };
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	a->running = !pthread_create(&a->thread, NULL, aside_run, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!a->running)
		aside_run(a);
}

int aside_join(struct aside *a)
{
	if (a->running)
		pthread_join(a->thread, NULL);
	a->running = false;
	return a->result;
}
