// SPDX-License-Identifier: GPL-2.0-only
/* What the verifier follows of each pipeline: what a start takes, without a clock. */
#include <stdlib.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "../bpf/stage.h"
#include "../user/maps.h"
#include "rig.h"
#include "tap.h"
#include "tidemark.skel.h"

#define LOG_STATS 4 /* kernel/bpf: BPF_LOG_STATS */

static struct rig r;

static struct bpf_program *chosen(struct tidemark_bpf *skel, bool first)
{
	struct bpf_program *program,
		*one = first ? skel->progs.pipeline_first : skel->progs.pipeline;

	bpf_object__for_each_program(program, skel->obj)
		bpf_program__set_autoload(program, program == one);
	return one;
}

/* Instructions, or -1: it was refused. */
static long followed(__u32 parts, bool first)
{
	static char log[1 << 16];
	struct tidemark_bpf *skel = tidemark_bpf_unpack();
	struct bpf_program *program;
	const char *at;
	int map[MAPS_NR];
	long n = -1;

	if (!skel)
		return -1;
	for (int i = 0; i < MAPS_NR; i++)
		map[i] = bpf_map__fd(bpf_object__find_map_by_name(r.skel->obj, map_names[i]));
	program = chosen(skel, first);
	skel->rodata->stages = parts;
	bpf_program__set_log_level(program, LOG_STATS);
	bpf_program__set_log_buf(program, log, sizeof(log));
	if (!maps_give(skel->obj, map) && !tidemark_bpf__load(skel)) {
		at = strstr(log, "processed ");
		n = at ? atol(at + strlen("processed ")) : -1;
	}
	tidemark_bpf__destroy(skel);
	return n;
}

/* Before Linux 6.8 functions are looked at that only removed code calls. */
static bool looks_at_all;

static void load(const char *what, __u32 parts, bool first, long most)
{
	long n = followed(parts, first);

	if (looks_at_all && !first)
		most = 80000;
	ok(n > 0 && n <= most, "%s: the verifier follows no more than %ld instructions", what,
	   most);
	printf("# %ld\n", n);
}

int main(void)
{
	if (rig_open(&r, NULL))
		return skip_all("no BPF here");
	looks_at_all = followed(PARTS_FIRST, false) > 2 * followed(PARTS_FIRST, true);
	/* A quarter more than on Linux 6.18: other kernels forget states at other places. */
	load("what is loaded first", PARTS_FIRST, true, 20500);
	load("the same, not by itself", PARTS_FIRST, false, 18000);
	load("and marks", PARTS_FIRST | STAGES_LIVE_mark, false, 36000);
	load("and records", PARTS_FIRST | STAGES_LIVE_record, false, 31000);
	load("and peers", PARTS_FIRST | PART_WIRE, false, 24500);
	load("all of it", PARTS_ALL, false, 57500);
	rig_close(&r);
	return done();
}
