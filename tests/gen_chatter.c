// SPDX-License-Identifier: GPL-2.0-only
/*
 * Traffic whose true order is known: nodes in a ring hand tokens on, each over the next of
 * four channels (TCP and UDP, IPv4 and IPv6), for as many hops as were asked for. Every hop
 * is caused by the one before, so whoever orders the messages wrongly contradicts it.
 *
 *	gen_chatter PORT NEXT4 NEXT6 TOKENS [HOPS]
 *
 * Says `ready` when it listens. With HOPS it begins, when a line comes on stdin, and says
 * how many messages went round. Ends when all tokens have.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum channel { TCP4, UDP4, TCP6, UDP6, CHANNELS };

#define CONNECTIONS 16

struct message {
	uint64_t left;	 /* hops; 0: the token has ended, tell the others */
	uint64_t rounds; /* nodes that are yet to hear that */
	char padding[48];
};

struct connection {
	int fd;
	size_t have;
	struct message message;
};

struct chatter {
	unsigned short port;
	const char *next[2];
	unsigned tokens, ended;
	uint64_t sent;
	int out[CHANNELS];
	int listen[CHANNELS];
	struct connection in[CONNECTIONS];
	unsigned in_n;
};

static void die(const char *what)
{
	fprintf(stderr, "gen_chatter: %s: %s\n", what, strerror(errno));
	exit(1);
}

static socklen_t address(struct sockaddr_storage *to, enum channel channel, const char *host,
			 unsigned short port)
{
	struct sockaddr_in6 *six = (void *)to;
	struct sockaddr_in *four = (void *)to;

	memset(to, 0, sizeof(*to));
	if (channel == TCP6 || channel == UDP6) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		if (host && inet_pton(AF_INET6, host, &six->sin6_addr) != 1)
			die(host);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	if (host && inet_pton(AF_INET, host, &four->sin_addr) != 1)
		die(host);
	return sizeof(*four);
}

static int channel_socket(enum channel channel)
{
	int tcp = channel == TCP4 || channel == TCP6, one = 1;
	int fd = socket(channel == TCP6 || channel == UDP6 ? AF_INET6 : AF_INET,
			tcp ? SOCK_STREAM : SOCK_DGRAM, 0);

	if (fd < 0)
		die("socket");
	if (channel == TCP6 || channel == UDP6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (tcp)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return fd;
}

static void hear(struct chatter *c)
{
	struct sockaddr_storage at;

	for (enum channel i = 0; i < CHANNELS; i++) {
		socklen_t size = address(&at, i, NULL, c->port);

		c->listen[i] = channel_socket(i);
		if (bind(c->listen[i], (void *)&at, size))
			die("bind");
		if ((i == TCP4 || i == TCP6) && listen(c->listen[i], CONNECTIONS))
			die("listen");
	}
}

/* Connections are made when they are first needed: by then everybody listens. */
static void hand_on(struct chatter *c, enum channel channel, const struct message *message)
{
	struct sockaddr_storage to;
	socklen_t size = address(&to, channel, c->next[channel >= TCP6], c->port);

	if (c->out[channel] < 0) {
		c->out[channel] = channel_socket(channel);
		if (connect(c->out[channel], (void *)&to, size))
			die(c->next[channel >= TCP6]);
	}
	if (send(c->out[channel], message, sizeof(*message), MSG_NOSIGNAL) != sizeof(*message))
		die("send");
	c->sent++;
}

static void take(struct chatter *c, struct message *message)
{
	if (message->left) {
		message->left--;
		if (message->left) {
			hand_on(c, message->left % CHANNELS, message);
			return;
		}
		message->rounds = 3; /* nodes in the ring that have to know, this one among them */
	}
	c->ended++;
	if (--message->rounds)
		hand_on(c, TCP4, message);
}

static void hear_stream(struct chatter *c, struct connection *in)
{
	ssize_t got =
		recv(in->fd, (char *)&in->message + in->have, sizeof(in->message) - in->have, 0);

	if (got < 0)
		die("recv");
	if (!got) { /* a node that has seen every token end leaves */
		close(in->fd);
		in->fd = -1;
		return;
	}
	in->have += got;
	if (in->have < sizeof(in->message))
		return;
	in->have = 0;
	take(c, &in->message);
}

static void hear_listener(struct chatter *c, enum channel channel)
{
	struct message message;
	int one = 1;

	if (channel == UDP4 || channel == UDP6) {
		if (recv(c->listen[channel], &message, sizeof(message), 0) != sizeof(message))
			die("datagram of a size nobody sent");
		take(c, &message);
		return;
	}
	if (c->in_n == CONNECTIONS)
		die("too many connections");
	c->in[c->in_n].fd = accept(c->listen[channel], NULL, NULL);
	if (c->in[c->in_n].fd < 0)
		die("accept");
	setsockopt(c->in[c->in_n++].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void chat(struct chatter *c)
{
	struct pollfd fds[CHANNELS + CONNECTIONS];

	while (c->ended < c->tokens) {
		unsigned connections = c->in_n;

		for (unsigned i = 0; i < CHANNELS; i++)
			fds[i] = (struct pollfd){ .fd = c->listen[i], .events = POLLIN };
		for (unsigned i = 0; i < connections; i++)
			fds[CHANNELS + i] = (struct pollfd){ .fd = c->in[i].fd, .events = POLLIN };
		if (poll(fds, CHANNELS + connections, 30000) <= 0) {
			errno = ETIMEDOUT;
			die("a token was lost");
		}
		for (unsigned i = 0; i < CHANNELS; i++)
			if (fds[i].revents)
				hear_listener(c, i);
		for (unsigned i = 0; i < connections; i++)
			if (fds[CHANNELS + i].revents)
				hear_stream(c, &c->in[i]);
	}
}

int main(int argc, char **argv)
{
	struct chatter c = { .out = { -1, -1, -1, -1 } };
	struct message first = {};
	uint64_t hops = 0;

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: gen_chatter PORT NEXT4 NEXT6 TOKENS [HOPS]\n");
		return 2;
	}
	c.port = strtoul(argv[1], NULL, 10);
	c.next[0] = argv[2];
	c.next[1] = argv[3];
	c.tokens = strtoul(argv[4], NULL, 10);
	if (argc == 6)
		hops = strtoull(argv[5], NULL, 10);
	hear(&c);
	puts("ready");
	fflush(stdout);
	if (hops) {
		if (getchar() == EOF)
			return 1;
		for (unsigned i = 0; i < c.tokens; i++) {
			first.left = hops + i; /* so that they use different channels */
			hand_on(&c, first.left % CHANNELS, &first);
		}
	}
	chat(&c);
	printf("sent %llu\n", (unsigned long long)c.sent);
	return 0;
}
