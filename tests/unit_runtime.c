// SPDX-License-Identifier: GPL-2.0-only
/* The files of container runtimes are read for what they say, and survived for what they are. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../user/container.h"
#include "../user/runtime.h"
#include "tap.h"

#define ID "4f2a00000000000000000000000000000000000000000000000000000000beef"

static const char runc[] = "{\"id\":\"web\",\"init_process_pid\":812,\"init_process_start\":99,"
			   "\"created\":\"2026-01-01\",\"config\":{\"rootfs\":\"/x\"}}";
static const char crun[] = "{\"pid\":813,\"process-start-time\":77,\"rootfs\":\"/x\"}";
static const char docker[] = "{\"ID\":\"" ID "\",\"Name\":\"/web\",\"State\":{\"Running\":true,"
			     "\"Pid\":814}}";
static const char stopped[] = "{\"ID\":\"" ID "\",\"Name\":\"/web\",\"State\":{\"Running\":false,"
			      "\"Pid\":814}}";
static const char pod[] = "{\"annotations\":{\"io.kubernetes.cri.sandbox-name\":\"web-0\","
			  "\"io.kubernetes.cri.container-name\":\"nginx\","
			  "\"io.kubernetes.cri.sandbox-namespace\":\"shop\"}}";
static const char daemon_json[] = "{\"data-root\":\"/srv/docker\"}";
static const char conmon[] = "/usr/bin/conmon\0-c\0" ID "\0-u\0" ID "\0-p\0/run/x/pidfile\0-n\0web"
			     "\0-b\0/run/x";

typedef int (*parse_fn)(const char *text, size_t len, struct container *out);

static int parse_conmon(const char *text, size_t len, struct container *out)
{
	char pidfile[CONTAINER_PATH_MAX], bundle[CONTAINER_PATH_MAX];

	return container_parse_conmon(text, len, out, pidfile, bundle);
}

static const struct {
	const char *what;
	parse_fn parse;
	const char *text;
	size_t len;
} files[] = {
	{ "runc's state.json", container_parse_runc, runc, sizeof(runc) - 1 },
	{ "crun's status", container_parse_crun, crun, sizeof(crun) - 1 },
	{ "docker's config.v2.json", container_parse_docker, docker, sizeof(docker) - 1 },
	{ "docker's daemon.json", container_parse_data_root, daemon_json, sizeof(daemon_json) - 1 },
	{ "a pod's config.json", container_parse_oci, pod, sizeof(pod) - 1 },
	{ "conmon's command line", parse_conmon, conmon, sizeof(conmon) },
};

#define FILES (sizeof(files) / sizeof(*files))

static void test_good(void)
{
	char pidfile[CONTAINER_PATH_MAX], bundle[CONTAINER_PATH_MAX];
	struct container c;

	ok(!container_parse_runc(runc, sizeof(runc) - 1, &c) && !strcmp(c.id, "web") &&
		   c.pid == 812 && c.started == 99,
	   "runc's state.json is read");
	ok(!container_parse_crun(crun, sizeof(crun) - 1, &c) && c.pid == 813 && c.started == 77,
	   "crun's status is read");
	ok(!container_parse_docker(docker, sizeof(docker) - 1, &c) && !strcmp(c.id, ID) &&
		   !strcmp(c.name, "web") && c.pid == 814,
	   "docker's config.v2.json is read");
	ok(!container_parse_docker(stopped, sizeof(stopped) - 1, &c) && !c.pid,
	   "a stopped container has no process, whatever pid it had");
	ok(!container_parse_oci(pod, sizeof(pod) - 1, &c) && !strcmp(c.pod, "shop/web-0") &&
		   !strcmp(c.name, "nginx"),
	   "a pod is called by its namespace and name, its container by its own");
	container_free(&c);
	ok(!container_parse_data_root(daemon_json, sizeof(daemon_json) - 1, &c) &&
		   !strcmp(c.name, "/srv/docker"),
	   "docker's data root is read");
	ok(!container_parse_conmon(conmon, sizeof(conmon), &c, pidfile, bundle) &&
		   !strcmp(c.id, ID) && !strcmp(c.name, "web") &&
		   !strcmp(pidfile, "/run/x/pidfile") && !strcmp(bundle, "/run/x"),
	   "conmon's command line is read");
}

static void bad_one(parse_fn parse, const char *text, const char *sentence)
{
	struct container c;

	ok(parse(text, strlen(text), &c) == -EBADMSG, "%s", sentence);
}

static void test_bad(void)
{
	char big[4096], deep[100000];
	struct container c;

	bad_one(container_parse_runc, "", "an empty file is refused");
	bad_one(container_parse_runc, "[1]", "a list is refused");
	bad_one(container_parse_runc, "{\"id\":7}", "an id that is a number is refused");
	bad_one(container_parse_docker, "{\"ID\":\"\"}", "an empty id is refused");
	snprintf(big, sizeof(big), "{\"id\":\"%01000d\"}", 0);
	bad_one(container_parse_runc, big, "an id too long for us is refused, not cut");
	memset(deep, '[', sizeof(deep));
	memcpy(deep, "{\"id\":", 6);
	deep[sizeof(deep) - 1] = '\0';
	bad_one(container_parse_runc, deep, "100000 open brackets are refused");
	ok(!container_parse_crun("{\"pid\":4294967297}", 18, &c) && !c.pid,
	   "a pid too large is none");
	ok(!container_parse_crun("{\"pid\":-5}", 10, &c) && !c.pid, "nor is a negative one");
}

static void test_garbage(void)
{
	struct container c;

	srand(1);
	for (size_t i = 0; i < FILES; i++) {
		bool whole = true;

		for (int round = 0; round < 30000; round++) {
			size_t len = files[i].len;
			char *copy = malloc(len);

			/* Cut at every byte first, then with bytes changed. */
			if (round < (int)files[i].len)
				len = round;
			memcpy(copy, files[i].text, len);
			for (int k = 0; len && round >= (int)files[i].len && k < 3; k++)
				copy[rand() % len] = rand();
			if (!files[i].parse(copy, len, &c))
				whole &= memchr(c.id, 0, sizeof(c.id)) &&
					 memchr(c.name, 0, sizeof(c.name)) && c.pid >= 0;
			container_free(&c);
			free(copy);
		}
		ok(whole, "%s may be cut or garbled anywhere", files[i].what);
	}
}

