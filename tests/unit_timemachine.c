// SPDX-License-Identifier: GPL-2.0-only
/* Time Machine's configuration: a full one is taken over, a wrong one refused with its line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../user/timemachine.h"
#include "tap.h"

/* Every keyword there is, as its documentation writes them. */
static const char full[] =
	"# every keyword\n"
	"main {\n"
	"\tdevice \"en0\"; workdir \"/tmp/tm\"; indexdir \"indexes/\"; queryfiledir \"queries/\";\n"
	"\tread_tracefile \"trace.pcap\";\n"
	"\tfilter \"not port 22\";\n"
	"\tdaemon 0; console 1; logfile \"timemachine.log\"; log_interval 600; log_level 20;\n"
	"\tconn_timeout 180; rmtconsole 1; rmtconsole_listen_addr 127.0.0.1; rmtconsole_port 42042;\n"
	"\tbro_listen 1; bro_listen_port 47757; bro_listen_addr 127.0.0.1; bro_connect_str \"x\";\n"
	"\tindex \"connection4\" disk; index \"connection3\" disk; index \"connection2\";\n"
	"\tindex \"ip\" disk; classdir_format \"%Y\"; filename_format \"%H\"; profilepath \"p\";\n"
	"\ttweak_capture_thread scope; max_subscriptions 100; max_index_entries 5;\n"
	"}\n"
	"/* a comment\n"
	"   of two lines */\n"
	"class \"all\" {\n"
	"\tfilter \"\"; precedence 10; cutoff 10k; disk 50g; filesize 128m; mem 1g;\n"
	"}\n"
	"class \"tele net\" {\n"
	"\tfilter \"tcp port 23\"; precedence 50; cutoff no; disk unlimited; mem 64 M;\n"
	"\tpkts_to_disk 5; dyn_timeout 3600; classdir \"x\"; classdir_format \"y\";\n"
	"\tfilename_format \"z\";\n"
	"}\n"
	"class \"plain\" { }\n";

static struct timemachine tm;
static struct class_list classes;

static int parse(const char *text)
{
	class_free(&classes);
	memset(&classes, 0, sizeof(classes));
	return timemachine_parse("t", text, &tm, &classes);
}

static void takes_over(void)
{
	const struct class_spec *c = classes.at;

	ok(!parse(full), "a configuration with every keyword is taken over");
	ok(!strcmp(tm.device, "en0") && !strcmp(tm.workdir, "/tmp/tm") &&
		   !strcmp(tm.read_tracefile, "trace.pcap") && tm.stats_ns == 600000000000ULL,
	   "device, directory, file and interval are main's");
	ok(classes.n == 3 && !strcmp(c[0].name, "all") && !strcmp(c[1].name, "tele_net"),
	   "classes have their names, of characters that a directory may have");
	ok(c[0].cutoff == 10240 && c[0].disk_bytes == 50ULL << 30 && c[0].file_bytes == 128 << 20 &&
		   c[0].mem_bytes == 1 << 30 && c[0].precedence == 10,
	   "sizes are read in powers of 1024");
	ok(c[1].cutoff == CLASS_WHOLE && !c[1].disk_bytes && c[1].mem_bytes == 64 << 20,
	   "no and unlimited are none, and a unit may stand apart");
	ok(c[2].cutoff == 10000 && c[2].disk_bytes == 50000000 && c[2].file_bytes == 50000000,
	   "what a class leaves out is as in Time Machine");
	ok(!strcmp(c[0].filter, "not port 22") &&
		   !strcmp(c[1].filter, "(not port 22) and (tcp port 23)"),
	   "main's filter comes before each class's");
}

static void refuses(void)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "", "no class" },
		{ "main { }", "main alone" },
		{ "main { device \"a\"; } main { } class \"a\" { }", "main twice" },
		{ "class \"a\" { } class \"a\" { }", "a class twice" },
		{ "class \"a b\" { } class \"a_b\" { }", "two classes of one name here" },
		{ "class a { }", "a class without quotes" },
		{ "class \"\" { }", "a class without name" },
		{ "class \"12345678901234567890123456789012\" { }", "too long a name" },
		{ "class \"a\" { cutoff lots; }", "no size" },
		{ "class \"a\" { cutoff; }", "no value" },
		{ "class \"a\" { precedence 1 2; }", "a value too many" },
		{ "class \"a\" { colour 1; }", "a keyword nobody knows" },
		{ "class \"a\" { device \"x\"; }", "a keyword of main in a class" },
		{ "class \"a\" { disk 10g }", "no semicolon" },
		{ "class \"a\" { disk 10g;", "no end" },
		{ "class \"a\" { filter \"port 80; }", "a quote too few" },
		{ "class \"a\" { filter \"port 80 80 80\"; }", "a filter that is none" },
		{ "class \"a\" { filter \"tcp[13] & 2 != 0\"; }", "bytes of a packet" },
		{ "class \"a\" { filter \"ether host 02:00:00:00:00:01\"; }", "MAC addresses" },
		{ "class \"a\" { filter \"src port 80\"; }", "what is not the same both ways" },
		{ "main { filter \"host example\"; } class \"a\" { }", "names in main's filter" },
		{ "main { log_interval 0; } class \"a\" { }", "no interval" },
		{ "42;", "a number for a block" },
		{ "@", "what is no token" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(parse(bad[i].text) < 0, "refused: %s", bad[i].why);
}

int main(void)
{
	if (!freopen("/dev/null", "w", stderr))
		return 1;
	takes_over();
	refuses();
	ok(timemachine_read("/nonexistent", &tm, &classes) < 0, "no file is refused");
	class_free(&classes);
	return done();
}
