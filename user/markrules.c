// SPDX-License-Identifier: GPL-2.0-only
/* Rules of a configuration: in force while the daemon has them, and nobody else's touched. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "markrules.h"

struct wanted {
	const struct mark *rules;
	size_t n;
	bool *there; /* in force, or a user's: not to be added */
};

static bool gives_same(const struct mark *a, const struct mark *b)
{
	return a->experiment == b->experiment && a->activity == b->activity && a->how == b->how &&
	       a->inherit == b->inherit && a->exclude == b->exclude &&
	       a->at_random == b->at_random && a->ids_n == b->ids_n && !a->for_ns == !b->for_ns &&
	       !memcmp(a->ids, b->ids, sizeof(a->ids));
}

/* Which of ours have to go; on the way, which of the wanted ones need not come. */
static bool is_stale(const struct mark *mark, void *ctx)
{
	struct wanted *w = ctx;

	for (size_t i = 0; i < w->n; i++) {
		if (!mark_same(mark, &w->rules[i]))
			continue;
		if (!mark->configured)
			log_warn("mark.rules.%zu: `mark add` has said otherwise of these ends "
				 "(mark %u), which holds; `tidemark mark del --id %u`",
				 i, mark->id, mark->id);
		w->there[i] = !mark->configured || gives_same(mark, &w->rules[i]);
		return false; /* if not so, it is replaced */
	}
	return mark->configured;
}

static int rules_come(struct tidemark *t, const struct wanted *w, struct mark *missing)
{
	size_t n = 0, bad = 0;
	int err;

	for (size_t i = 0; i < w->n; i++)
		if (!w->there[i])
			missing[n++] = w->rules[i];
	err = n ? marks_add(t, missing, n, &bad) : 0;
	if (err)
		log_error("mark.rules: %s", err == -ENOSPC
						    ? "more than fit; see `tidemark mark list`"
						    : strerror(-err));
	return err;
}

int markrules_set(struct tidemark *t, const struct mark *rules, size_t n)
{
	struct wanted w = { rules, n, calloc(n + 1, sizeof(*w.there)) };
	struct mark *missing = calloc(n + 1, sizeof(*missing));
	int err = -ENOMEM;

	if (!w.there || !missing) {
		log_error("mark.rules: %s", strerror(ENOMEM));
	} else if (!(err = tidemark_lock(t))) {
		err = marks_remove(t, is_stale, &w);
		if (err < 0)
			log_error("mark.rules: %s", strerror(-err));
		else
			err = rules_come(t, &w, missing);
		tidemark_unlock(t);
	}
	free(w.there);
	free(missing);
	return err;
}

void markrules_unwritten(struct tidemark *t, bool unwritten)
{
	if (unwritten)
		__atomic_or_fetch(&t->settings->marks_flags, MARKS_UNWRITTEN, __ATOMIC_SEQ_CST);
	else
		__atomic_and_fetch(&t->settings->marks_flags, ~MARKS_UNWRITTEN, __ATOMIC_SEQ_CST);
}
