// SPDX-License-Identifier: GPL-2.0-only
/* As much of rtnetlink as we need: ask a question, walk the attributes of an answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rtnl.h"

/* The kernel fills at most this much per message of a dump, if the reader offers as much. */
#define REPLY_BYTES 32768

struct attr_walk attr_walk_message(const struct nlmsghdr *msg, size_t fixed)
{
	struct attr_walk walk = {};
	size_t start = NLMSG_HDRLEN + NLMSG_ALIGN(fixed);

	if (msg->nlmsg_len > start) {
		walk.pos = (const char *)msg + start;
		walk.left = msg->nlmsg_len - start;
	}
	return walk;
}

struct attr_walk attr_walk_nested(const struct rtattr *attr)
{
	return (struct attr_walk){ .pos = RTA_DATA(attr), .left = RTA_PAYLOAD(attr) };
}

/* Past something of @len bytes; the last of a row may come without its padding. */
static void walk_step(struct attr_walk *walk, size_t len)
{
	size_t step = NLMSG_ALIGN(len);

	if (step > walk->left)
		step = walk->left;
	walk->pos += step;
	walk->left -= step;
}

const struct rtattr *attr_next(struct attr_walk *walk)
{
	const struct rtattr *attr = (const struct rtattr *)walk->pos;

	if (walk->left < sizeof(*attr) || attr->rta_len < sizeof(*attr) ||
	    attr->rta_len > walk->left)
		return NULL;
	walk_step(walk, attr->rta_len);
	return attr;
}

const struct nlmsghdr *message_next(struct attr_walk *walk)
{
	const struct nlmsghdr *msg = (const struct nlmsghdr *)walk->pos;

	if (walk->left < sizeof(*msg) || msg->nlmsg_len < sizeof(*msg) ||
	    msg->nlmsg_len > walk->left)
		return NULL;
	walk_step(walk, msg->nlmsg_len);
	return msg;
}

int attr_type(const struct rtattr *attr)
{
	return attr->rta_type & NLA_TYPE_MASK;
}

int attr_u32(const struct rtattr *attr, __u32 *out)
{
	if (RTA_PAYLOAD(attr) < sizeof(*out))
		return -EBADMSG;
	memcpy(out, RTA_DATA(attr), sizeof(*out));
	return 0;
}

void attr_text(const struct rtattr *attr, char *out, size_t size)
{
	size_t len = strnlen(RTA_DATA(attr), RTA_PAYLOAD(attr));

	if (len >= size)
		len = size - 1;
	memcpy(out, RTA_DATA(attr), len);
	out[len] = '\0';
}

int rtnl_open(void)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	int fd, err;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd < 0)
		return -errno;
	if (!bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* 1: more to come. The error of an answer that says it is the last. */
static int reply_step(const struct nlmsghdr *msg, int dump, rtnl_fn fn, void *ctx)
{
	int err = 0;

	if (msg->nlmsg_type == NLMSG_DONE || msg->nlmsg_type == NLMSG_ERROR) {
		if (msg->nlmsg_len < NLMSG_LENGTH(sizeof(err)))
			return dump && msg->nlmsg_type == NLMSG_DONE ? 0 : -EBADMSG;
		memcpy(&err, NLMSG_DATA(msg), sizeof(err));
		return err > 0 ? -EBADMSG : err;
	}
	if (msg->nlmsg_type >= NLMSG_MIN_TYPE && fn)
		err = fn(msg, ctx);
	return err ? err : 1;
}

static int reply_read(int fd, const struct nlmsghdr *req, rtnl_fn fn, void *ctx)
{
	char buf[REPLY_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
	const struct nlmsghdr *msg;
	int err = 1, torn = 0;
	struct sockaddr_nl from;
	struct iovec iov = { buf, sizeof(buf) };

	while (err == 1) {
		struct msghdr head = { .msg_name = &from,
				       .msg_namelen = sizeof(from),
				       .msg_iov = &iov,
				       .msg_iovlen = 1 };
		ssize_t got = recvmsg(fd, &head, 0);
		struct attr_walk walk;

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (head.msg_flags & MSG_TRUNC)
			return -EMSGSIZE;
		if (from.nl_pid)
			continue; /* anybody may send to us; only the kernel is number 0 */
		walk = (struct attr_walk){ .pos = buf, .left = got };
		while (err == 1 && (msg = message_next(&walk))) {
			if (msg->nlmsg_seq != req->nlmsg_seq)
				continue;
			torn |= msg->nlmsg_flags & NLM_F_DUMP_INTR;
			err = reply_step(msg, req->nlmsg_flags & NLM_F_DUMP, fn, ctx);
		}
	}
	return !err && torn ? -EINTR : err;
}

int rtnl_ask(int fd, struct nlmsghdr *req, rtnl_fn fn, void *ctx)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	req->nlmsg_flags |= NLM_F_REQUEST;
	if ((req->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		req->nlmsg_flags |= NLM_F_ACK;
	if (sendto(fd, req, req->nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	return reply_read(fd, req, fn, ctx);
}
