// SPDX-License-Identifier: GPL-2.0-only
/* Packets that were found, as a table, as JSON lines, as pcapng. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "query.h"
#include "text.h"
#include "wire.h"

enum {
	P_TIME,
	P_HLC,
	P_NODE,
	P_DEVICE,
	P_HOST,
	P_CLASS,
	P_DIR,
	P_SRC,
	P_DST,
	P_PROTO,
	P_BYTES,
	P_KEPT,
	P_FLAGS,
	P_VLAN,
	P_VLAN2,
	P_MPLS,
	P_VNI,
	P_INNER_SRC,
	P_INNER_DST,
	P_INNER_PROTO,
	P_EXPERIMENT,
	P_ACTIVITY,
	P_PID,
	P_COMM
};

static const struct out_column columns[] = {
	[P_TIME] = { "wall", "TIME", 18, 0, 0 },
	[P_HLC] = { "hlc", "STAMP", 16, 0, OUT_OPTIONAL },
	[P_NODE] = { "node", "NODE", 12, 6, 0 },
	[P_DEVICE] = { .key = "device" },
	[P_HOST] = { .key = "host" },
	[P_CLASS] = { .key = "class" },
	[P_DIR] = { .key = "dir" },
	[P_SRC] = { "src", "SOURCE", 22, 15, 0 },
	[P_DST] = { "dst", "DESTINATION", 22, 15, 0 },
	[P_PROTO] = { "proto", "PROTO", 7, 0, 0 },
	[P_BYTES] = { "bytes", "LENGTH", 6, 0, OUT_RIGHT },
	[P_KEPT] = { .key = "kept" },
	[P_FLAGS] = { "flags", "FLAGS", 5, 0, OUT_OPTIONAL },
	[P_VLAN] = { .key = "vlan" },
	[P_VLAN2] = { .key = "vlan_inner" },
	[P_MPLS] = { .key = "mpls" },
	[P_VNI] = { .key = "vni" },
	[P_INNER_SRC] = { .key = "inner_src" },
	[P_INNER_DST] = { .key = "inner_dst" },
	[P_INNER_PROTO] = { .key = "inner_proto" },
	[P_EXPERIMENT] = { .key = "experiment" },
	[P_ACTIVITY] = { .key = "activity" },
	[P_PID] = { .key = "pid" },
	[P_COMM] = { .key = "comm" },
	{},
};

/* An interface of the file that is written. */
struct written {
	struct catalog_device device;
	char host[CATALOG_NAME_MAX];
};

struct written_owner {
	__u32 mark, pid;
	char comm[16], text[128];
	int len; /* < 0: none yet */
};

struct query_sink {
	const struct query *query;
	struct out *out;
	struct dissector *dissector;

	int fd; /* pcapng */
	struct written *interfaces;
	__u32 interfaces_n, interfaces_room;
	struct written_owner owner;
	unsigned char *block;
	__u32 block_room;
	struct text buffer;
	int err;
};

const char *query_proto_name(const struct track *t, char text[16])
{
	if (t->ethertype == FILTER_IP || t->ethertype == FILTER_IP6) {
		switch (t->flow.proto) {
		case IPPROTO_TCP:
			return "tcp";
		case IPPROTO_UDP:
			return "udp";
		case IPPROTO_ICMP:
			return "icmp";
		case IPPROTO_ICMPV6:
			return "icmp6";
		case IPPROTO_SCTP:
			return "sctp";
		case IPPROTO_DCCP:
			return "dccp";
		case IPPROTO_UDPLITE:
			return "udplite";
		case IPPROTO_IGMP:
			return "igmp";
		case IPPROTO_ESP:
			return "esp";
		case IPPROTO_GRE:
			return "gre";
		case IPPROTO_IPIP:
			return "ipip";
		}
		snprintf(text, 16, "ip-%u", t->flow.proto);
	} else if (t->ethertype == 0x0806) {
		return "arp";
	} else {
		snprintf(text, 16, "0x%04x", t->ethertype);
	}
	return text;
}

static bool is_empty(const __u8 address[16])
{
	static const __u8 none[16];

	return !memcmp(address, none, 16);
}

static void ends_print(struct out *out, const struct flow_key *flow, bool ported, bool forward,
		       unsigned src, unsigned dst)
{
	if (is_empty(flow->local) && is_empty(flow->remote))
		return;
	out_address(out, src, forward ? flow->local : flow->remote,
		    !ported   ? OUT_NO_PORT
		    : forward ? flow->local_port
			      : flow->remote_port);
	out_address(out, dst, forward ? flow->remote : flow->local,
		    !ported   ? OUT_NO_PORT
		    : forward ? flow->remote_port
			      : flow->local_port);
}

