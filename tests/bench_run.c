// SPDX-License-Identifier: GPL-2.0-only
/* The idle daemon: how long until it watches, and how much memory it holds. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

#define STARTS 20
#define READY_BUDGET_MS 20
#define RESIDENT_BUDGET_KB (8 << 10)

static const char *dir;
static char config[512];

/* With all that marks have: pipe, API, marker, fireflies. */
#define MARK                                                                                    \
	"mark: {pipes: [{path: %s/np}], receive: ['127.0.0.1:10514'], fireflies: "              \
	"{collectors: ['127.0.0.1:10600'], ongoing: true}, rules: [{dst: ':1094', experiment: " \
	"atlas, activity: 9}]}\n"

static void config_write(bool marks)
{
	FILE *file;

	snprintf(config, sizeof(config), "%s/bench.yaml", dir);
	file = fopen(config, "w");
	if (!file)
		bench_die("%s: %s", config, strerror(errno));
	fprintf(file,
		"nodes: [netns:a, netns:b]\n"
		"trace: {write: {dir: %s/log}, socket: {path: %s/events}, "
		"otlp: {url: 'http://127.0.0.1:4318'}}\n"
		"api: {listen: ['127.0.0.1:9464', 'unix:%s/api']}\n",
		dir, dir, dir);
	if (marks)
		fprintf(file, MARK, dir);
	fclose(file);
}

static pid_t start(int *words)
{
	char *const argv[] = { "tidemark", "run",	  "-c",	       config, "--pin-dir",
			       BENCH_PINS, "--state-dir", (char *)dir, NULL };
	posix_spawn_file_actions_t actions;
	int fds[2], err;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		bench_die("no pipe");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 2);
	err = posix_spawn(&pid, bench_binary(), &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		bench_die("%s: %s", bench_binary(), strerror(err));
	close(fds[1]);
	*words = fds[0];
	return pid;
}

static void await_watching(int fd)
{
	char text[4096] = "";
	size_t have = 0;
	ssize_t n;

	while (!strstr(text, "watching") &&
	       (n = read(fd, text + have, sizeof(text) - 1 - have)) > 0)
		text[have += n] = 0;
	if (!strstr(text, "watching"))
		bench_die("run does not start: %s", text);
}

static double status_kb(pid_t pid, const char *key)
{
	char path[64], line[256];
	double kb = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			kb = atof(line + strlen(key));
	if (file)
		fclose(file);
	return kb;
}

static void bench(const char *what)
{
	double ready[STARTS], resident = 0, own = 0;
	int words, status;
	pid_t pid;

	printf("\nThe daemon, two nodes, all sinks, API on TCP and a unix socket%s.\n\n", what);
	for (int i = 0; i < STARTS; i++) {
		double began = bench_wall();

		pid = start(&words);
		await_watching(words);
		ready[i] = (bench_wall() - began) * 1e3;
		/* The API answers once the loop runs, and then everything is there. */
		if (system("curl -sf --retry 20 --retry-connrefused http://127.0.0.1:9464/metrics "
			   ">/dev/null"))
			bench_die("the API does not answer");
		resident = status_kb(pid, "VmRSS:");
		own = status_kb(pid, "RssAnon:");
		kill(pid, SIGTERM);
		if (waitpid(pid, &status, 0) != pid || status)
			bench_die("run ends with status %#x", status);
		close(words);
	}
	printf("%-52s %8.1f ms   %d %s\n", "exec to \"watching\"", median(ready, STARTS),
	       READY_BUDGET_MS, median(ready, STARTS) <= READY_BUDGET_MS ? "ok" : "over");
	printf("%-52s %8.0f kB   %d %s\n", "resident, rings of 1 MiB a CPU mapped twice", resident,
	       RESIDENT_BUDGET_KB, resident <= RESIDENT_BUDGET_KB ? "ok" : "over");
	printf("%-52s %8.0f kB\n", "  of it its own", own);
}

int main(void)
{
	dir = bench_state_dir();
	if (system("for n in a b; do ip netns add $n && ip -n $n link set lo up; done"))
		bench_die("cannot make namespaces");
	config_write(false);
	bench("");
	config_write(true);
	bench(";\nof marks a pipe, fireflies both ways, rules");
	return 0;
}
