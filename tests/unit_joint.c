// SPDX-License-Identifier: GPL-2.0-only
/* Joint indexes: with them or without, the answer is the same; damaged ones mislead nobody. */
#define _GNU_SOURCE 1
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../user/gather.h"
#include "../user/joint.h"
#include "../user/joints.h"
#include "../user/segment.h"
#include "../user/segment_seal.h"
#include "tap.h"

#define SECOND 1000000000ULL
#define BEGAN 1700000000ULL

/* The same numbers in each run. */
static unsigned below(unsigned n)
{
	static __u64 state = 5;
	__u64 z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return (unsigned)((z ^ z >> 31) % n);
}

static char dir[64], with[80], without[80];

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command))
		exit(1);
}

/* What is said from now on, and how often a word is in it. */
static char words[80];

static void words_begin(void)
{
	snprintf(words, sizeof(words), "%s/words", dir);
	if (!freopen(words, "we", stderr))
		exit(1);
}

static unsigned words_with(const char *word)
{
	char line[1000];
	unsigned n = 0;
	FILE *file;

	fflush(stderr);
	file = fopen(words, "re");
	while (file && fgets(line, sizeof(line), file))
		n += strstr(line, word) != NULL;
	if (file)
		fclose(file);
	return n;
}

/* ---- a record of all sorts of things ----------------------------------------------------------- */

static void address_make(__u8 at[16], unsigned segment)
{
	static const __u8 v6[4] = { 0x20, 0x01, 0x0d, 0xb8 };
	unsigned n = below(4) ? below(40) : 40 + segment;

	memset(at, 0, 16);
	if (n % 4 == 3) {
		memcpy(at, v6, sizeof(v6));
	} else {
		at[10] = at[11] = 0xff;
		at[12] = 10;
	}
	at[14] = (__u8)(n >> 8);
	at[15] = (__u8)n;
}

static void flow_make(struct flow_key *f, unsigned segment)
{
	static const __u8 protos[] = { 6, 6, 17, 17, 1, 58, 47 };

	address_make(f->local, segment);
	do
		address_make(f->remote, segment);
	while ((f->local[0] == 0x20) != (f->remote[0] == 0x20));
	f->proto = protos[below(sizeof(protos))];
	if (f->proto != 6 && f->proto != 17)
		return;
	f->local_port = (__u16)(30000 + below(200) + segment * 3);
	f->remote_port = (__u16)(below(20) ? 80 + below(5) : 1000 + segment);
}

static void packet_make(struct packet *p, unsigned segment, unsigned n)
{
	struct track *t = &p->track;

	memset(p, 0, sizeof(*p));
	p->wall_ns = (BEGAN + segment * 10) * SECOND + below(15000) * 1000000ULL;
	p->stamp = n % 4 ? p->wall_ns & ~0xffffULL : below(3) ? p->wall_ns : 0;
	p->kept = p->wire = 60 + below(60);
	p->flags = below(2) ? PACKET_FORWARD | PACKET_OUT : 0;
	flow_make(&t->flow, segment);
	t->flow.node = 1 + below(segment % 7 ? 2 : 3);
	t->device = 2 + below(2);
	t->ethertype = t->flow.local[0] == 0x20 ? FILTER_IP6 : FILTER_IP;
	if (!below(9)) {
		memset(&t->flow, 0, sizeof(t->flow));
		t->flow.node = 1;
		t->ethertype = below(2) ? 0x0806 : 0x88cc;
	} else if (!below(8)) {
		flow_make(&t->inner, segment);
		t->vni = below(2) ? TRACK_NUMBERED | (segment / 20) : 0;
	}
	if (!below(6))
		t->vlan[below(4) ? 0 : 1] = (__u16)(TRACK_TAGGED | below(segment / 8 + 1));
	if (!below(30))
		t->mpls = TRACK_LABELLED | segment / 10;
	if (!below(5)) {
		t->mark = mark_label(100 + segment / 90, below(3), 0) | MARK_MARKED;
		t->pid = 1000 + segment / 4;
		snprintf(t->comm, sizeof(t->comm), "job%u", segment / 30);
	}
}

