// SPDX-License-Identifier: GPL-2.0-only
/* Put the pipeline on a device: a program that knows who the device speaks for, by clsact or tcx. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <limits.h>
#include <linux/bpf.h>
#include <linux/pkt_sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "attach.h"
#include "log.h"
#include "rtnl.h"

/* include/uapi/linux/bpf.h since 6.6 (e420bed02507); Debian 12's header is older. */
#define TCX_INGRESS 46
#define TCX_EGRESS 47

/* Run before others, who may end the chain; but share a priority rather than fight for it. */
#define PRIORITY_FIRST 1
#define PRIORITY_LAST 16

/*
 * FNV-1a of the file system and the directory our pins are in. Of both: a container with a
 * bpf file system of its own may have a datapath at the same path, watch the same device,
 * and our filters must not take the place of its. Zero would let the kernel choose, and
 * high bits belong to nobody.
 */
__u32 attach_handle(const struct tidemark *t)
{
	__u32 hash = 2166136261U;
	struct stat st;

	if (!fstat(t->dir, &st))
		hash = (hash ^ (__u32)st.st_dev) * 16777619U;
	for (const char *c = t->pin_dir; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 16777619U;
	return (hash & 0x0fffffff) | 0x10000000;
}

static struct bpf_insn insn(__u8 code, __u8 dst, __u8 src, __s16 off, __s32 imm)
{
	return (struct bpf_insn){
		.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm
	};
}

/*
 * Node and manner into the control block, then the pipeline. Nine instructions, of which
 * the tail call is a jump; if it ever failed the packet would go on unseen.
 */
static int attach_program(const struct tidemark *t, __u32 node, __u32 how)
{
	const int cb = offsetof(struct __sk_buff, cb);
	const struct bpf_insn program[] = {
		insn(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, node),
		insn(BPF_STX | BPF_MEM | BPF_W, BPF_REG_1, BPF_REG_2, cb + 4 * ATTACH_CB_NODE, 0),
		insn(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_2, 0, 0, how),
		insn(BPF_STX | BPF_MEM | BPF_W, BPF_REG_1, BPF_REG_2, cb + 4 * ATTACH_CB_HOW, 0),
		insn(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0,
		     t->map[MAP_pipelines]),
		insn(0, 0, 0, 0, 0),
		insn(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 0),
		insn(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_tail_call),
		insn(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, -1 /* TC_ACT_UNSPEC */),
		insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS,
			       how & ATTACH_EGRESS ? "tidemark_out" : "tidemark_in", "GPL", program,
			       sizeof(program) / sizeof(program[0]), NULL);

	return fd < 0 ? -errno : fd;
}

static int filter_add(int ifindex, __u32 handle, __u32 priority, int program, bool egress)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter, .handle = handle, .priority = priority, .prog_fd = program,
		    .flags = BPF_TC_F_REPLACE);

	return bpf_tc_attach(&hook, &filter);
}

static int filter_remove(int ifindex, __u32 handle, __u32 priority, bool egress)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex,
		    .attach_point = egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter, .handle = handle, .priority = priority);
	int err = bpf_tc_detach(&hook, &filter);

	return err == -ENOENT || err == -EINVAL || err == -ENODEV ? 0 : err;
}

static int clsact_add(struct tidemark *t, const struct attachment_key *key, struct attachment *a,
		      int in, int out)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = key->ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	int err;

	a->qdisc_is_ours = 1;
	if (bpf_map_update_elem(t->map[MAP_attachments], key, a, BPF_ANY))
		return -errno;
	err = bpf_tc_hook_create(&hook);
	if (err == -EEXIST) {
		/* Ours from a start that was cut short has our filters, or will look foreign. */
		a->qdisc_is_ours = 0;
		err = 0;
	}
	for (a->priority = PRIORITY_FIRST; !err && a->priority <= PRIORITY_LAST; a->priority++) {
		if (bpf_map_update_elem(t->map[MAP_attachments], key, a, BPF_ANY))
			return -errno;
		err = filter_add(key->ifindex, a->handle, a->priority, in, false);
		if (!err)
			err = filter_add(key->ifindex, a->handle, a->priority, out, true);
		if (!err)
			return 0;
		filter_remove(key->ifindex, a->handle, a->priority, false);
		/* Taken by a classifier of another kind: the next priority is as good. */
		if (err == -EINVAL || err == -EEXIST || err == -ENOENT)
			err = 0;
	}
	return err ? err : -EBUSY;
}

