// SPDX-License-Identifier: GPL-2.0-only
/* What -n accepts, what it refuses and how, and which namespace each form finds. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../user/selector.h"
#include "tap.h"

static char words[256];

static void accept_one(const char *text, enum selector_kind kind, const char *name,
		       const char *what)
{
	struct selector s;
	int err = selector_parse(text, &s, words, sizeof(words));

	ok(!err && s.kind == kind && !strcmp(s.name, name) && !strcmp(s.what, what),
	   "%s is understood", text);
}

static void refuse_one(const char *text, const char *saying)
{
	struct selector s;
	int err;

	words[0] = '\0';
	err = selector_parse(text, &s, words, sizeof(words));
	ok(err == -EINVAL && strstr(words, saying) && !strchr(words, '\n'), "refused: %s", words);
}

static void test_parse(void)
{
	char text[1024];

	accept_one("netns:web", SELECTOR_NETNS, "", "web");
	accept_one("w=netns:web", SELECTOR_NETNS, "w", "web");
	accept_one("pid:12", SELECTOR_PID, "", "12");
	accept_one("path:/run/a=b", SELECTOR_PATH, "", "/run/a=b");
	accept_one("x=path:/run/a:b=c", SELECTOR_PATH, "x", "/run/a:b=c");
	accept_one("container:4f2a", SELECTOR_CONTAINER, "", "4f2a");
	accept_one("cgroup:/docker/abc", SELECTOR_CGROUP, "", "/docker/abc");
	accept_one("host", SELECTOR_HOST, "", "host");
	accept_one("me=host", SELECTOR_HOST, "me", "host");
	accept_one("web", SELECTOR_WORD, "", "web");
	accept_one("w=web", SELECTOR_WORD, "w", "web");
	accept_one("compose:shop", SELECTOR_COMPOSE, "", "shop");
	accept_one("s=compose:shop/web", SELECTOR_COMPOSE, "s", "shop/web");
	accept_one("label:team=blue", SELECTOR_LABEL, "", "team=blue");
	accept_one("pod:shop/web-0", SELECTOR_POD, "", "shop/web-0");
	refuse_one("compose:", "say netns:NAME");
	refuse_one("compose:shop/", "PROJECT/SERVICE");
	refuse_one("label:=blue", "KEY=VALUE");
	refuse_one("pod:/web", "NAMESPACE/NAME");
	refuse_one("", "say netns:NAME");
	refuse_one("netns:", "say netns:NAME");
	refuse_one("w=", "say netns:NAME");
	refuse_one("docker:web", "no such kind");
	refuse_one("pid:abc", "pid:NUMBER");
	refuse_one("pid:-1", "pid:NUMBER");
	refuse_one("pid:0", "pid:NUMBER");
	refuse_one("pid:12x", "pid:NUMBER");
	refuse_one("pid:99999999999", "pid:NUMBER");
	refuse_one("netns:/run/netns/x", "path:");
	refuse_one("netns:..", "path:");
	refuse_one("=netns:x", "a name has");
	refuse_one("a\nb=netns:x", "control");
	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	refuse_one(text, "longer than");
	memcpy(text, "netns:", 6);
	refuse_one(text, "longer than");
	text[100] = '=';
	text[5] = 'a';
	refuse_one(text, "a name has");
}

static void clean_one(const char *text, const char *want)
{
	char name[NODE_NAME_MAX];

	name_clean(text, name);
	ok(!strcmp(name, want), "a name becomes '%s'", name);
}

static void test_clean(void)
{
	char text[80], name[NODE_NAME_MAX];

	clean_one("web", "web");
	clean_one("a\nb\x7f", "a_b_");
	clean_one("", "_");
	clean_one("n\xc3\xbcm", "n\xc3\xbcm");
	clean_one("n\xc3", "n_");
	clean_one("\xc2\x85x", "__x");
	clean_one("\xed\xa0\x80", "___");
	memset(text, 'x', 62);
	strcpy(text + 62, "\xc3\xbc");
	name_clean(text, name);
	ok(strlen(name) == 62, "a letter is not cut in half at the end");
}

static int sh(const char *command)
{
	int status = system(command);

	if (status)
		printf("# %s: status %d\n", command, status);
	return status;
}

/* Opens @text; the inode of what was found, 0 and the error's words if nothing. */
static __u64 resolve(const char *text, char name[NODE_NAME_MAX])
{
	struct selector s;
	__u64 inode = 0;
	int fd;

	words[0] = name[0] = '\0';
	if (selector_parse(text, &s, words, sizeof(words)))
		return 0;
	if (selector_open(&s, &fd, name, words, sizeof(words)))
		return 0;
	netns_inode(fd, &inode);
	close(fd);
	return inode;
}

