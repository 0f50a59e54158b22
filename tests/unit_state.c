// SPDX-License-Identifier: GPL-2.0-only
/* Stamps that must not come twice: what is kept for the next start, and what becomes of damage. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../user/state.h"
#include "tap.h"

#define SECOND (1000ULL * 1000 * 1000)

static char dir[] = "/tmp/tidemark-state.XXXXXX";
static struct settings settings;
static struct clock clocks[2];
static struct tidemark t;

static const char *path(const char *name)
{
	static char said[sizeof(dir) + 32];

	snprintf(said, sizeof(said), "%s/%s", dir, name);
	return said;
}

/* As after a reboot: no maps, no memory, only the file. */
static int reboot(void)
{
	memset(&settings, 0, sizeof(settings));
	memset(clocks, 0, sizeof(clocks));
	return state_load(&t);
}

static void file_write(const char *text)
{
	FILE *file = fopen(path("clocks"), "w");

	fputs(text, file);
	fclose(file);
}

static void test_notes(void)
{
	is_int(reboot(), 0, "no file: a first start");
	is_int(settings.next_node, 1, "ids begin at 1");
	is_int(state_floor(&t, "web"), 0, "and no stamp is taken");
	settings.next_node = 17;
	state_note(&t, "web", 5000);
	state_note(&t, "db with a space", 7000);
	state_note(&t, "web", 4000);
	is_int(state_floor(&t, "web"), 5000, "a bound never falls");
	is_int(state_save(&t, 0), 0, "saved");
	is_int(reboot(), 0, "T26: after a reboot");
	is_int(state_floor(&t, "web"), 5000, "T26: the last stamp of a node that was");
	is_int(state_floor(&t, "db with a space"), 7000, "T26: each by its name");
	is_int(state_floor(&t, "new"), 0, "T26: a new one has none");
	is_int(settings.next_node, 17, "T39: ids go on and are not given again");
	is_int(access(path("clocks.new"), F_OK), -1, "nothing half-written is left");
	settings.clock_per_host = 1;
	state_note(&t, "web", 9000);
	is_int(state_floor(&t, STATE_HOST), 9000, "with one clock a host, it is the host's");
}

/* T26: the clock was 2 s ahead of physical time, which after the reboot is behind it. */
static void test_reboot(void)
{
	const __u64 pt = 1700000000ULL * SECOND, last = pt + 2 * SECOND;
	__u64 floor;

	unlink(path("clocks"));
	reboot();
	state_note(&t, "web", last);
	state_save(&t, 0);
	reboot();
	floor = state_floor(&t, "web");
	ok(clock_take(&floor, 0, pt + SECOND) > last, "T26: no stamp comes again");
}

/* T27: with a real table of nodes, saved ahead of use, and killed before it is saved again. */
static void test_crash(void)
{
	struct node node = { .clock = 1, .name = "web" };
	__u32 id = 3;
	__u64 last;

	t.map[MAP_nodes] =
		bpf_map_create(BPF_MAP_TYPE_HASH, "nodes", sizeof(id), sizeof(node), 8, NULL);
	if (t.map[MAP_nodes] < 0 || bpf_map_update_elem(t.map[MAP_nodes], &id, &node, BPF_ANY)) {
		skip("T27: stamps are reserved ahead of use", "no BPF maps without privilege");
		return;
	}
	unlink(path("clocks"));
	reboot();
	clocks[1].now = 1700000000ULL * SECOND;
	is_int(state_save(&t, STATE_AHEAD_NS), 0, "T27: saved ahead of use");
	last = clocks[1].now + STATE_AHEAD_NS - 1;
	close(t.map[MAP_nodes]);
	t.map[MAP_nodes] = -1;
	reboot();
	ok(state_floor(&t, "web") >= last, "T27: what was given after the save is below the bound");
	is_int(state_floor(&t, "web"), last + 1, "T27: by no more than was reserved");
}

static void damaged(const char *text, __u64 floor, const char *sentence)
{
	unlink(path("clocks.damaged"));
	file_write(text);
	ok(!reboot() && state_floor(&t, "web") == floor && state_floor(&t, "new") == floor &&
		   !access(path("clocks.damaged"), F_OK) && access(path("clocks"), F_OK),
	   "%s", sentence);
}

static void test_damage(void)
{
	damaged("tidemark-state 1\nnext-node 5\nstamp 00000000000000ff web\n"
		"stamp 0000000000000fff db\n",
		0xfff, "cut short: everyone starts above the largest stamp in it, and it is kept");
	is_int(settings.next_node, 5, "with the ids it could read");
	damaged("tidemark-state 1\nstamp 00000000000000ff web\nnonsense\nend\n", 0xff,
		"nonsense in the middle: the same");
	damaged("", 0, "an empty file: nothing to go by");
	damaged("tidemark-state 9\nstamp 00000000000000ff web\nend\n", 0,
		"another version: nothing to go by");
	file_write("tidemark-state 1\nnext-node 5\nstamp 00000000000000ff web\nend\n");
	ok(!reboot() && state_floor(&t, "web") == 0xff && !state_floor(&t, "new"),
	   "whole again: each has its own");
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	tidemark_init(&t, NULL, dir);
	t.settings = &settings;
	t.clocks = clocks;
	t.clocks_n = 2;
	test_notes();
	test_reboot();
	test_crash();
	test_damage();
	unlink(path("clocks"));
	unlink(path("clocks.damaged"));
	rmdir(dir);
	return done();
}