static struct segments *record_open(void)
{
	struct segments_options o = { .dir = with, .host = "unit" };
	struct segments *s = segments_open(&o);

	if (!s)
		exit(1);
	segments_device(s, 1, 2, "web", "eth0", 1);
	segments_device(s, 1, 3, "web", "eth1", 1);
	segments_device(s, 2, 2, "db", "eth0", 1);
	segments_device(s, 3, 2, "rare", "wg0", 1);
	return s;
}

static void segments_make(struct segments *s, unsigned from, unsigned to)
{
	unsigned char frame[200] = {};
	struct packet p;

	for (unsigned segment = from; segment < to; segment++) {
		unsigned packets = segment % 50 == 7 ? 0 : 1 + below(20);
		__u64 ns = (BEGAN + segment * 10) * SECOND;

		for (unsigned n = 0; n < packets; n++) {
			packet_make(&p, segment, n);
			segments_write(s, &p, frame);
		}
		if (!packets || segment % 11 == 3)
			segments_gap(s, 1, ns, ns + SECOND, 5 + segment, 1, "ring full");
		segments_seal(s);
	}
}

/* The same without: what would be the answer if there were none. */
static void bare_make(void)
{
	shell("rm -rf %s && cp -rl %s %s && rm -f %s/all/*.joint*", without, with, without,
	      without);
}

static unsigned files_of(const char *path, const char *part)
{
	char all[100];
	struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(all, sizeof(all), "%s/all", path);
	d = opendir(all);
	while (d && (e = readdir(d)))
		n += strstr(e->d_name, part) != NULL;
	if (d)
		closedir(d);
	return n;
}

/* ---- questions --------------------------------------------------------------------------------- */

static void leaf_make(char *to, size_t size)
{
	unsigned segment = below(260), n = below(45);
	static const char *const plain[] = {
		"tcp",	       "udp",	    "icmp6",	  "arp",       "ip6",
		"vlan",	       "mpls",	    "vni",	  "mark",      "gre",
		"node web",    "node db",   "node rare",  "node none", "device wg0",
		"device eth1", "class all", "class none", "inner tcp", "outer udp",
		"less 80",     "proto 47",  "node 3",	  "device 2",  "pid 0",
	};

	switch (below(16)) {
	case 0:
		snprintf(to, size, "host 10.0.%u.%u", segment >> 8, 40 + (segment & 0xff) % 200);
		break;
	case 1:
		snprintf(to, size, "%s host 10.0.0.%u", n % 2 ? "src" : "inner", n);
		break;
	case 2:
		snprintf(to, size, "host 2001:db8::%x", n % 3 ? n : 40 + segment);
		break;
	case 3:
		snprintf(to, size, "net 10.0.0.%u/%u", n & 0x38, 29 + n % 3);
		break;
	case 4:
		snprintf(to, size, "dst port %u", n % 2 ? 1000 + segment : 80 + n % 5);
		break;
	case 5:
		snprintf(to, size, "tcp port %u", 30000 + segment * 4);
		break;
	case 6:
		snprintf(to, size, "portrange %u-%u", 30900 + segment, 30910 + segment);
		break;
	case 7:
		snprintf(to, size, "vlan %u", segment / 8);
		break;
	case 8:
		snprintf(to, size, "mpls %u", segment / 10);
		break;
	case 9:
		snprintf(to, size, "mark %u/%u", 100 + segment / 90, n % 4);
		break;
	case 10:
		snprintf(to, size, "pid %u", 1000 + segment / 4);
		break;
	case 11:
		snprintf(to, size, "comm job%u", segment / 30);
		break;
	case 12:
		snprintf(to, size, "%s %llu", n % 2 ? "before" : "after", BEGAN + segment * 10);
		break;
	case 13:
		snprintf(to, size, "vni %u", segment / 20);
		break;
	default:
		snprintf(to, size, "%s", plain[below(sizeof(plain) / sizeof(plain[0]))]);
	}
}

