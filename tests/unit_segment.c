// SPDX-License-Identifier: GPL-2.0-only
/* Segments: what is written comes back, also when the writer died at any byte; budgets hold. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../user/bytes.h"
#include "../user/gather.h"
#include "../user/recover.h"
#include "../user/secret.h"
#include "../user/segment.h"
#include "../user/segment_seal.h"
#include "tap.h"

static char dir[64];
static const char *key_file; /* everything once more, encrypted */
static const char key_name[] = "/tmp/unit_segment.key";

static void packet_make(struct packet *p, unsigned char frame[200], unsigned n)
{
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < 200; i++)
		frame[i] = (unsigned char)(n * 7 + (unsigned)i);
	p->wall_ns = 1700000000000000000ULL + n * 1000 - (n % 5 == 4 ? 2500 : 0);
	p->stamp = n % 2 ? p->wall_ns & ~0xffffULL : 0;
	p->kept = 60 + n % 100;
	p->wire = p->kept + n % 3;
	p->flags = n % 2 ? PACKET_FORWARD | PACKET_OUT : 0;
	p->track.flow.node = 1;
	p->track.flow.proto = 6;
	p->track.flow.local[10] = p->track.flow.local[11] = 0xff;
	p->track.flow.remote[10] = p->track.flow.remote[11] = 0xff;
	p->track.flow.local[15] = 1;
	p->track.flow.remote[15] = (__u8)(n % 7);
	p->track.flow.remote_port = 80;
	p->track.ethertype = 0x0800;
	p->track.device = 2;
}

static void packets_write(struct segments *s, unsigned from, unsigned to)
{
	unsigned char frame[200];
	struct packet p;

	for (unsigned n = from; n < to; n++) {
		packet_make(&p, frame, n);
		segments_write(s, &p, frame);
	}
}

/* How many of those asked for come back, each as it was and in order; -1: one did not. */
static int read_back(const char *text)
{
	struct gather m = { .to_ns = ~0ULL };
	struct expr_error error;
	struct expr *expr = NULL;
	struct gathered got;
	__u64 last = 0;
	int n = 0;

	if (expr_parse(text, 0, &expr, &error))
		return -1;
	m.expr = expr;
	m.of_packets = expr_is_of_packets(expr);
	if (gather_add(&m, dir, 0) || gather_begin(&m))
		n = -1;
	while (n >= 0 && gather_next(&m, &got) == 1) {
		unsigned char frame[200];
		struct pcapng_packet stored;
		struct packet want;
		__u64 stamp;
		unsigned number = (unsigned)((got.wall_ns - 1700000000000000000ULL + 2500) / 1000);

		if (number % 5 != 4 || (got.wall_ns - 1700000000000000000ULL) % 1000 == 0)
			number = (unsigned)((got.wall_ns - 1700000000000000000ULL) / 1000);
		packet_make(&want, frame, number);
		if (segment_packet(got.segment, got.position, &stored, &stamp) ||
		    stored.kept != want.kept || stored.wire != want.wire || stamp != want.stamp ||
		    memcmp(stored.frame, frame, want.kept) || got.wall_ns < last)
			n = -1;
		else
			n++;
		last = got.wall_ns;
	}
	if (m.failed)
		n = -1;
	gather_free(&m);
	expr_free(expr);
	return n;
}

/* How many packets a question about a time is told were lost. */
static int gaps_told(const char *text, __u64 from_ns, __u64 to_ns)
{
	struct gather m = { .from_ns = from_ns, .to_ns = to_ns };
	struct expr_error error;
	struct expr *expr;
	int lost = 0;

	if (expr_parse(text, 0, &expr, &error))
		return -1;
	m.expr = expr;
	if (gather_add(&m, dir, 0))
		lost = -1;
	for (__u32 i = 0; i < m.gaps_n; i++)
		lost += !*m.gaps[i].node || !strcmp(m.gaps[i].node, "web")
				? (int)m.gaps[i].gap.packets
				: -1000;
	gather_free(&m);
	expr_free(expr);
	return lost;
}

static void directory_make(void)
{
	char command[128];

	if (dir[0]) {
		snprintf(command, sizeof(command), "rm -rf %s", dir);
		if (system(command))
			exit(1);
	}
	strcpy(dir, "/tmp/unit_segment.XXXXXX");
	if (!mkdtemp(dir))
		exit(1);
}

static struct segments *open_in(struct segments_options o)
{
	o.dir = dir;
	o.host = "unit";
	o.key_file = key_file;
	return segments_open(&o);
}

