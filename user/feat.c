// SPDX-License-Identifier: GPL-2.0-only
/* Probes: each does once what we would do, and looks whether the kernel let it. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "feat.h"
#include "mounts.h"
#include "netns.h"
#include "tidemark.h"

#define BPF_FS_MAGIC 0xcafe4a11
#define TCX_INGRESS 46

/* Debian 12's header ends before it. */
#define SO_NETNS_COOKIE_NR 71

static bool bpffs(void)
{
	struct statfs fs;

	return !statfs("/sys/fs/bpf", &fs) && (unsigned)fs.f_type == BPF_FS_MAGIC;
}

static int mount_any(const struct mount *mount, void *ctx)
{
	(void)mount, (void)ctx;
	return 1;
}

static bool cgroup2(void)
{
	return mounts_each("cgroup2", mount_any, NULL) > 0;
}

static bool btf(void)
{
	return !access("/sys/kernel/btf/vmlinux", R_OK);
}

/* A program that does nothing but give a verdict its type allows: may we load one? */
static int program(enum bpf_prog_type type)
{
	int verdict = type == BPF_PROG_TYPE_CGROUP_SOCK ? 1 : -1;
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = verdict },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return bpf_prog_load(type, "probe", "GPL", nothing, 2, NULL);
}

static bool closed(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool bpf(void)
{
	return closed(program(BPF_PROG_TYPE_SCHED_CLS));
}

static bool ringbuf(void)
{
	return closed(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "probe", 0, 0, getpagesize(), NULL));
}

static bool syscalls(void)
{
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = BPF_F_SLEEPABLE);
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return closed(bpf_prog_load(BPF_PROG_TYPE_SYSCALL, "probe", "GPL", nothing, 2, &opts));
}

/* In a namespace of our own, on its loopback device. */
static bool in_namespace(bool (*probe)(int program))
{
	int home = netns_open_pid(getpid()), fd = program(BPF_PROG_TYPE_SCHED_CLS);
	bool here = false;

	if (home >= 0 && fd >= 0 && !unshare(CLONE_NEWNET)) {
		here = probe(fd);
		if (setns(home, CLONE_NEWNET))
			_exit(1);
	}
	closed(fd);
	closed(home);
	return here;
}

static bool clsact_probe(int program)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = 1, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, filter, .prog_fd = program);

	return !bpf_tc_hook_create(&hook) && !bpf_tc_attach(&hook, &filter);
}

static bool clsact(void)
{
	return in_namespace(clsact_probe);
}

static bool tcx_probe(int program)
{
	return closed(bpf_link_create(program, 1, TCX_INGRESS, NULL));
}

static bool tcx(void)
{
	return in_namespace(tcx_probe);
}

static bool netns_cookie(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	__u64 cookie;
	socklen_t len = sizeof(cookie);
	bool here = fd >= 0 && !getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE_NR, &cookie, &len);

	closed(fd);
	return here;
}

static bool sock_create(void)
{
	return closed(program(BPF_PROG_TYPE_CGROUP_SOCK));
}

/* libbpf's own probe tries fentry, which is forbidden where tracepoints are not. */
static bool tracing(void)
{
	int id = btf() ? libbpf_find_vmlinux_btf_id("sched_process_exec", BPF_TRACE_RAW_TP) : 0;
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_TRACE_RAW_TP,
		    .attach_btf_id = id);
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};

	return id > 0 &&
	       closed(bpf_prog_load(BPF_PROG_TYPE_TRACING, "probe", "GPL", nothing, 2, &opts));
}

/*
 * Does the kernel's BTF have this enumerator? The one thing asked of it by name: to try it
 * takes a socket, an iterator and half of the datapath.
 */
static bool enumerator(const char *name)
{
	struct btf *kernel = btf() ? btf__load_vmlinux_btf() : NULL;
	const struct btf_type *type;
	bool found = false;

	for (__u32 id = 1; kernel && !found && id < btf__type_cnt(kernel); id++) {
		type = btf__type_by_id(kernel, id);
		for (int i = 0; btf_is_enum(type) && !found && i < btf_vlen(type); i++)
			found = !strcmp(btf__name_by_offset(kernel, btf_enum(type)[i].name_off),
					name);
	}
	btf__free(kernel);
	return found;
}

static bool older_sockets(void)
{
	return enumerator("TCP_BPF_SOCK_OPS_CB_FLAGS");
}

/* Words that fit a screen of 100 columns, and the last ones a screen of 80: see doctor.c. */
const struct feature features[] = {
	{ "bpf", bpf, 1, "packet programs", "nothing works: be root, lift lockdown" },
	{ "bpffs", bpffs, 1, "outliving the process",
	  "nothing works: mount -t bpf bpf /sys/fs/bpf" },
	{ "cgroup2", cgroup2, 1, "whose socket it is", "nothing works: mount -t cgroup2 none DIR" },
	{ "ringbuf", ringbuf, EXIT_CANNOT, "events", "nothing works: Linux 5.8" },
	{ "syscall", syscalls, EXIT_CANNOT, "ending open bursts", "nothing works: Linux 5.14" },
	{ "netns-cookie", netns_cookie, EXIT_CANNOT, "which namespace it is",
	  "nothing works: Linux 5.14" },
	{ "clsact", clsact, EXIT_CANNOT, "packets of every device",
	  "nothing works: modules sch_ingress, cls_bpf" },
	{ "cgroup-sock", sock_create, EXIT_CANNOT, "owners of sockets", "nothing works" },
	{ "btf", btf, 0, "the kernel's own types", "fewer fields of TCP; as without tracepoints" },
	{ "tracepoints", tracing, 0, "programs as they start",
	  "new namespaces are found by their sockets" },
	{ "tcx", tcx, 0, "attaching by link", "clsact on busy devices too" },
	{ "older-sockets", older_sockets, 0, "stamps of old sockets",
	  "sockets made before `up` stay without stamps" },
	{},
};
