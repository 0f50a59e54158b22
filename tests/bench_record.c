// SPDX-License-Identifier: GPL-2.0-only
/* What recording costs, and loses, beside tcpdump -w on the same traffic in the same run. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "bench.h"

#define ROUNDS 3
#define PACKETS 300000

enum way { NOTHING, TCPDUMP, CUTOFF, WHOLE, SECRET_CUTOFF, SECRET_WHOLE, WAYS };

static const char *const names[WAYS] = {
	"nothing",	 "tcpdump -w",		"record --cutoff 15k",
	"record, whole", "the same, encrypted", "whole, encrypted"
};
static char dir[256], tools[256];

/* Of the second, with ten times the packets a flow, 15 KB of each are 7 % of all bytes. */
static const struct {
	unsigned flows;
	const char *what;
} traces[] = { { 15000, "heavy-tailed" }, { 1500, "with a heavier tail" } };

/* Of one tool in one round. */
struct sample {
	double start; /* CPU seconds until nothing more happens without packets */
	double own;   /* CPU seconds of its process, a million packets offered, */
	double total; /* and with its end: what was written is sealed, indexed, on disk */
	double extra; /* and all CPU, the sender's and its softirqs' too, over nothing attached */
	double lost;  /* per cent */
	double rss;   /* MiB */
};

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command))
		bench_die("%s: failed", command);
}

