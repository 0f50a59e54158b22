// SPDX-License-Identifier: GPL-2.0-only
/* Packets of a file through the same programs as those of the wire, many by one call. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <inttypes.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "capture.h"
#include "linktype.h"
#include "log.h"
#include "packets.h"
#include "physical.h"
#include "recstat.h"
#include "replay.h"
#include "rings.h"

#define BATCH 512
#define LINKTYPES "known are Ethernet, raw IP, Linux cooked (SLL, SLL2) and BSD loopback"
#define BATCH_BYTES (8 << 20)

/* What becomes of one packet: its bytes wait here until the kernel has said. */
struct waiting {
	__u64 wall_ns;
	__u32 at, kept, wire, interface;
	__u16 linktype;
};

struct replay {
	const struct replay_options *o;
	struct tidemark t;
	struct capture *capture;
	struct packets *packets;
	struct recstat *stats;
	struct ring_buffer **rings;
	struct head *heads; /* mapped */
	__u64 *replayed;    /* mapped */
	struct waiting waiting[BATCH];
	struct packet packet[BATCH];
	bool kept[BATCH];
	__u8 *bytes;
	__u32 n, used;
	__u32 snaps[CLASSES];
	__u64 read, stored, bytes_read, foreign; /* foreign: of a link type nobody knows */
	__u16 foreign_type;
	const char *name;
	int program;
};

/* The kernel sees Ethernet, whatever the file has; sizes count as they would there. */
static int head_make(struct head *head, const struct waiting *w, const __u8 *bytes)
{
	__u32 skip = 0, put = 0, n;
	__u16 type;
	int err;

	if (w->linktype != LINKTYPE_ETHERNET) {
		err = link_header(w->linktype, bytes, w->kept, &skip, &type);
		if (err)
			return err;
		if (skip > w->kept)
			skip = w->kept;
		put = ETH_HLEN;
		memset(head->bytes, 0, ETH_HLEN);
		head->bytes[12] = type >> 8;
		head->bytes[13] = type;
	}
	n = w->kept - skip;
	if (n > HEAD_BYTES - put)
		n = HEAD_BYTES - put;
	memcpy(head->bytes + put, bytes + skip, n);
	head->held = put + n;
	if (head->held < ETH_HLEN) {
		memset(head->bytes + head->held, 0, ETH_HLEN - head->held);
		head->held = ETH_HLEN;
	}
	head->length = w->wire - skip + put;
	if (head->length < head->held)
		head->length = head->held;
	return 0;
}

/* The kernel keeps this one: which, it says instead of a stamp. */
static int replay_kept(void *ctx, void *data, size_t size)
{
	struct replay *r = ctx;
	struct packet packet;
	const struct waiting *w;

	if (size < sizeof(packet))
		return 0;
	memcpy(&packet, data, sizeof(packet));
	if (packet.stamp >= r->n || packet.track.class >= CLASSES)
		return 0;
	w = &r->waiting[packet.stamp];
	packet.stamp = 0;
	packet.wall_ns = w->wall_ns;
	packet.wire = w->wire;
	packet.kept =
		w->kept < r->snaps[packet.track.class] ? w->kept : r->snaps[packet.track.class];
	packet.flags &= ~PACKET_L3;
	if (w->linktype == LINKTYPE_RAW || w->linktype == LINKTYPE_IPV4 ||
	    w->linktype == LINKTYPE_IPV6)
		packet.flags |= PACKET_L3;
	else if (w->linktype != LINKTYPE_ETHERNET)
		packet.flags |= PACKET_LINK(w->linktype);
	packet.track.device = w->interface + 1;
	/* Not yet: we may have changed CPUs, and then a part lies in another ring. */
	r->packet[w - r->waiting] = packet;
	r->kept[w - r->waiting] = true;
	return 0;
}

