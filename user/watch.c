// SPDX-License-Identifier: GPL-2.0-only
/* Hears from the kernel which devices and namespaces come and go. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/net_namespace.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mounts.h"
#include "netns.h"
#include "rtnl.h"
#include "watch.h"

/* Room for a burst: some 5000 devices appearing before we get to read. */
#define QUEUE_BYTES (8 << 20)
/* Datagrams taken per call, so that a storm of events does not shut out the caller's other work. */
#define READ_LIMIT 256
#define DUMP_TRIES 8

struct watched {
	int id;
	bool alive; /* found by the dump under way */
	__u64 key;
};

struct watch {
	int events; /* subscribed; both sockets are in the private namespace */
	int ask;    /* for questions, so that answers and events do not mix */
	int mounts;
	__u32 seq;
	bool overrun;  /* events were lost, and more will be until the queue is empty */
	__u64 mounted; /* fingerprint of the namespaces that are mounted */
	int next_id;
	struct watched *all; /* ascending by id, since ids only grow */
	size_t n, room;
};

static int events_subscribe(int fd)
{
	static const int groups[] = { RTNLGRP_LINK, RTNLGRP_NSID };
	int on = 1, size = QUEUE_BYTES;

	/* A shorter queue overruns sooner, and overruns are repaired: no reason to fail. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on)))
		return -errno;
	for (int i = 0; i < 2; i++) {
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(int)))
			return -errno;
	}
	return 0;
}

/* The sockets are all that keeps the private namespace alive. */
static int watch_open_sockets(struct watch *watch)
{
	int home, left, err = 0;

	home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (home < 0)
		return -errno;
	if (unshare(CLONE_NEWNET)) {
		err = -errno;
		close(home);
		return err;
	}
	watch->events = rtnl_open();
	watch->ask = rtnl_open();
	if (watch->events < 0 || watch->ask < 0)
		err = watch->events < 0 ? watch->events : watch->ask;
	left = netns_leave(home);
	if (left)
		return left;
	return err ? err : events_subscribe(watch->events);
}

static int mounts_fold(const struct mount *mount, void *ctx)
{
	__u64 *print = ctx, hash = 0xcbf29ce484222325ULL ^ mount->id;

	for (const char *c = mount->root; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3ULL;
	/* A sum, because the order is of no importance. */
	*print += hash;
	return 0;
}

struct watch *watch_open(int *err)
{
	struct watch *watch;

	watch = calloc(1, sizeof(*watch));
	if (!watch) {
		*err = -ENOMEM;
		return NULL;
	}
	watch->events = watch->ask = -1;
	watch->next_id = 1;
	watch->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	*err = watch->mounts < 0 ? -errno : watch_open_sockets(watch);
	if (!*err)
		*err = mounts_each("nsfs", mounts_fold, &watch->mounted);
	if (!*err)
		return watch;
	watch_close(watch);
	return NULL;
}

void watch_close(struct watch *watch)
{
	if (!watch)
		return;
	if (watch->events >= 0)
		close(watch->events);
	if (watch->ask >= 0)
		close(watch->ask);
	if (watch->mounts >= 0)
		close(watch->mounts);
	free(watch->all);
	free(watch);
}

static struct watched *watched_find(struct watch *watch, int id)
{
	size_t low = 0, high = watch->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (watch->all[mid].id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < watch->n && watch->all[low].id == id ? &watch->all[low] : NULL;
}

static void watched_drop(struct watch *watch, struct watched *watched)
{
	size_t after = watch->all + --watch->n - watched;

	memmove(watched, watched + 1, after * sizeof(*watched));
}

struct nsid_request {
	struct nlmsghdr head;
	struct rtgenmsg family __attribute__((aligned(NLMSG_ALIGNTO)));
	struct rtattr id_attr __attribute__((aligned(NLMSG_ALIGNTO)));
	__s32 id;
	struct rtattr fd_attr;
	__u32 fd;
};

int watch_add(struct watch *watch, int nsfd, __u64 key)
{
	struct nsid_request req = {
		.head = { .nlmsg_len = sizeof(req), .nlmsg_type = RTM_NEWNSID },
		.id_attr = { .rta_len = RTA_LENGTH(4), .rta_type = NETNSA_NSID },
		.fd_attr = { .rta_len = RTA_LENGTH(4), .rta_type = NETNSA_FD },
		.fd = nsfd,
	};
	int err;

	if (watch->n == watch->room) {
		size_t room = watch->room ? 2 * watch->room : 64;
		struct watched *more = reallocarray(watch->all, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		watch->all = more;
		watch->room = room;
	}
	req.head.nlmsg_seq = ++watch->seq;
	/*
	 * We choose the ids, and never use one twice: an event of a namespace that has gone, still
	 * in the queue, cannot be taken for one of its successor.
	 */
	req.id = watch->next_id;
	err = rtnl_ask(watch->ask, &req.head, NULL, NULL);
	if (err)
		return err;
	watch->all[watch->n++] = (struct watched){ .id = watch->next_id++, .key = key };
	return 0;
}

void watch_fds(const struct watch *watch, struct pollfd fds[WATCH_FDS])
{
	fds[WATCH_FD_LINKS] = (struct pollfd){ .fd = watch->events, .events = POLLIN };
	fds[WATCH_FD_MOUNTS] = (struct pollfd){ .fd = watch->mounts, .events = POLLPRI };
}

static int watch_tell(enum watch_type type, __u64 key, watch_fn fn, void *ctx)
{
	struct watch_event event = { .type = type, .key = key };

	return fn(&event, ctx);
}

static int nsid_parse(const struct nlmsghdr *msg, int *id)
{
	struct attr_walk walk = attr_walk_message(msg, sizeof(struct rtgenmsg));
	const struct rtattr *attr;

	while ((attr = attr_next(&walk))) {
		if (attr_type(attr) == NETNSA_NSID)
			return attr_u32(attr, (__u32 *)id);
	}
	return -EBADMSG;
}

static int watched_confirm(const struct nlmsghdr *msg, void *ctx)
{
	struct watched *watched;
	int id;

	if (msg->nlmsg_type != RTM_NEWNSID || nsid_parse(msg, &id))
		return 0;
	watched = watched_find(ctx, id);
	if (watched)
		watched->alive = true;
	return 0;
}

static int watched_dump(struct watch *watch)
{
	struct nsid_request req = {
		.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtgenmsg)),
			  .nlmsg_type = RTM_GETNSID,
			  .nlmsg_flags = NLM_F_DUMP },
	};
	int err = -EINTR;

	for (int i = 0; err == -EINTR && i < DUMP_TRIES; i++) {
		for (size_t k = 0; k < watch->n; k++)
			watch->all[k].alive = false;
		req.head.nlmsg_seq = ++watch->seq;
		err = rtnl_ask(watch->ask, &req.head, watched_confirm, watch);
	}
	return err;
}

/* The end of a namespace may be among the lost events, and nothing will tell of it again. */
static int watch_resync(struct watch *watch, watch_fn fn, void *ctx)
{
	size_t i = 0;
	int err;

	err = watched_dump(watch);
	while (!err && i < watch->n) {
		__u64 key = watch->all[i].key;

		if (watch->all[i].alive) {
			i++;
			continue;
		}
		watched_drop(watch, &watch->all[i]);
		err = watch_tell(WATCH_NETNS_GONE, key, fn, ctx);
	}
	return err ? err : watch_tell(WATCH_RESYNC, 0, fn, ctx);
}

/* @from is the id of the namespace the message comes from, -1 for the private one. */
static int watch_message(struct watch *watch, const struct nlmsghdr *msg, int from, watch_fn fn,
			 void *ctx)
{
	struct watch_event event = {};
	struct watched *watched;
	int id;

	/* The watched namespaces give ids to each other too: theirs are none of ours. */
	if (msg->nlmsg_type == RTM_DELNSID && from < 0) {
		if (nsid_parse(msg, &id))
			return 0;
		watched = watched_find(watch, id);
		if (!watched)
			return 0;
		event.key = watched->key;
		watched_drop(watch, watched);
		return watch_tell(WATCH_NETNS_GONE, event.key, fn, ctx);
	}
	if (from < 0 || link_parse(msg, &event.link))
		return 0;
	watched = watched_find(watch, from);
	if (!watched)
		return 0;
	event.type = msg->nlmsg_type == RTM_NEWLINK ? WATCH_LINK_NEW : WATCH_LINK_GONE;
	event.key = watched->key;
	return fn(&event, ctx);
}

static int message_origin(struct msghdr *head)
{
	struct cmsghdr *part;
	int id = -1;

	for (part = CMSG_FIRSTHDR(head); part; part = CMSG_NXTHDR(head, part)) {
		if (part->cmsg_level == SOL_NETLINK && part->cmsg_type == NETLINK_LISTEN_ALL_NSID)
			memcpy(&id, CMSG_DATA(part), sizeof(id));
	}
	return id;
}

/* 1: one datagram dealt with. 0: none left. */
static int watch_receive(struct watch *watch, watch_fn fn, void *ctx)
{
	char buf[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	char control[CMSG_SPACE(64)] __attribute__((aligned(sizeof(size_t))));
	struct iovec iov = { buf, sizeof(buf) };
	struct sockaddr_nl sender;
	struct msghdr head = { .msg_name = &sender,
			       .msg_namelen = sizeof(sender),
			       .msg_iov = &iov,
			       .msg_iovlen = 1,
			       .msg_control = control,
			       .msg_controllen = sizeof(control) };
	const struct nlmsghdr *msg;
	struct attr_walk walk;
	int from, err = 0;
	ssize_t left;

	left = recvmsg(watch->events, &head, MSG_DONTWAIT);
	/*
	 * From an overrun on, the kernel drops whatever comes until the queue has been emptied, and
	 * says so only once. So that is the moment to look again: earlier would be too early.
	 */
	if (left < 0 && errno == EAGAIN && watch->overrun) {
		watch->overrun = false;
		err = watch_resync(watch, fn, ctx);
		return err ? err : 1;
	}
	if (left < 0 && errno == EAGAIN)
		return 0;
	if (left < 0 && errno == EINTR)
		return 1;
	if (left < 0 && errno != ENOBUFS)
		return -errno;
	if (left < 0 || head.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		watch->overrun = true;
		return 1;
	}
	/* Anybody may send to us; only the kernel is number 0. */
	if (sender.nl_pid)
		return 1;
	from = message_origin(&head);
	walk = (struct attr_walk){ .pos = buf, .left = left };
	while (!err && (msg = message_next(&walk)))
		err = watch_message(watch, msg, from, fn, ctx);
	return err ? err : 1;
}

int watch_read(struct watch *watch, int which, watch_fn fn, void *ctx)
{
	__u64 mounted = 0;
	int err = 1;

	if (which == WATCH_FD_LINKS) {
		for (int i = 0; err == 1 && i < READ_LIMIT; i++)
			err = watch_receive(watch, fn, ctx);
		return err == 1 ? 0 : err;
	}
	/* Most mounts are no namespaces, and a walk over all of /proc is not free. */
	err = mounts_each("nsfs", mounts_fold, &mounted);
	if (err || mounted == watch->mounted)
		return err;
	watch->mounted = mounted;
	return watch_tell(WATCH_MOUNTS, 0, fn, ctx);
}