static void question_make(char *to, size_t size, unsigned depth)
{
	char left[400], right[400];

	if (!depth || !below(3)) {
		leaf_make(left, sizeof(left));
		snprintf(to, size, "%s(%s)", below(4) ? "" : "not ", left);
		return;
	}
	question_make(left, sizeof(left), depth - 1);
	question_make(right, sizeof(right), depth - 1);
	snprintf(to, size, "%s(%.390s %s %.390s)", below(5) ? "" : "not ", left,
		 below(2) ? "and" : "or", right);
}

struct answer {
	char *at;
	size_t size;
	unsigned packets;
	__u32 segments, opened, joints;
	bool failed;
};

/* Packets and gaps, each as a line, in the order in which they come. */
static struct answer ask(const char *path, const char *text, __u64 from_ns, __u64 to_ns)
{
	struct gather m = { .from_ns = from_ns, .to_ns = to_ns };
	struct answer a = {};
	struct expr_error error;
	struct expr *expr;
	struct gathered got;
	FILE *to = open_memstream(&a.at, &a.size);

	if (!to || expr_parse(text, 0, &expr, &error)) {
		printf("# %s: %s\n", text, error.why);
		exit(1);
	}
	m.expr = expr;
	m.of_packets = expr_is_of_packets(expr);
	if (gather_add(&m, path, 0) || gather_begin(&m))
		exit(1);
	for (__u32 i = 0; i < m.gaps_n; i++)
		fprintf(to, "gap %llu %llu %s %s\n", m.gaps[i].gap.from_ns, m.gaps[i].gap.packets,
			m.gaps[i].node, m.gaps[i].host);
	while (gather_next(&m, &got) == 1) {
		fprintf(to, "%s %u %u %llu\n", got.segment->base, got.position, got.half,
			got.wall_ns);
		a.packets++;
	}
	a.segments = m.segments;
	a.opened = m.opened;
	a.joints = m.joints;
	a.failed = m.failed;
	gather_free(&m);
	expr_free(expr);
	fclose(to);
	return a;
}

/* How many of these questions were answered otherwise than without joints. */
static unsigned differ(unsigned questions, unsigned *asked, unsigned *spared)
{
	unsigned wrong = 0;

	*asked = *spared = 0;
	for (unsigned i = 0; i < questions; i++) {
		__u64 from = below(3) ? 0 : (BEGAN + below(2600)) * SECOND;
		__u64 to = below(3) ? ~0ULL : (BEGAN + below(2600)) * SECOND;
		struct answer a, b;
		char text[1000];

		question_make(text, sizeof(text), below(4));
		a = ask(with, text, from, to);
		b = ask(without, text, from, to);
		if (a.failed || b.failed || strcmp(a.at, b.at)) {
			printf("# %s, %llu to %llu: %u packets, %u without joints\n", text, from,
			       to, a.packets, b.packets);
			wrong++;
		}
		*asked += b.opened;
		*spared += b.opened - a.opened;
		free(a.at);
		free(b.at);
	}
	return wrong;
}

/* ---- what is so -------------------------------------------------------------------------------- */

static void same_answers(void)
{
	unsigned wrong, asked, spared;
	struct answer a;

	bare_make();
	words_begin();
	wrong = differ(300, &asked, &spared);
	ok(!wrong && spared > asked / 4,
	   "300 random questions have the same answers, with %u of %u segments not looked at",
	   spared, asked);
	a = ask(with, "host 192.0.2.77", 0, ~0ULL);
	ok(a.segments == 260 && !a.opened && a.joints == 8,
	   "of 260 segments none is opened for an absent host: eight files tell");
	is_int((int)strspn(a.at, "gap"), 3, "and what was lost is told all the same");
	free(a.at);
	a = ask(with, "", (BEGAN + 1000) * SECOND, (BEGAN + 1010) * SECOND);
	ok(a.packets > 0 && a.opened <= 4,
	   "what is of other times than those asked for is not opened");
	free(a.at);
	a = ask(with, "node rare", 0, ~0ULL);
	ok(a.packets > 0 && a.opened < 45, "names lead to the segments that have them");
	free(a.at);
	a = ask(with, "past of 17a2b4c5d6000000", 0, ~0ULL);
	ok(a.opened == 260 - 5 - 1, "without the bounds of a past, all that has packets is opened");
	free(a.at);
}

