// SPDX-License-Identifier: GPL-2.0-only
/* How long answers take, warm and cold, beside a scan by tcpdump; and what the index weighs. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../user/bytes.h"
#include "../user/index.h"
#include "bench.h"

#define ROUNDS 3

static unsigned packets = 2000000;
static char dir[256], tools[256];

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

/* Out of the page cache: this file's pages only, for the machine is not ours alone. */
static void file_forget(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
}

static void each_file(const char *record, void (*each)(const char *path))
{
	char path[600], below[600];
	struct dirent *entry;
	DIR *d;

	snprintf(below, sizeof(below), "%s/%s/all", dir, record);
	d = opendir(below);
	while (d && (entry = readdir(d))) {
		snprintf(path, sizeof(path), "%.300s/%.250s", below, entry->d_name);
		if (entry->d_type == DT_REG)
			each(path);
	}
	if (d)
		closedir(d);
}

/* A record, or NULL: the trace. */
static void forget(const char *record)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/trace", dir);
	if (record)
		each_file(record, file_forget);
	else
		file_forget(path);
}

/* Wall milliseconds of a program. */
static double run_ms(const char *const argv[])
{
	double began = bench_wall();
	pid_t pid = fork();
	int status;

	if (!pid) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		bench_die("%s: failed", argv[0]);
	return (bench_wall() - began) * 1000;
}

/* By a query of a record, or by tcpdump of the trace. */
static double ask_ms(const char *name, const char *text)
{
	char record[300], trace[300], key[300];
	const char *query[] = { bench_binary(), "query", "-d", record, "--key-file", key,
				"-w",		"-",	 text, NULL };
	const char *tcpdump[] = { "tcpdump", "-r", trace, "-w", "-", text, NULL };

	snprintf(record, sizeof(record), "%s/%s", dir, name ? name : "");
	snprintf(trace, sizeof(trace), "%s/trace", dir);
	snprintf(key, sizeof(key), "%s/key", dir);
	return run_ms(name ? query : tcpdump);
}

/* The number that a command says first. */
__attribute__((format(printf, 1, 2))) static unsigned long count(const char *format, ...)
{
	char command[1400], line[64] = "";
	FILE *words;
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	words = popen(command, "re");
	if (!words || !fgets(line, sizeof(line), words) || pclose(words))
		bench_die("%s: failed", command);
	return strtoul(line, NULL, 10);
}

struct way {
	const char *record; /* NULL: tcpdump */
	const char *text;
	double warm[ROUNDS], cold[ROUNDS];
};

/* Side by side: each round asks both, warm and cold. */
static void compare(const char *what, struct way ways[2], unsigned long scanned)
{
	for (int way = 0; way < 2; way++)
		ask_ms(ways[way].record, ways[way].text);
	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < 2; way++)
			ways[way].warm[round] = ask_ms(ways[way].record, ways[way].text);
	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < 2; way++) {
			forget(ways[way].record);
			ways[way].cold[round] = ask_ms(ways[way].record, ways[way].text);
		}
	printf("%-24s %8lu ", what,
	       count("%s query -d %s/%s --key-file %s/key --count '%s'", bench_binary(), dir,
		     ways[0].record, dir, ways[0].text));
	if (!ways[1].record)
		printf("%8lu ", scanned);
	printf("%9.1f %9.1f %7.2f %10.1f %9.1f %7.2f\n", median(ways[0].warm, ROUNDS),
	       median(ways[1].warm, ROUNDS),
	       median(ways[0].warm, ROUNDS) / median(ways[1].warm, ROUNDS),
	       median(ways[0].cold, ROUNDS), median(ways[1].cold, ROUNDS),
	       median(ways[0].cold, ROUNDS) / median(ways[1].cold, ROUNDS));
	fflush(stdout);
}

/* How it is asked here and there; `pick`: awk's condition for what tcpdump cannot say. */
struct ask {
	const char *what, *text, *scan, *pick;
};

static void against_scan(const struct ask *ask)
{
	struct way ways[2] = { { .record = "whole", .text = ask->text }, { .text = ask->scan } };

	compare(ask->what, ways,
		count("tcpdump -ttnr %s/trace '%s' 2>/dev/null | awk '%s { n++ } END { print n + 0 }'",
		      dir, ask->scan, ask->pick ?: "/^[0-9]/"));
}

/* The same files with joint indexes and without. */
static void against_bare(const char *what, const char *text)
{
	struct way ways[2] = { { .record = "small", .text = text },
			       { .record = "bare", .text = text } };

	compare(what, ways, 0);
}

/* The same packets encrypted and plain. */
static void against_plain(const char *what, const char *text)
{
	struct way ways[2] = { { .record = "secret", .text = text },
			       { .record = "whole", .text = text } };

	compare(what, ways, 0);
}

/* ---- the index -------------------------------------------------------------------------------- */

