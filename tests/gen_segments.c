// SPDX-License-Identifier: GPL-2.0-only
/* A record made from a pcap in plain C, without a kernel: what `record -r` does, for tests. */
#define _GNU_SOURCE 1
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/mark.h"
#include "../user/dissect.h"
#include "../user/segment.h"
#include "../user/units.h"

static const char usage[] =
	"usage: gen_segments -d DIR [-k KEY_FILE] -R\n"
	"       gen_segments -d DIR [-s FILE_BYTES] [-b BUDGET] [-z] [-H HOST] [-c CLASS] [-l]\n"
	"                    [-k KEY_FILE] PCAP\n"
	"Reads a nanosecond pcap. -z: compressed; -l: killed, as it were, before sealing.\n"
	"-k: encrypted. -R: every index made anew.\n";

struct pcap_head {
	uint32_t seconds, nanoseconds, kept, wire;
};

static struct dissector dissector;

/* Node and device by addresses, marks and processes by ports: any rule does. */
static void attributes(struct packet *p)
{
	struct track *t = &p->track;

	t->flow.node = 1 + (t->flow.local[15] ^ t->flow.remote[15]) % 2;
	t->device = 2 + t->flow.local[15] % 2;
	if (t->flow.remote_port == 443 || t->flow.local_port == 443) {
		t->mark = mark_label(100, t->flow.remote_port % 3, 0) | MARK_MARKED;
		t->pid = 1000 + t->flow.remote_port % 5;
		snprintf(t->comm, sizeof(t->comm), "nginx");
	}
}

static int record(struct segments *s, FILE *file)
{
	static unsigned char frame[1 << 20];
	struct pcap_head h;
	uint64_t stamp = 0;
	int err = 0;

	for (uint64_t n = 0; !err && fread(&h, sizeof(h), 1, file) == 1; n++) {
		struct packet p = {};
		struct dissected more;

		if (h.kept > sizeof(frame) || fread(frame, h.kept, 1, file) != 1)
			return 1;
		p.wall_ns = h.seconds * 1000000000ULL + h.nanoseconds;
		p.kept = h.kept;
		p.wire = h.wire;
		/* The clock's rule, as if every third packet were an event. */
		if (n % 3 == 0)
			stamp = (p.wall_ns & ~0xffffULL) > stamp ? p.wall_ns & ~0xffffULL
								 : stamp + 1;
		p.stamp = stamp;
		p.flags = h.kept && frame[h.kept / 2] & 1 ? PACKET_OUT | PACKET_FORWARD : 0;
		dissect(&dissector, frame, p.kept, p.wire, p.flags, &p.track, &more);
		/* Which end is local must not change within a flow: the lower port is remote. */
		if (p.track.flow.local_port < p.track.flow.remote_port) {
			p.flags ^= PACKET_OUT | PACKET_FORWARD;
			p.track = (struct track){};
			dissect(&dissector, frame, p.kept, p.wire, p.flags, &p.track, &more);
		}
		attributes(&p);
		err = segments_write(s, &p, frame);
		if (n % 4096 == 0)
			segments_tick(s, p.wall_ns);
	}
	return err != 0;
}

int main(int argc, char **argv)
{
	struct segments_options o = {};
	struct segments *s;
	unsigned char head[24];
	bool left = false, reindex = false;
	FILE *file;
	int c, err;

	while ((c = getopt(argc, argv, "d:s:b:zH:c:lRk:")) != -1) {
		if (c == 'd')
			o.dir = optarg;
		else if (c == 's' && !size_parse(optarg, &o.file_bytes))
			;
		else if (c == 'b' && !size_parse(optarg, &o.budget_bytes))
			;
		else if (c == 'z')
			o.zstd = true;
		else if (c == 'H')
			o.host = optarg;
		else if (c == 'c')
			o.class_name = optarg;
		else if (c == 'k')
			o.key_file = optarg;
		else if (c == 'l')
			left = true;
		else if (c == 'R')
			reindex = true;
		else
			goto usage;
	}
	if (o.dir && reindex)
		return segments_reindex(o.dir, o.key_file) != 0;
	if (!o.dir || optind + 1 != argc)
		goto usage;
	file = fopen(argv[optind], "re");
	if (!file || fread(head, sizeof(head), 1, file) != 1 ||
	    memcmp(head, "\x4d\x3c\xb2\xa1", 4)) {
		fprintf(stderr, "gen_segments: %s: no nanosecond pcap\n", argv[optind]);
		return 2;
	}
	s = segments_open(&o);
	if (!s)
		return 1;
	for (int node = 1; node <= 2; node++)
		for (int device = 2; device <= 3; device++) {
			char node_name[16], name[16];

			snprintf(node_name, sizeof(node_name), "%s", node == 1 ? "web" : "db");
			snprintf(name, sizeof(name), "eth%d", device - 2);
			segments_device(s, node, device, node_name, name, 1);
		}
	err = record(s, file);
	segments_tick(s, 0);
	if (left)
		_Exit(err);
	return segments_close(s) || err;
usage:
	fputs(usage, stderr);
	return 2;
}