static void test_options(void)
{
	static const char line[] = "dockerd\0-g\0/old\0--data-root=/srv/d\0--empty=\0--last";
	char out[16];

	ok(!cmdline_option(line, sizeof(line), "--data-root", out, sizeof(out)) &&
		   !strcmp(out, "/srv/d"),
	   "--option=VALUE is found");
	ok(!cmdline_option(line, sizeof(line), "-g", out, sizeof(out)) && !strcmp(out, "/old"),
	   "-o VALUE is found");
	ok(cmdline_option(line, sizeof(line), "--data", out, sizeof(out)) == -ENOENT,
	   "the beginning of an option is not the option");
	ok(cmdline_option(line, sizeof(line), "--last", out, sizeof(out)) == -ENOENT,
	   "an option at the end has no value");
	ok(cmdline_option(line, sizeof(line), "--empty", out, sizeof(out)) == -EBADMSG,
	   "an empty value is refused");
	ok(cmdline_option(line, sizeof(line), "--data-root", out, 4) == -EBADMSG,
	   "a value that does not fit is refused");
}

static void test_label(void)
{
	struct container c = { .id = ID, .name = "web" };
	char label[64];

	container_label(&c, label, sizeof(label));
	ok(!strcmp(label, "web"), "a container is called by its name");
	c.name[0] = '\0';
	container_label(&c, label, sizeof(label));
	ok(!strcmp(label, "4f2a00000000"), "one without by the beginning of its id");
	strcpy(c.id, "beef");
	container_label(&c, label, sizeof(label));
	ok(!strcmp(label, "beef"), "or by all of it if it is a word");
}

int main(void)
{
	test_good();
	test_bad();
	test_garbage();
	test_options();
	test_label();
	return done();
}