static int tcx_path(const struct tidemark *t, const struct attachment_key *key, bool egress,
		    char path[PATH_MAX])
{
	int n = snprintf(path, PATH_MAX, "%s/tcx_%u_%u_%s", t->pin_dir, key->node, key->ifindex,
			 egress ? "out" : "in");

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int tcx_add_one(struct tidemark *t, const struct attachment_key *key, int program,
		       bool egress)
{
	char path[PATH_MAX];
	int fd, err = tcx_path(t, key, egress, path);

	if (err)
		return err;
	fd = bpf_link_create(program, key->ifindex, egress ? TCX_EGRESS : TCX_INGRESS, NULL);
	if (fd < 0)
		return -errno;
	if (bpf_obj_pin(fd, path))
		err = -errno;
	close(fd);
	return err;
}

static int tcx_add(struct tidemark *t, const struct attachment_key *key, struct attachment *a,
		   int in, int out)
{
	int err;

	if (bpf_map_update_elem(t->map[MAP_attachments], key, a, BPF_ANY))
		return -errno;
	err = tcx_add_one(t, key, in, false);
	return err ? err : tcx_add_one(t, key, out, true);
}

/* A pinned link goes with its pin, from any namespace. */
static void tcx_remove(struct tidemark *t, const struct attachment_key *key)
{
	char path[PATH_MAX];

	for (int egress = 0; egress < 2; egress++)
		if (!tcx_path(t, key, egress, path))
			unlink(path);
}

int attach_device(struct tidemark *t, __u32 node, __u32 clock, __u32 flags, const struct link *link,
		  bool busy)
{
	const struct attachment_key key = { .node = node, .ifindex = link->ifindex };
	bool choose = t->settings->attach_how == ATTACH_AUTO;
	struct attachment a = { .how = t->settings->attach_how, .handle = attach_handle(t) };
	__u32 how = clock | flags | ATTACH_LIVE | (link_has_ethernet(link) ? 0 : ATTACH_L3);
	struct attachment known;
	int in, out = -1, err = 0;

	if (!bpf_map_lookup_elem(t->map[MAP_attachments], &key, &known))
		return 0;
	a.flags = how;
	if (choose)
		a.how = busy ? ATTACHED_TCX : ATTACHED_CLSACT;
	snprintf(a.device, sizeof(a.device), "%s", link->name);
	in = attach_program(t, node, how);
	if (in >= 0)
		out = attach_program(t, node, how | ATTACH_EGRESS);
	if (in < 0 || out < 0)
		err = in < 0 ? in : out;
	else if (a.how == ATTACHED_TCX)
		err = tcx_add(t, &key, &a, in, out);
	if (choose && a.how == ATTACHED_TCX && err) { /* before 6.6: there is only the other */
		tcx_remove(t, &key);
		a.how = ATTACHED_CLSACT;
		err = 0;
	}
	if (!err && a.how == ATTACHED_CLSACT)
		err = clsact_add(t, &key, &a, in, out);
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	if (err)
		detach_device(t, &key);
	log_debug("%s: node %u: %s", link->name, node, err ? strerror(-err) : "attached");
	return err;
}

static int filter_is_other(const struct nlmsghdr *msg, void *ctx)
{
	const struct tcmsg *tc = NLMSG_DATA(msg);

	if (msg->nlmsg_type == RTM_NEWTFILTER && tc->tcm_handle)
		*(bool *)ctx = true;
	return 0;
}

/* Does anybody still use this qdisc? Asked after our own filters have gone. */
static bool qdisc_is_used(int ifindex)
{
	struct {
		struct nlmsghdr head;
		struct tcmsg tc;
	} req = {
		.head = { .nlmsg_len = sizeof(req),
			  .nlmsg_type = RTM_GETTFILTER,
			  .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
			  .nlmsg_seq = 1 },
		.tc = { .tcm_family = AF_UNSPEC, .tcm_ifindex = ifindex },
	};
	static const __u32 parents[] = { TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
					 TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS) };
	bool used = false;
	int fd = rtnl_open();

	if (fd < 0)
		return true;
	for (int i = 0; i < 2 && !used; i++) {
		req.tc.tcm_parent = parents[i];
		req.head.nlmsg_seq++;
		if (rtnl_ask(fd, &req.head, filter_is_other, &used))
			used = true; /* in doubt it stays */
	}
	close(fd);
	return used;
}

int detach_device(struct tidemark *t, const struct attachment_key *key)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = key->ifindex,
		    .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	struct attachment a;
	int err = 0, err2;

	if (bpf_map_lookup_elem(t->map[MAP_attachments], key, &a))
		return 0;
	if (a.how == ATTACHED_TCX) {
		tcx_remove(t, key);
	} else {
		err = filter_remove(key->ifindex, a.handle, a.priority, false);
		err2 = filter_remove(key->ifindex, a.handle, a.priority, true);
		if (!err)
			err = err2;
		if (!err && a.qdisc_is_ours && !qdisc_is_used(key->ifindex))
			bpf_tc_hook_destroy(&hook);
	}
	if (!err)
		bpf_map_delete_elem(t->map[MAP_attachments], key);
	return err;
}

void detach_gone(struct tidemark *t, const struct attachment_key *key)
{
	tcx_remove(t, key);
	bpf_map_delete_elem(t->map[MAP_attachments], key);
}