static void roundtrip(void)
{
	struct segments *s, *second;

	directory_make();
	s = open_in((struct segments_options){ .file_bytes = 20000 });
	segments_device(s, 1, 2, "web", "eth0", 1);
	packets_write(s, 0, 600);
	segments_gap(s, 1, 1, 2, 33, 4000, "ring full");
	is_int(segments_tick(s, 0), 0, "a tick flushes");
	is_int(read_back(""), 600, "what was written is there after a tick, before it is sealed");
	second = open_in((struct segments_options){});
	ok(!second && errno == EBUSY, "a class has one writer");
	is_int(segments_close(s), 0, "closing seals");
	is_int(read_back(""), 600, "and it is still there when sealed, in order of time");
	is_int(read_back("host 0.0.0.3"), 86, "by address");
	is_int(read_back("host 0.0.0.3 and src port 80"), 43, "by direction");
	is_int(read_back("node web"), 600, "by the node's name");
	is_int(read_back("udp"), 0, "and not what it is not");
	is_int(gaps_told("udp", 0, ~0ULL), 33, "what was lost is told, whatever was asked for");
	is_int(gaps_told("tcp", 3, ~0ULL), 0, "but not what was lost at another time");
}

static off_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) ? -1 : st.st_size;
}

static char class[128], segment[256], journal[256];

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
	char command[1200];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command))
		exit(1);
}

/* The files of the one segment there is, and copies of them as they are now. */
static void files_keep(void)
{
	struct dirent *e;
	DIR *d;

	snprintf(class, sizeof(class), "%s/all", dir);
	d = opendir(class);
	while ((e = readdir(d))) {
		if (strstr(e->d_name, ".pcapng"))
			snprintf(segment, sizeof(segment), "%s/%.90s", class, e->d_name);
		if (strstr(e->d_name, ".journal"))
			snprintf(journal, sizeof(journal), "%s/%.90s", class, e->d_name);
	}
	closedir(d);
	shell("cp %s %s.keep && cp %s %s.keep", segment, segment, journal, journal);
}

static void files_return(void)
{
	shell("rm -f %s/*.index %s/*.flows; cp %s.keep %s; cp %s.keep %s", class, class, segment,
	      segment, journal, journal);
}

static int recover(void)
{
	int dirfd = open(class, O_RDONLY | O_DIRECTORY), err;
	char base[64];

	snprintf(base, sizeof(base), "%.*s",
		 (int)(strchr(strrchr(segment, '/'), '.') - strrchr(segment, '/') - 1),
		 strrchr(segment, '/') + 1);
	err = segment_recover(class, dirfd, base);
	close(dirfd);
	return err;
}

/* Where it ends. */
static off_t first_block(const char *path)
{
	unsigned char length[SECRET_LENGTH];
	int fd = open(path, O_RDONLY);

	if (pread(fd, length, sizeof(length), SECRET_HEAD) != sizeof(length))
		exit(1);
	close(fd);
	return SECRET_HEAD + SECRET_MORE + get_u32(length);
}

/* A dead writer's files: the journal cut at every byte, the segment as long as it may be. */
static void recovery(void)
{
	int wrong = 0, most = 0, cuts = 0;
	struct segments *s;
	char copy[300];
	off_t whole, head;

	directory_make();
	s = open_in((struct segments_options){});
	packets_write(s, 0, 20);
	segments_tick(s, 0);
	packets_write(s, 20, 40);
	segments_tick(s, 0);
	files_keep();
	segments_close(s);
	snprintf(copy, sizeof(copy), "%s.keep", journal);
	whole = size_of(copy);
	head = key_file ? first_block(copy) : 104;
	for (off_t cut = 0; cut <= whole; cut += cut < 200 || cut > whole - 60 ? 1 : 13, cuts++) {
		int n;

		files_return();
		if (truncate(journal, cut))
			exit(1);
		n = recover() ? -1 : read_back("");
		if (n != 0 && n != 20 && n != 40)
			wrong++;
		if (n < most)
			wrong++;
		/* Without a head nobody knows whose it was; with one, all are accounted for. */
		if (cut >= head && n + gaps_told("", 0, ~0ULL) != 40)
			wrong++;
		most = n > most ? n : most;
	}
	ok(!wrong && most == 40,
	   "after death at any of %d bytes, every batch that was whole is there", cuts);
}

static void flip(const char *path, off_t at)
{
	int fd = open(path, O_RDWR);
	unsigned char byte;

	if (at < 0)
		at += size_of(path);
	if (pread(fd, &byte, 1, at) != 1)
		exit(1);
	byte ^= 0x10;
	if (pwrite(fd, &byte, 1, at) != 1)
		exit(1);
	close(fd);
}

/* What a reindex finds. */
enum after { ALL, AS_BEFORE, MORE };

