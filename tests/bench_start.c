// SPDX-License-Identifier: GPL-2.0-only
/* How long a start takes: `trace` on two nodes until it watches, `up` on many. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

#define STARTS 20
#define READY_BUDGET_MS 20
#define BINARY_BUDGET_BYTES (4 << 20)
#define NODES 100
#define NETNS "/run/netns/"

static const char *binary;
static char *state_dir;

struct took {
	double wall, cpu; /* seconds */
};

/* A named namespace whose loopback is up and which has a device that is attached. */
static void namespace_make(const char *name)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "ip netns add %s && ip -n %s link set lo up && "
		 "ip -n %s link add eth0 type veth peer name peer && "
		 "ip -n %s link set eth0 up && ip -n %s link set peer up",
		 name, name, name, name, name);
	if (system(command))
		bench_die("cannot make namespace %s", name);
}

static double cpu_of(const struct rusage *usage)
{
	return usage->ru_utime.tv_sec + usage->ru_stime.tv_sec +
	       (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1e-6;
}

static pid_t start(char *const argv[], int *words)
{
	posix_spawn_file_actions_t actions;
	int pipe_fds[2], err;
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC))
		bench_die("no pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], 2);
	err = posix_spawn(&pid, binary, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		bench_die("%s: %s", binary, strerror(err));
	close(pipe_fds[1]);
	*words = pipe_fds[0];
	return pid;
}

/* Until the words are said, or the end. */
static bool said(int fd, const char *words)
{
	char text[4096];
	size_t have = 0;
	ssize_t n;

	while (have < sizeof(text) - 1 &&
	       (n = read(fd, text + have, sizeof(text) - 1 - have)) > 0) {
		have += n;
		text[have] = 0;
		if (words && strstr(text, words))
			return true;
	}
	text[have] = 0;
	if (words)
		fputs(text, stderr);
	return false;
}

static struct took trace_once(void)
{
	char *const argv[] = { "tidemark",  "trace",	"-n",	       "netns:a", "-n", "netns:b",
			       "--pin-dir", BENCH_PINS, "--state-dir", state_dir, NULL };
	struct took took = {};
	struct timespec used;
	clockid_t clock;
	double began = bench_wall();
	int words, status;
	pid_t pid = start(argv, &words);

	if (!said(words, "watching"))
		bench_die("trace does not start");
	took.wall = bench_wall() - began;
	if (!clock_getcpuclockid(pid, &clock) && !clock_gettime(clock, &used))
		took.cpu = used.tv_sec + used.tv_nsec * 1e-9;
	kill(pid, SIGTERM);
	said(words, NULL);
	close(words);
	if (waitpid(pid, &status, 0) != pid || status)
		bench_die("trace ends with status %#x", status);
	return took;
}

static struct took command_once(char *const argv[])
{
	struct took took;
	struct rusage usage;
	double began = bench_wall();
	int words, status;
	pid_t pid = start(argv, &words);

	said(words, NULL);
	close(words);
	if (wait4(pid, &status, 0, &usage) != pid || status)
		bench_die("%s ends with status %#x", argv[1], status);
	took.wall = bench_wall() - began;
	took.cpu = cpu_of(&usage);
	return took;
}

static void starts_print(void)
{
	double wall[STARTS], cpu[STARTS], middle;
	struct took took;

	for (int i = 0; i < STARTS; i++) {
		took = trace_once();
		wall[i] = took.wall * 1e3;
		cpu[i] = took.cpu * 1e3;
	}
	middle = median(wall, STARTS);
	printf("%-52s %8.1f ms   %d %s (%.1f to %.1f)\n", "trace, two nodes: exec to \"watching\"",
	       middle, READY_BUDGET_MS, middle <= READY_BUDGET_MS ? "ok" : "over", wall[0],
	       wall[STARTS - 1]);
	middle = median(cpu, STARTS);
	printf("%-52s %8.1f ms   (%.1f to %.1f)\n", "  CPU used until then", middle, cpu[0],
	       cpu[STARTS - 1]);
	fflush(stdout);
}

/* The end of an `up` is the end of the process: everything is attached. */
static void many_print(const char *how)
{
	char *up[2 * NODES + 16] = { "tidemark",    "up",      "--pin-dir", BENCH_PINS,
				     "--state-dir", state_dir, "--attach",  (char *)how };
	char *const down[] = { "tidemark",    "down",	 "--pin-dir", BENCH_PINS,
			       "--state-dir", state_dir, NULL };
	static char names[NODES][24];
	struct took none, all, gone;

	up[8] = "-n";
	up[9] = "netns:a";
	none = command_once(up);
	command_once(down);
	for (int i = 0; i < NODES; i++) {
		snprintf(names[i], sizeof(names[i]), "netns:n%d", i);
		up[8 + 2 * i] = "-n";
		up[9 + 2 * i] = names[i];
	}
	all = command_once(up);
	gone = command_once(down);
	printf("up, by %-8s one node %5.1f ms; each further one %6.3f ms, %6.3f ms of CPU; "
	       "down %6.3f ms\n",
	       how, none.wall * 1e3, (all.wall - none.wall) * 1e3 / (NODES - 1),
	       (all.cpu - none.cpu) * 1e3 / (NODES - 1), gone.wall * 1e3 / NODES);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char name[16];
	struct stat st;

	(void)argv;
	binary = bench_binary();
	state_dir = (char *)bench_state_dir();
	if (stat(binary, &st))
		bench_die("%s: %s", binary, strerror(errno));
	puts("\nStart.\n");
	printf("%-52s %8.2f MB   %d %s\n", "size of the binary", st.st_size / 1048576.0,
	       BINARY_BUDGET_BYTES >> 20, st.st_size <= BINARY_BUDGET_BYTES ? "ok" : "over");
	namespace_make("a");
	namespace_make("b");
	starts_print();
	if (argc > 1) /* the start alone */
		return 0;
	for (int i = 0; i < NODES; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		namespace_make(name);
	}
	printf("\nAttaching %d nodes with a veth pair in each; ms a node are seconds per 1000 nodes.\n\n",
	       NODES);
	many_print("clsact");
	many_print("tcx");
	return 0;
}
