// SPDX-License-Identifier: GPL-2.0-only
/* Marks without a kernel: codes, the registry, endpoints, lines read back. */
#include <stdlib.h>
#include <string.h>

#include "../bpf/mark.h"
#include "../user/endpoint.h"
#include "../user/markcode.h"
#include "../user/markio.h"
#include "../user/registry.h"
#include "tap.h"

static char words[512];

static void test_codes(void)
{
	unsigned experiment, activity, wrong = 0;
	__u8 bytes[8];

	/* Observed on the wire: 2, 9 as 65575, of which 3 is entropy. CMS's 3, 14 is 196664. */
	is_int(mark_label(2, 9, 0), 65572, "experiment 2, activity 9 as a label");
	is_int(mark_label(2, 9, 3), 65575, "with entropy");
	is_int(mark_label(3, 14, 0), 196664, "experiment 3, activity 14 as a label");
	is_int(scitag_of(3, 14), 206, "and as a SciTag number, which is another");
	is_int(scitag_of(2, 9), 137, "experiment 2, activity 9 as a SciTag number");
	for (unsigned e = 0; e <= MARK_EXPERIMENT_MAX; e++)
		for (unsigned a = 0; a <= MARK_ACTIVITY_MAX; a++) {
			__u32 label = mark_label(e, a, ~0U);

			wrong += mark_experiment(label) != e || mark_activity(label) != a ||
				 label > MARK_LABEL_MASK ||
				 (label & MARK_ENTROPY_MASK) != MARK_ENTROPY_MASK;
			wrong += scitag_read(scitag_of(e, a), &experiment, &activity) ||
				 experiment != e || activity != a;
		}
	is_int(wrong, 0, "every label and SciTag number reads back, whatever the entropy");
	ok(scitag_read(32768, &experiment, &activity), "no SciTag number is above 32767");
	option_write(bytes, 6, 2, 9);
	ok(!memcmp(bytes, "\x06\x00\x1e\x03\x00\x02\x09\x00", 8), "the header before TCP");
}

static bool reads(const char *hex, unsigned want_experiment, unsigned want_activity)
{
	unsigned experiment, activity;

	return !option_read(hex, &experiment, &activity) && experiment == want_experiment &&
	       activity == want_activity;
}

static void test_options(void)
{
	unsigned e, a;

	ok(reads("06001e0300020900", 2, 9), "a header's bytes");
	ok(reads("06:00:1E:03:00:02:09:00", 2, 9), "parted by colons, in capitals");
	ok(reads("1e0301ff3f", 511, 63), "the option alone");
	ok(reads("3a01050200001e0301ff3f0101000000", 511, 63), "behind another option");
	ok(option_read("06000104000000", &e, &a), "seven bytes are no header");
	ok(option_read("0600010400000000", &e, &a), "a header without the option");
	ok(option_read("06011e0300020900", &e, &a), "a header longer than what is there");
	ok(option_read("06001e0302000900", &e, &a), "an experiment above 511");
	ok(option_read("06001e0300024000", &e, &a), "an activity above 63");
	ok(option_read("06001eff00024000", &e, &a), "an option longer than its header");
	ok(option_read("06001e030002090", &e, &a), "half a byte");
	ok(option_read("0x", &e, &a) && option_read("", &e, &a), "nothing");
}

static void test_registry(void)
{
	struct registry *r = registry_open("/nonexistent", words, sizeof(words));
	char experiment[REGISTRY_NAME_MAX], activity[REGISTRY_NAME_MAX];
	unsigned n, experiments = 0, activities = 0;

	ok(!r && *words, "a registry that is not there is not opened");
	r = registry_open(NULL, words, sizeof(words));
	if (!ok(r, "the one the program carries is"))
		return;
	ok(!registry_experiment(r, "ATLAS", &n, words, sizeof(words)) && n == 2, "atlas, loudly");
	ok(!registry_experiment(r, "xenon", &n, words, sizeof(words)) && n == 14, "the last");
	ok(!registry_experiment(r, "511", &n, words, sizeof(words)) && n == 511,
	   "any number there may be");
	ok(registry_experiment(r, "512", &n, words, sizeof(words)), "and no other");
	ok(registry_experiment(r, "atla", &n, words, sizeof(words)), "half a name is none");
	ok(registry_experiment(r, "", &n, words, sizeof(words)), "nor is an empty one");
	ok(!registry_activity(r, 3, "analysis input", &n, words, sizeof(words)) && n == 14,
	   "an activity is its experiment's");
	ok(!registry_activity(r, 2, "Analysis Input", &n, words, sizeof(words)) && n == 17,
	   "and another's is another");
	ok(registry_activity(r, 14, "Cache", &n, words, sizeof(words)), "not all have all");
	ok(registry_activity(r, 14, "64", &n, words, sizeof(words)), "nor any more than 63");
	for (unsigned e = 0; e <= MARK_EXPERIMENT_MAX; e++) {
		for (unsigned a = 0; a <= MARK_ACTIVITY_MAX; a++) {
			registry_names(r, e, a, experiment, activity);
			activities += activity[strspn(activity, "0123456789")] != 0;
		}
		experiments += experiment[strspn(experiment, "0123456789")] != 0;
	}
	is_int(experiments, 14, "fourteen experiments have names");
	is_int(activities, 114, "and so many activities");
	registry_close(r);
}