/* What is there and what is told to be lost are all there were, before and after a reindex. */
static void damage_is_told(int least, int most, enum after after, const char *what)
{
	int n, lost, again, gone;

	ok(!recover(), "%s: recovered", what);
	n = read_back("");
	lost = gaps_told("", 0, ~0ULL);
	ok(n + lost == 600 && n >= least && n <= most, "%s: %d packets are there, %d told as lost",
	   what, n, lost);
	ok(read_back("host 0.0.0.3") + read_back("not host 0.0.0.3") == n,
	   "%s: the index answers for each of them", what);
	ok(!segments_reindex(dir, key_file), "%s: its packets can be indexed anew", what);
	again = read_back("");
	gone = gaps_told("", 0, ~0ULL);
	ok(again + gone == 600 && (after == ALL ? !gone : gone && gone <= lost) &&
		   (after != AS_BEFORE || gone == lost),
	   "%s: and then %d are there, %d lost", what, again, gone);
}

/* 600 packets in 12 batches, 98 KB, six chunks. */
static void damage(void)
{
	struct segments *s;

	directory_make();
	s = open_in((struct segments_options){});
	segments_device(s, 1, 2, "web", "eth0", 1);
	for (unsigned n = 0; n < 600; n += 50) {
		packets_write(s, n, n + 50);
		is_int(segments_tick(s, 0), 0, "a batch");
	}
	files_keep();
	is_int(read_back(""), 600, "an open segment answers");
	flip(segment, 50000);
	is_int(read_back(""), -1, "and not when a byte of it was flipped");
	files_return();
	flip(journal, 2300);
	is_int(read_back(""), -1, "nor when one of its journal was");
	files_return();
	flip(journal, -1);
	is_int(read_back(""), 550, "at the end of a journal nothing was promised");
	files_return();
	segments_close(s);

	files_return();
	damage_is_told(600, 600, ALL, "nothing damaged");
	files_return();
	flip(segment, 50000);
	damage_is_told(480, 520, AS_BEFORE, "a byte in the middle");
	files_return();
	flip(segment, 300);
	damage_is_told(480, 520, AS_BEFORE, "a byte where it says whose it is");
	files_return();
	flip(segment, 20000);
	flip(segment, 60000);
	flip(segment, -10);
	damage_is_told(280, 420, AS_BEFORE, "three places, and the end");
	files_return();
	if (truncate(segment, 40000))
		exit(1);
	damage_is_told(180, 260, AS_BEFORE, "the end that never came to disk");
	files_return();
	flip(journal, 2300);
	damage_is_told(430, 550, ALL, "a batch in the middle");
	files_return();
	flip(journal, 300);
	damage_is_told(0, 0, ALL, "the batch that names the flows");
	files_return();
	flip(journal, 2300);
	flip(segment, 90000);
	damage_is_told(300, 480, MORE, "a batch and a byte");
}

static void other_version(void)
{
	files_return();
	flip(journal, 7); /* 2 becomes " */
	is_int(read_back(""), -1, "a journal of another version is not read");
	is_int(recover(), -EPROTONOSUPPORT, "nor recovered from");
	is_int(segments_reindex(dir, key_file), 0, "but its packets can be indexed");
	is_int(read_back(""), 600, "and all are there");
}

static void budgets(void)
{
	struct segments_stats stats;
	struct segments *s;

	directory_make();
	s = open_in((struct segments_options){ .file_bytes = 30000, .budget_bytes = 120000 });
	for (unsigned i = 0; i < 40; i++) {
		packets_write(s, i * 100, i * 100 + 100);
		segments_tick(s, i * 2000000000ULL);
	}
	segments_close(s);
	s = open_in((struct segments_options){ .file_bytes = 30000, .budget_bytes = 120000 });
	segments_stats(s, &stats);
	ok(stats.disk_bytes <= 120000 + 40000 && stats.disk_bytes > 60000,
	   "a budget holds to within one file");
	ok(stats.oldest_ns > 1700000000000000000ULL, "and the oldest are gone");
	segments_close(s);
	s = open_in((struct segments_options){ .age_ns = 1000 });
	segments_tick(s, 1800000000000000000ULL);
	segments_close(s);
	is_int(read_back(""), 0, "what is too old is deleted");
}

static void key_make(void)
{
	int fd = open(key_name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (write(fd, "unit_segment: thirty-two bytes..", SECRET_KEY) != SECRET_KEY)
		exit(1);
	close(fd);
	key_file = key_name;
}

int main(void)
{
	for (int secret = 0; secret < 2; secret++) {
		printf("# %s\n", secret ? "encrypted" : "plain");
		if (secret)
			key_make();
		roundtrip();
		recovery();
		damage();
		other_version();
		budgets();
	}
	unlink(key_name);
	if (dir[0]) {
		char command[128];

		snprintf(command, sizeof(command), "rm -rf %s", dir);
		if (system(command))
			return 1;
	}
	return done();
}
