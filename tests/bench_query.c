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

static void each_file(void (*each)(const char *path))
{
	char path[600], below[600];
	struct dirent *entry;
	DIR *d;

	snprintf(below, sizeof(below), "%s/whole/all", dir);
	d = opendir(below);
	while (d && (entry = readdir(d))) {
		snprintf(path, sizeof(path), "%.300s/%.250s", below, entry->d_name);
		if (entry->d_type == DT_REG)
			each(path);
	}
	if (d)
		closedir(d);
}

static void forget(void)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/trace", dir);
	file_forget(path);
	each_file(file_forget);
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

static double ask_ms(const char *text, bool scan)
{
	char record[300], trace[300];
	const char *query[] = { bench_binary(), "query", "-d", record, "-w", "-", text, NULL };
	const char *tcpdump[] = { "tcpdump", "-r", trace, "-w", "-", text, NULL };

	snprintf(record, sizeof(record), "%s/whole", dir);
	snprintf(trace, sizeof(trace), "%s/trace", dir);
	return run_ms(scan ? tcpdump : query);
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

/* How it is asked here and there; `pick`: awk's condition for what tcpdump cannot say. */
struct ask {
	const char *what, *text, *scan, *pick;
};

static unsigned long scanned(const struct ask *ask)
{
	return count(
		"tcpdump -ttnr %s/trace '%s' 2>/dev/null | awk '%s { n++ } END { print n + 0 }'",
		dir, ask->scan, ask->pick ?: "/^[0-9]/");
}

/* Side by side: each round asks both, warm and cold. */
static void compare(const struct ask *ask)
{
	double warm[2][ROUNDS], cold[2][ROUNDS];

	for (int way = 0; way < 2; way++)
		ask_ms(way ? ask->scan : ask->text, way);
	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < 2; way++)
			warm[way][round] = ask_ms(way ? ask->scan : ask->text, way);
	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < 2; way++) {
			forget();
			cold[way][round] = ask_ms(way ? ask->scan : ask->text, way);
		}
	printf("%-24s %8lu %8lu %9.1f %9.1f %7.2f %10.1f %9.1f %7.2f\n", ask->what,
	       count("%s query -d %s/whole --count '%s'", bench_binary(), dir, ask->text),
	       scanned(ask), median(warm[0], ROUNDS), median(warm[1], ROUNDS),
	       median(warm[0], ROUNDS) / median(warm[1], ROUNDS), median(cold[0], ROUNDS),
	       median(cold[1], ROUNDS), median(cold[0], ROUNDS) / median(cold[1], ROUNDS));
	fflush(stdout);
}

/* ---- the index -------------------------------------------------------------------------------- */

static void weigh(const char *what)
{
	unsigned long long bytes = 0, flows = 0, kept = 0, n = 0, tracks = 0;
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
		if (!strstr(file, ".index"))
			continue;
		index = fopen(file, "re");
		if (!index || fread(head, sizeof(head), 1, index) != 1)
			bench_die("%s: %s", file, strerror(errno));
		fclose(index);
		bytes += (unsigned long long)st.st_size;
		kept += get_u64(head + 88);
		n += get_u32(head + 96);
		tracks += get_u32(head + 100);
	}
	if (d)
		closedir(d);
	printf("%-12s %9llu packets, %5.1f a track, %4llu bytes each: index %5.2f bytes a packet, "
	       "flow records %5.2f\n",
	       what, n, (double)n / (double)tracks, kept / n, (double)bytes / (double)n,
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

static void ask_all(const struct names *n)
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
	for (size_t i = 0; i < sizeof(asks) / sizeof(asks[0]); i++)
		compare(&asks[i]);
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
	printf("Index\n");
	weigh("whole");
	weigh("15k");
	names_choose(&n);
	printf("\nPackets of %u as a file, milliseconds, medians of %d rounds in turn; cold: not in the "
	       "page cache.\nWhere a port is asked for, later fragments are found here and not there. "
	       "A time tcpdump\ncannot be asked for: it scans for the rest, and its count is of what is "
	       "within.\n",
	       packets, ROUNDS);
	printf("%-24s %8s %8s %9s %9s %7s %10s %9s %7s\n", "", "packets", "tcpdump", "query",
	       "tcpdump", "", "cold", "tcpdump", "");
	ask_all(&n);
	shell("rm -rf %s", dir);
	return 0;
}