static bool parses(const char *json)
{
	struct registry *r = registry_parse(json, strlen(json), words, sizeof(words));
	bool parsed = r != NULL;

	registry_close(r);
	return parsed;
}

static void test_registry_parse(void)
{
#define ONE(rest) "{\"experiments\":[{\"expName\":\"x\",\"expId\":9" rest "}]}"
#define ACTIVITY(id) ",\"activities\":[{\"activityName\":\"y\",\"activityId\":" id "}]"
	ok(parses(ONE("")), "an experiment without activities");
	ok(parses(ONE(ACTIVITY("63"))), "and with one");
	ok(!parses(ONE(ACTIVITY("64"))), "an activity above 63");
	ok(!parses(ONE(ACTIVITY("-1"))), "below 0");
	ok(!parses(ONE(ACTIVITY("\"1\""))), "that is no number");
	ok(!parses("{\"experiments\":[{\"expName\":\"x\",\"expId\":512}]}"), "experiment 512");
	ok(!parses("{\"experiments\":[{\"expName\":\"12\",\"expId\":5}]}"),
	   "a name that is another's number");
	ok(!parses("{\"experiments\":[{\"expName\":\"x\\u001b\",\"expId\":5}]}"),
	   "a name a terminal would obey");
	ok(!parses("{\"experiments\":[{\"expName\":\"x\",\"expId\":5},"
		   "{\"expName\":\"y\",\"expId\":5}]}"),
	   "a number given twice");
	ok(!parses("{\"experiments\":{}}") && !parses("[]") && !parses("") && !parses("{"),
	   "what is no registry");
#undef ONE
#undef ACTIVITY
}

/* Read, and printed again: the text, or what is wrong with it. */
static const char *endpoint(const char *text)
{
	static char address[ENDPOINT_TEXT_MAX], ports[ENDPOINT_TEXT_MAX];
	struct endpoint e = {};
	const char *why;

	if (endpoint_parse(text, &e, &why))
		return "bad";
	endpoint_print(&e, address, ports);
	return address;
}

static bool meet(const char *src, const char *dst)
{
	struct endpoint a = {}, b = {};
	const char *why;

	return !endpoint_parse(src, &a, &why) && !endpoint_parse(dst, &b, &why) &&
	       endpoints_meet(&a, &b);
}

static void test_endpoints(void)
{
	static const char *const good[] = {
		"10.0.0.1",   "10.0.0.1:80", "2001:db8::1",	 "[2001:db8::1]:443",
		"10.0.0.0/8", "0.0.0.0/0",   "2001:db8::/32",	 "2001:db8::1:0/112",
		":1",	      ":65535",	     ":1-65534",	 "::1",
		"[::1]:1",    "::",	     "192.168.1.128/25",
	};
	static const char *const bad[] = {
		"",
		":",
		":0",
		":65536",
		":5-",
		":-5",
		":9-7",
		":1-2-3",
		"10.0.0.1:",
		"10.0.0.1:0",
		"10.0.0.1:70000",
		"10.0.0",
		"10.0.0.256",
		"10.0.0.1/33",
		"10.0.0.1/8",
		"10.0.0.0/",
		"/8",
		"2001:db8::/129",
		"2001:db8::1/32",
		"[::1]",
		"[::1]:",
		"[10.0.0.1]:80",
		"::1]:80",
		"[::1:80",
		"x",
		"10.0.0.1:80-90",
		"10.0.0.0/8:80",
		"1.2.3.4:http",
		":+5",
		"10.0.0.1 ",
		"[]:5",
	};
	struct endpoint e = {};
	const char *why;

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		is_str(endpoint(good[i]), good[i], "an endpoint is printed as it was read");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!strcmp(endpoint(bad[i]), "bad"), "\"%s\" is no endpoint", bad[i]);
	ok(!endpoint_parse("2001:db8::/32", &e, &why) && !endpoint_parse(":1094", &e, &why),
	   "a prefix and a port, in two words");
	ok(endpoint_parse(":1095", &e, &why) && e.low == 1094, "a second port is refused");
	ok(meet("10.0.0.1", "10.0.0.0/8") && meet("fd00::1", "2001:db8::/32"), "one family meets");
	ok(meet("::/0", "10.0.0.1") && meet("fd00::1", "::/0"), "all addresses are of both");
	ok(meet(":80", "10.0.0.1") && meet(":80", ":81"), "so are ports alone");
	ok(meet("::/64", "10.0.0.1") && meet("::/64", "fd00::1"), "a wide prefix may be of both");
	ok(!meet("10.0.0.1", "fd00::1") && !meet("fd00::/8", "10.0.0.0/8") &&
		   !meet("0.0.0.0/0", "::1"),
	   "IPv4 and IPv6 do not meet");
}

