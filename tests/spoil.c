// SPDX-License-Identifier: GPL-2.0-only
/* Packets spoiled at random: bytes on edges, ends missing, things twice, options that lie. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spoil.h"

static __u64 state;

void spoil_seed(__u64 seed)
{
	state = seed;
}

/* splitmix64: one seed repeats a run exactly. */
__u64 spoil_next(void)
{
	__u64 z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

unsigned spoil_below(unsigned n)
{
	return spoil_next() % n;
}

__u64 spoil_number(const char *name, __u64 otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

/* Values that sit on edges more often than random ones do. */
static __u8 edge(void)
{
	static const __u8 edges[] = {
		0, 1, 4, 6, 17, 43, 44, 51, 60, 0x45, 0x60, 0x7f, 0x80, 0xff
	};

	return spoil_below(2) ? edges[spoil_below(sizeof(edges))] : spoil_next();
}

static void swap(struct frame *f, unsigned a, unsigned b, unsigned n)
{
	__u8 other[16];

	if (b + n > f->n)
		return;
	memcpy(other, f->bytes + a, n);
	memcpy(f->bytes + a, f->bytes + b, n);
	memcpy(f->bytes + b, other, n);
}

/* The other end speaks. */
static void turn(struct frame *f)
{
	unsigned n = f->v6 ? 16 : 4, at = f->l3 + (f->v6 ? 8 : 12);

	if (!f->l3)
		return;
	swap(f, at, at + n, n);
	swap(f, f->l4, f->l4 + 2, 2);
}

/* Behind a datagram, or over the first options of a segment. */
static void option(struct frame *f)
{
	static const __u8 tcp[12] = { 253, 12, 0x74, 0x69, 1, 2, 3, 4, 5, 6, 7, 8 };
	static const __u8 udp[14] = { 0, 0, 127, 12, 0x74, 0x69, 1, 2, 3, 4, 5, 6, 7, 8 };
	unsigned n = spoil_below(2) ? 14 : spoil_below(80), at = f->n + (f->n - f->l4) % 2;
	__u32 sum = n;

	if (!f->l4 || f->n < f->l4)
		return;
	if (!f->udp) {
		if (f->l4 + 32 <= f->n)
			memcpy(f->bytes + f->l4 + 20, tcp, sizeof(tcp));
		f->bytes[f->l4 + 24] = edge();
		return;
	}
	memset(f->bytes + f->n, 0, n + 1);
	memcpy(f->bytes + at, udp, n < sizeof(udp) ? n : sizeof(udp));
	f->bytes[at + 6] = edge();
	f->n = at + n;
	if (f->v6)
		put16(f->bytes + f->l3 + 4, f->n - f->l3 - 40);
	else
		put16(f->bytes + f->l3 + 2, f->n - f->l3);
	for (unsigned i = 0; i + 1 < n; i += 2)
		sum += f->bytes[at + i] << 8 | f->bytes[at + i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	if (spoil_below(4))
		put16(f->bytes + at, ~sum);
}

static void mutate_once(struct frame *f)
{
	unsigned at, n;

	switch (spoil_below(9)) {
	case 0:
	case 1: /* a byte of the headers, where most is decided */
		f->bytes[spoil_below(f->n < 80 ? f->n : 80)] = edge();
		break;
	case 2:
		f->bytes[spoil_below(f->n)] ^= 1 << spoil_below(8);
		break;
	case 3: /* an end that is missing */
		f->n = 1 + spoil_below(f->n);
		break;
	case 4: /* or too much of it */
		n = spoil_below(100);
		memset(f->bytes + f->n, edge(), n);
		f->n += n;
		break;
	case 5: /* bytes that are missing in between */
		at = spoil_below(f->n);
		n = spoil_below(f->n - at);
		memmove(f->bytes + at, f->bytes + at + n, f->n - at - n);
		f->n -= n;
		break;
	case 6: /* or there twice */
		at = spoil_below(f->n);
		n = spoil_below(f->n - at);
		memmove(f->bytes + at + n, f->bytes + at, f->n - at);
		f->n += n;
		break;
	case 7: /* a stamp, or what looks like one */
		option(f);
		break;
	default: /* ports, sequence numbers and flags, so that flows meet */
		if (f->l4 && f->l4 + 14 <= f->n) {
			f->bytes[f->l4 + 1] = spoil_below(4);
			f->bytes[f->l4 + 7] = spoil_below(64);
			f->bytes[f->l4 + 13] = spoil_next();
		}
		break;
	}
	if (f->n > 3400)
		f->n = 3400;
}

void spoil_make(struct frame *f)
{
	static unsigned samples;
	unsigned end;

	while (!samples || frame_sample(f, samples, &end))
		samples++;
	frame_sample(f, spoil_below(samples), &end);
	if (spoil_below(2))
		turn(f);
	for (unsigned i = spoil_below(4); i; i--)
		mutate_once(f);
}

void spoil_print(const struct frame *f)
{
	putchar('#');
	for (unsigned k = 0; k < f->n; k++)
		printf(" %02x", f->bytes[k]);
	putchar('\n');
}
