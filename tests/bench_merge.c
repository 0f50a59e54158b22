// SPDX-License-Identifier: GPL-2.0-only
/* What merging costs: five million events of four hosts, a fifth of the stamps stripped, in how much
 * time and memory, with `check` on what comes out.
 */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "world.h"

#define EVENTS 5000000ULL /* or the first argument */
#define PART 500000	  /* of a world at a time: it keeps all its events in memory */

static char dir[] = "/tmp/bench_merge.XXXXXX";

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Runs a command of the binary; prints how long it took and the most memory it had. */
static int run(const char *name, char *const argv[], const char *to, uint64_t events)
{
	double begin = seconds(), took, cpu;
	struct rusage used;
	int status, fd;
	pid_t pid = fork();

	if (!pid) {
		fd = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(fd, STDOUT_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &used) != pid)
		return -errno;
	took = seconds() - begin;
	cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
	      (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
	printf("%-24s %6.1f s, %6.1f s of CPU, %4.2f us an event, %5ld MB at most, exit %d\n", name,
	       took, cpu, cpu * 1e6 / (double)events, used.ru_maxrss / 1024, WEXITSTATUS(status));
	fflush(stdout);
	return WEXITSTATUS(status);
}

static uint64_t world_part(struct world *world, FILE *const files[])
{
	uint64_t made;

	world_run(world, PART);
	world_write(world, files, false);
	for (unsigned i = 0; i < world->nodes_n; i++)
		world->last[i] = UINT32_MAX;
	made = world->n;
	world->n = 0;
	return made;
}

int main(int argc, char **argv)
{
	struct world world = { .strip_percent = 20, .nat_percent = 30 };
	char path[WORLD_FILES + 2][64], *binary = getenv("TIDEMARK");
	FILE *files[WORLD_FILES];
	uint64_t made = 0, wanted = argc > 1 ? strtoull(argv[1], NULL, 10) : EVENTS;
	off_t bytes = 0;
	char *merge[] = {
		binary ? binary : "./tidemark", "merge", path[0], path[1], path[2], path[3], NULL
	};
	char *check[] = { merge[0], "check", "--json", path[4], NULL };
	int status;

	if (!mkdtemp(dir))
		return 1;
	world_make(&world, 3);
	world.files_n = WORLD_FILES;
	for (int i = 0; i < WORLD_FILES + 2; i++)
		snprintf(path[i], sizeof(path[i]), "%s/%d.jsonl", dir, i);
	for (int i = 0; i < WORLD_FILES; i++)
		files[i] = fopen(path[i], "w");
	while (made < wanted) {
		made += world_part(&world, files);
	}
	for (int i = 0; i < WORLD_FILES; i++) {
		bytes += ftello(files[i]);
		fclose(files[i]);
	}
	printf("about %.1f M events of %u nodes, %.0f MB of logs\n", (double)made / 1e6,
	       world.nodes_n, (double)bytes / 1e6);
	/* Or its memory would count as that of those who are started from here. */
	world_free(&world);
	status = run("merge", merge, path[4], made);
	status |= run("check of what came out", check, path[5], made);
	for (int i = 0; i < WORLD_FILES + 2; i++)
		unlink(path[i]);
	rmdir(dir);
	return status;
}
