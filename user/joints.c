// SPDX-License-Identifier: GPL-2.0-only
/* The joint indexes of a class: ten indexes make one, ten of one level one of the next.
 *
 * A joint is deleted when a larger one has taken its place, or when all it speaks of is deleted.
 * Who dies between the two leaves both, which whoever comes next sees; an unfinished one has
 * another name. So at any moment each segment is spoken of rightly, or not at all.
 */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "joint.h"
#include "joints.h"
#include "log.h"

#define NONE 0
#define UNREADABLE (~0U) /* its index is, or needs a key: whoever asks, opens it, and says so */

struct joined {
	char base[STORE_NAME_MAX];
	__u32 joint; /* that speaks of it: its id */
};

struct file {
	char base[STORE_NAME_MAX];
	__u32 id;
	unsigned level;
	bool keyless; /* encrypted, and there is no key to write with: it stays as it is */
	__u32 alive;  /* members */
	__u64 bytes;
};

struct joints {
	int dir;
	const char *path;
	struct joined *segments; /* oldest first */
	struct file *files;
	__u32 segments_n, segments_room, files_n, files_room;
	__u32 id;
	bool stuck; /* what failed is tried again when there is a new segment */
	__u64 bytes;
};

static void file_unlink(const struct joints *j, const char *base, unsigned level)
{
	char text[STORE_NAME_MAX + 16];

	unlinkat(j->dir, joint_file(text, base, level), 0);
}

/* ---- stock ------------------------------------------------------------------------------------ */

static struct joined *segment_find(const struct joints *j, const char *base)
{
	for (__u32 i = 0; i < j->segments_n; i++)
		if (!strcmp(j->segments[i].base, base))
			return &j->segments[i];
	return NULL;
}

static int by_base(const void *key, const void *segment)
{
	return strcmp(key, ((const struct joined *)segment)->base);
}

static int file_note(struct joints *j, const char *base, unsigned level, __u64 bytes)
{
	struct file file = { .id = ++j->id, .level = level, .bytes = bytes };

	if (array_grow((void **)&j->files, &j->files_room, j->files_n + 1, sizeof(*j->files)))
		return -ENOMEM;
	strcpy(file.base, base);
	j->files[j->files_n++] = file;
	j->bytes += bytes;
	return 0;
}

static void file_drop(struct joints *j, __u32 n)
{
	file_unlink(j, j->files[n].base, j->files[n].level);
	j->bytes -= j->files[n].bytes;
	j->files_n--;
	memmove(&j->files[n], &j->files[n + 1], (j->files_n - n) * sizeof(*j->files));
}

/* One that is there already. What it speaks of, and no larger one has, is now its. */
static int file_take(struct joints *j, const char *base, unsigned level)
{
	char name[STORE_NAME_MAX + 16];
	const char *why;
	struct joint joint;
	int err = joint_open(&joint, j->dir, base, level, &why);

	if (err == -EBADMSG) {
		log_warn("%s/%s: %s; made anew", j->path, joint_file(name, base, level), why);
		file_unlink(j, base, level);
	}
	/* With a key that is not here: it goes when what it begins with goes. */
	if ((err == -ENOKEY || err == -EKEYREJECTED) && !segment_find(j, base))
		file_unlink(j, base, level);
	if (err)
		return err == -ENOMEM ? err : 0;
	err = file_note(j, base, level, joint.file.size);
	for (__u32 i = 0; i < joint.members && !err; i++) {
		struct joined *segment =
			j->segments_n ? bsearch(joint_member(&joint, i).base, j->segments,
						j->segments_n, sizeof(*j->segments), by_base)
				      : NULL;

		if (!segment || segment->joint != NONE)
			continue;
		segment->joint = j->id;
		j->files[j->files_n - 1].alive++;
	}
	joint_close(&joint);
	if (!err && !j->files[j->files_n - 1].alive)
		file_drop(j, j->files_n - 1);
	return err;
}

struct joints *joints_open(int dir, const char *path)
{
	struct joints *j = calloc(1, sizeof(*j));
	struct store_names names;
	int err = j ? store_list(dir, &names) : -ENOMEM;

	if (err) {
		free(j);
		return NULL;
	}
	j->dir = dir;
	j->path = path;
	for (__u32 i = 0; i < names.n && !err; i++)
		if (names.at[i].index)
			err = joints_add(j, names.at[i].base);
	for (unsigned level = 9; level && !err; level--)
		for (__u32 i = 0; i < names.n && !err; i++)
			if (names.at[i].joints >> level & 1)
				err = file_take(j, names.at[i].base, level);
	free(names.at);
	if (!err)
		return j;
	joints_close(j);
	return NULL;
}

void joints_close(struct joints *j)
{
	if (!j)
		return;
	free(j->segments);
	free(j->files);
	free(j);
}

int joints_add(struct joints *j, const char *base)
{
	struct joined segment = {};

	if (array_grow((void **)&j->segments, &j->segments_room, j->segments_n + 1,
		       sizeof(*j->segments)))
		return -ENOMEM;
	strcpy(segment.base, base);
	j->segments[j->segments_n++] = segment;
	j->stuck = false;
	return 0;
}

