// SPDX-License-Identifier: GPL-2.0-only
/* What real traffic loses: without, with the datapath, with a trace, with clocks in packets. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "bench.h"

#define ROUNDS 7
#define MESSAGE_BYTES 100
#define REQUESTS 4000

enum way { WITHOUT, UP, TRACED, IN_BAND, WAYS };

static const char *const way_names[WAYS] = { "without", "up", "up + trace", "up + peer" };
static const char *binary, *state_dir;
static pid_t tracer;

/* One exchange of measurements: bulk TCP, then TCP and UDP requests. */
struct sample {
	double gbit, cpu_per_gb, tcp_us, tcp_cpu_us, udp_us, udp_cpu_us;
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

static void world_make(void)
{
	shell("ip netns add a && ip netns add b && "
	      "ip link add va netns a type veth peer name vb netns b && "
	      "ip -n a addr add 10.9.0.1/24 dev va && ip -n b addr add 10.9.0.2/24 dev vb && "
	      "for n in a b; do ip -n $n link set lo up; ip -n $n link set v$n up; done");
}

static void enter(const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		bench_die("%s: %s", path, strerror(errno));
	close(fd);
}

static void way_begin(enum way way)
{
	char words[512] = "";
	int fds[2];
	ssize_t n;

	if (way == WITHOUT)
		return;
	shell("%s up -n netns:a -n netns:b --pin-dir " BENCH_PINS " --state-dir %s %s 2>/dev/null",
	      binary, state_dir, way == IN_BAND ? "--peer 10.9.0.0/24" : "");
	if (way != TRACED)
		return;
	if (pipe2(fds, O_CLOEXEC))
		bench_die("no pipe");
	tracer = fork();
	if (!tracer) {
		if (!freopen("/dev/null", "w", stdout))
			_exit(1);
		dup2(fds[1], 2);
		execl(binary, "tidemark", "trace", "--json", "--pin-dir", BENCH_PINS, "--state-dir",
		      state_dir, NULL);
		_exit(1);
	}
	close(fds[1]);
	while (!strstr(words, "watching")) {
		n = read(fds[0], words, sizeof(words) - 1);
		if (n <= 0)
			bench_die("trace does not start: %s", words);
		words[n] = 0;
	}
	close(fds[0]);
}

static void way_end(enum way way)
{
	int status;

	if (way == TRACED) {
		kill(tracer, SIGTERM);
		waitpid(tracer, &status, 0);
	}
	if (way != WITHOUT)
		shell("%s down --pin-dir " BENCH_PINS " --state-dir %s 2>/dev/null", binary,
		      state_dir);
}

/* Sender and receiver, with the softirqs that ran on their time. */
static double children_cpu(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
	       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static double json_bits(FILE *file)
{
	json_t *root = json_loadf(file, 0, NULL);
	double bits = 0;

	json_unpack(root, "{s:{s:{s:F}}}", "end", "sum_received", "bits_per_second", &bits);
	json_decref(root);
	return bits;
}

static void bulk(struct sample *s, double seconds)
{
	double cpu = children_cpu();
	char words[256];
	FILE *server, *client;
	char command[256];

	server = popen("exec ip netns exec b iperf3 -s -1 --forceflush", "r");
	while (server && fgets(words, sizeof(words), server) && !strstr(words, "listening"))
		;
	/* Each end on a CPU of its own: where the scheduler puts them is worth more than we are. */
	snprintf(command, sizeof(command), "exec ip netns exec a iperf3 %s -J -c 10.9.0.2 -t %.1f",
		 sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "-A 0,1" : "", seconds);
	client = popen(command, "r");
	s->gbit = client ? json_bits(client) / 1e9 : 0;
	if (client)
		pclose(client);
	while (server && fgets(words, sizeof(words), server))
		;
	if (server)
		pclose(server);
	cpu = children_cpu() - cpu;
	s->cpu_per_gb = cpu / (s->gbit * seconds / 8);
}

static void answer(int type)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(8000) }, from;
	socklen_t length = sizeof(from);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1, client = fd;
	char bytes[MESSAGE_BYTES];
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&at, sizeof(at)))
		_exit(1);
	if (type == SOCK_STREAM)
		listen(fd, 1);
	kill(getppid(), SIGUSR1); /* ready */
	if (type == SOCK_STREAM) {
		client = accept(fd, NULL, NULL);
		setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	while ((n = recvfrom(client, bytes, sizeof(bytes), 0, (void *)&from, &length)) > 1) {
		if (type == SOCK_STREAM ? send(client, bytes, n, 0) < 0
					: sendto(client, bytes, n, 0, (void *)&from, length) < 0)
			break;
		length = sizeof(from);
	}
	_exit(0);
}

