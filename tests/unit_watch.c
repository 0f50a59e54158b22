// SPDX-License-Identifier: GPL-2.0-only
/* Namespaces and devices come and go, and the watch says so, from the kernel's own events. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../user/netns.h"
#include "../user/watch.h"
#include "tap.h"

/* Generous: a test ends when its event comes, and only one that never comes waits so long. */
#define WAIT_MS 10000

struct heard {
	struct watch_event all[4096];
	int n;
	enum watch_type want;
	__u64 key;
	const char *name;
	bool found;
};

static struct heard heard;

static int hear(const struct watch_event *event, void *ctx)
{
	struct heard *h = ctx;

	if (h->n < 4096)
		h->all[h->n++] = *event;
	if (event->type == h->want && event->key == h->key &&
	    (!h->name || !strcmp(h->name, event->link.name)))
		h->found = true;
	return 0;
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* Reads until the wanted event has come. */
static bool await(struct watch *w, enum watch_type want, __u64 key, const char *name)
{
	double until = now_ms() + WAIT_MS;
	struct pollfd fds[WATCH_FDS];

	heard.n = 0;
	heard.want = want;
	heard.key = key;
	heard.name = name;
	heard.found = false;
	watch_fds(w, fds);
	while (!heard.found && now_ms() < until) {
		if (poll(fds, WATCH_FDS, until - now_ms()) <= 0)
			break;
		for (int i = 0; i < WATCH_FDS; i++) {
			if (fds[i].revents && watch_read(w, i, hear, &heard))
				return false;
		}
	}
	return heard.found;
}

static int sh(const char *command)
{
	int status = system(command);

	if (status)
		printf("# %s: status %d\n", command, status);
	return status;
}

static int fd_count(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int add_named(struct watch *w, const char *name, __u64 key)
{
	char path[128];
	int fd, err;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = netns_open(path);
	if (fd < 0)
		return fd;
	err = watch_add(w, fd, key);
	close(fd);
	return err;
}

static void test_mounts(struct watch *w)
{
	sh("ip netns add one");
	ok(await(w, WATCH_MOUNTS, 0, NULL), "a new named namespace is a change of mounts");
	sh("mkdir -p /run/other && mount -t tmpfs t /run/other && ip netns add two");
	ok(await(w, WATCH_MOUNTS, 0, NULL) && heard.n == 1,
	   "a mount that is no namespace is not told of");
}

static void test_links(struct watch *w)
{
	double start, took;

	ok(!add_named(w, "one", 11) && !add_named(w, "two", 22), "two are watched");
	ok(add_named(w, "one", 33) == -EEXIST, "none is watched twice");
	start = now_ms();
	sh("ip -n one link add va type veth peer name vb");
	ok(await(w, WATCH_LINK_NEW, 11, "va"), "a new device is told of");
	took = now_ms() - start;
	printf("# from starting ip to the event: %.1f ms\n", took);
	sh("ip -n one link set vb netns two");
	ok(await(w, WATCH_LINK_NEW, 22, "vb"), "a device moved in is told of");
	bool left = false;
	for (int i = 0; i < heard.n; i++)
		left |= heard.all[i].type == WATCH_LINK_GONE && heard.all[i].key == 11;
	ok(left, "and that it left where it was, before");
	ok(heard.n && heard.all[heard.n - 1].link.lower_elsewhere,
	   "its peer is known to be elsewhere");
	sh("ip -n two link set vb name renamed");
	ok(await(w, WATCH_LINK_NEW, 22, "renamed"), "a new name is told of");
	sh("ip -n two link add br0 type bridge && ip -n two link set renamed master br0 && "
	   "ip -n two link set renamed nomaster && ip -n two link add end type bridge");
	ok(await(w, WATCH_LINK_NEW, 22, "end"), "events come in order");
	bool gone = false;
	for (int i = 0; i < heard.n; i++)
		gone |= heard.all[i].type == WATCH_LINK_GONE;
	ok(!gone, "a device that leaves a bridge is not taken for gone");
	sh("ip -n one link del va");
	ok(await(w, WATCH_LINK_GONE, 22, "renamed"), "a deleted device is told of");
}

static void test_ends(struct watch *w)
{
	int ready[2], hold[2];
	char byte;
	pid_t pid;
	int fd;

	sh("ip netns del two");
	ok(await(w, WATCH_NETNS_GONE, 22, NULL), "a namespace unmounted dies, though watched");

	if (pipe(ready) || pipe(hold))
		exit(1);
	pid = fork();
	if (!pid) {
		close(hold[1]);
		if (unshare(CLONE_NEWNET) || write(ready[1], "", 1) != 1)
			_exit(1);
		_exit(read(hold[0], &byte, 1) != 0);
	}
	close(hold[0]);
	ok(read(ready[0], &byte, 1) == 1, "a process makes a namespace of its own");
	fd = netns_open_pid(pid);
	ok(fd >= 0 && !watch_add(w, fd, 44), "it is watched");
	close(fd);
	close(hold[1]);
	waitpid(pid, NULL, 0);
	ok(await(w, WATCH_NETNS_GONE, 44, NULL), "it dies with its last process");
	close(ready[0]);
	close(ready[1]);
}

/* Namespaces made, watched and dropped; the kernel takes them down in batches, later. */
static void test_churn(struct watch *w)
{
	int before = fd_count(), gone = 0, bad = 0, home;
	double start = now_ms(), until;
	struct pollfd fds[WATCH_FDS];
	static bool seen[1000];

	home = netns_open("/proc/thread-self/ns/net");
	for (int i = 0; i < 1000; i++) {
		int fd;

		if (unshare(CLONE_NEWNET))
			exit(1);
		fd = netns_open("/proc/thread-self/ns/net");
		bad |= watch_add(w, fd, 1000 + i);
		close(fd);
		bad |= setns(home, CLONE_NEWNET);
	}
	close(home);
	until = now_ms() + WAIT_MS * 6;
	watch_fds(w, fds);
	while (gone < 1000 && now_ms() < until && poll(fds, 1, WAIT_MS) > 0) {
		heard.n = 0;
		bad |= watch_read(w, WATCH_FD_LINKS, hear, &heard);
		for (int i = 0; i < heard.n; i++) {
			__u64 key = heard.all[i].key;

			if (heard.all[i].type != WATCH_NETNS_GONE)
				continue;
			bad |= key < 1000 || key >= 2000 || seen[key - 1000];
			if (!bad)
				seen[key - 1000] = true;
			gone++;
		}
	}
	printf("# 1000 made, watched and gone in %.0f ms\n", now_ms() - start);
	ok(gone == 1000 && !bad, "1000 come and go, each told of once (%d)", gone);
	ok(fd_count() == before, "no descriptor stays behind");
}

/* Not read for a while: more happens than the queue holds. */
static void test_overrun(struct watch *w)
{
	bool gone = false;

	sh("ip netns add lost");
	ok(!add_named(w, "lost", 55), "one more is watched");
	sh("ip -n one link add storm type bridge; "
	   "for i in $(seq 6000); do echo link set storm up; echo link set storm down; done "
	   "| ip -n one -batch -");
	sh("ip netns del lost");
	ok(await(w, WATCH_RESYNC, 0, NULL), "lost events are owned up to");
	for (int i = 0; i < heard.n; i++)
		gone |= heard.all[i].type == WATCH_NETNS_GONE && heard.all[i].key == 55;
	ok(gone || await(w, WATCH_NETNS_GONE, 55, NULL),
	   "a namespace that died meanwhile is told of%s", gone ? ", before" : "");
	sh("ip -n one link add after type bridge");
	ok(await(w, WATCH_LINK_NEW, 11, "after"), "and the watch goes on");
}

int main(void)
{
	struct watch *w;
	double start;
	int err = 0, before;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		return skip_all("needs root");
	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("t", "/run", "tmpfs", 0, NULL))
		return skip_all("cannot mount");
	before = fd_count();
	start = now_ms();
	w = watch_open(&err);
	printf("# opened in %.2f ms\n", now_ms() - start);
	if (!ok(w, "the watch opens (%d)", err))
		return done();
	test_mounts(w);
	test_links(w);
	test_ends(w);
	test_churn(w);
	test_overrun(w);
	watch_close(w);
	ok(fd_count() == before, "closing it gives everything back");
	return done();
}
