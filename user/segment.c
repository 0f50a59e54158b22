// SPDX-License-Identifier: GPL-2.0-only
/* Segments written: a buffer, a file, a journal beside it, sealed when it is full. */
#define _GNU_SOURCE 1
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../bpf/mark.h"
#include "index.h"
#include "log.h"
#include "recover.h"
#include "segment_seal.h"
#include "stored.h"

#define BUFFER_FLUSH (1U << 20) /* written out when so much is there */
#define BUFFER_MOST (2U << 20)	/* kept while the disk takes nothing */
/*
 * A file is full with so many flows, too. In a flood each packet is one, which takes more
 * memory than disk: twice 200 bytes here, and as much again while the file before is sealed.
 */
#define TRACKS_MOST (1U << 16)

struct segments {
	struct segments_options o;
	struct sealer *sealer; /* the thread behind */
	int dir, lock;
	char path[4096];
	char class_name[SEGMENT_CLASS_MAX];
	char host[CATALOG_NAME_MAX];
	struct catalog names; /* devices told, also those of earlier segments */

	/* the file being written; fd < 0: none */
	char base[STORE_NAME_MAX];
	int fd, journal_fd;
	struct stored data, journaled; /* how they are written */
	struct catalog c;
	struct catalog_slots
		flows; /* by the hash of what is not mark and process: the first track */
	struct journal_writer journal;
	struct text journal_out;
	__u64 journal_end;
	unsigned char *buffer;
	size_t buffered, buffer_room;
	__u64 written; /* bytes of the file before the buffer */
	bool unsaid;   /* the buffer or the journal has something for the next flush */

	__u64 last_expiry_ns;
	__u64 batch_packets; /* of stats.packets, those in the journal or `journal_out` */
	__u64 told_packets;  /* of these, those a reader can see */
	__u64 file_packets;  /* those before the file being written */
	bool gone;	     /* someone has deleted it */
	struct segments_stats stats;
};

/* ---- one file ------------------------------------------------------------------------------- */

static int room_make(struct segments *s, size_t wanted)
{
	unsigned char *grown;
	size_t room = s->buffer_room ? s->buffer_room : BUFFER_FLUSH * 2;

	if (wanted <= s->buffer_room)
		return 0;
	while (room < wanted)
		room *= 2;
	grown = realloc(s->buffer, room);
	if (!grown)
		return -ENOMEM;
	s->buffer = grown;
	s->buffer_room = room;
	return 0;
}

/* The journal only after the packets it promises: a reader sees what is there. */
static int flush_once(struct segments *s)
{
	int err;

	err = stored_put(&s->data, s->buffer, s->buffered, s->written);
	if (err)
		return err;
	if (sums_add(&s->c.sums, s->buffer, s->buffered, INDEX_CHUNK))
		return -ENOMEM;
	s->written += s->buffered;
	s->buffered = 0;
	/* Whatever is in `journal_out` was not taken the last time. */
	if (!s->journal_out.len) {
		journal_batch(&s->journal, s->written, &s->c.sums, &s->journal_out);
		s->batch_packets = s->stats.packets;
	}
	if (s->journal_out.err || s->journal.batch.err)
		return -ENOMEM;
	err = stored_put(&s->journaled, s->journal_out.at, s->journal_out.len, s->journal_end);
	if (err)
		return err;
	s->journal_end += s->journal_out.len;
	s->journal_out.len = 0;
	s->told_packets = s->batch_packets;
	s->c.end = s->written;
	s->unsaid = s->journal.batch.len;
	return 0;
}

/* Twice, if the first had to say what an earlier one could not. */
static int flush(struct segments *s)
{
	int err = 0;

	for (int i = 0; i < 2 && s->fd >= 0 && s->unsaid && !err; i++)
		err = flush_once(s);
	return err;
}

