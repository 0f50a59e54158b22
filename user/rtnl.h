/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of rtnetlink as we need: ask a question, walk the attributes of an answer. */
#ifndef TIDEMARK_RTNL_H
#define TIDEMARK_RTNL_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>

/** What is left of a row of attributes or messages; what they claim never leads past @left. */
struct attr_walk {
	const char *pos;
	size_t left;
};

/** The attributes after a fixed header of @fixed bytes; none if the message is shorter. */
struct attr_walk attr_walk_message(const struct nlmsghdr *msg, size_t fixed);
struct attr_walk attr_walk_nested(const struct rtattr *attr);

/** The next attribute, wholly inside the row; NULL at its end or where it stops making sense. */
const struct rtattr *attr_next(struct attr_walk *walk);
/** The same for the messages of one datagram. */
const struct nlmsghdr *message_next(struct attr_walk *walk);

int attr_type(const struct rtattr *attr);

/** Copies out what the attribute holds; a string is cut to fit and always terminated. */
int attr_u32(const struct rtattr *attr, __u32 *out);
void attr_text(const struct rtattr *attr, char *out, size_t size);

/** Return a negative number to give up; rtnl_ask() hands that value back. */
typedef int (*rtnl_fn)(const struct nlmsghdr *msg, void *ctx);

/** A socket in the current namespace, subscribed to nothing. */
int rtnl_open(void);

/**
 * Sends @req and calls @fn for each answer, until the dump or the acknowledgement is complete.
 * -EINTR: the table changed under a dump, which must be asked again. Otherwise 0 or the
 * kernel's own error. The caller numbers its requests, so that a late answer to one it gave up
 * on is not taken for an answer to this one.
 */
int rtnl_ask(int fd, struct nlmsghdr *req, rtnl_fn fn, void *ctx);

#endif