static void ask(int type, double rtt[])
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(8000) };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), one = 1;
	char bytes[MESSAGE_BYTES] = "";
	double began;
	ssize_t n, got;

	inet_pton(AF_INET, "10.9.0.2", &to.sin_addr);
	if (connect(fd, (void *)&to, sizeof(to)))
		bench_die("connect: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (int i = 0; i < REQUESTS; i++) {
		began = bench_wall();
		if (send(fd, bytes, sizeof(bytes), 0) != sizeof(bytes))
			bench_die("send: %s", strerror(errno));
		for (got = 0; got < (ssize_t)sizeof(bytes); got += n) {
			n = recv(fd, bytes, sizeof(bytes) - got, 0);
			if (n <= 0)
				bench_die("recv: %s", strerror(errno));
		}
		rtt[i] = (bench_wall() - began) * 1e6;
	}
	send(fd, bytes, 1, 0); /* the end */
	close(fd);
}

/* Both ends on one CPU: waking another one costs twice the whole exchange, or not, by chance. */
static void one_cpu(bool only)
{
	static cpu_set_t before;
	cpu_set_t one;

	if (only) {
		sched_getaffinity(0, sizeof(before), &before);
		CPU_ZERO(&one);
		CPU_SET(0, &one);
	}
	sched_setaffinity(0, sizeof(one), only ? &one : &before);
}

static void requests(int type, double *rtt_us, double *cpu_us)
{
	static double rtt[REQUESTS];
	double cpu = children_cpu(), own = bench_cpu();
	sigset_t ready;
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), signal;
	pid_t server;

	sigemptyset(&ready);
	sigaddset(&ready, SIGUSR1);
	sigprocmask(SIG_BLOCK, &ready, NULL);
	one_cpu(true);
	server = fork();
	if (!server) {
		enter("b");
		answer(type);
	}
	sigwait(&ready, &signal);
	enter("a");
	ask(type, rtt);
	setns(home, CLONE_NEWNET);
	close(home);
	waitpid(server, NULL, 0);
	one_cpu(false);
	*rtt_us = median(rtt, REQUESTS);
	*cpu_us = (children_cpu() - cpu + bench_cpu() - own) * 1e6 / REQUESTS;
}

static void row(const char *what, const char *unit, double values[WAYS][ROUNDS])
{
	double middle[WAYS];

	for (int w = 0; w < WAYS; w++)
		middle[w] = median(values[w], ROUNDS);
	printf("%-30s %-6s", what, unit);
	for (int w = 0; w < WAYS; w++)
		printf(" %10.3f", middle[w]);
	for (int w = UP; w < WAYS; w++)
		printf(" %9.3f", middle[w] / middle[WITHOUT]);
	putchar('\n');
}

int main(void)
{
	static double gbit[WAYS][ROUNDS], gb[WAYS][ROUNDS], tcp[WAYS][ROUNDS],
		tcp_cpu[WAYS][ROUNDS], udp[WAYS][ROUNDS], udp_cpu[WAYS][ROUNDS];
	double seconds = bench_seconds() / ROUNDS / WAYS / 2;
	struct sample s;

	/* Others on this machine take turns with us: less often so. */
	setpriority(PRIO_PROCESS, 0, -10);
	binary = bench_binary();
	state_dir = bench_state_dir();
	world_make();
	for (int r = 0; r < ROUNDS; r++) {
		for (int w = 0; w < WAYS; w++) {
			way_begin(w);
			bulk(&s, seconds < 1 ? 1 : seconds);
			requests(SOCK_STREAM, &s.tcp_us, &s.tcp_cpu_us);
			requests(SOCK_DGRAM, &s.udp_us, &s.udp_cpu_us);
			way_end(w);
			gbit[w][r] = s.gbit;
			gb[w][r] = s.cpu_per_gb;
			tcp[w][r] = s.tcp_us;
			tcp_cpu[w][r] = s.tcp_cpu_us;
			udp[w][r] = s.udp_us;
			udp_cpu[w][r] = s.udp_cpu_us;
		}
	}
	printf("\nReal traffic between two namespaces (veth); medians of %d rounds, in turn. CPU: of "
	       "sender,\nreceiver and their softirqs, not of the trace. Bulk on two CPUs, requests on "
	       "one.\n\n",
	       ROUNDS);
	printf("%-30s %-6s", "", "");
	for (int w = 0; w < WAYS; w++)
		printf(" %10s", way_names[w]);
	printf(" %9s %9s %9s\n", "up/", "trace/", "peer/");
	row("iperf3, one TCP stream", "Gbit/s", gbit);
	row("  CPU", "s/GB", gb);
	row("TCP request, reply, 100 bytes", "us", tcp);
	row("  CPU", "us", tcp_cpu);
	row("UDP request, reply, 100 bytes", "us", udp);
	row("  CPU", "us", udp_cpu);
	return 0;
}