static double seconds(const struct rusage *u)
{
	return u->ru_utime.tv_sec + u->ru_stime.tv_sec +
	       (u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1e6;
}

/* Starts it with its words in a pipe, and waits for the one that says it receives. */
static pid_t start(const char *const argv[], const char *ready, FILE **words)
{
	char line[512];
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		bench_die("pipe: %s", strerror(errno));
	pid = fork();
	if (!pid) {
		dup2(ends[1], STDERR_FILENO);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(ends[1]);
	*words = fdopen(ends[0], "r");
	while (*words && fgets(line, sizeof(line), *words))
		if (strstr(line, ready))
			return pid;
	bench_die("%s: does not start", argv[0]);
}

static pid_t tool_start(enum way way, FILE **words)
{
	char dump[300], record[300], key[300];
	bool cutoff = way == CUTOFF || way == SECRET_CUTOFF;
	const char *tcpdump[] = { "ip", "netns", "exec", "b",	  "tcpdump", "-i", "wb",
				  "-s", "0",	 "-B",	 "65536", "-w",	     dump, NULL };
	const char *cut[] = { "nsenter",
			      "--net=/run/netns/b",
			      "--",
			      bench_binary(),
			      "record",
			      "--pin-dir",
			      BENCH_PINS,
			      "--state-dir",
			      bench_state_dir(),
			      "-i",
			      "wb",
			      "-d",
			      record,
			      "--cutoff",
			      cutoff ? "15k" : "no",
			      way < SECRET_CUTOFF ? NULL : "--key-file",
			      key,
			      NULL };

	snprintf(dump, sizeof(dump), "%s/dump", dir);
	snprintf(record, sizeof(record), "%s/record", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	if (way == TCPDUMP)
		return start(tcpdump, "listening on", words);
	return start(cut, "recording", words);
}

/* What it has used so far. */
static double used_by(pid_t pid)
{
	unsigned long user = 0, system = 0;
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "re");
	if (!file ||
	    fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
		   &system) != 2)
		bench_die("%s: %s", path, strerror(errno));
	fclose(file);
	return (user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Its start is not what a packet costs: until its clock stands still. */
static double settled(pid_t pid)
{
	double before = -1, now = used_by(pid);

	for (int i = 0; i < 100 && now > before; i++) {
		before = now;
		usleep(200000);
		now = used_by(pid);
	}
	return now;
}

static double lost_of(enum way way, FILE *words)
{
	char line[4096], path[300];
	double lost = 0;
	json_t *row;
	FILE *file;

	if (way == TCPDUMP) {
		while (fgets(line, sizeof(line), words))
			if (strstr(line, "dropped by kernel"))
				lost = atof(line);
		return lost;
	}
	snprintf(path, sizeof(path), "%s/record/stats.jsonl", dir);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		row = json_loads(line, 0, NULL);
		lost += json_number_value(json_object_get(row, "lost_packets"));
		json_decref(row);
	}
	if (file)
		fclose(file);
	return lost;
}

/* All CPU that is spent on the world while the trace is sent: idle time is what is not. */
static void measure(enum way way, unsigned rate, unsigned flows, struct sample *s)
{
	struct rusage used = {}, before, after;
	FILE *words = NULL;
	pid_t pid = 0;

	shell("rm -rf %s/record %s/dump", dir, dir);
	if (way != NOTHING)
		pid = tool_start(way, &words);
	if (pid)
		s->start = settled(pid);
	getrusage(RUSAGE_CHILDREN, &before);
	shell("ip netns exec a %s/gen_replay -i wa -r %u %s/trace%u >/dev/null", tools, rate, dir,
	      flows);
	getrusage(RUSAGE_CHILDREN, &after);
	if (pid) {
		s->own = settled(pid) - s->start;
		kill(pid, SIGTERM);
		s->lost = 0;
		if (way == TCPDUMP)
			s->lost = lost_of(way, words);
		wait4(pid, NULL, 0, &used);
		if (way != TCPDUMP)
			s->lost = lost_of(way, words);
		fclose(words);
	}
	s->lost *= 100.0 / PACKETS;
	s->own *= 1e6 / PACKETS;
	s->total = (seconds(&used) - s->start) * 1e6 / PACKETS;
	s->extra = s->total + (seconds(&after) - seconds(&before)) * 1e6 / PACKETS;
	s->rss = used.ru_maxrss / 1024.0;
}

static double middle(const struct sample all[ROUNDS], size_t at)
{
	double values[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		values[i] = *(const double *)((const char *)&all[i] + at);
	return median(values, ROUNDS);
}

#define MIDDLE(way, field) middle(s[way], offsetof(struct sample, field))

static void compare(unsigned rate, unsigned flows)
{
	static struct sample s[WAYS][ROUNDS];
	double nothing;

	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < WAYS; way++)
			measure(way, rate, flows, &s[way][round]);
	nothing = MIDDLE(NOTHING, extra);
	if (rate)
		printf("At %u packets a second\n", rate);
	else
		printf("As fast as it is sent\n");
	printf("%-22s %8s %8s %8s %8s %8s %8s %8s %8s %8s\n", "", "start s", "s/M pkt", "/tcpdump",
	       "and end", "/tcpdump", "sender's", "/tcpdump", "lost %", "RSS MiB");
	for (int way = TCPDUMP; way < WAYS; way++)
		printf("%-22s %8.2f %8.3f %8.2f %8.3f %8.2f %8.3f %8.2f %8.3f %8.0f\n", names[way],
		       MIDDLE(way, start), MIDDLE(way, own),
		       MIDDLE(way, own) / MIDDLE(TCPDUMP, own), MIDDLE(way, total),
		       MIDDLE(way, total) / MIDDLE(TCPDUMP, total), MIDDLE(way, extra) - nothing,
		       (MIDDLE(way, extra) - nothing) / (MIDDLE(TCPDUMP, extra) - nothing),
		       MIDDLE(way, lost), MIDDLE(way, rss));
}

int main(int argc, char **argv)
{
	(void)argc;
	snprintf(dir, sizeof(dir), "%s/bench", bench_state_dir());
	snprintf(tools, sizeof(tools), "%s", dirname(argv[0]));
	shell("ip netns add a && ip netns add b && "
	      "ip link add wa netns a type veth peer name wb netns b && "
	      "for n in a b; do ip -n $n link set w$n mtu 2000 arp off multicast off up; done");
	shell("mkdir -p %s && umask 077 && head -c 32 /dev/urandom >%s/key", dir, dir);
	printf("Recording over veth, medians of %d rounds in turn. CPU of the tool's process: until "
	       "it has settled;\nthen a million packets offered; the same with its end, at which "
	       "what was kept is sealed and\nindexed; the same with what sending costs more than "
	       "without any tool (the kernel's part).\n",
	       ROUNDS);
	for (size_t i = 0; i < sizeof(traces) / sizeof(traces[0]); i++) {
		printf("\n%d packets of %u flows, %s\n", PACKETS, traces[i].flows, traces[i].what);
		fflush(stdout);
		shell("mkdir -p %s && %s/gen_trace -p %d -f %u >%s/trace%u", dir, tools, PACKETS,
		      traces[i].flows, dir, traces[i].flows);
		compare(60000, traces[i].flows);
		compare(0, traces[i].flows);
	}
	shell("rm -rf %s", dir);
	return 0;
}
