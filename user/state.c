// SPDX-License-Identifier: GPL-2.0-only
/* The state file: per node name, a stamp that no later clock of that name may reach again. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "node.h"
#include "physical.h"
#include "state.h"

/*
 * Lines of text: "tidemark-state 1", then "next-node ID" and "stamp HEX NAME" (a name has
 * no control characters, see name_clean), and "end" last, by which a file cut short is
 * known. Written to a new file, synced, renamed.
 */
#define STATE_HEAD "tidemark-state 1\n"
#define STATE_NAMES_MAX 8192

struct bound {
	__u64 stamp;  /* the largest it handed out, or that a file reserved for it */
	bool ticking; /* so what is written must be ahead of it */
	char name[NODE_NAME_MAX];
};

static struct {
	struct bound *bounds;
	size_t n, size;
	__u64 everyone; /* from a damaged file: applies to all names */
	__u32 next_node;
	bool said;
	bool moved; /* since the last save */
} state;

static struct bound *bound_find(const char *name)
{
	for (size_t i = 0; i < state.n; i++)
		if (!strcmp(state.bounds[i].name, name))
			return &state.bounds[i];
	return NULL;
}

static struct bound *bound_raise(const char *name, __u64 stamp)
{
	struct bound *b = bound_find(name), *grown;

	if (!b && state.n == STATE_NAMES_MAX) { /* forget the oldest stamp: it is long past */
		b = &state.bounds[0];
		for (size_t i = 1; i < state.n; i++)
			if (state.bounds[i].stamp < b->stamp)
				b = &state.bounds[i];
		if (b->stamp > state.everyone)
			state.everyone = b->stamp;
		memset(b, 0, sizeof(*b));
	}
	if (!b) {
		if (state.n == state.size) {
			state.size = state.size ? 2 * state.size : 64;
			grown = realloc(state.bounds, state.size * sizeof(*grown));
			if (!grown) { /* then everyone starts above it */
				state.size = state.n;
				if (stamp > state.everyone)
					state.everyone = stamp;
				return NULL;
			}
			state.bounds = grown;
		}
		b = &state.bounds[state.n++];
		memset(b, 0, sizeof(*b));
	}
	snprintf(b->name, sizeof(b->name), "%s", name);
	if (stamp > b->stamp)
		b->stamp = stamp;
	return b;
}

static int state_path(const struct tidemark *t, char path[PATH_MAX], const char *suffix)
{
	int n = snprintf(path, PATH_MAX, "%s/clocks%s", t->state_dir, suffix);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool state_read(FILE *file)
{
	char line[256], name[NODE_NAME_MAX];
	unsigned long long stamp;
	unsigned next;
	int used;

	if (!fgets(line, sizeof(line), file) || strcmp(line, STATE_HEAD))
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (!strcmp(line, "end\n"))
			return true;
		line[strcspn(line, "\n")] = 0;
		if (sscanf(line, "next-node %u", &next) == 1) {
			state.next_node = next;
		} else if (sscanf(line, "stamp %llx %n", &stamp, &used) == 1) {
			snprintf(name, sizeof(name), "%.63s", line + used);
			if (*name)
				bound_raise(name, stamp);
		} else {
			return false;
		}
	}
	return false;
}

/*
 * A clock that ticks knows better than the file, which is ahead of it on purpose: taking
 * the file's word each time would push the clocks further ahead at every restart.
 */
static int state_correct(__u32 id, const struct node *node, void *ctx)
{
	struct tidemark *t = ctx;
	struct bound *b = bound_find(t->settings->clock_per_host ? STATE_HOST : node->name);

	(void)id;
	if (b)
		b->stamp = t->clocks[node->clock].now;
	return 0;
}

int state_load(struct tidemark *t)
{
	char path[PATH_MAX], aside[PATH_MAX];
	FILE *file;
	int err = state_path(t, path, "");

	if (err)
		return err;
	free(state.bounds);
	memset(&state, 0, sizeof(state));
	file = fopen(path, "re");
	if (!file) {
		if (errno == ENOENT)
			goto out;
		log_error("%s: %s", path, strerror(errno));
		return -errno;
	}
	if (!state_read(file)) {
		for (size_t i = 0; i < state.n; i++)
			if (state.bounds[i].stamp > state.everyone)
				state.everyone = state.bounds[i].stamp;
		if (!state_path(t, aside, ".damaged") && !rename(path, aside))
			log_warn("%s: damaged; kept as %s, and all clocks start above the largest "
				 "stamp in it",
				 path, aside);
	}
	fclose(file);
	node_each(t, state_correct, t);
out:
	if (state.next_node > t->settings->next_node)
		t->settings->next_node = state.next_node;
	if (!t->settings->next_node)
		t->settings->next_node = 1;
	return 0;
}

__u64 state_floor(const struct tidemark *t, const char *name)
{
	const struct bound *b = bound_find(name);

	(void)t;
	return b && b->stamp > state.everyone ? b->stamp : state.everyone;
}

void state_note(struct tidemark *t, const char *name, __u64 stamp)
{
	bound_raise(t->settings->clock_per_host ? STATE_HOST : name, stamp);
	state.moved = true;
}

static int state_collect(__u32 id, const struct node *node, void *ctx)
{
	struct tidemark *t = ctx;
	const char *name = t->settings->clock_per_host ? STATE_HOST : node->name;
	__u64 now = t->clocks[node->clock].now;
	struct bound *b = bound_find(name);

	(void)id;
	if (!b || b->stamp != now)
		state.moved = true;
	b = bound_raise(name, now);
	if (b)
		b->ticking = true;
	return 0;
}

static int state_write(const char *path, __u64 ahead_ns)
{
	FILE *file = fopen(path, "we");
	int err = 0;

	if (!file)
		return -errno;
	fputs(STATE_HEAD, file);
	fprintf(file, "next-node %u\n", state.next_node);
	for (size_t i = 0; i < state.n; i++)
		fprintf(file, "stamp %016llx %s\n",
			(unsigned long long)state.bounds[i].stamp +
				(state.bounds[i].ticking ? ahead_ns : 0),
			state.bounds[i].name);
	fputs("end\n", file);
	if (fflush(file) || fsync(fileno(file)))
		err = -errno;
	if (fclose(file) && !err)
		err = -errno;
	return err;
}

int state_save(struct tidemark *t, __u64 ahead_ns)
{
	char path[PATH_MAX], new[PATH_MAX];
	int err;

	for (size_t i = 0; i < state.n; i++)
		state.bounds[i].ticking = false;
	node_each(t, state_collect, t);
	if (!state.moved && ahead_ns) /* no stamp was given: the last reservation holds */
		return 0;
	state.moved = false;
	state.next_node = t->settings->next_node;
	err = state_path(t, path, "");
	if (!err)
		err = state_path(t, new, ".new");
	if (err)
		return err;
	if (mkdir(t->state_dir, 0700) && errno != EEXIST)
		err = -errno;
	if (!err)
		err = state_write(new, ahead_ns);
	if (!err && rename(new, path))
		err = -errno;
	if (err && !state.said) {
		log_warn("%s: %s; after a reboot with the clock set back, stamps could repeat",
			 path, strerror(-err));
		state.said = true;
	}
	return err;
}
