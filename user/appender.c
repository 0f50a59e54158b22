// SPDX-License-Identifier: GPL-2.0-only
/* Text appended to a file by a thread of its own. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "appender.h"
#include "log.h"

struct appender {
	int fd;
	FILE *stream; /* into `text` */
	char *text, *sending;
	size_t length, sending_n;
	pthread_t thread;
	bool running;

	pthread_mutex_t mutex;
	pthread_cond_t changed;
	bool sent, hurry, stop; /* under the mutex; hurry: one try, and no more */
	int err;
};

/* As far as the disk takes it; the rest may fit later. */
static int put(const struct appender *a, size_t *done)
{
	while (*done < a->sending_n) {
		ssize_t n = write(a->fd, a->sending + *done, a->sending_n - *done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		*done += (size_t)n;
	}
	return 0;
}

/* What was given up half way: no line is left torn. */
static void tear_off(const struct appender *a, size_t done)
{
	struct stat st;

	if (fstat(a->fd, &st) || (size_t)st.st_size < done ||
	    ftruncate(a->fd, st.st_size - (off_t)done))
		log_warn("statistics: %s: a line of them is torn", strerror(errno));
}

/* `mutex` is held, but not while something is written. */
static void text_write(struct appender *a)
{
	struct timespec until;
	size_t done = 0;
	bool last;

	do {
		last = a->hurry;
		pthread_mutex_unlock(&a->mutex);
		a->err = put(a, &done);
		pthread_mutex_lock(&a->mutex);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		if (a->err && !a->hurry)
			pthread_cond_timedwait(&a->changed, &a->mutex, &until);
	} while (a->err && !last);
	if (a->err && done)
		tear_off(a, done);
	a->sent = false;
	pthread_cond_broadcast(&a->changed);
}

static void *append_all(void *arg)
{
	struct appender *a = arg;

	pthread_mutex_lock(&a->mutex);
	for (;;) {
		while (!a->sent && !a->stop)
			pthread_cond_wait(&a->changed, &a->mutex);
		if (!a->sent)
			break;
		text_write(a);
	}
	pthread_mutex_unlock(&a->mutex);
	return NULL;
}

static int thread_start(struct appender *a)
{
	sigset_t all, before;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&a->thread, NULL, append_all, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	a->running = !err;
	return err;
}

struct appender *appender_open(const char *path)
{
	struct appender *a = calloc(1, sizeof(*a));
	pthread_condattr_t attr;
	int err;

	if (!a)
		return NULL;
	pthread_mutex_init(&a->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &attr);
	pthread_condattr_destroy(&attr);
	a->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	err = a->fd < 0 ? errno : 0;
	if (!err && fchmod(a->fd, 0600)) /* one of an older version was everybody's to read */
		log_warn("%s: %s", path, strerror(errno));
	if (!err) {
		a->stream = open_memstream(&a->text, &a->length);
		err = a->stream ? thread_start(a) : ENOMEM;
	}
	if (!err)
		return a;
	appender_close(a);
	errno = err;
	return NULL;
}

bool appender_ready(struct appender *a)
{
	bool ready;

	pthread_mutex_lock(&a->mutex);
	ready = !a->sent;
	pthread_mutex_unlock(&a->mutex);
	return ready;
}

FILE *appender_stream(struct appender *a)
{
	return a->stream;
}

void appender_send(struct appender *a)
{
	char *copy;

	fflush(a->stream);
	copy = a->length ? realloc(a->sending, a->length) : NULL;
	if (!copy) /* what there is goes with what comes next */
		return;
	memcpy(copy, a->text, a->length);
	a->sending = copy;
	a->sending_n = a->length;
	rewind(a->stream);
	pthread_mutex_lock(&a->mutex);
	a->sent = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->mutex);
}

int appender_wait(struct appender *a)
{
	int err;

	pthread_mutex_lock(&a->mutex);
	a->hurry = true;
	pthread_cond_broadcast(&a->changed);
	while (a->sent)
		pthread_cond_wait(&a->changed, &a->mutex);
	a->hurry = false;
	err = a->err;
	pthread_mutex_unlock(&a->mutex);
	return err;
}

int appender_close(struct appender *a)
{
	int err = 0;

	if (a->running) {
		err = appender_wait(a);
		pthread_mutex_lock(&a->mutex);
		a->stop = true;
		pthread_cond_broadcast(&a->changed);
		pthread_mutex_unlock(&a->mutex);
		pthread_join(a->thread, NULL);
	}
	if (a->stream)
		fclose(a->stream);
	if (a->fd >= 0)
		close(a->fd);
	free(a->text);
	free(a->sending);
	pthread_mutex_destroy(&a->mutex);
	pthread_cond_destroy(&a->changed);
	free(a);
	return err;
}
