// SPDX-License-Identifier: GPL-2.0-only
/* The thread behind a class: seals, compresses, deletes. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "flowlog.h"
#include "index.h"
#include "joints.h"
#include "log.h"
#include "recover.h"
#include "segment_pack.h"
#include "secret.h"
#include "segment_seal.h"
#include "store.h"

#define JOBS_MOST 8 /* waiting, each with the memory of a catalog */

/* A sealed segment, as far as budgets ask. */
struct kept {
	char base[STORE_NAME_MAX];
	__u64 bytes, first_ns, last_ns;
	bool packed; /* compressed, or it cannot be */
};

struct job {
	struct job *next;
	char base[STORE_NAME_MAX];
	int fd;
	__u64 bytes;
	struct catalog c;
};

struct sealer {
	struct segments_options o;
	char path[4096];
	int dir;
	pthread_t thread;
	bool running;
	struct joints *joints; /* of the thread alone */
	pthread_mutex_t mutex;
	pthread_cond_t wake, taken;

	/* under the mutex */
	struct job *first, **last;
	unsigned jobs;
	bool stop, expire;
	__u64 now_ns, open_bytes, jobs_bytes; /* jobs': also of the one that is being done */
	struct kept *kept;		      /* oldest first */
	struct kept *gone;		      /* deleted, and the joint indexes not told yet */
	__u32 kept_n, kept_room, gone_n, gone_room;
	__u64 bytes, joint_bytes, deleted;
	__u64 flow_bytes, flow_due; /* the thread's: of flow records, and when they are looked at */
	int err;
};

/* ---- sealing ---------------------------------------------------------------------------------- */

int segment_index(int dir, const char *base, const struct catalog *c)
{
	char text[STORE_NAME_MAX + 16];
	size_t size = 0;
	void *at = NULL;
	int err = index_build(c, c->sums.at, c->sums.n, &at, &size);

	if (!err)
		err = flowlog_write(dir, base, c);
	if (!err)
		err = store_write(dir, store_file(text, base, STORE_INDEX), at, size);
	if (!err)
		unlinkat(dir, store_file(text, base, STORE_JOURNAL), 0);
	free(at);
	return err;
}

/* The packets are on disk before anything says they are. */
int segment_seal(int dir, const char *base, int fd, const struct catalog *c)
{
	return fdatasync(fd) ? -errno : segment_index(dir, base, c);
}

/* ---- budgets ---------------------------------------------------------------------------------- */

static const char *segment_ending(size_t i)
{
	return i < STORE_DATA ? store_data[i] : i == STORE_DATA ? STORE_JOURNAL : STORE_INDEX;
}

static __u64 segment_bytes(int dir, const char *base)
{
	char text[STORE_NAME_MAX + 16];
	struct stat st;
	__u64 bytes = 0;

	for (size_t i = 0; i < STORE_DATA + 2; i++)
		if (!fstatat(dir, store_file(text, base, segment_ending(i)), &st,
			     AT_SYMLINK_NOFOLLOW))
			bytes += (__u64)st.st_size;
	return bytes;
}

/* The index last: whatever finds it finds no packets, and knows that they were deleted. */
static void segment_delete(int dir, const char *base)
{
	char text[STORE_NAME_MAX + 16];

	for (size_t i = 0; i < STORE_DATA + 2; i++)
		unlinkat(dir, store_file(text, base, segment_ending(i)), 0);
}

static __u64 wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (__u64)now.tv_sec * 1000000000ULL + (__u64)now.tv_nsec;
}

