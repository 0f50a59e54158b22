// SPDX-License-Identifier: GPL-2.0-only
/* Text appended by a thread of its own: a file that takes nothing makes nobody wait. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../user/appender.h"
#include "tap.h"

#define MUCH (256 << 10) /* more than a pipe holds */

static char dir[] = "/tmp/tidemark-appender.XXXXXX";

static const char *path(const char *name)
{
	static char said[sizeof(dir) + 32];

	snprintf(said, sizeof(said), "%s/%s", dir, name);
	return said;
}

static bool becomes_ready(struct appender *a)
{
	for (int i = 0; i < 1000 && !appender_ready(a); i++)
		usleep(10000);
	return appender_ready(a);
}

static void send(struct appender *a, const char *text)
{
	fputs(text, appender_stream(a));
	appender_send(a);
}

static void test_file(void)
{
	struct appender *a = appender_open(path("file"));
	char text[64] = "";
	FILE *file;

	send(a, "one\n");
	ok(becomes_ready(a), "what was sent is written while nobody waits for it");
	send(a, "two\n");
	is_int(appender_wait(a), 0, "and what is waited for");
	appender_send(a);
	ok(appender_ready(a), "nothing said is nothing sent");
	is_int(appender_close(a), 0, "a file that took everything closes well");
	a = appender_open(path("file"));
	send(a, "three\n");
	appender_close(a);
	file = fopen(path("file"), "r");
	text[fread(text, 1, sizeof(text) - 1, file)] = 0;
	fclose(file);
	is_str(text, "one\ntwo\nthree\n", "in order, each once, behind what was there");
	unlink(path("file"));
}

/* A pipe that nobody reads is a disk that hangs. */
static void test_hang(void)
{
	static char text[MUCH], got[MUCH];
	struct appender *a;
	ssize_t n;
	int pipe;

	mkfifo(path("pipe"), 0600);
	pipe = open(path("pipe"), O_RDWR | O_CLOEXEC);
	a = appender_open(path("pipe"));
	memset(text, 'x', MUCH - 1);
	send(a, text);
	ok(!appender_ready(a), "who sends to a file that hangs does not wait for it");
	for (size_t done = 0; done < MUCH - 1; done += (size_t)n) {
		n = read(pipe, got + done, MUCH - 1 - done);
		if (n <= 0)
			break;
	}
	ok(!strcmp(got, text), "all of it comes when it goes on");
	ok(becomes_ready(a), "and then the next may be sent");
	appender_close(a);
	close(pipe);
	unlink(path("pipe"));
}

static void test_full(void)
{
	struct appender *a = appender_open("/dev/full");

	send(a, "lost\n");
	is_int(appender_wait(a), -ENOSPC, "a full disk is said to who waits");
	ok(appender_ready(a), "and not tried for ever by who ends");
	appender_close(a);
	ok(!appender_open(path("none/file")) && errno == ENOENT,
	   "a file that cannot be opened is said with its reason");
}

/* What there was no room for is not left torn: cut off where the last whole text ended. */
static void test_torn(void)
{
	static char text[8192];
	struct appender *a;
	struct stat st = {};

	a = appender_open(path("file"));
	send(a, "whole\n");
	appender_wait(a);
	memset(text, 'x', sizeof(text) - 1);
	/* A limit of the process: SIGXFSZ is blocked, as the thread's signals are. */
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, RLIM_INFINITY });
	send(a, text);
	is_int(appender_wait(a), -EFBIG, "a text that is taken in part is not taken");
	setrlimit(RLIMIT_FSIZE, &(struct rlimit){ RLIM_INFINITY, RLIM_INFINITY });
	stat(path("file"), &st);
	is_int(st.st_size, 6, "and nothing of it stays");
	appender_close(a);
	unlink(path("file"));
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	test_file();
	test_hang();
	test_full();
	test_torn();
	rmdir(dir);
	return done();
}