static __u64 path_inode(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : st.st_ino;
}

static void find_one(const char *text, const char *path, const char *called)
{
	char name[NODE_NAME_MAX];
	__u64 inode = resolve(text, name);

	ok(inode && inode == path_inode(path) && !strcmp(name, called),
	   "%s is found, called '%s' %s", text, name, words);
}

static void miss_one(const char *text, const char *saying)
{
	char name[NODE_NAME_MAX];

	ok(!resolve(text, name) && strstr(words, saying), "%s is missed: %s", text, words);
}

/* A process in a namespace of its own, until @hold is closed. */
static pid_t process_start(int *hold)
{
	int ready[2], stay[2];
	char byte;
	pid_t pid;

	if (pipe(ready) || pipe(stay))
		exit(1);
	pid = fork();
	if (!pid) {
		close(stay[1]);
		if (unshare(CLONE_NEWNET) || write(ready[1], "", 1) != 1)
			_exit(1);
		_exit(read(stay[0], &byte, 1) != 0);
	}
	close(stay[0]);
	if (read(ready[0], &byte, 1) != 1)
		exit(1);
	close(ready[0]);
	close(ready[1]);
	*hold = stay[1];
	return pid;
}

static void test_find(void)
{
	char text[128], path[64], name[NODE_NAME_MAX];
	int hold;
	pid_t pid;

	sh("ip netns add web");
	find_one("netns:web", "/run/netns/web", "web");
	find_one("web", "/run/netns/web", "web");
	find_one("front=netns:web", "/run/netns/web", "front");
	find_one("path:/run/netns/web", "/run/netns/web", "web");
	find_one("host", "/proc/self/ns/net", "host");
	miss_one("netns:none", "no such network namespace");
	miss_one("path:/etc/passwd", "not a network namespace");
	miss_one("pid:4194305", "no such process");
	miss_one("container:none-at-all", "no running container");
	miss_one("compose:none-at-all", "compose:none-at-all: no such container is running");
	miss_one("label:none=at-all", "no such container is running");
	miss_one("pod:none/at-all", "no such container is running");
	miss_one("none-at-all", "no network namespace or running container");
	miss_one("cgroup:none/at/all", "no such cgroup");
	pid = process_start(&hold);
	snprintf(text, sizeof(text), "pid:%d", pid);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	snprintf(name, sizeof(name), "pid-%d", pid);
	find_one(text, path, name);
	snprintf(text, sizeof(text), "ip netns attach 'two words' %d", pid);
	sh(text);
	snprintf(text, sizeof(text), "pid:%d", pid);
	find_one(text, path, "two words");
	close(hold);
	waitpid(pid, NULL, 0);
	find_one("netns:two words", "/run/netns/two words", "two words");
}