static void weigh(const char *what)
{
	unsigned long long bytes = 0, flows = 0, kept = 0, n = 0, tracks = 0, joints = 0, files = 0;
	unsigned char head[INDEX_HEAD];
	char path[300], file[600];
	struct dirent *entry;
	struct stat st;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s/all", dir, what);
	d = opendir(path);
	while (d && (entry = readdir(d))) {
		FILE *index;

		snprintf(file, sizeof(file), "%s/%.250s", path, entry->d_name);
		if (stat(file, &st))
			continue;
		flows += strstr(file, ".flows") ? (unsigned long long)st.st_size : 0;
		joints += strstr(file, ".joint") ? (unsigned long long)st.st_size : 0;
		if (!strstr(file, ".index"))
			continue;
		index = fopen(file, "re");
		if (!index || fread(head, sizeof(head), 1, index) != 1)
			bench_die("%s: %s", file, strerror(errno));
		fclose(index);
		bytes += (unsigned long long)st.st_size;
		files++;
		kept += get_u64(head + 88);
		n += get_u32(head + 96);
		tracks += get_u32(head + 100);
	}
	if (d)
		closedir(d);
	printf("%-8s %9llu packets in %5llu files, %5.1f a track, %4llu bytes each: bytes a packet: "
	       "index %5.2f, joint %5.2f, together %5.2f; flow records %5.2f\n",
	       what, n, files, (double)n / (double)tracks, kept / n, (double)bytes / (double)n,
	       (double)joints / (double)n, (double)(bytes + joints) / (double)n,
	       (double)flows / (double)n);
}

/* ---- who is asked about ----------------------------------------------------------------------- */

#define WORD 160

struct names {
	char busy[32], mid[32], rare[32], conn[WORD], conn_scan[WORD], pair[WORD], net[WORD];
	unsigned port;
	unsigned long second; /* in the middle of the trace */
};

__attribute__((format(scanf, 2, 3))) static void ask_trace(const char *tail, const char *format,
							   ...)
{
	char command[1400], line[WORD] = "";
	FILE *words;
	va_list args;

	snprintf(command, sizeof(command), "tcpdump -ttnr %s/trace %s", dir, tail);
	words = popen(command, "re");
	va_start(args, format);
	if (!words || !fgets(line, sizeof(line), words) || vsscanf(line, format, args) < 1 ||
	    pclose(words))
		bench_die("%s: %s", command, line);
	va_end(args);
}

/* By frequency in the trace, told by tcpdump, so that nobody's index chooses. */
static void names_choose(struct names *n)
{
	char tail[600], a[32], b[32];
	unsigned pa, pb;

	ask_trace("'ip and tcp' 2>/dev/null | awk '{ split($3, a, \".\"); "
		  "n[a[1] \".\" a[2] \".\" a[3] \".\" a[4]]++ } END { for (h in n) { "
		  "if (n[h] > n[busy]) busy = h; if (n[h] > 3000 && n[h] < 6000) mid = h; "
		  "if (n[h] > 50 && n[h] < 150) rare = h } print busy, mid, rare }'",
		  "%31s %31s %31s", n->busy, n->mid, n->rare);
	snprintf(tail, sizeof(tail),
		 "'host %s and tcp' -c 1 2>/dev/null | "
		 "sed -E 's/.* IP ([0-9.]+)\\.([0-9]+) > ([0-9.]+)\\.([0-9]+):.*/\\1 \\2 \\3 \\4/'",
		 n->rare);
	ask_trace(tail, "%31s %u %31s %u", a, &pa, b, &pb);
	snprintf(n->conn, WORD, "conn %s:%u %s:%u and tcp", a, pa, b, pb);
	snprintf(n->conn_scan, WORD, "tcp and host %s and host %s and port %u and port %u", a, b,
		 pa, pb);
	snprintf(n->pair, WORD, "host %s and host %s", a, b);
	*strrchr(a, '.') = 0;
	snprintf(n->net, WORD, "net %s.0/24 and host %s", a, b);
	/* Like 3389 in the published trace: a port that 2.5 % of packets have, or the nearest. */
	ask_trace(
		"'ip and (tcp or udp)' 2>/dev/null | awk '{ split($5, a, /[.:]/); "
		"if (a[5] < 32768) n[a[5]] += 2 } END { for (p in n) { d = n[p] - NR / 40; "
		"d = d < 0 ? -d : d; if (p + 0 && (!least || d < least)) { least = d; port = p } } "
		"print port }'",
		"%u", &n->port);
	snprintf(tail, sizeof(tail), "-c %u 2>/dev/null | tail -n 1", packets / 2);
	ask_trace(tail, "%lu", &n->second);
}