static const char *line(const struct registry *r, const char *json)
{
	struct mark m;

	return mark_read(json, strlen(json), r, &m, words, sizeof(words)) ? words : "ok";
}

static void test_lines(void)
{
	struct registry *r = registry_open(NULL, words, sizeof(words));
	struct mark m;
	const char *whole =
		"{\"id\":3,\"proto\":\"udp\",\"src\":\"[::1]:5\",\"dst\":\"2001:db8::/32\","
		"\"dst_ports\":\":7-9\",\"node\":\"web\",\"uid\":0,\"comm\":\"curl\","
		"\"experiment\":\"cms\",\"activity\":\"cache\",\"how\":\"destination\","
		"\"inherit\":true,\"for_ns\":5,\"flows\":8}";

	is_int(mark_read(whole, strlen(whole), r, &m, words, sizeof(words)), 0, "a whole line");
	ok(m.proto == 17 && m.src.low == 5 && m.dst.bits == 32 && m.dst.high == 9 &&
		   !strcmp(m.node, "web") && m.by_uid && !m.uid && !strcmp(m.comm, "curl") &&
		   m.experiment == 3 && m.activity == 3 && m.how == MARK_DESTINATION && m.inherit &&
		   m.for_ns == 5 && !m.id && !m.flows,
	   "is understood");
	is_str(line(r, "{\"experiment\":2,\"activity\":9}"), "ok", "numbers do");
	is_str(line(r, "{\"experiment\":2}"),
	       "experiment and activity are needed, or ids, or exclude", "but both");
	is_str(line(r, "{\"ids\":\"atlas/9,3/14\",\"pick\":\"random\"}"), "ok", "or several");
	is_str(line(r, "{\"ids\":\"2\"}"), "ids 2: not EXPERIMENT/ACTIVITY,..., 32 at most",
	       "in pairs");
	is_str(line(r, "{\"ids\":\"2/9\",\"pick\":\"any\"}"),
	       "pick any: not a choice; round-robin or random", "in some order");
	is_str(line(r, "{\"exclude\":true,\"dst\":\"10.0.0.0/8\"}"), "ok", "or none");
	is_str(line(r, "{\"exclude\":true,\"experiment\":2,\"activity\":9}"),
	       "experiment and activity are needed, or ids, or exclude", "but not both");
	is_str(line(r, "{\"experiment\":2,\"activity\":9,\"colour\":1}"), "colour: no such key",
	       "what is not known is refused");
	is_str(line(r, "{\"experiment\":2,\"activity\":9,\"dst\":[]}"),
	       "dst: neither text nor a number", "and what is of another kind");
	is_str(line(r, "{\"experiment\":2,\"activity\":9,\"uid\":-1}"),
	       "uid -1: no such user in /etc/passwd, and not a number", "out of range");
	is_str(line(r, "{\"experiment\":2,\"activity\":9,\"comm\":\"sixteen letters!\"}"),
	       "comm sixteen letters!: too long", "too long");
	is_str(line(r, "{\"experiment\":2,\"activity\":9,\"inherit\":1}"),
	       "inherit: neither true nor false", "not a boolean");
	ok(strstr(line(r, "{\"experiment\":2,\"activity\":9,\"src\":\"10.0.0.1\","
			  "\"dst\":\"fd00::1\"}"),
		  "no packet has both"),
	   "an end of each family");
	ok(!strncmp(line(r, "[1]"), "not a JSON object", 17), "not an object");
	ok(!strncmp(line(r, "{"), "not a JSON object", 17), "half a line");
	registry_close(r);
}

int main(void)
{
	test_codes();
	test_options();
	test_registry();
	test_registry_parse();
	test_endpoints();
	test_lines();
	return done();
}