static int batch_run(struct replay *r)
{
	static const __u8 first[HEAD_BYTES] = { 0x02, 0xff }; /* to nobody here: as on a mirror */
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = first, .data_size_in = sizeof(first));
	int err = 0;

	*r->replayed = 0;
	while (*r->replayed < r->n && !err) {
		opts.repeat = r->n - *r->replayed;
		if (bpf_prog_test_run_opts(r->program, &opts) && errno != EINTR)
			err = -errno;
	}
	for (unsigned cpu = 0; cpu < r->t.cpus; cpu++)
		ring_buffer__consume(r->rings[cpu]);
	for (__u32 i = 0; i < r->n; i++) {
		if (!r->kept[i])
			continue;
		packets_put(r->packets, &r->packet[i], r->bytes + r->waiting[i].at);
		r->kept[i] = false;
		r->stored++;
	}
	packets_flush(r->packets);
	r->n = r->used = 0;
	return err;
}

static int file_read(struct replay *r)
{
	struct capture_packet p;
	char words[200];
	int got, err;

	while ((got = capture_next(r->capture, &p, words, sizeof(words))) == 1) {
		struct waiting *w = &r->waiting[r->n];

		*w =
			(struct waiting){ p.wall_ns, r->used,	  p.kept,
					  p.wire,    p.interface, p.linktype };
		if (p.kept) /* a frame of no bytes has no address either */
			memcpy(r->bytes + r->used, p.bytes, p.kept);
		if (head_make(&r->heads[r->n], w, r->bytes + r->used)) {
			r->foreign_type = p.linktype;
			r->foreign++;
			continue;
		}
		r->n++;
		r->used += p.kept;
		r->read++;
		r->bytes_read += p.wire;
		if (r->n < BATCH && r->used + CAPTURE_FRAME_MAX <= BATCH_BYTES)
			continue;
		err = batch_run(r);
		if (err)
			goto failed;
		log_progress("%s: %" PRIu64 " packets", r->o->file, (uint64_t)r->read);
	}
	log_progress_end();
	err = r->n ? batch_run(r) : 0;
	if (err)
		goto failed;
	if (got < 0)
		log_warn("%s: %s; the %" PRIu64 " packets before that are recorded", r->o->file,
			 words, (uint64_t)r->read);
	if (r->foreign)
		log_warn("%s: %" PRIu64 " packets, of link type %u, are not recorded; " LINKTYPES,
			 r->o->file, (uint64_t)r->foreign, r->foreign_type);
	return got < 0 || r->foreign ? 1 : 0;
failed:
	log_error("%s: the kernel does not run it: %s", r->o->file, strerror(-err));
	return 1;
}

static void names(__u32 node, __u32 device, char node_name[64], char device_name[64], void *ctx)
{
	const struct replay *r = ctx;
	const char *name = device ? capture_interface(r->capture, device - 1) : "";

	(void)node;
	snprintf(node_name, 64, "%.63s", r->name);
	if (*name)
		snprintf(device_name, 64, "%s", name);
	else
		snprintf(device_name, 64, "%u", device - 1);
}

static void *map_memory(int fd, size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return at == MAP_FAILED ? NULL : at;
}

/* Of pcapng other interfaces may have another; of pcap nothing can be read then. */
static bool link_known(const struct replay *r)
{
	int type = capture_linktype(r->capture);
	__u16 ethertype;
	__u32 skip;

	if (type < 0 || type == LINKTYPE_ETHERNET ||
	    !link_header((__u16)type, NULL, 0, &skip, &ethertype))
		return true;
	log_error("%s: link type %d; " LINKTYPES, r->o->file, type);
	return false;
}

static int replay_open(struct replay *r)
{
	const struct sizes sizes = { .flows = r->o->flows };
	int err, heads, replayed;

	err = tidemark_private(&r->t, &sizes, BATCH, &r->program, &heads, &replayed);
	if (err)
		return exit_of(err);
	r->heads = map_memory(heads, BATCH * ((sizeof(struct head) + 7) & ~7UL));
	r->replayed = map_memory(replayed, sizeof(__u64));
	close(heads);
	close(replayed);
	r->bytes = malloc(BATCH_BYTES);
	r->rings = calloc(r->t.cpus, sizeof(*r->rings));
	if (!r->heads || !r->replayed || !r->bytes || !r->rings)
		return 1;
	/* A record carries no frame: every batch finds room. */
	err = rings_put(r->t.map[MAP_packets], r->t.cpus, BATCH * 2 * sizeof(struct packet) * 2);
	for (unsigned cpu = 0; cpu < r->t.cpus && !err; cpu++) {
		r->rings[cpu] = rings_reader(r->t.map[MAP_packets], cpu, replay_kept, r);
		err = r->rings[cpu] ? 0 : -errno;
	}
	if (err)
		log_error("rings: %s", strerror(-err));
	return err ? 1 : 0;
}