static void of_few_files(const struct names *n)
{
	char text[10][WORD], pick[WORD];
	struct ask asks[] = {
		{ "rare host", text[0], text[0], NULL },
		{ "mid host", text[1], text[1], NULL },
		{ "busy host", text[2], text[2], NULL },
		{ "absent host", "host 203.0.113.77", "host 203.0.113.77", NULL },
		{ "connection", n->conn, n->conn_scan, NULL },
		{ "two hosts", n->pair, n->pair, NULL },
		{ "net and host", n->net, n->net, NULL },
		{ text[9], text[3], text[3], NULL },
		{ "port 443", "port 443", "port 443", NULL },
		{ "443 and not busy host", text[4], text[4], NULL },
		{ "rare or mid, tcp, not 443", text[5], text[5], NULL },
		{ "DNS or ICMP, not rare", text[6], text[6], NULL },
		{ "busy host, 1 s of it", text[7], text[2], pick },
		{ "1 s of it", text[8], "", pick },
	};

	snprintf(text[0], WORD, "host %s", n->rare);
	snprintf(text[1], WORD, "host %s", n->mid);
	snprintf(text[2], WORD, "host %s", n->busy);
	snprintf(text[3], WORD, "port %u", n->port);
	snprintf(text[4], WORD, "port 443 and not host %s", n->busy);
	snprintf(text[5], WORD, "(host %s or host %s) and tcp and not port 443", n->rare, n->mid);
	snprintf(text[6], WORD, "(udp port 53 or icmp) and not host %s", n->rare);
	snprintf(text[7], WORD, "host %s and after %lu and before %lu", n->busy, n->second,
		 n->second + 1);
	snprintf(text[8], WORD, "after %lu and before %lu", n->second, n->second + 1);
	snprintf(text[9], WORD, "port %u", n->port);
	snprintf(pick, WORD, "$1 >= %lu && $1 < %lu", n->second, n->second + 1);
	printf("\nPackets of %u as a file, milliseconds, medians of %d rounds in turn; cold: not in the "
	       "page cache.\nWhere a port is asked for, later fragments are found here and not there. "
	       "A time tcpdump\ncannot be asked for: it scans for the rest, and its count is of what is "
	       "within.\n",
	       packets, ROUNDS);
	printf("%-24s %8s %8s %9s %9s %7s %10s %9s %7s\n", "", "packets", "tcpdump", "query",
	       "tcpdump", "", "cold", "tcpdump", "");
	for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++)
		against_scan(&asks[i]);
}

static void of_many_files(const struct names *n)
{
	char text[160];

	shell("%s/gen_segments -d %s/small -s 1m %s/trace", tools, dir, dir);
	shell("cp -rl %s/small %s/bare && rm -f %s/bare/all/*.joint*", dir, dir, dir);
	printf("\nThe same packets in files of 1 MiB, with joint indexes and without\n");
	weigh("small");
	printf("%-24s %8s %9s %9s %7s %10s %9s %7s\n", "", "packets", "joint", "without", "",
	       "cold", "without", "");
	snprintf(text, sizeof(text), "host %s", n->rare);
	against_bare("rare host", text);
	against_bare("absent host", "host 203.0.113.77");
	against_bare("connection", n->conn);
	against_bare("absent port", "port 9");
	snprintf(text, sizeof(text), "after %lu and before %lu", n->second, n->second + 1);
	against_bare("one second", text);
	against_bare("port 443", "port 443");
}

static void of_encrypted_files(const struct names *n)
{
	char text[160];

	shell("%s record --pin-dir %s --state-dir %s -r %s/trace -d %s/secret --key-file %s/key "
	      "2>/dev/null",
	      bench_binary(), BENCH_PINS, bench_state_dir(), dir, dir, dir);
	printf("\nThe same packets encrypted, beside plain ones\n");
	printf("%-22s %8s %9s %9s %7s %10s %9s %7s\n", "", "packets", "encrypted", "plain", "",
	       "cold", "plain", "");
	snprintf(text, sizeof(text), "host %s", n->rare);
	against_plain("rare host", text);
	against_plain("absent host", "host 203.0.113.77");
	against_plain("connection", n->conn);
	snprintf(text, sizeof(text), "host %s", n->busy);
	against_plain("busy host", text);
	against_plain("port 443", "port 443");
}

int main(int argc, char **argv)
{
	struct names n = {};

	if (argc > 1)
		packets = (unsigned)atoi(argv[1]);
	snprintf(dir, sizeof(dir), "%s/bench", bench_state_dir());
	snprintf(tools, sizeof(tools), "%s", dirname(argv[0]));
	/* Plain Ethernet, or tcpdump would have to be asked for each tunnel by itself. */
	shell("mkdir -p %s && %s/gen_trace -o -p %u -f %u >%s/trace", dir, tools, packets,
	      packets / 22, dir);
	shell("%s record --pin-dir %s --state-dir %s -r %s/trace -d %s/whole 2>/dev/null",
	      bench_binary(), BENCH_PINS, bench_state_dir(), dir, dir);
	shell("%s record --pin-dir %s --state-dir %s -r %s/trace -d %s/15k --cutoff 15k 2>/dev/null",
	      bench_binary(), BENCH_PINS, bench_state_dir(), dir, dir);
	shell("umask 077 && head -c 32 /dev/urandom >%s/key", dir);
	printf("Index\n");
	weigh("whole");
	weigh("15k");
	names_choose(&n);
	of_few_files(&n);
	of_many_files(&n);
	of_encrypted_files(&n);
	shell("rm -rf %s", dir);
	return 0;
}