static void tags_print(struct out *out, const struct track *t, bool forward)
{
	if (t->vlan[0])
		out_u64(out, P_VLAN, t->vlan[0] & ~TRACK_TAGGED);
	if (t->vlan[1])
		out_u64(out, P_VLAN2, t->vlan[1] & ~TRACK_TAGGED);
	if (t->mpls)
		out_u64(out, P_MPLS, t->mpls & ~TRACK_LABELLED);
	if (t->vni)
		out_u64(out, P_VNI, t->vni & ~TRACK_NUMBERED);
	if (t->inner.proto) {
		ends_print(out, &t->inner, track_has_inner_ports(t), forward, P_INNER_SRC,
			   P_INNER_DST);
		out_u64(out, P_INNER_PROTO, t->inner.proto);
	}
	if (t->mark & MARK_MARKED) {
		out_u64(out, P_EXPERIMENT, mark_experiment(t->mark));
		out_u64(out, P_ACTIVITY, mark_activity(t->mark));
	}
	if (t->pid)
		out_u64(out, P_PID, t->pid);
	if (t->comm[0])
		out_mem(out, P_COMM, t->comm, sizeof(t->comm));
}

static int packet_print(struct query_sink *sink, const struct gathered *m,
			const struct pcapng_packet *p, const struct catalog_track *t)
{
	const struct catalog *about = segment_about(m->segment);
	const struct catalog_device *d = &about->devices[p->interface];
	bool forward = m->half & 1;
	__u32 flags = (forward ? PACKET_FORWARD : 0) | dissect_flags(d->linktype);
	struct out *out = sink->out;
	struct dissected more;
	struct track read = {};
	char name[16];

	dissect(sink->dissector, p->frame, p->kept, p->wire, flags, &read, &more);
	out_wall(out, P_TIME, p->wall_ns);
	if (m->stamp)
		out_stamp(out, P_HLC, m->stamp);
	out_str(out, P_NODE, d->node_name);
	out_str(out, P_DEVICE, d->name);
	out_str(out, P_HOST, about->host);
	out_str(out, P_CLASS, about->class_name);
	out_str(out, P_DIR, (p->flags & PCAPNG_DIRECTION) == PCAPNG_OUT ? "out" : "in");
	ends_print(out, &t->track.flow, track_has_ports(&t->track), forward, P_SRC, P_DST);
	out_str(out, P_PROTO, query_proto_name(&t->track, name));
	out_u64(out, P_BYTES, p->wire);
	out_u64(out, P_KEPT, p->kept);
	if (more.tcp_flags)
		out_tcp_flags(out, P_FLAGS, more.tcp_flags);
	tags_print(out, &t->track, forward);
	return out_row(out);
}

/* ---- pcapng ------------------------------------------------------------------------------------- */

static int written_flush(struct query_sink *sink)
{
	const char *at = sink->buffer.at;
	size_t left = sink->buffer.len;

	sink->buffer.len = 0;
	while (left && !sink->err) {
		ssize_t put = write(sink->fd, at, left);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			sink->err = -errno;
		else
			at += put, left -= (size_t)put;
	}
	return sink->err;
}

/* Interfaces of the answer: each (host, node, device) once, wherever its packets were. */
static __s64 written_interface(struct query_sink *sink, const struct gathered *m, __u32 interface)
{
	const struct catalog *about = segment_about(m->segment);
	const struct catalog_device *d = &about->devices[interface];
	char name[2 * CATALOG_NAME_MAX + 2], description[3 * CATALOG_NAME_MAX + 64];
	unsigned char block[1024];
	struct written w = { .device = *d };

	memcpy(w.host, about->host, sizeof(w.host));
	w.device.position = 0; /* a place in the segment it is of */
	for (__u32 i = 0; i < sink->interfaces_n; i++)
		if (!memcmp(&sink->interfaces[i], &w, sizeof(w)))
			return i;
	if (array_grow((void **)&sink->interfaces, &sink->interfaces_room, sink->interfaces_n + 1,
		       sizeof(w)))
		return -ENOMEM;
	snprintf(name, sizeof(name), "%s/%s", d->node_name, d->name);
	snprintf(description, sizeof(description), "node %s, id %u, ifindex %u, host %s",
		 d->node_name, d->node, d->device, about->host);
	text_add(&sink->buffer, block, pcapng_interface(block, d->linktype, name, description));
	sink->interfaces[sink->interfaces_n] = w;
	return sink->interfaces_n++;
}