void joints_drop(struct joints *j, const char *base)
{
	struct joined *segment = segment_find(j, base); /* the oldest, mostly: the first */
	__u32 joint;

	if (!segment)
		return;
	joint = segment->joint;
	j->segments_n--;
	memmove(segment, segment + 1,
		(size_t)(j->segments + j->segments_n - segment) * sizeof(*segment));
	for (__u32 i = 0; i < j->files_n; i++)
		if (j->files[i].id == joint && !--j->files[i].alive) {
			file_drop(j, i);
			break;
		}
}

__u64 joints_bytes(const struct joints *j)
{
	return j->bytes;
}

void joints_forget(int dir)
{
	struct store_names names;
	struct joints j = { .dir = dir };

	if (store_list(dir, &names))
		return;
	for (__u32 i = 0; i < names.n; i++)
		for (unsigned level = 9; level; level--)
			if (names.at[i].joints >> level & 1)
				file_unlink(&j, names.at[i].base, level);
	free(names.at);
}

/* ---- merging ---------------------------------------------------------------------------------- */

/* The level that can be made: from ten indexes that no joint speaks of, or ten joints. 0: none. */
static unsigned level_due(const struct joints *j)
{
	__u32 alone = 0, of[JOINT_LEVELS + 1] = {};

	if (j->stuck)
		return 0;
	for (__u32 i = 0; i < j->segments_n && alone < JOINT_MERGE; i++)
		alone += j->segments[i].joint == NONE;
	if (alone == JOINT_MERGE)
		return 1;
	for (__u32 i = 0; i < j->files_n; i++)
		if (j->files[i].level < JOINT_LEVELS && !j->files[i].keyless &&
		    ++of[j->files[i].level] == JOINT_MERGE)
			return j->files[i].level + 1;
	return 0;
}

bool joints_due(const struct joints *j)
{
	return level_due(j);
}

static bool is_alive(void *ctx, const char *base)
{
	return segment_find(ctx, base);
}

static unsigned sources_take(const struct joints *j, unsigned level,
			     struct joint_source sources[JOINT_MERGE])
{
	unsigned n = 0;

	memset(sources, 0, JOINT_MERGE * sizeof(*sources));
	for (__u32 i = 0; level == 1 && i < j->segments_n && n < JOINT_MERGE; i++)
		if (j->segments[i].joint == NONE)
			strcpy(sources[n++].base, j->segments[i].base);
	for (__u32 i = 0; level > 1 && i < j->files_n && n < JOINT_MERGE; i++)
		if (j->files[i].level == level - 1 && !j->files[i].keyless)
			strcpy(sources[n++].base, j->files[i].base);
	return n;
}

static __s64 file_find(const struct joints *j, const char *base, unsigned level)
{
	for (__u32 i = 0; i < j->files_n; i++)
		if (j->files[i].level == level && !strcmp(j->files[i].base, base))
			return i;
	return -ENOENT;
}

/* The larger one is on disk, so the smaller ones say nothing that is not said. */
static void sources_replace(struct joints *j, unsigned level, const struct joint_source *sources,
			    unsigned n, struct file *made)
{
	for (unsigned i = 0; i < n; i++) {
		__s64 file = level > 1 ? file_find(j, sources[i].base, level - 1) : -1;

		for (__u32 s = 0; s < j->segments_n; s++) {
			struct joined *segment = &j->segments[s];

			if (level > 1 ? file < 0 || segment->joint != j->files[file].id
				      : strcmp(segment->base, sources[i].base) != 0)
				continue;
			segment->joint = made->id;
			made->alive++;
		}
	}
	for (unsigned i = 0; i < n && level > 1; i++) {
		__s64 file = file_find(j, sources[i].base, level - 1);

		if (file >= 0)
			file_drop(j, (__u32)file);
	}
}

/* One that cannot be read. Of a joint, its segments make another; an index is left out. */
static void source_wrong(struct joints *j, unsigned level, const struct joint_source *source)
{
	char name[STORE_NAME_MAX + 16];
	struct joined *segment = segment_find(j, source->base);
	__s64 file = level > 1 ? file_find(j, source->base, level - 1) : -1;

	if (level == 1 && segment)
		segment->joint = UNREADABLE;
	if (file < 0)
		return;
	if (source->err == -ENOKEY) {
		j->files[file].keyless = true;
		return;
	}
	log_warn("%s/%s: damaged; made anew", j->path, joint_file(name, source->base, level - 1));
	for (__u32 i = 0; i < j->segments_n; i++)
		if (j->segments[i].joint == j->files[file].id)
			j->segments[i].joint = NONE;
	file_drop(j, (__u32)file);
}

void joints_step(struct joints *j)
{
	unsigned level = level_due(j), n, wrong = 0;
	struct joint_source sources[JOINT_MERGE];
	char base[STORE_NAME_MAX];
	__u64 bytes;
	int err;

	if (!level)
		return;
	n = sources_take(j, level, sources);
	err = joint_write(j->dir, level, sources, n, is_alive, j, base, &bytes);
	if (!err) {
		err = file_note(j, base, level, bytes);
		if (!err) {
			struct file made = j->files[j->files_n - 1];

			sources_replace(j, level, sources, n, &made);
			j->files[j->files_n - 1].alive = made.alive;
		}
	}
	for (unsigned i = 0; i < n && err; i++)
		if (sources[i].err && sources[i].err != -ENOMEM && sources[i].err != -EMFILE) {
			source_wrong(j, level, &sources[i]);
			wrong++;
		}
	if (!err || wrong)
		return;
	j->stuck = true;
	log_warn("%s: indexes not joined: %s; queries read each, which takes longer", j->path,
		 strerror(-err));
}
