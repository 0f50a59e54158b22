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

#define ROUNDS 5

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

static unsigned long count(const char *text)
{
	char command[600], line[64] = "";
	FILE *words;

	snprintf(command, sizeof(command), "%s query -d %s/whole --count '%s'", bench_binary(), dir,
		 text);
	words = popen(command, "re");
	if (!words || !fgets(line, sizeof(line), words) || pclose(words))
		bench_die("%s: failed", command);
	return strtoul(line, NULL, 10);
}

/* Side by side: each round asks both, warm and cold. `scan`: the same for tcpdump. */
static void compare(const char *what, const char *text, const char *scan)
{
	double warm[2][ROUNDS], cold[2][ROUNDS];

	for (int way = 0; way < 2; way++)
		ask_ms(way ? scan : text, way);
	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < 2; way++)
			warm[way][round] = ask_ms(way ? scan : text, way);
	for (int round = 0; round < ROUNDS; round++)
		for (int way = 0; way < 2; way++) {
			forget();
			cold[way][round] = ask_ms(way ? scan : text, way);
		}
	printf("%-22s %8lu %9.1f %9.1f %7.2f %10.1f %9.1f %7.2f\n", what, count(text),
	       median(warm[0], ROUNDS), median(warm[1], ROUNDS),
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

struct hosts {
	char rare[32], busy[32], conn[96], scan[160];
};

/* By frequency in the trace, told by tcpdump, so that nobody's index chooses. */
static void hosts_choose(struct hosts *h)
{
	char command[1200], line[160], a[32], b[32];
	FILE *words;
	unsigned pa, pb;

	snprintf(command, sizeof(command),
		 "tcpdump -nr %s/trace -c 400000 'ip and tcp' 2>/dev/null | "
		 "awk '{ split($3, a, \".\"); print a[1] \".\" a[2] \".\" a[3] \".\" a[4] }' | "
		 "sort | uniq -c | sort -rn | awk 'NR == 1 || ($1 < 30 && !found++) { print $2 }'",
		 dir);
	words = popen(command, "re");
	if (!words || fscanf(words, "%31s %31s", h->busy, h->rare) != 2 || pclose(words))
		bench_die("no hosts in the trace");
	snprintf(command, sizeof(command),
		 "tcpdump -nr %s/trace -c 1 'host %s and tcp' 2>/dev/null | "
		 "sed -E 's/.* IP ([0-9.]+)\\.([0-9]+) > ([0-9.]+)\\.([0-9]+):.*/\\1 \\2 \\3 \\4/'",
		 dir, h->rare);
	words = popen(command, "re");
	if (!words || !fgets(line, sizeof(line), words) ||
	    sscanf(line, "%31s %u %31s %u", a, &pa, b, &pb) != 4 || pclose(words))
		bench_die("no connection in the trace");
	snprintf(h->conn, sizeof(h->conn), "conn %s:%u %s:%u and tcp", a, pa, b, pb);
	snprintf(h->scan, sizeof(h->scan), "tcp and host %s and host %s and port %u and port %u", a,
		 b, pa, pb);
}

int main(int argc, char **argv)
{
	char text[160];
	struct hosts h;

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
	hosts_choose(&h);
	printf("\nPackets of %u as a file, milliseconds, medians of %d rounds in turn; cold: not in the "
	       "page cache\n",
	       packets, ROUNDS);
	printf("%-22s %8s %9s %9s %7s %10s %9s %7s\n", "", "packets", "query", "tcpdump", "",
	       "cold", "tcpdump", "");
	snprintf(text, sizeof(text), "host %s", h.rare);
	compare("rare host", text, text);
	compare("absent host", "host 203.0.113.77", "host 203.0.113.77");
	compare("connection", h.conn, h.scan);
	snprintf(text, sizeof(text), "host %s", h.busy);
	compare("busy host", text, text);
	compare("port 443", "port 443", "port 443");
	snprintf(text, sizeof(text), "port 443 and not host %s", h.busy);
	compare("443 and not busy host", text, text);
	snprintf(text, sizeof(text), "(udp port 53 or icmp) and not host %s", h.rare);
	compare("DNS or ICMP, not rare", text, text);
	shell("rm -rf %s", dir);
	return 0;
}
