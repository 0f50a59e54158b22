// SPDX-License-Identifier: GPL-2.0-only
/* The joint indexes of a directory asked, the largest first, each segment's by one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "joint.h"
#include "log.h"

struct asking {
	int dir;
	const char *path;
	const struct store_names *names;
	const struct joint_question *question;
	struct joint_hearer *hearer;
	bool *spared, *covered;
};

static int name_compare(const void *key, const void *name)
{
	return strcmp(key, ((const struct store_name *)name)->base);
}

/* The number of a segment that is still there and that nobody has spoken of; -1. */
static __s64 segment_of(const struct asking *a, const char *base)
{
	const struct store_name *name =
		bsearch(base, a->names->at, a->names->n, sizeof(*a->names->at), name_compare);
	__s64 number = name ? name - a->names->at : -1;

	return name && name->index && !a->covered[number] ? number : -1;
}

/* What was lost is told of segments that are left alone; of others it is in their index. */
static int gaps_tell(struct asking *a, struct joint *j, const __s64 *segments, const __u64 *set)
{
	struct joint_gap gap;
	int err = 0;

	for (__u32 i = 0; i < j->parts[JOINT_GAPS].count && !err; i++) {
		err = joint_gap(j, i, &gap);
		if (!err && segments[gap.member] >= 0 && !joint_has(set, gap.member))
			err = a->hearer->gap(a->hearer->ctx, &gap,
					     joint_member(j, gap.member).host);
	}
	return err;
}

static int joint_ask(struct asking *a, struct joint *j)
{
	__s64 *segments = malloc((j->members + 1ULL) * sizeof(*segments));
	__u64 *set = malloc((j->words + 1ULL) * sizeof(*set));
	bool any = false;
	int err = segments && set ? 0 : -ENOMEM;

	for (__u32 i = 0; i < j->members && !err; i++) {
		segments[i] = segment_of(a, joint_member(j, i).base);
		any |= segments[i] >= 0;
	}
	if (any)
		err = joint_match(j, a->question, set);
	/* Whether gaps can be read is known before any is told twice. */
	for (__u32 i = 0; any && i < j->parts[JOINT_GAPS].count && !err; i++) {
		struct joint_gap gap;

		err = joint_gap(j, i, &gap);
	}
	if (any && !err)
		err = gaps_tell(a, j, segments, set);
	for (__u32 i = 0; any && i < j->members && !err; i++) {
		if (segments[i] < 0)
			continue;
		a->covered[segments[i]] = true;
		a->spared[segments[i]] = !joint_has(set, i);
	}
	a->hearer->joints += any && !err;
	free(segments);
	free(set);
	return err;
}

/*
 * A joint is gone when a larger one has taken its place since the directory was read: then its
 * segments are looked at one by one, which is slower and no less right.
 */
static int level_ask(struct asking *a, unsigned level)
{
	char file[STORE_NAME_MAX + 16];
	const char *why;
	struct joint j;
	int err = 0;

	for (__u32 i = 0; i < a->names->n && err != -ENOMEM; i++) {
		if (!(a->names->at[i].joints >> level & 1) || a->covered[i])
			continue;
		err = joint_open(&j, a->dir, a->names->at[i].base, level, &why);
		if (!err) {
			why = "damaged";
			err = joint_ask(a, &j);
			joint_close(&j);
		}
		/* Who has no key is told so of the segments. */
		if (err && err != -ENOENT && err != -ENOKEY && err != -EKEYREJECTED &&
		    err != -ENOMEM)
			log_warn("%s/%s: %s; each segment's index is read instead, until `record` "
				 "or `record --reindex` makes it anew",
				 a->path, joint_file(file, a->names->at[i].base, level), why);
	}
	return err == -ENOMEM ? err : 0;
}

int joints_ask(int dir, const char *path, const struct store_names *names,
	       const struct joint_question *question, struct joint_hearer *hearer, bool **spared)
{
	struct asking a = {
		.dir = dir, .path = path, .names = names, .question = question, .hearer = hearer
	};
	int err = 0;

	*spared = a.spared = calloc(names->n + 1ULL, 1);
	a.covered = calloc(names->n + 1ULL, 1);
	if (!a.spared || !a.covered)
		err = -ENOMEM;
	for (unsigned level = 9; level && !err; level--)
		err = level_ask(&a, level);
	free(a.covered);
	return err;
}