static int files_create(struct segments *s)
{
	const char *data = secret_writing() ? STORE_SECRET : STORE_PLAIN;
	char text[STORE_NAME_MAX + 16];
	struct timespec now;
	struct tm tm;
	size_t used;

	for (int i = 0; i < 1000; i++) {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		used = strftime(s->base, sizeof(s->base), "%Y%m%d-%H%M%S", &tm);
		snprintf(s->base + used, sizeof(s->base) - used, "-%09ld", now.tv_nsec);
		/* The journal first: a segment without one would be taken for a sealed one. */
		s->journal_fd = openat(s->dir, store_file(text, s->base, STORE_JOURNAL),
				       O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (s->journal_fd < 0 && errno == EEXIST)
			continue;
		if (s->journal_fd < 0)
			return -errno;
		s->fd = openat(s->dir, store_file(text, s->base, data),
			       O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (s->fd >= 0) {
			int err = stored_begin(&s->data, s->fd);

			return err ? err : stored_begin(&s->journaled, s->journal_fd);
		}
		close(s->journal_fd);
		unlinkat(s->dir, store_file(text, s->base, STORE_JOURNAL), 0);
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

static int segment_begin(struct segments *s)
{
	int err = room_make(s, BUFFER_FLUSH * 2);

	if (err)
		return err;
	err = files_create(s);
	if (err) {
		s->fd = s->journal_fd = -1;
		return err;
	}
	catalog_free(&s->c);
	catalog_slots_free(&s->flows);
	strcpy(s->c.class_name, s->class_name);
	strcpy(s->c.host, s->host);
	journal_begin(&s->journal);
	s->journal_out.len = 0;
	s->journal_end = 0;
	s->written = 0;
	s->file_packets = s->stats.packets;
	s->gone = false;
	journal_head(&s->journal_out, s->class_name, s->host);
	journal_batch(&s->journal, 0, &s->c.sums, &s->journal_out);
	s->buffered = segment_section(s->buffer, &s->c);
	s->unsaid = true;
	return 0;
}

/* Hands the file to the thread behind; the next packet begins another one. */
static int segment_end(struct segments *s)
{
	int err;

	if (s->fd < 0)
		return 0;
	err = flush(s);
	if (err)
		return err;
	close(s->journal_fd);
	stored_end(&s->data); /* of no consequence if the disk is full: see there */
	err = sealer_add(s->sealer, s->base, s->fd, &s->c);
	s->fd = s->journal_fd = -1;
	catalog_free(&s->c);
	catalog_slots_free(&s->flows);
	return err;
}

/* ---- packets -------------------------------------------------------------------------------- */

static __s64 interface_make(struct segments *s, __u32 node, __u32 device, __u16 linktype)
{
	struct catalog_device d = { .node = node, .device = device, .linktype = linktype };
	__s64 number = catalog_device_find(&s->c, node, device, linktype), known = -1;

	if (number >= 0)
		return number;
	for (__u32 i = 0; i < s->names.devices_n; i++)
		if (s->names.devices[i].node == node && s->names.devices[i].device == device)
			known = i;
	snprintf(d.node_name, sizeof(d.node_name), "%u", node);
	snprintf(d.name, sizeof(d.name), "%u", device);
	if (known >= 0) {
		memcpy(d.node_name, s->names.devices[known].node_name, sizeof(d.node_name));
		memcpy(d.name, s->names.devices[known].name, sizeof(d.name));
	}
	d.position = (__u32)((s->written + s->buffered) / CATALOG_UNIT);
	if (room_make(s, s->buffered + 1024) || catalog_device_add(&s->c, &d))
		return -ENOMEM;
	s->buffered += segment_interface(s->buffer + s->buffered, &d);
	journal_device(&s->journal, s->c.devices_n - 1, &d);
	s->unsaid = true;
	return s->c.devices_n - 1;
}

/* Eight digits at once: a nibble to each byte, then 10 and more on to the letters. */
static void hex_put(char *to, __u32 value)
{
	__u64 x = value, letters;

	x = (x << 16 | x) & 0x0000ffff0000ffffULL;
	x = (x << 8 | x) & 0x00ff00ff00ff00ffULL;
	x = (x << 4 | x) & 0x0f0f0f0f0f0f0f0fULL;
	letters = (x + 0x0606060606060606ULL) >> 4 & 0x0101010101010101ULL;
	x = htobe64(x + 0x3030303030303030ULL + letters * ('a' - '0' - 10));
	memcpy(to, &x, sizeof(x));
}

/*
 * What the bytes of a packet do not say is said in a comment: the stamp in each that has
 * one, mark and process when they are others than the last of the same flow had.
 */
static size_t comment_make(struct segments *s, const struct packet *p, __u32 track, char *text)
{
	struct catalog_track *t = &s->c.tracks[track];
	size_t used = 0;
	__u32 *said;

	if (p->stamp) {
		memcpy(text, "hlc=", 4);
		hex_put(text + 4, (__u32)(p->stamp >> 32));
		hex_put(text + 12, (__u32)p->stamp);
		used = 20;
	}
	if (t->current)
		return used;
	said = &s->c.tracks[t->flow].said;
	if (*said != ~0U)
		s->c.tracks[*said].current = false;
	t->current = true;
	if (*said != ~0U || t->track.mark || t->track.pid || t->track.comm[0])
		used += (size_t)snprintf(text + used, PCAPNG_COMMENT_MAX - used,
					 "%smark=%u/%u:%x pid=%u comm=%.*s", used ? " " : "",
					 mark_experiment(t->track.mark),
					 mark_activity(t->track.mark), t->track.mark, t->track.pid,
					 (int)sizeof(t->track.comm), t->track.comm);
	*said = track;
	return used;
}

static __u16 linktype_of(const struct packet *p)
{
	if (p->flags >> PACKET_LINK_SHIFT)
		return (__u16)((p->flags >> PACKET_LINK_SHIFT) - 1);
	return p->flags & PACKET_L3 ? PCAPNG_LINK_RAW : PCAPNG_LINK_ETHERNET;
}

/*
 * The first track of this one's flow. One without mark and process, as most are, is found by
 * its own hash; so only the others need to be remembered by the hash of what they share.
 */
static __s64 flow_find(struct segments *s, __u32 number, const struct track *track,
		       struct catalog_hash hash)
{
	struct track bare = *track;
	__s64 first;

	if (!track->mark && !track->pid && !track->comm[0]) {
		first = catalog_find(&s->flows, hash);
		return first < 0 ? number : first;
	}
	bare.mark = bare.pid = 0;
	memset(bare.comm, 0, sizeof(bare.comm));
	hash = catalog_hash(&bare);
	first = catalog_find(&s->c.slots, hash);
	return catalog_first(&s->flows, hash, first < 0 ? number : (__u32)first);
}

/* The number of the track, known to file and journal. */
static __s64 track_make(struct segments *s, const struct packet *p, struct catalog_hash hash)
{
	__u32 before = s->c.tracks_n;
	__s64 track = catalog_track_hashed(&s->c, &p->track, hash), flow, interface;

	if (track < 0 || (track < before && s->c.tracks[track].interface))
		return track;
	flow = flow_find(s, (__u32)track, &p->track, hash);
	interface = interface_make(s, p->track.flow.node, p->track.device, linktype_of(p));
	if (flow < 0 || interface < 0)
		return -ENOMEM;
	s->c.tracks[track].flow = (__u32)flow;
	s->c.tracks[track].interface = (__u32)interface + 1;
	if (track == before)
		journal_track(&s->journal, before, &p->track);
	return track;
}

static int packet_put(struct segments *s, const struct packet *p, const void *bytes,
		      struct catalog_hash hash)
{
	struct pcapng_packet out = { .wall_ns = p->wall_ns,
				     .kept = p->kept,
				     .wire = p->wire,
				     .flags = p->flags & PACKET_OUT ? PCAPNG_OUT : PCAPNG_IN,
				     .frame = bytes };
	struct catalog_packet entry = { .forward = p->flags & PACKET_FORWARD,
					.wall_ns = p->wall_ns,
					.stamp = p->stamp,
					.wire = p->wire,
					.kept = p->kept };
	char comment[PCAPNG_COMMENT_MAX];
	__s64 track = track_make(s, p, hash);

	if (track < 0)
		return (int)track;
	out.interface = s->c.tracks[track].interface - 1;
	/* On a mirror the direction is not enough to know which end is the local one. */
	if (!(p->flags & PACKET_FORWARD) != !(p->flags & PACKET_OUT))
		out.flags |= PCAPNG_PROMISCUOUS;
	out.comment_len = comment_make(s, p, (__u32)track, comment);
	out.comment = out.comment_len ? comment : NULL;
	entry.track = (__u32)track;
	entry.position = (__u32)((s->written + s->buffered) / CATALOG_UNIT);
	if (catalog_add(&s->c, &entry))
		return -ENOMEM;
	s->buffered += pcapng_packet(s->buffer + s->buffered, &out);
	journal_packet(&s->journal, &entry);
	s->unsaid = true;
	s->stats.packets++;
	s->stats.bytes += p->kept;
	return s->journal.batch.err ? -ENOMEM : 0;
}

struct catalog_hash segments_hash(const struct packet *p)
{
	return catalog_hash(&p->track);
}

void segments_await(const struct segments *s, struct catalog_hash hash, bool near)
{
	if (near)
		catalog_await_track(&s->c, hash);
	else
		catalog_await_slot(&s->c, hash);
}

int segments_write(struct segments *s, const struct packet *p, const void *bytes)
{
	return segments_write_hashed(s, p, bytes, segments_hash(p));
}

int segments_write_hashed(struct segments *s, const struct packet *p, const void *bytes,
			  struct catalog_hash hash)
{
	size_t wanted = p->kept + PCAPNG_PACKET_ROOM + 1024;
	int err;

	if (p->kept > PCAPNG_FRAME_MAX)
		return -EMSGSIZE;
	if (s->fd < 0) {
		err = segment_begin(s);
		if (err)
			return err;
	}
	if (s->buffered >= BUFFER_FLUSH) {
		err = flush(s);
		if (err && s->buffered + wanted > BUFFER_MOST)
			return err;
	}
	if (room_make(s, s->buffered + wanted))
		return -ENOMEM;
	err = packet_put(s, p, bytes, hash);
	if (!err && (s->written + s->buffered >= s->o.file_bytes || s->c.tracks_n >= TRACKS_MOST))
		segment_end(s); /* a full disk: tried again at the next packet or tick */
	return err;
}

int segments_device(struct segments *s, __u32 node, __u32 device, const char *node_name,
		    const char *device_name, __u16 linktype)
{
	struct catalog_device d = { .node = node, .device = device, .linktype = linktype };
	__s64 known;

	snprintf(d.node_name, sizeof(d.node_name), "%s", node_name);
	snprintf(d.name, sizeof(d.name), "%s", device_name);
	known = catalog_device_find(&s->names, node, device, linktype);
	if (known < 0)
		return catalog_device_add(&s->names, &d);
	s->names.devices[known] = d;
	return 0;
}

int segments_gap(struct segments *s, __u32 node, __u64 from_ns, __u64 to_ns, __u64 packets,
		 __u64 bytes, const char *reason)
{
	struct catalog_gap gap = { node, from_ns, to_ns, packets, bytes, "" };
	__s64 interface = -1;
	int err;

	s->stats.gap_packets += packets;
	s->stats.gap_bytes += bytes;
	if (s->fd < 0) {
		err = segment_begin(s);
		if (err)
			return err;
	}
	for (__u32 i = 0; i < s->c.devices_n && interface < 0; i++)
		if (s->c.devices[i].node == node)
			interface = i;
	if (interface < 0)
		interface = interface_make(s, node, 0, PCAPNG_LINK_ETHERNET);
	snprintf(gap.reason, sizeof(gap.reason), "%s", reason);
	if (interface < 0 || room_make(s, s->buffered + 512) || catalog_gap_add(&s->c, &gap))
		return -ENOMEM;
	s->buffered += pcapng_statistics(s->buffer + s->buffered, (__u32)interface, from_ns, to_ns,
					 packets, gap.reason);
	journal_gap(&s->journal, &gap);
	s->unsaid = true;
	return 0;
}

/* ---- the class ------------------------------------------------------------------------------- */

/* Deleted under our hands: writing goes well, and nobody will ever read it. */
static int presence_check(struct segments *s)
{
	struct stat st;

	if (s->fd < 0 || fstat(s->fd, &st) || st.st_nlink)
		return 0;
	if (!s->gone)
		log_error("%s/%s: deleted while it is written; stop, and record anew", s->path,
			  s->base);
	s->gone = true;
	s->told_packets = s->file_packets;
	return -ENOENT;
}

/* On a quiet link a file would fill for days, and none of it could be deleted before. */
static bool file_is_old(const struct segments *s, __u64 now_ns)
{
	return s->o.age_ns && s->c.entries_n && now_ns > s->c.first_ns &&
	       now_ns - s->c.first_ns > s->o.age_ns / 8;
}

int segments_tick(struct segments *s, __u64 now_ns)
{
	int err = flush(s);

	if (!err)
		err = presence_check(s);
	if (!err && s->fd >= 0 && (s->written >= s->o.file_bytes || file_is_old(s, now_ns)))
		err = segment_end(s);
	/* Age is looked at once a second, and once after a clock was set back. */
	if (now_ns - s->last_expiry_ns >= 1000000000ULL) {
		sealer_expire(s->sealer, now_ns, s->fd < 0 ? 0 : s->data.size + s->journaled.size);
		s->last_expiry_ns = now_ns;
	}
	return err;
}

int segments_seal(struct segments *s)
{
	return segment_end(s);
}

void segments_stats(const struct segments *s, struct segments_stats *stats)
{
	*stats = s->stats;
	sealer_stats(s->sealer, stats);
	if (s->fd < 0)
		return;
	stats->files++;
	stats->disk_bytes += s->data.size + s->journaled.size;
	if (s->c.entries_n && (!stats->oldest_ns || s->c.first_ns < stats->oldest_ns))
		stats->oldest_ns = s->c.first_ns;
	if (s->c.last_ns > stats->newest_ns)
		stats->newest_ns = s->c.last_ns;
}

static bool name_is_fit(const char *name)
{
	return *name && strlen(name) < SEGMENT_CLASS_MAX &&
	       !name[strspn(name,
			    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")];
}

static int directory_open(struct segments *s)
{
	if (mkdir(s->o.dir, 0700) && errno != EEXIST) {
		log_error("%s: %m", s->o.dir);
		return -errno;
	}
	snprintf(s->path, sizeof(s->path), "%s/%s", s->o.dir, s->class_name);
	if (mkdir(s->path, 0700) && errno != EEXIST) {
		log_error("%s: %m", s->path);
		return -errno;
	}
	s->dir = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	s->lock = s->dir < 0 ? -1 : openat(s->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (s->lock < 0) {
		log_error("%s: %m", s->path);
		return -errno;
	}
	if (!flock(s->lock, LOCK_EX | LOCK_NB))
		return 0;
	if (errno == EWOULDBLOCK)
		errno = EBUSY;
	log_error("%s: %s", s->path,
		  errno == EBUSY ? "another process records this class here; give it another "
				   "directory"
				 : strerror(errno));
	return -errno;
}

static void limits_take(struct segments *s, const struct segments_options *o)
{
	s->o.file_bytes = o->file_bytes ? o->file_bytes : SEGMENT_BYTES;
	s->o.flow_bytes = o->flow_bytes ? o->flow_bytes : SEGMENT_FLOW_BYTES;
	s->o.budget_bytes = o->budget_bytes;
	s->o.age_ns = o->age_ns;
}

void segments_limit(struct segments *s, const struct segments_options *options)
{
	limits_take(s, options);
	sealer_limit(s->sealer, &s->o);
}

struct segments *segments_open(const struct segments_options *options)
{
	struct segments *s = calloc(1, sizeof(*s));
	int err;

	if (!s) {
		errno = ENOMEM;
		return NULL;
	}
	s->o = *options;
	s->fd = s->journal_fd = s->dir = s->lock = -1;
	limits_take(s, options);
	snprintf(s->class_name, sizeof(s->class_name), "%s",
		 s->o.class_name ? s->o.class_name : "all");
	if (s->o.host)
		snprintf(s->host, sizeof(s->host), "%s", s->o.host);
	else
		gethostname(s->host, sizeof(s->host) - 1);
	if (!name_is_fit(s->o.class_name ? s->o.class_name : "all")) {
		log_error("%s: a class is named by at most %d letters, digits, - and _",
			  s->o.class_name, SEGMENT_CLASS_MAX - 1);
		errno = EINVAL;
		goto fail;
	}
	err = secret_write_with(s->o.key_file); /* better nothing kept than kept in the clear */
	if (!err)
		err = directory_open(s);
	if (!err)
		err = sealer_start(&s->sealer, &s->o, s->dir, s->path, &s->stats.recovered);
	if (!err)
		return s;
	errno = -err;
fail:
	err = errno;
	segments_close(s);
	errno = err;
	return NULL;
}

__u64 segments_unwritten(const struct segments *s)
{
	return s->stats.packets - s->told_packets;
}

int segments_close(struct segments *s)
{
	int err = segment_end(s), sealed = 0;

	if (s->sealer)
		sealed = sealer_stop(s->sealer);
	if (s->fd >= 0) { /* what could not be flushed: the journal says how far it is whole */
		close(s->fd);
		close(s->journal_fd);
	}
	catalog_free(&s->c);
	catalog_slots_free(&s->flows);
	catalog_free(&s->names);
	text_free(&s->journal.batch);
	text_free(&s->journal_out);
	stored_free(&s->data);
	stored_free(&s->journaled);
	free(s->buffer);
	if (s->lock >= 0)
		close(s->lock);
	if (s->dir >= 0)
		close(s->dir);
	free(s);
	return err ? err : sealed;
}