static int stamp_bounds(__u64 from, __u64 to)
{
	struct gather m = { .to_ns = ~0ULL, .stamp_from = from, .stamp_to = to };
	struct expr_error error;
	struct expr *expr;
	int opened;

	if (expr_parse("past of 17a2b4c5d6000000", 0, &expr, &error))
		exit(1);
	m.expr = expr;
	if (gather_add(&m, with, 0))
		exit(1);
	opened = (int)m.opened;
	gather_free(&m);
	expr_free(expr);
	return opened;
}

static void pasts(void)
{
	is_int(stamp_bounds((BEGAN + 2500) * SECOND, ~0ULL) <= 12, 1,
	       "the future of an event does not open what has only stamps before it");
	ok(stamp_bounds(0, (BEGAN + 50) * SECOND) < 200, "nor its past what has only later ones");
}

static void deletion(void)
{
	unsigned wrong, asked, spared;

	/* The same here and there: two of three of the first hundred, and one that is named by a joint. */
	shell("cd %s/all && for f in $(ls *.index | head -100 | awk 'NR %% 3'); do "
	      "b=${f%%.index}; rm -f $b.index $b.pcapng ../../without/all/$b.index "
	      "../../without/all/$b.pcapng; done",
	      with);
	wrong = differ(60, &asked, &spared);
	ok(!wrong && spared, "segments that were deleted are in no answer, and the others are");
}

static struct answer ask_quietly(const char *text)
{
	struct answer a = ask(with, text, 0, ~0ULL);

	free(a.at);
	return a;
}

/* Any byte of any joint. */
static void damage(void)
{
	static const char *const texts[] = { "host 10.0.0.150", "port 1150 or comm job3",
					     "not udp and vlan 4", "node rare" };
	unsigned wrong = 0, told = 0, tried = 0;
	char path[200], all[100];
	struct answer right[4];
	struct dirent *e;
	DIR *d;

	snprintf(all, sizeof(all), "%s/all", with);
	for (unsigned i = 0; i < 4; i++)
		right[i] = ask(without, texts[i], 0, ~0ULL);
	d = opendir(all);
	while ((e = readdir(d))) {
		unsigned char was, is;
		off_t size;
		int fd;

		if (!strstr(e->d_name, ".joint"))
			continue;
		snprintf(path, sizeof(path), "%s/%.90s", all, e->d_name);
		fd = open(path, O_RDWR);
		size = lseek(fd, 0, SEEK_END);
		for (unsigned i = 0; i < 24; i++, tried++) {
			off_t at = (off_t)below((unsigned)(i < 8 ? 1024 : size));
			struct answer a;

			if (i < 8) /* what says where everything is */
				at += size - 1024;
			if (pread(fd, &was, 1, at) != 1)
				exit(1);
			is = was ^ (unsigned char)(1 + below(255));
			if (pwrite(fd, &is, 1, at) != 1)
				exit(1);
			a = ask(with, texts[i % 4], 0, ~0ULL);
			wrong += a.failed || strcmp(a.at, right[i % 4].at);
			told += a.joints < 8;
			free(a.at);
			if (pwrite(fd, &was, 1, at) != 1)
				exit(1);
		}
		words_begin();
		if (ftruncate(fd, size / 2))
			exit(1);
		close(fd);
		wrong += ask_quietly("host 10.0.0.150").failed || words_with(e->d_name) != 1;
	}
	closedir(d);
	ok(!wrong && told > tried / 4,
	   "%u times a byte was another: no packet is missing, and a joint that is cut is named once",
	   tried);
	for (unsigned i = 0; i < 4; i++) {
		struct answer a = ask(with, texts[i], 0, ~0ULL);

		wrong += a.failed || a.joints || strcmp(a.at, right[i].at);
		free(a.at);
		free(right[i].at);
	}
	ok(!wrong, "with all of them cut in half neither");
}