/* A clock that was ahead, and set back, must not keep a file for longer than its age. */
static int kept_add(struct sealer *s, const char *base, __u64 first_ns, __u64 last_ns)
{
	__u64 now_ns = wall_ns();
	struct kept kept = { .first_ns = first_ns, .last_ns = last_ns < now_ns ? last_ns : now_ns };
	char text[STORE_NAME_MAX + 16];

	strcpy(kept.base, base);
	kept.bytes = segment_bytes(s->dir, base);
	kept.packed = faccessat(s->dir, store_file(text, base, STORE_PLAIN), F_OK, 0) &&
		      faccessat(s->dir, store_file(text, base, STORE_SECRET), F_OK, 0);
	if (array_grow((void **)&s->kept, &s->kept_room, s->kept_n + 1, sizeof(*s->kept)))
		return -ENOMEM;
	s->kept[s->kept_n++] = kept;
	s->bytes += kept.bytes;
	return 0;
}

static bool beyond(const struct sealer *s, __u64 bytes)
{
	return s->o.budget_bytes && bytes > s->o.budget_bytes;
}

/*
 * Whatever it is, it counts. Its last packet cannot be told, for it is damaged or was recorded
 * with another key: it is as old as the file, and not to be deleted for being older.
 */
static void kept_add_unknown(struct sealer *s, const char *base)
{
	struct stat st = {};
	int fd;

	if (store_open(s->dir, base, O_RDONLY, &fd)) {
		fstat(fd, &st);
		close(fd);
	}
	kept_add(s, base, 0, (__u64)st.st_mtim.tv_sec * 1000000000ULL + (__u64)st.st_mtim.tv_nsec);
}

/*
 * Whoever reads a segment holds it open, and a file that is deleted while open can be read
 * to its end: so a query misses nothing, and the budget holds all the same.
 */
static void expire(struct sealer *s)
{
	__u32 n = 0;

	/* Each for itself: of a clock that was set back, the first may be younger than the next. */
	for (__u32 i = 0; i < s->kept_n; i++) {
		const struct kept *k = &s->kept[i];
		bool old = s->o.age_ns && s->now_ns > k->last_ns &&
			   s->now_ns - k->last_ns > s->o.age_ns;
		bool much = beyond(s, s->bytes + s->joint_bytes + s->jobs_bytes + s->open_bytes);

		if (!old && !much) {
			s->kept[n++] = *k;
			continue;
		}
		segment_delete(s->dir, k->base);
		/* Without memory for it a joint index stays until the next start. */
		if (!array_grow((void **)&s->gone, &s->gone_room, s->gone_n + 1, sizeof(*s->gone)))
			s->gone[s->gone_n++] = *k;
		s->bytes -= k->bytes;
		s->deleted++;
	}
	s->kept_n = n;
}

/* ---- aging ------------------------------------------------------------------------------------ */

static struct kept *kept_find(struct sealer *s, const char *base)
{
	for (__u32 i = 0; i < s->kept_n; i++)
		if (!strcmp(s->kept[i].base, base))
			return &s->kept[i];
	return NULL;
}

/* Not compressed, it is a segment all the same. */
static void pack(const struct sealer *s, const char *base)
{
	int err = segment_pack(s->dir, base, &s->o);

	/* -ENOENT: deleted meanwhile. */
	if (err && err != -ENOENT)
		log_error("%s/%s: not compressed: %s; it stays as it is", s->path, base,
			  secret_error(err));
}

/*
 * The oldest file that is due; none: -ENOENT. A file is read while it is fresh, mostly, and a
 * recorder has better to do just when it has filled one. Called and left with the mutex held,
 * and without it meanwhile: then the file may have been deleted.
 */
static int age_one(struct sealer *s)
{
	char base[STORE_NAME_MAX];
	struct kept *k;
	__u64 bytes;
	__u32 n = 0;

	while (n < s->kept_n && (s->kept[n].packed || s->now_ns < s->kept[n].last_ns ||
				 s->now_ns - s->kept[n].last_ns < s->o.zstd_after_ns))
		n++;
	if (!s->o.zstd || !s->o.zstd_after_ns || n == s->kept_n)
		return -ENOENT;
	strcpy(base, s->kept[n].base);
	pthread_mutex_unlock(&s->mutex);
	pack(s, base);
	bytes = segment_bytes(s->dir, base);
	pthread_mutex_lock(&s->mutex);
	k = kept_find(s, base);
	if (!k) {
		segment_delete(s->dir, base);
		return 0;
	}
	k->packed = true;
	s->bytes += bytes - k->bytes;
	k->bytes = bytes;
	return 0;
}

