// SPDX-License-Identifier: GPL-2.0-only
/* A heavy-tailed trace as nanosecond pcap on stdout; the same seed gives the same bytes. */
#include <getopt.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGAN_NS 1700000000000000000ULL
#define FRAME_MOST 2048
#define MTU 1500

enum wrap { PLAIN, VLAN, QINQ, MPLS, VXLAN, GENEVE, GRE, IPIP, SIT, OLDQINQ, WRAPS };
enum kind { TCP, UDP, ICMP, FRAGMENTED, OTHER, SCTP, LITE, DCCP, IGMP };

static const char *const usage =
	"usage: gen_trace [-p PACKETS] [-f FLOWS] [-a TAIL] [-s SEED] [-r PACKETS_PER_SECOND] [-o|-x]\n"
	"Writes a pcap to stdout: TCP, UDP and ICMP over IPv4 and IPv6, in VLANs, MPLS and tunnels,\n"
	"fragments, ARP and LLDP; most flows short, most bytes in few: fewer, the smaller TAIL is (1.05).\n"
	"-o: Ethernet only, no wraps. -x: with SCTP, DCCP, UDP-Lite, IGMP, port 0, IPv6 extension\n"
	"headers and older tags.\n";

struct conn {
	uint64_t at_ns, gap_ns; /* the next packet, and the mean between two */
	uint32_t left, sent;
	uint32_t client, server; /* hosts */
	uint32_t seq[2];
	uint16_t client_port, server_port;
	uint8_t kind, wrap, v6;
	uint8_t extended; /* IPv6 with options, for the next hop and for the destination */
	uint8_t bulky;	  /* one side sends full segments */
	uint32_t number;
};

static struct {
	unsigned packets, flows, rate;
	uint64_t seed;
	double tail; /* Pareto's exponent */
	bool only_plain, exotic;
} options = { .packets = 100000, .flows = 5000, .seed = 1, .rate = 20000, .tail = 1.05 };

static uint8_t noise[1 << 16];

/* xorshift64*, Vigna 2014 */
static uint64_t draw(void)
{
	static uint64_t x;

	if (!x)
		x = options.seed * 0x9e3779b97f4a7c15ULL + 1;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x * 0x2545f4914f6cdd1dULL;
}

static uint32_t below(uint32_t n)
{
	return (draw() >> 32) * n >> 32;
}

static double uniform(void)
{
	return ((draw() >> 11) + 1) / 9007199254740993.0;
}

/* Most hosts and ports are rare: the square of a uniform number, three times over. */
static uint32_t skewed(uint32_t n)
{
	double u = uniform();

	return (uint32_t)(u * u * u * n);
}

static void put16(uint8_t *at, uint16_t v)
{
	at[0] = v >> 8;
	at[1] = v;
}

static void put32(uint8_t *at, uint32_t v)
{
	put16(at, v >> 16);
	put16(at + 2, v);
}

struct out {
	uint8_t bytes[FRAME_MOST];
	unsigned n;
};

static uint8_t *add(struct out *o, unsigned n)
{
	uint8_t *at = o->bytes + o->n;

	o->n += n;
	return memset(at, 0, n);
}