static int replay_classes(struct replay *r, struct class_list *classes, __u64 cutoff)
{
	const struct packets_options o = { .dir = r->o->dir,
					   .key_file = r->o->key_file,
					   .zstd = r->o->zstd,
					   .patient = true,
					   .name = names,
					   .ctx = r };
	__u32 slots[CLASSES];
	int err;

	if (class_finish(classes, cutoff, NULL))
		return 2;
	err = class_publish(&r->t, classes, UINT32_MAX, slots);
	r->packets = err ? NULL : packets_open(&o);
	if (!r->packets)
		return 1;
	for (size_t i = 0; i < classes->n; i++) {
		r->snaps[slots[i]] = classes->at[i].snap;
		if (packets_class(r->packets, slots[i], &classes->at[i]))
			return 1;
	}
	r->stats = recstat_open(&r->t, r->packets, r->o->dir, UINT64_MAX);
	class_generation(&r->t);
	return r->stats ? 0 : 1;
}

static void replay_free(struct replay *r)
{
	for (unsigned cpu = 0; r->rings && cpu < r->t.cpus; cpu++)
		ring_buffer__free(r->rings[cpu]);
	free(r->rings);
	free(r->bytes);
	if (r->heads)
		munmap(r->heads, BATCH * ((sizeof(struct head) + 7) & ~7UL));
	if (r->replayed)
		munmap(r->replayed, sizeof(__u64));
	if (r->program >= 0)
		close(r->program);
	tidemark_close(&r->t);
}

int replay_file(const struct replay_options *options, struct class_list *classes, __u64 cutoff)
{
	static struct replay r;
	char words[200] = "out of memory";
	bool in = !strcmp(options->file, "-");
	FILE *file = in ? stdin : fopen(options->file, "re");
	__u64 began_ns = physical_monotonic_ns();
	int status, err;
	__u64 lost;

	memset(&r, 0, sizeof(r));
	r.o = options;
	r.program = -1;
	r.name = strrchr(options->file, '/') ? strrchr(options->file, '/') + 1 : options->file;
	if (in)
		r.name = "stdin";
	if (!file) {
		log_error("%s: %s", options->file, strerror(errno));
		return 2;
	}
	setvbuf(file, NULL, _IOFBF, 1 << 18);
	r.capture = capture_open(file, words, sizeof(words));
	if (!r.capture) {
		log_error("%s: %s", options->file, words);
		fclose(file);
		return 2;
	}
	tidemark_init(&r.t, NULL, NULL);
	status = link_known(&r) ? replay_open(&r) : 2;
	if (!status)
		status = replay_classes(&r, classes, cutoff);
	if (!status)
		status = file_read(&r);
	if (r.stats) {
		packets_settle(r.packets); /* so that the line says what is on disk */
		recstat_second(r.stats, 0);
	}
	err = packets_close_lost(r.packets, &lost);
	if (err && !status) {
		log_error("%s: %s", options->dir, strerror(-err));
		status = 1;
	}
	recstat_close(r.stats);
	if (r.read || !status)
		log_info("%s: %" PRIu64 " packets read, %" PRIu64 " stored, %" PRIu64
			 " packets a second",
			 options->file, (uint64_t)r.read, (uint64_t)(r.stored - lost),
			 (uint64_t)(r.read * 1e9 / (physical_monotonic_ns() - began_ns)));
	replay_free(&r);
	capture_close(r.capture);
	fclose(file);
	return status;
}