/* ---- joint indexes ---------------------------------------------------------------------------- */

/* Called and left with the mutex held, which is not needed: nobody else looks at them. */
static void joints_work(struct sealer *s)
{
	pthread_mutex_unlock(&s->mutex);
	joints_step(s->joints);
	pthread_mutex_lock(&s->mutex);
	s->joint_bytes = joints_bytes(s->joints);
	s->expire = true;
}

/* The thread's part of a deletion, for whoever writes deletes as well. */
static void joints_tell(struct sealer *s)
{
	for (__u32 i = 0; i < s->gone_n; i++)
		joints_drop(s->joints, s->gone[i].base);
	s->gone_n = 0;
	s->joint_bytes = joints_bytes(s->joints);
}

/*
 * There are far more of them than of segments, so each time they are brought to a little less than
 * they may be, and not looked at before there is more than that again.
 */
static void flows_expire(struct sealer *s, const char *base)
{
	__u64 most, spare;

	pthread_mutex_lock(&s->mutex);
	most = s->o.flow_bytes;
	pthread_mutex_unlock(&s->mutex);
	spare = most / 16;
	if (s->flow_due > most) /* it was more before */
		s->flow_due = 0;
	s->flow_bytes += flowlog_bytes(s->dir, base);
	if (s->flow_bytes <= s->flow_due)
		return;
	s->flow_bytes = flowlog_expire(s->dir, most - spare);
	s->flow_due = s->flow_bytes > most - spare ? s->flow_bytes + spare : most;
}

/* ---- the thread ------------------------------------------------------------------------------- */

static void job_do(struct sealer *s, struct job *job)
{
	int err = segment_seal(s->dir, job->base, job->fd, &job->c);

	if (err)
		log_error("%s/%s: not sealed: %s; it will be at the next start", s->path, job->base,
			  secret_error(err));
	else if (s->o.zstd && !s->o.zstd_after_ns)
		pack(s, job->base);
	pthread_mutex_lock(&s->mutex);
	s->err = kept_add(s, job->base, job->c.first_ns, job->c.last_ns);
	if (err)
		s->err = err;
	else if (joints_add(s->joints, job->base))
		s->err = -ENOMEM;
	s->jobs_bytes -= job->bytes;
	s->expire = true;
	pthread_cond_signal(&s->taken);
	pthread_mutex_unlock(&s->mutex);
	flows_expire(s, job->base);
	close(job->fd);
	catalog_free(&job->c);
	free(job);
}