static uint16_t checksum(const uint8_t *at, unsigned n)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < n; i += 2)
		sum += at[i] << 8 | at[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static void ethernet(struct out *o, uint32_t from, uint32_t to, uint16_t type)
{
	uint8_t *eth = add(o, 14);

	eth[0] = eth[6] = 2;
	put32(eth + 2, to);
	put32(eth + 8, from);
	put16(eth + 12, type);
}

static void host_v6(uint8_t *at, uint32_t host)
{
	put32(at, 0x20010db8);
	put32(at + 4, host >> 8);
	put32(at + 12, host & 0xff ? host : 0x100 + host);
}

/* `more`: a fragment at this offset, of which more follow or not; 0 and false: whole. */
static void ip(struct out *o, bool v6, uint32_t from, uint32_t to, uint8_t proto, unsigned payload,
	       uint32_t id, unsigned offset, bool more)
{
	bool fragment = offset || more;
	uint8_t *h;

	if (v6) {
		h = add(o, 40);
		h[0] = 0x60;
		put16(h + 4, payload + (fragment ? 8 : 0));
		h[6] = fragment ? 44 : proto;
		h[7] = 64;
		host_v6(h + 8, from);
		host_v6(h + 24, to);
		if (fragment) {
			h = add(o, 8);
			h[0] = proto;
			put16(h + 2, offset | more);
			put32(h + 4, id);
		}
		return;
	}
	h = add(o, 20);
	h[0] = 0x45;
	put16(h + 2, 20 + payload);
	put16(h + 4, id);
	put16(h + 6, offset / 8 | (more ? 0x2000 : 0));
	h[8] = 64;
	h[9] = proto;
	put32(h + 12, 10 << 24 | from);
	put32(h + 16, 10 << 24 | to);
	put16(h + 10, checksum(h, 20));
}

/* What comes before the flow's own IP header; returns how its ethertype is to be told. */
static void wrap(struct out *o, const struct conn *c, bool forth, unsigned inside)
{
	uint32_t from = forth ? c->client : c->server, to = forth ? c->server : c->client;
	uint16_t type = c->v6 ? 0x86dd : 0x0800;
	uint32_t a = 0xf00000 + (from & 7), b = 0xf00100 + (to & 7);
	uint8_t *at;

	switch (c->wrap) {
	case PLAIN:
		ethernet(o, from, to, type);
		return;
	case VLAN:
	case QINQ:
	case OLDQINQ:
		ethernet(o, from, to, c->wrap == VLAN ? 0x8100 : c->wrap == QINQ ? 0x88a8 : 0x9100);
		if (c->wrap != VLAN) {
			at = add(o, 4);
			put16(at, 100 + c->number % 5);
			put16(at + 2, 0x8100);
		}
		at = add(o, 4);
		put16(at, 1 + c->number % 40);
		put16(at + 2, type);
		return;
	case MPLS:
		ethernet(o, from, to, 0x8847);
		put32(add(o, 4), (16 + c->number % 50) << 12 | 0x40);
		put32(add(o, 4), (1000 + c->number % 9) << 12 | 0x140);
		return;
	case VXLAN:
	case GENEVE:
		ethernet(o, a, b, 0x0800);
		ip(o, false, a, b, 17, 8 + 8 + 14 + inside, draw(), 0, false);
		at = add(o, 8);
		put16(at, 49152 + c->number % 1000);
		put16(at + 2, c->wrap == VXLAN ? 4789 : 6081);
		put16(at + 4, 8 + 8 + 14 + inside);
		at = add(o, 8);
		if (c->wrap == VXLAN)
			at[0] = 8;
		else
			put16(at + 2, 0x6558);
		put32(at + 4, (c->number % 300) << 8);
		ethernet(o, from, to, type);
		return;
	case GRE:
		ethernet(o, a, b, 0x0800);
		ip(o, false, a, b, 47, 4 + inside, draw(), 0, false);
		put16(add(o, 4) + 2, type);
		return;
	case IPIP:
		ethernet(o, a, b, 0x0800);
		ip(o, false, a, b, c->v6 ? 41 : 4, inside, draw(), 0, false);
		return;
	case SIT:
		ethernet(o, a, b, 0x86dd);
		ip(o, true, a, b, c->v6 ? 41 : 4, inside, 0, 0, false);
		return;
	}
}

static void payload(struct out *o, unsigned n)
{
	unsigned at = below(sizeof(noise) - FRAME_MOST);

	memcpy(o->bytes + o->n, noise + at, n);
	o->n += n;
}

static unsigned options_bytes(const struct conn *c)
{
	return c->v6 && c->extended ? 16 : 0;
}

static unsigned room(const struct conn *c)
{
	static const unsigned taken[WRAPS] = {
		[VXLAN] = 50, [GENEVE] = 50, [GRE] = 24, [IPIP] = 20, [SIT] = 40
	};

	return MTU - taken[c->wrap] - (c->v6 ? 40 : 20) - options_bytes(c);
}

/* The flow's own header, with all that is before it. */
static void own_ip(struct out *o, const struct conn *c, bool forth, uint8_t proto, unsigned inside)
{
	uint32_t from = forth ? c->client : c->server, to = forth ? c->server : c->client;
	unsigned more = options_bytes(c);
	uint8_t *h;

	wrap(o, c, forth, (c->v6 ? 40 : 20) + more + inside);
	ip(o, c->v6, from, to, more ? 0 : proto, more + inside, draw(), 0, false);
	for (unsigned i = 0; i < more; i += 8) {
		h = add(o, 8);
		h[0] = i ? proto : 60;
		h[2] = 1; /* PadN, of four */
		h[3] = 4;
	}
}

static void packet_tcp(struct out *o, struct conn *c)
{
	static const uint8_t opening[3] = { 2, 0x12, 0x10 };
	bool forth = c->sent < 3 ? c->sent != 1 : c->bulky ? below(3) == 0 : below(2);
	bool ends = c->left <= 2 && c->sent >= 3;
	unsigned n = 0;
	uint8_t flags = c->sent < 3 ? opening[c->sent] : 0x10, *tcp;

	if (ends) {
		forth = c->left == 2;
		flags = c->number % 10 == 3 ? 4 : 0x11;
	} else if (c->sent >= 3) {
		n = c->bulky ? (forth ? 0 : room(c) - 20) : below(room(c) - 20);
		flags |= n ? 8 : 0;
	}
	own_ip(o, c, forth, 6, 20 + n);
	tcp = add(o, 20);
	put16(tcp, forth ? c->client_port : c->server_port);
	put16(tcp + 2, forth ? c->server_port : c->client_port);
	put32(tcp + 4, c->seq[forth]);
	put32(tcp + 8, c->seq[!forth]);
	tcp[12] = 0x50;
	tcp[13] = flags;
	put16(tcp + 14, 65000);
	payload(o, n);
	c->seq[forth] += n + (flags & 3 ? 1 : 0);
}

static void packet_udp(struct out *o, struct conn *c)
{
	bool forth = c->bulky ? below(20) == 0 : !(c->sent & 1);
	unsigned n = c->bulky ? room(c) - 8 : below(600);
	uint8_t *udp;

	own_ip(o, c, forth, 17, 8 + n);
	udp = add(o, 8);
	put16(udp, forth ? c->client_port : c->server_port);
	put16(udp + 2, forth ? c->server_port : c->client_port);
	put16(udp + 4, 8 + n);
	payload(o, n);
}

static void packet_icmp(struct out *o, struct conn *c)
{
	bool forth = !(c->sent & 1);
	uint8_t *icmp;

	own_ip(o, c, forth, c->v6 ? 58 : 1, 64);
	icmp = add(o, 8);
	icmp[0] = c->v6 ? (forth ? 128 : 129) : (forth ? 8 : 0);
	put16(icmp + 4, c->client_port);
	put16(icmp + 6, c->sent / 2);
	payload(o, 56);
}

/* SCTP with a chunk of data, DCCP's data, UDP-Lite that covers everything: ports first. */
static void packet_ported(struct out *o, struct conn *c)
{
	static const uint8_t numbers[] = { [SCTP] = 132, [LITE] = 136, [DCCP] = 33 };
	bool forth = !(c->sent & 1);
	unsigned n = 4 * (1 + below(100)), header = c->kind == SCTP ? 28 : c->kind == DCCP ? 16 : 8;
	uint8_t *h;

	own_ip(o, c, forth, numbers[c->kind], header + n);
	h = add(o, header);
	put16(h, forth ? c->client_port : c->server_port);
	put16(h + 2, forth ? c->server_port : c->client_port);
	if (c->kind == SCTP) {
		put32(h + 4, c->number);
		put16(h + 12, 3); /* DATA, whole */
		put16(h + 14, 16 + n);
		put32(h + 16, c->sent);
	} else if (c->kind == DCCP) {
		h[4] = 4;	   /* words to the data */
		h[8] = 2 << 1 | 1; /* DATA, with a long sequence number */
		put32(h + 12, c->sent);
	}
	payload(o, n);
}

static void packet_igmp(struct out *o, struct conn *c)
{
	uint8_t *h;

	own_ip(o, c, true, 2, 8);
	h = add(o, 8);
	h[0] = 0x16;
	put32(h + 4, 0xe0000100 + c->number % 256);
	put16(h + 2, checksum(h, 8));
}

/* Datagrams of three fragments: packet i is fragment i % 3 of datagram i / 3. */
static void packet_fragment(struct out *o, struct conn *c)
{
	const unsigned sizes[3] = { 1400, 1400, 500 };
	unsigned i = c->sent % 3, n = sizes[i];
	uint32_t id = (c->number << 8) + c->sent / 3;
	uint8_t *udp;

	wrap(o, c, true, (c->v6 ? 48 : 20) + n);
	ip(o, c->v6, c->client, c->server, 17, n, id, i * 1400, i < 2);
	if (!i) {
		udp = add(o, 8);
		put16(udp, c->client_port);
		put16(udp + 2, c->server_port);
		put16(udp + 4, 3300);
		n -= 8;
	}
	payload(o, n);
}

static void packet_other(struct out *o, struct conn *c)
{
	uint8_t *at;

	if (c->number % 3 == 0) {
		ethernet(o, c->client, 0x0180c200, 0x88cc);
		payload(o, 50);
		return;
	}
	ethernet(o, c->client, 0xffffffff, 0x0806);
	at = add(o, 46);
	put16(at, 1);
	put16(at + 2, 0x0800);
	put16(at + 4, 0x0604);
	put16(at + 6, 1 + (c->sent & 1));
	put32(at + 14, 10 << 24 | c->client);
	put32(at + 24, 10 << 24 | c->server);
}

static void frame(struct out *o, struct conn *c)
{
	static void (*const made[])(struct out *, struct conn *) = {
		[TCP] = packet_tcp,	[UDP] = packet_udp,
		[ICMP] = packet_icmp,	[FRAGMENTED] = packet_fragment,
		[OTHER] = packet_other, [SCTP] = packet_ported,
		[LITE] = packet_ported, [DCCP] = packet_ported,
		[IGMP] = packet_igmp,
	};

	o->n = 0;
	made[c->kind](o, c);
	while (o->n < 60) /* what a card would add */
		o->bytes[o->n++] = 0;
}

/* Drawn last, so that the others are as without. */
static void conn_exotic(struct conn *c)
{
	static const uint8_t kinds[] = { SCTP, SCTP, LITE, DCCP, IGMP };

	c->extended = below(2);
	if (below(2))
		c->kind = kinds[below(sizeof(kinds))];
	if (c->kind == IGMP)
		c->v6 = 0;
	if (below(8) == 0)
		c->client_port = 0;
	if (below(4) == 0)
		c->wrap = OLDQINQ;
}

static void conn_begin(struct conn *c, uint32_t number, double span_ns)
{
	static const uint16_t ports[] = { 80, 443, 443, 443, 53, 22, 8080, 25, 993, 5432, 123 };
	uint32_t dice = below(100);

	c->number = number;
	c->kind = dice < 66   ? TCP
		  : dice < 92 ? UDP
		  : dice < 97 ? ICMP
		  : dice < 99 ? FRAGMENTED
			      : OTHER;
	c->v6 = below(100) < 18;
	dice = below(100);
	if (!options.only_plain && c->kind != OTHER && dice >= 76)
		c->wrap = dice < 86 ? VLAN : 2 + (dice - 86) / 2;
	c->client = 0x10000 + skewed(4000);
	c->server = 0x20000 + skewed(500);
	c->client_port = 32768 + below(28000);
	c->server_port = ports[below(sizeof(ports) / sizeof(*ports))];
	c->seq[0] = draw();
	c->seq[1] = draw();
	c->at_ns = BEGAN_NS + (uint64_t)(uniform() * span_ns);
	if (options.exotic && c->kind != OTHER && c->kind != FRAGMENTED && below(3) == 0)
		conn_exotic(c);
}

/* Pareto: few flows have most packets. Their sum is made what was asked for. */
static void conns_make(struct conn *conns, double span_ns)
{
	double *weight = malloc(options.flows * sizeof(*weight)), sum = 0;
	uint64_t total = 0;
	uint32_t largest = 0;

	if (!weight)
		exit(1);
	for (unsigned i = 0; i < options.flows; i++) {
		conn_begin(&conns[i], i, span_ns);
		weight[i] = pow(uniform(), -1 / options.tail);
		if (weight[i] > options.flows)
			weight[i] = options.flows;
		sum += weight[i];
	}
	for (unsigned i = 0; i < options.flows; i++) {
		struct conn *c = &conns[i];

		c->left = 1 + weight[i] / sum * (options.packets - options.flows);
		if (c->kind == TCP && c->left < 5 && total + 5 < options.packets)
			c->left = 5;
		c->bulky = c->left > 40;
		total += c->left;
		if (c->left > conns[largest].left)
			largest = i;
	}
	if (total < options.packets)
		conns[largest].left += options.packets - total;
	for (unsigned i = 0; i < options.flows; i++) {
		double end = BEGAN_NS + span_ns - conns[i].at_ns;

		conns[i].gap_ns = end / (conns[i].left + 1) * (0.2 + 0.8 * uniform());
	}
	free(weight);
}

/* A heap by time: the next packet's flow is on top. */
static void sink(struct conn **heap, unsigned n, unsigned i)
{
	for (;;) {
		unsigned least = i;
		struct conn *swap;

		for (unsigned k = 2 * i + 1; k <= 2 * i + 2 && k < n; k++)
			if (heap[k]->at_ns < heap[least]->at_ns)
				least = k;
		if (least == i)
			return;
		swap = heap[i];
		heap[i] = heap[least];
		heap[least] = swap;
		i = least;
	}
}

static void write_packet(const struct out *o, uint64_t at_ns)
{
	const uint32_t header[4] = { at_ns / 1000000000, at_ns % 1000000000, o->n, o->n };

	fwrite(header, sizeof(header), 1, stdout);
	fwrite(o->bytes, o->n, 1, stdout);
}

static void trace_write(struct conn *conns, struct conn **heap)
{
	const uint32_t header[6] = { 0xa1b23c4d, 2 | 4 << 16, 0, 0, 262144, 1 };
	unsigned n = options.flows;
	struct out o;

	for (unsigned i = 0; i < n; i++)
		heap[i] = &conns[i];
	for (unsigned i = n; i-- > 0;)
		sink(heap, n, i);
	fwrite(header, sizeof(header), 1, stdout);
	for (unsigned i = 0; i < options.packets && n; i++) {
		struct conn *c = heap[0];

		frame(&o, c);
		write_packet(&o, c->at_ns);
		c->sent++;
		c->at_ns += 1000 + (uint64_t)(-log(uniform()) * c->gap_ns);
		if (!--c->left)
			heap[0] = heap[--n];
		sink(heap, n, 0);
	}
}

int main(int argc, char **argv)
{
	struct conn *conns, **heap;
	int opt;

	while ((opt = getopt(argc, argv, "p:f:a:s:r:ox")) != -1)
		switch (opt) {
		case 'p':
			options.packets = strtoul(optarg, NULL, 10);
			break;
		case 'f':
			options.flows = strtoul(optarg, NULL, 10);
			break;
		case 'a':
			options.tail = strtod(optarg, NULL);
			break;
		case 's':
			options.seed = strtoull(optarg, NULL, 10);
			break;
		case 'r':
			options.rate = strtoul(optarg, NULL, 10);
			break;
		case 'o':
			options.only_plain = true;
			break;
		case 'x':
			options.exotic = true;
			break;
		default:
			fputs(usage, stderr);
			return 2;
		}
	if (optind != argc || !options.rate || !options.flows || !(options.tail > 0) ||
	    options.packets < options.flows) {
		fputs(usage, stderr);
		return 2;
	}
	for (unsigned i = 0; i < sizeof(noise); i++)
		noise[i] = draw() >> 40;
	conns = calloc(options.flows, sizeof(*conns));
	heap = calloc(options.flows, sizeof(*heap));
	if (!conns || !heap)
		return 1;
	conns_make(conns, 1e9 * options.packets / options.rate);
	trace_write(conns, heap);
	free(conns);
	free(heap);
	return fflush(stdout) || ferror(stdout) ? 1 : 0;
}
