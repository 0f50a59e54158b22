// SPDX-License-Identifier: GPL-2.0-only
/* Sends the frames of a pcap out of a device, as fast as it goes or at a rate. */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../user/capture.h"

#define AT_ONCE 32

static const char *const usage = "usage: gen_replay -i DEVICE [-r PACKETS_PER_SECOND] FILE\n";

struct sending {
	int fd;
	unsigned n;
	unsigned long sent, rate;
	struct timespec began;
	struct mmsghdr message[AT_ONCE];
	struct iovec part[AT_ONCE];
	unsigned char bytes[AT_ONCE][65536];
};

static void pace(const struct sending *s)
{
	struct timespec until = s->began;
	unsigned long ns;

	if (!s->rate)
		return;
	ns = until.tv_nsec + s->sent % s->rate * 1000000000UL / s->rate;
	until.tv_sec += s->sent / s->rate + ns / 1000000000UL;
	until.tv_nsec = ns % 1000000000UL;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void flush(struct sending *s)
{
	unsigned done = 0;
	int n;

	pace(s);
	while (done < s->n) {
		n = sendmmsg(s->fd, s->message + done, s->n - done, 0);
		if (n < 0 && errno == ENOBUFS)
			continue;
		if (n <= 0) {
			perror("gen_replay: send");
			exit(1);
		}
		done += n;
	}
	s->sent += s->n;
	s->n = 0;
}

int main(int argc, char **argv)
{
	static struct sending s;
	struct sockaddr_ll at = { .sll_family = AF_PACKET };
	struct capture_packet p;
	struct capture *c;
	char words[200] = "";
	FILE *file;
	int opt;

	while ((opt = getopt(argc, argv, "i:r:")) != -1)
		if (opt == 'i')
			at.sll_ifindex = if_nametoindex(optarg);
		else if (opt == 'r')
			s.rate = strtoul(optarg, NULL, 10);
	file = optind == argc - 1 ? fopen(argv[optind], "re") : NULL;
	if (!file || !at.sll_ifindex) {
		fputs(usage, stderr);
		return 2;
	}
	c = capture_open(file, words, sizeof(words));
	s.fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (!c || s.fd < 0 || bind(s.fd, (void *)&at, sizeof(at))) {
		fprintf(stderr, "gen_replay: %s%s\n", words, c ? strerror(errno) : "");
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &s.began);
	while (capture_next(c, &p, words, sizeof(words)) == 1) {
		if (p.kept > sizeof(s.bytes[0]))
			continue;
		memcpy(s.bytes[s.n], p.bytes, p.kept);
		s.part[s.n] = (struct iovec){ s.bytes[s.n], p.kept };
		s.message[s.n].msg_hdr =
			(struct msghdr){ .msg_iov = &s.part[s.n], .msg_iovlen = 1 };
		if (++s.n == AT_ONCE)
			flush(&s);
	}
	flush(&s);
	printf("%lu\n", s.sent);
	capture_close(c);
	fclose(file);
	return 0;
}