static void *sealer_run(void *arg)
{
	struct sealer *s = arg;
	struct job *job;

	pthread_mutex_lock(&s->mutex);
	while (s->first || s->expire || s->gone_n || joints_due(s->joints) || !s->stop) {
		if (s->expire) {
			s->expire = false;
			expire(s);
		} else if (s->gone_n) {
			joints_tell(s);
		} else if (s->first) {
			job = s->first;
			s->first = job->next;
			if (!s->first)
				s->last = &s->first;
			s->jobs--;
			pthread_cond_signal(&s->taken);
			pthread_mutex_unlock(&s->mutex);
			job_do(s, job);
			pthread_mutex_lock(&s->mutex);
		} else if (joints_due(s->joints)) {
			joints_work(s);
		} else if (s->stop || age_one(s)) {
			pthread_cond_wait(&s->wake, &s->mutex);
		}
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

/* What is there already: counted, and where a process died, sealed. */
static int inventory(struct sealer *s, __u64 *recovered)
{
	struct store_names names;
	int err = store_list(s->dir, &names);

	for (__u32 i = 0; i < names.n && !err; i++) {
		struct store_name *name = &names.at[i];
		struct index index;
		const char *why;

		if (name->alone)
			continue;
		if (name->journal && !name->index) {
			if (!segment_recover(s->path, s->dir, name->base))
				(*recovered)++;
		}
		if (index_open(&index, s->dir, name->base, &why)) {
			kept_add_unknown(s, name->base);
			continue;
		}
		err = kept_add(s, name->base, index.about.first_ns, index.about.last_ns);
		index_close(&index);
	}
	free(names.at);
	return err;
}

int sealer_start(struct sealer **sealer, const struct segments_options *options, int dir,
		 const char *path, __u64 *recovered)
{
	struct sealer *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->o = *options;
	s->dir = dir;
	strncpy(s->path, path, sizeof(s->path) - 1);
	s->last = &s->first;
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->wake, NULL);
	pthread_cond_init(&s->taken, NULL);
	*sealer = s;
	store_tidy(dir);
	err = inventory(s, recovered);
	s->joints = err ? NULL : joints_open(dir, s->path);
	if (s->joints)
		s->joint_bytes = joints_bytes(s->joints);
	else if (!err)
		err = -ENOMEM;
	if (err) {
		log_error("%s: %s", path, strerror(-err));
		return err;
	}
	err = -pthread_create(&s->thread, NULL, sealer_run, s);
	s->running = !err;
	return err;
}

void sealer_limit(struct sealer *s, const struct segments_options *o)
{
	pthread_mutex_lock(&s->mutex);
	s->o.file_bytes = o->file_bytes;
	s->o.budget_bytes = o->budget_bytes;
	s->o.age_ns = o->age_ns;
	s->o.flow_bytes = o->flow_bytes;
	pthread_mutex_unlock(&s->mutex);
}

int sealer_add(struct sealer *s, const char *base, int fd, struct catalog *c)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job) {
		close(fd);
		return -ENOMEM;
	}
	strcpy(job->base, base);
	job->fd = fd;
	job->bytes = segment_bytes(s->dir, base);
	job->c = *c;
	memset(c, 0, sizeof(*c));
	pthread_mutex_lock(&s->mutex);
	/* Who writes waits rather than fill the memory: what waits for it is counted, and bounded. */
	while (s->jobs >= JOBS_MOST || (s->jobs_bytes && beyond(s, s->jobs_bytes + job->bytes)))
		pthread_cond_wait(&s->taken, &s->mutex);
	s->jobs++;
	s->jobs_bytes += job->bytes;
	s->open_bytes = 0;
	expire(s); /* here, for the thread may have its hands full while files fill */
	*s->last = job;
	s->last = &job->next;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->mutex);
	return 0;
}

void sealer_expire(struct sealer *s, __u64 now_ns, __u64 open_bytes)
{
	pthread_mutex_lock(&s->mutex);
	s->expire = true;
	s->now_ns = now_ns;
	s->open_bytes = open_bytes;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->mutex);
}

void sealer_stats(struct sealer *s, struct segments_stats *stats)
{
	pthread_mutex_lock(&s->mutex);
	stats->disk_bytes = s->bytes + s->joint_bytes;
	stats->files = s->kept_n;
	stats->deleted = s->deleted;
	stats->oldest_ns = stats->newest_ns = 0;
	for (__u32 i = 0; i < s->kept_n; i++) {
		const struct kept *k = &s->kept[i];

		if (k->first_ns && (!stats->oldest_ns || k->first_ns < stats->oldest_ns))
			stats->oldest_ns = k->first_ns;
		if (k->last_ns > stats->newest_ns)
			stats->newest_ns = k->last_ns;
	}
	pthread_mutex_unlock(&s->mutex);
}

int sealer_stop(struct sealer *s)
{
	int err;

	pthread_mutex_lock(&s->mutex);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->mutex);
	if (s->running)
		pthread_join(s->thread, NULL);
	err = s->err;
	pthread_mutex_destroy(&s->mutex);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->taken);
	joints_close(s->joints);
	free(s->kept);
	free(s->gone);
	free(s);
	return err;
}