static void test_cgroup(void)
{
	char text[256], path[64], dir[] = "/run/cg", leaf[64];
	int hold, fd;
	pid_t pid;

	mkdir(dir, 0700);
	if (mount("cg", dir, "cgroup2", 0, NULL)) {
		ok(true, "cgroups are looked into # SKIP no cgroup2 here");
		return;
	}
	snprintf(leaf, sizeof(leaf), "tmsel%d", getpid());
	snprintf(text, sizeof(text), "mkdir -p %s/%s/below", dir, leaf);
	sh(text);
	pid = process_start(&hold);
	snprintf(text, sizeof(text), "cgroup:%s", leaf);
	miss_one(text, "no process in this cgroup");
	snprintf(text, sizeof(text), "%s/%s/below/cgroup.procs", dir, leaf);
	fd = open(text, O_WRONLY);
	dprintf(fd, "%d", pid);
	close(fd);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	snprintf(text, sizeof(text), "cgroup:%s", leaf);
	find_one(text, path, leaf);
	snprintf(text, sizeof(text), "cgroup:%s/%s/", dir, leaf);
	find_one(text, path, leaf);
	snprintf(text, sizeof(text), "cgroup:/%s/below", leaf);
	find_one(text, path, "below");
	close(hold);
	waitpid(pid, NULL, 0);
	snprintf(text, sizeof(text), "rmdir %s/%s/below %s/%s", dir, leaf, dir, leaf);
	sh(text);
	umount(dir);
}

struct count {
	__u64 inode;
	int times;
	struct netns_seen last;
};

static int count_step(const struct netns_seen *seen, void *ctx)
{
	struct count *count = ctx;

	if (seen->inode == count->inode) {
		count->times++;
		count->last = *seen;
	}
	return 0;
}

static void test_each(void)
{
	struct count count = {};
	char name[NODE_NAME_MAX], path[64];
	struct selector s;
	int hold, fd;
	pid_t pid;

	sh("mkdir -p /run/a && touch /run/a/x && mount --bind /run/netns/web /run/a/x");
	count.inode = path_inode("/run/netns/web");
	ok(!netns_each(count_step, &count) && count.times == 1,
	   "a namespace mounted twice is told of once");
	ok(!strcmp(count.last.path, "/run/netns/web"), "by the path that has its name");
	ok(!selector_parse("f=netns:web", &s, words, sizeof(words)) &&
		   selector_matches(&s, &count.last, name) && !strcmp(name, "f"),
	   "what turned up is matched with what was asked for");
	selector_parse("host", &s, words, sizeof(words));
	ok(!selector_matches(&s, &count.last, name), "and only with that");
	netns_name(&count.last, name);
	ok(!strcmp(name, "web"), "it is called web");
	fd = netns_open("/run/netns/two words");
	netns_inode(fd, &count.inode);
	close(fd);
	count.times = 0;
	netns_each(count_step, &count);
	ok(count.times == 1, "a path with a space in it is unescaped");
	pid = process_start(&hold);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	count = (struct count){ .inode = path_inode(path) };
	netns_each(count_step, &count);
	ok(count.times == 1 && count.last.pid == pid && !count.last.path[0],
	   "one that only a process is in is found by the process");
	netns_name(&count.last, name);
	ok(!strcmp(name, "unit_selector"), "it is called by its program (%s)", name);
	close(hold);
	waitpid(pid, NULL, 0);
}

static void test_identity(void)
{
	struct netns id = {}, host = {}, again = {};
	int fd, found;

	fd = netns_open("/run/netns/web");
	ok(!netns_identify(fd, &id) && id.cookie && id.inode, "a namespace has a cookie");
	close(fd);
	fd = netns_open("/proc/self/ns/net");
	netns_identify(fd, &host);
	ok(host.cookie && host.cookie != id.cookie, "another has another");
	close(fd);
	sh("umount /run/netns/web && rm /run/netns/web && ip netns add web");
	found = netns_find(&id, "/run/netns/web", 0);
	ok(found >= 0 && !netns_identify(found, &again) && again.cookie == id.cookie,
	   "it is found again where it is, though its old path leads to another now");
	close(found);
	sh("umount /run/a/x");
	found = netns_find(&id, "/run/netns/web", getpid());
	ok(found == -ENOENT, "and not found when it has gone");
	fd = netns_open("/proc/self/ns/net");
	netns_identify(fd, &again);
	ok(again.cookie == host.cookie, "afterwards we are where we were");
	close(fd);
}

int main(void)
{
	test_parse();
	test_clean();
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) ||
	    mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("t", "/run", "tmpfs", 0, NULL)) {
		ok(true, "namespaces are found # SKIP needs root");
		return done();
	}
	test_find();
	test_cgroup();
	test_each();
	test_identity();
	return done();
}