static void mending(void)
{
	unsigned wrong, asked, spared, files;
	struct segments *s;

	s = record_open();
	segments_close(s);
	wrong = differ(40, &asked, &spared);
	ok(!wrong && spared > asked / 4, "the next start makes anew what was damaged");
	shell("cd %s/all && cp $(ls *.joint1 | head -1) x.joint3.new && rm *.joint*[0-9]", with);
	s = record_open();
	segments_close(s);
	ok(files_of(with, ".joint") && !files_of(with, ".new"),
	   "and what is missing, and throws away what was not finished");
	/* Who died between writing a larger one and deleting the smaller. */
	shell("cd %s/all && mkdir old && cp *.joint* old", with);
	s = record_open();
	segments_make(s, 260, 320);
	segments_close(s);
	files = files_of(with, ".joint");
	shell("cd %s/all && cp -n old/* . && rm -r old", with);
	ok(files_of(with, ".joint") > files, "someone died between writing and deleting");
	bare_make();
	wrong = differ(40, &asked, &spared);
	ok(!wrong && spared,
	   "smaller ones beside the larger one that has replaced them do no harm");
	s = record_open();
	segments_close(s);
	is_int(files_of(with, ".joint"), files, "and are deleted at the next start");
}

/* Joints go with the segments they speak of, and count as they do. */
static void budget(void)
{
	struct segments_options o = { .dir = with, .host = "unit", .budget_bytes = 400000 };
	struct segments_stats stats;
	struct segments *s = segments_open(&o);
	__u64 last = 0;
	FILE *sizes;

	segments_make(s, 320, 325);
	for (unsigned i = 0; i < 3; i++)
		segments_tick(s, (BEGAN + 3300 + i * 10) * SECOND);
	segments_close(s);
	o.budget_bytes = 0;
	s = segments_open(&o);
	segments_stats(s, &stats);
	shell("du -cb %s/all/*.joint* %s/all/*.index %s/all/*.pcapng | tail -1 >%s/sizes", with,
	      with, with, dir);
	shell("ls %s/all/*.joint* >/dev/null", with);
	segments_close(s);
	snprintf(without, sizeof(without), "%s/sizes", dir);
	sizes = fopen(without, "re");
	if (!sizes || fscanf(sizes, "%llu", &last) != 1)
		exit(1);
	fclose(sizes);
	ok(stats.disk_bytes == last && last <= 400000 + 20000 && last > 200000,
	   "a budget is of packets, indexes and joint indexes together: %llu bytes", last);
}

/* Who can read what is encrypted, and writes in the clear, does not write of it. */
static void encrypted(void)
{
	char key[100];
	struct segments_options o = { .dir = with, .host = "unit", .key_file = key };
	struct segments *s;

	snprintf(key, sizeof(key), "%s/key", dir);
	shell("rm -rf %s && head -c 32 /dev/urandom >%s && chmod 600 %s", with, key, key);
	s = segments_open(&o);
	if (!s)
		exit(1);
	segments_make(s, 0, 92);
	segments_close(s);
	is_int(files_of(with, ".joint1"), 9, "each ten segments that are encrypted have a joint");
	o.key_file = NULL;
	s = segments_open(&o);
	segments_make(s, 92, 107);
	segments_close(s);
	ok(files_of(with, ".joint1") == 10 && !files_of(with, ".joint2"),
	   "to which one of those in the clear is not added");
	shell("rm %s/all/*.joint1", with);
	s = segments_open(&o);
	segments_close(s);
	is_int(files_of(with, ".joint"), 1, "nor is one made in the clear of what is encrypted");
	o.key_file = key;
	s = segments_open(&o);
	segments_close(s);
	is_int(files_of(with, ".joint2"), 1, "which the key, given again, makes whole");
}

int main(void)
{
	struct segments *s;

	strcpy(dir,
	       access("/dev/shm", W_OK) ? "/tmp/unit_joint.XXXXXX" : "/dev/shm/unit_joint.XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	snprintf(with, sizeof(with), "%s/with", dir);
	snprintf(without, sizeof(without), "%s/without", dir);
	s = record_open();
	segments_make(s, 0, 260);
	segments_close(s);
	is_int(files_of(with, ".index"), 260, "there are 260 segments");
	ok(files_of(with, ".joint2") == 2 && files_of(with, ".joint1") == 6,
	   "of which two joints of a hundred and six of ten speak");
	same_answers();
	pasts();
	deletion();
	damage();
	mending();
	budget();
	encrypted();
	shell("rm -rf %s", dir);
	return done();
}