static size_t stamp_put(char *to, __u64 stamp)
{
	static const char digits[] = "0123456789abcdef";

	memcpy(to, "hlc=", 4);
	for (int i = 0; i < 16; i++)
		to[4 + i] = digits[stamp >> (60 - 4 * i) & 15];
	return 20;
}

/* What a track's packets have in their comments behind the stamp; made anew for another track. */
static void owner_make(struct query_sink *sink, const struct track *k)
{
	struct written_owner *o = &sink->owner;

	if (o->len >= 0 && o->mark == k->mark && o->pid == k->pid &&
	    !memcmp(o->comm, k->comm, sizeof(o->comm)))
		return;
	o->mark = k->mark;
	o->pid = k->pid;
	memcpy(o->comm, k->comm, sizeof(o->comm));
	o->len = 0;
	if (k->mark || k->pid || k->comm[0])
		o->len = snprintf(o->text, sizeof(o->text), " mark=%u/%u:%x pid=%u comm=%.*s",
				  mark_experiment(k->mark), mark_activity(k->mark), k->mark, k->pid,
				  (int)sizeof(k->comm), k->comm);
}

static int packet_write(struct query_sink *sink, const struct gathered *m, struct pcapng_packet *p,
			const struct catalog_track *t)
{
	__s64 interface = written_interface(sink, m, p->interface);
	char comment[PCAPNG_COMMENT_MAX];
	size_t used = 0, skip;

	if (interface < 0)
		return (int)interface;
	p->interface = (__u32)interface;
	if (m->stamp)
		used = stamp_put(comment, m->stamp);
	owner_make(sink, &t->track);
	skip = !used && sink->owner.len; /* the space */
	memcpy(comment + used, sink->owner.text + skip, (size_t)sink->owner.len - skip);
	used += (size_t)sink->owner.len - skip;
	p->comment = used ? comment : NULL;
	p->comment_len = used;
	if (array_grow((void **)&sink->block, &sink->block_room, p->kept + PCAPNG_PACKET_ROOM, 1))
		return -ENOMEM;
	text_add(&sink->buffer, sink->block, pcapng_packet(sink->block, p));
	if (sink->buffer.err)
		return -ENOMEM;
	return sink->buffer.len >= 256 << 10 ? written_flush(sink) : 0;
}

/* ---- either ------------------------------------------------------------------------------------- */

struct query_sink *sink_open(const struct query *query)
{
	struct query_sink *sink = calloc(1, sizeof(*sink));
	unsigned char block[256];
	const char *why = strerror(ENOMEM);

	if (!sink)
		goto fail;
	sink->query = query;
	sink->owner.len = -1;
	sink->fd = -1;
	if (query->count)
		return sink;
	if (!query->write) {
		sink->out = out_open(stdout, columns, OUT_STREAM | (query->json ? OUT_JSON : 0));
		sink->dissector = calloc(1, sizeof(*sink->dissector));
		if (!sink->out || !sink->dissector)
			goto fail;
		if (query->follow)
			out_flush_lines(sink->out, true);
		return sink;
	}
	sink->fd = strcmp(query->write, "-")
			   ? open(query->write, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)
			   : STDOUT_FILENO;
	if (sink->fd < 0) {
		log_error("%s: %m", query->write);
		free(sink);
		return NULL;
	}
	text_add(&sink->buffer, block, pcapng_section(block, NULL));
	return sink;
fail:
	log_error("query: %s", why);
	free(sink);
	return NULL;
}

int sink_packet(struct query_sink *sink, const struct gathered *m)
{
	const struct catalog_track *t;
	struct pcapng_packet p;
	__u64 stamp;

	if (sink->query->count)
		return 0;
	t = segment_track(m->segment, m->half >> 1);
	if (!t || segment_packet(m->segment, m->position, &p, &stamp))
		return -EBADMSG;
	return sink->query->write ? packet_write(sink, m, &p, t) : packet_print(sink, m, &p, t);
}

int sink_flush(struct query_sink *sink)
{
	return sink->fd >= 0 ? written_flush(sink) : 0;
}

int sink_close(struct query_sink *sink, int status)
{
	if (sink->fd >= 0) {
		written_flush(sink);
		if (sink->fd != STDOUT_FILENO && close(sink->fd) && !sink->err)
			sink->err = -errno;
		if (sink->err && sink->err != -EPIPE)
			log_error("%s: %s", sink->query->write, strerror(-sink->err));
		if (sink->err)
			status = 1;
	} else if (sink->out) {
		status = out_finish(sink->out, status);
	}
	text_free(&sink->buffer);
	free(sink->interfaces);
	free(sink->block);
	free(sink->dissector);
	free(sink);
	return status;
}
