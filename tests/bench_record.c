// SPDX-License-Identifier: GPL-2.0-only
/* What recording costs, and loses, beside tcpdump -w and stenotype on the same traffic, in turn. */
#define _GNU_SOURCE 1
#include <dirent.h>
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

enum way { NOTHING, TCPDUMP, STENOTYPE, CUTOFF, WHOLE, SECRET_CUTOFF, SECRET_WHOLE, WAYS };

static const char *const names[WAYS] = { "nothing",	    "tcpdump -w",
					 "stenotype",	    "record --cutoff 15k",
					 "record, whole",   "the same, encrypted",
					 "whole, encrypted" };
static char dir[256], tools[256];
static bool stenotype; /* is installed */

/* How much of them 15 KB of each flow are. */
static const struct trace {
	unsigned flows;
	double tail;
	const char *what;
} traces[] = {
	{ 14000, 1.2, "49 % of packets, 25 % of bytes within 15 KB of their flows" },
	{ 6500, 0.7, "17 % of packets, 6 % of bytes" },
	{ 15000, 1.05, "40 % of packets, 16 % of bytes" },
};

/* Of one tool in one round. */
struct sample {
	double start; /* CPU seconds until nothing more happens without packets */
	double own;   /* CPU seconds of its process, a million packets offered, */
	double total; /* and with its end: what was written is sealed, indexed, on disk */
	double extra; /* and all CPU, the sender's and its softirqs' too, over nothing attached */
	double lost;  /* per cent */
	double rss;   /* MiB */
	double index; /* bytes of index, a packet that is stored */
	double wall;  /* seconds a million packets, from a file */
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
	char dump[300], record[300], steno[300], key[300];
	bool cutoff = way == CUTOFF || way == SECRET_CUTOFF;
	const char *tcpdump[] = { "ip", "netns", "exec", "b",	  "tcpdump", "-i", "wb",
				  "-s", "0",	 "-B",	 "65536", "-w",	     dump, NULL };
	const char *stenographer[] = { "ip",
				       "netns",
				       "exec",
				       "b",
				       "stenotype",
				       "--iface=wb",
				       steno,
				       "--threads=1",
				       "--blocks=128",
				       "--blockage_sec=1",
				       "--seccomp=none",
				       "--uid=root",
				       "--gid=root",
				       "--no_watchdogs",
				       "-v",
				       NULL };
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
	snprintf(steno, sizeof(steno), "--dir=%s/steno", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	if (way == TCPDUMP)
		return start(tcpdump, "listening on", words);
	if (way == STENOTYPE) {
		shell("mkdir -p %s/steno/PKT0 %s/steno/IDX0", dir, dir);
		return start(stenographer, "Opening packet file", words);
	}
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

/* ---- what is there in the end ---------------------------------------------------------------- */

/* Bytes of the files below a directory whose names fit. */
static double bytes_of(const char *below, const char *name)
{
	char command[700];
	double bytes = 0;
	FILE *words;

	snprintf(
		command, sizeof(command),
		"find %s/%s -type f -name '%s' -printf '%%s\\n' | awk '{ n += $1 } END { print n + 0 }'",
		dir, below, name);
	words = popen(command, "re");
	if (!words || fscanf(words, "%lf", &bytes) != 1 || pclose(words))
		bench_die("%s: failed", command);
	return bytes;
}

/* A file of stenotype's is blocks as the kernel made them, of 1 MiB: each says how many it has. */
static double steno_stored(void)
{
	char path[600], below[300];
	struct dirent *entry;
	double stored = 0;
	uint32_t head[4];
	DIR *d;

	snprintf(below, sizeof(below), "%s/steno/PKT0", dir);
	d = opendir(below);
	while (d && (entry = readdir(d))) {
		int fd;

		snprintf(path, sizeof(path), "%s/%.250s", below, entry->d_name);
		fd = entry->d_type == DT_REG ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		for (off_t at = 0; fd >= 0 && pread(fd, head, sizeof(head), at) == sizeof(head);
		     at += 1 << 20)
			stored += head[3];
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
	return stored;
}

static double sum_of(const char *field)
{
	char line[4096], path[300];
	double sum = 0;
	json_t *row;
	FILE *file;

	snprintf(path, sizeof(path), "%s/record/stats.jsonl", dir);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		row = json_loads(line, 0, NULL);
		sum += json_number_value(json_object_get(row, field));
		json_decref(row);
	}
	if (file)
		fclose(file);
	return sum;
}

static double dropped(FILE *words)
{
	char line[4096];
	double lost = 0;

	while (fgets(line, sizeof(line), words))
		if (strstr(line, "dropped by kernel"))
			lost = atof(line);
	return lost;
}

/* Told to end it waits for another packet, which a quiet wire has not: its index is there first. */
static void steno_end(pid_t pid)
{
	/* A block that is not full is written after a second. */
	for (int i = 0; i < 50 && steno_stored() < PACKETS; i++)
		usleep(50000);
	kill(pid, SIGINT);
	for (int i = 0; i < 400 && !bytes_of("steno/IDX0", "[0-9]*"); i++)
		usleep(50000);
	kill(pid, SIGKILL);
}

static void tool_end(enum way way, pid_t pid, FILE *words, struct sample *s, struct rusage *used)
{
	double stored;

	if (way == STENOTYPE)
		steno_end(pid);
	else
		kill(pid, SIGTERM);
	if (way == TCPDUMP)
		s->lost = dropped(words);
	wait4(pid, NULL, 0, used);
	if (way == STENOTYPE) {
		stored = steno_stored();
		s->lost = PACKETS - stored;
		s->index = bytes_of("steno/IDX0", "*") / stored;
	} else if (way != TCPDUMP) {
		s->lost = sum_of("lost_packets");
		stored = sum_of("stored_packets") - s->lost;
		s->index = bytes_of("record", "*.index") / stored;
	}
	fclose(words);
}

/* All CPU that is spent on the world while the trace is sent: idle time is what is not. */
static void measure(enum way way, unsigned rate, const struct trace *trace, struct sample *s)
{
	struct rusage used = {}, before, after;
	FILE *words = NULL;
	pid_t pid = 0;

	memset(s, 0, sizeof(*s));
	shell("rm -rf %s/record %s/steno %s/dump", dir, dir, dir);
	if (way != NOTHING)
		pid = tool_start(way, &words);
	if (pid)
		s->start = settled(pid);
	getrusage(RUSAGE_CHILDREN, &before);
	shell("ip netns exec a %s/gen_replay -i wa -r %u %s/trace%u >/dev/null", tools, rate, dir,
	      trace->flows);
	getrusage(RUSAGE_CHILDREN, &after);
	if (pid) {
		s->own = settled(pid) - s->start;
		tool_end(way, pid, words, s, &used);
	}
	s->lost *= 100.0 / PACKETS;
	s->own *= 1e6 / PACKETS;
	s->total = (seconds(&used) - s->start) * 1e6 / PACKETS;
	s->extra = s->total + (seconds(&after) - seconds(&before)) * 1e6 / PACKETS;
	s->rss = used.ru_maxrss / 1024.0;
}

/* From a file into a record, or a file: nothing is lost, and nothing waits. */
static void ingest(enum way way, const struct trace *trace, struct sample *s)
{
	struct rusage before, after;
	char key[300];
	double began;

	memset(s, 0, sizeof(*s));
	snprintf(key, sizeof(key), "%s/key", dir);
	shell("rm -rf %s/record %s/dump", dir, dir);
	getrusage(RUSAGE_CHILDREN, &before);
	began = bench_wall();
	if (way == TCPDUMP)
		shell("tcpdump -r %s/trace%u -w %s/dump 2>/dev/null", dir, trace->flows, dir);
	else
		shell("%s record --pin-dir %s --state-dir %s -r %s/trace%u -d %s/record %s "
		      "%s%s 2>/dev/null",
		      bench_binary(), BENCH_PINS, bench_state_dir(), dir, trace->flows, dir,
		      way == CUTOFF || way == SECRET_CUTOFF ? "--cutoff 15k" : "",
		      way < SECRET_CUTOFF ? "" : "--key-file ", way < SECRET_CUTOFF ? "" : key);
	s->wall = (bench_wall() - began) * 1e6 / PACKETS;
	getrusage(RUSAGE_CHILDREN, &after);
	s->total = (seconds(&after) - seconds(&before)) * 1e6 / PACKETS;
}

static double middle(const struct sample all[ROUNDS], size_t at)
{
	double values[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		values[i] = *(const double *)((const char *)&all[i] + at);
	return median(values, ROUNDS);
}

#define MIDDLE(way, field) middle(s[way], offsetof(struct sample, field))

static void compare_files(const struct trace *trace)
{
	static struct sample s[WAYS][ROUNDS];

	for (int round = 0; round < ROUNDS; round++)
		for (int way = TCPDUMP; way < WAYS; way++)
			if (way != STENOTYPE)
				ingest(way, trace, &s[way][round]);
	printf("From a file, start and end included\n%-22s %8s %8s %8s %8s\n", "", "s/M pkt",
	       "/tcpdump", "wall", "/tcpdump");
	for (int way = TCPDUMP; way < WAYS; way++)
		if (way != STENOTYPE)
			printf("%-22s %8.3f %8.2f %8.3f %8.2f\n", names[way], MIDDLE(way, total),
			       MIDDLE(way, total) / MIDDLE(TCPDUMP, total), MIDDLE(way, wall),
			       MIDDLE(way, wall) / MIDDLE(TCPDUMP, wall));
	fflush(stdout);
}

static void compare(unsigned rate, const struct trace *trace)
{
	static struct sample s[WAYS][ROUNDS];
	double nothing;

	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < WAYS; way++)
			if (way != STENOTYPE || stenotype)
				measure(way, rate, trace, &s[way][round]);
	nothing = MIDDLE(NOTHING, extra);
	if (rate)
		printf("At %u packets a second\n", rate);
	else
		printf("As fast as it is sent\n");
	printf("%-20s %8s %8s %8s %8s %8s %8s %8s %20s %8s %6s\n", "", "start s", "s/M pkt",
	       "/tcpdump", "and end", "/tcpdump", "sender's", "/tcpdump", "lost %", "RSS MiB",
	       "index");
	for (int way = TCPDUMP; way < WAYS; way++) {
		if (way == STENOTYPE && !stenotype) {
			printf("%-20s not installed: tools/setup --bench\n", names[way]);
			continue;
		}
		printf("%-20s %8.2f %8.3f %8.2f %8.3f %8.2f %8.3f %8.2f ", names[way],
		       MIDDLE(way, start), MIDDLE(way, own),
		       MIDDLE(way, own) / MIDDLE(TCPDUMP, own), MIDDLE(way, total),
		       MIDDLE(way, total) / MIDDLE(TCPDUMP, total), MIDDLE(way, extra) - nothing,
		       (MIDDLE(way, extra) - nothing) / (MIDDLE(TCPDUMP, extra) - nothing));
		for (int round = 0; round < ROUNDS; round++)
			printf(" %6.2f", s[way][round].lost);
		printf(" %8.0f %6.1f\n", MIDDLE(way, rss), MIDDLE(way, index));
	}
	fflush(stdout);
}

static void trace_compare(const struct trace *trace)
{
	printf("\n%d packets of %u flows: %s\n", PACKETS, trace->flows, trace->what);
	fflush(stdout);
	shell("mkdir -p %s && %s/gen_trace -p %d -f %u -a %g >%s/trace%u", dir, tools, PACKETS,
	      trace->flows, trace->tail, dir, trace->flows);
	compare(60000, trace);
	compare(0, trace);
	compare_files(trace);
}

/* Each argument is the number of a trace, from 1; none: all of them. */
int main(int argc, char **argv)
{
	snprintf(dir, sizeof(dir), "%s/bench", bench_state_dir());
	snprintf(tools, sizeof(tools), "%s", dirname(argv[0]));
	stenotype = !system("command -v stenotype >/dev/null");
	shell("ip netns add a && ip netns add b && "
	      "ip link add wa netns a type veth peer name wb netns b && "
	      "for n in a b; do ip -n $n link set w$n mtu 2000 arp off multicast off up; done");
	shell("mkdir -p %s && umask 077 && head -c 32 /dev/urandom >%s/key", dir, dir);
	printf("Recording over veth, medians of %d rounds in turn. CPU of the tool's process: until "
	       "it has settled;\nthen a million packets offered; the same with its end, at which "
	       "what was kept is sealed and\nindexed; the same with what sending costs more than "
	       "without any tool (the kernel's part).\nLost: in each round. Index: bytes a packet "
	       "that is stored. Stenotype cuts nothing.\n",
	       ROUNDS);
	for (size_t i = 0; i < sizeof(traces) / sizeof(traces[0]); i++) {
		bool wanted = argc == 1;

		for (int k = 1; k < argc; k++)
			wanted |= (size_t)atoi(argv[k]) == i + 1;
		if (wanted)
			trace_compare(&traces[i]);
	}
	shell("rm -rf %s", dir);
	return 0;
}
