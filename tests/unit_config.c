// SPDX-License-Identifier: GPL-2.0-only
/* The configuration: what is taken, and what is refused where. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../user/config_api.h"
#include "../user/config_trace.h"
#include "../user/http.h"
#include "tap.h"

#define LETTERS_27 "abcdefghijklmnopqrstuvwxyz/"
#define PATH_OF_108 LETTERS_27 LETTERS_27 LETTERS_27 LETTERS_27

static char words[4096]; /* said on stderr by the last call */

static int parse(struct config_file *file, const char *text)
{
	FILE *said = tmpfile();
	int saved = dup(STDERR_FILENO), status;
	size_t n;

	dup2(fileno(said), STDERR_FILENO);
	status = config_parse(file, "f", text, strlen(text));
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	rewind(said);
	n = fread(words, 1, sizeof(words) - 1, said);
	words[n] = 0;
	fclose(said);
	return status;
}

/* Refused with status 2, and the words say where and what. */
static void refused(const char *text, const char *where, const char *what)
{
	struct config_file file;
	int status = parse(&file, text);
	bool right = status == 2 && strstr(words, where) && strstr(words, what) && !file.config;

	ok(right, "refused: %.60s", what);
	if (!right)
		printf("# status %d, said: %s# want %s and %s\n", status, words, where, what);
	if (!status)
		config_free(&file);
}

static void taken(void)
{
	struct config_file file;
	int status = parse(&file, "nodes: [netns:web, db=pid:12, 'interface:br0']\n"
				  "trace:\n"
				  "  clock: node\n"
				  "  flows: 1000\n"
				  "  ring: 64k\n"
				  "  every_packet: yes\n"
				  "  skew: [web=+3s]\n"
				  "  write: {dir: /x, file_size: 64k, file_age: 2m, budget: 1m}\n"
				  "  socket: {path: /s, uid: 12}\n"
				  "  otlp: {url: 'http://[::1]:99/a', headers: ['A: b']}\n"
				  "metrics: {summary: true}\n"
				  "api: {listen: ['127.0.0.1:1', 'unix:/a']}\n");

	is_int(status, 0, "a configuration with every section is taken");
	if (status) {
		printf("# %s\n", words);
		return;
	}
	is_int(file.options.selectors_n, 2, "nodes become the selectors of -n");
	is_str(file.options.selectors[1].name, "db", "with their names");
	is_int(file.options.interfaces_n, 1, "and interface: the devices of -i");
	is_int(file.options.sizes.flows, 1000, "flows is the table's size");
	is_int(file.options.sizes.ring_bytes, 65536, "sizes are parsed as --ring is");
	ok(file.options.every_packet, "a switch may be yes");
	is_int(file.options.skews[0].ns, 3000000000, "skews are parsed as --skew is");
	is_int(file.config->trace->write->file_age_ns, 120000000000, "spans as elsewhere");
	is_int(*file.config->trace->socket->uid, 12, "a uid is a number");
	is_str(file.config->trace->otlp->host, "::1", "the URL's host, without brackets");
	is_int(file.config->trace->otlp->port, 99, "its port");
	is_str(file.config->trace->otlp->path, "/a", "its path");
	is_int(file.config->api->listen_count, 2, "every address to listen on");
	config_free(&file);
}

static void nothing(void)
{
	struct config_file file;

	is_int(parse(&file, ""), 0, "an empty file is a configuration");
	is_int(file.options.selectors_n, 0, "of all nodes");
	config_free(&file);
	is_int(parse(&file, "trace: {write: {dir: /x}}"), 0, "a sink needs only its place");
	is_int(file.config->trace->write->file_bytes, SINK_FILE_BYTES, "the rest has defaults");
	config_free(&file);
}

static void unknown(void)
{
	refused("nods: [a]", "f:1:1:", "nods: no such key; did you mean nodes?");
	refused("trace:\n  write:\n    dir: /x\n    file-size: 4k",
		"f:4:5:", "did you mean file_size?");
	refused("trace: {keep: no, qqqqqq: 1}",
		"f:1:19:", "qqqqqq: no such key; here there can be");
	refused("peers_of_mine: []", "f:1:1:", "nodes, trace, metrics, api");
	refused("api: {listen: ['127.0.0.1:1']}\napi: {listen: ['127.0.0.1:1']}",
		"f:2:1:", "already");
}

/* Brackets in brackets cost libyaml the square of their number, so there is an end to them. */
static void deep(void)
{
	static char text[1 << 20];
	clock_t began = clock();

	memset(text, '[', sizeof(text) - 1);
	memcpy(text, "nodes:\n  ", 9);
	refused(text, "f:2:103:", "nested too deeply");
	ok(clock() - began < 2 * CLOCKS_PER_SEC, "a megabyte of brackets is refused at once");
}

static void values(void)
{
	refused("trace: {keep: maybe}", "f:1:15:", "true or false");
	refused("trace: {flows: x}", "f:1:16:", "a number is wanted here");
	refused("trace: {flows: 99999999999}", "f:1:16:", "a number is wanted here");
	refused("trace: {flows: 99999999}", "f:1:16:", "more than fits a kernel map");
	refused("trace: {socket: {path: /" PATH_OF_108 "}}", "f:1:24:", "longer than the 107");
	refused("trace: {ring: 1}", "f:1:15:", "not a size from 4k to 1g");
	refused("trace: {skew: [a=+1s, b=3]}", "f:1:23:", "trace.skew.1: b=3");
	refused("trace: {clock: host, skew: [a=+1s]}", "f:1:29:", "one clock for the host");
	refused("trace:\n  write: {dir: /x, file_age: 5y}", "f:2:30:", "5y: not a span of time");
	refused("trace: {write: {dir: x}}", "f:1:22:", "not an absolute path");
	refused("trace: {write: {dir: /x, file_size: 1m, budget: 1m}}", "f:1:49:", "two files");
	refused("trace: {write: {}}", "f:1:16:", "dir is missing here");
	refused("nodes: [a, 'netns:']", "f:1:12:", "nodes.1: netns:");
	refused("nodes: a", "f:1:8:", "a list is wanted here");
	refused("nodes: {a: b}", "f:1:8:", "a list is wanted here");
	refused("nodes: [[a]]", "f:1:9:", "one value is wanted here");
	refused("trace: on", "f:1:8:", "keys with values");
	refused("record:", "f:1:8:", "keys with values");
	refused("record: {zstd: yes}", "f:1:9:", "dir is missing here");
	refused("record: {dir: /x, classes: [{filter: udp}]}", "f:1:29:", "name is missing here");
	deep();
	refused("- a", "f:1:1:", "not sections");
	refused("nodes: [a", "f:", "expected");
	refused("nodes: &a [b]\ntrace: {skew: *a}", "f:2:", "lias");
}

static void exports(void)
{
	refused("trace: {otlp: {url: 'ftp://x'}}", "f:1:21:", "not an address to export to");
	refused("trace: {otlp: {url: 'https://'}}", "f:1:21:", "not an address to export to");
	refused("trace: {otlp: {url: 'http://'}}", "f:1:21:", "not an address to export to");
	refused("trace: {otlp: {url: 'http://a:0'}}", "f:1:21:", "not an address to export to");
	refused("trace: {otlp: {url: 'http://a:70000'}}", "f:1:21:", "not an address to export to");
	refused("trace: {otlp: {url: 'http://u@a'}}", "f:1:21:", "not an address to export to");
	refused("trace: {otlp: {url: 'http://a', headers: [x]}}", "f:1:43:", "not a header");
}

static void listens(void)
{
	struct http_address at;
	struct config_file file;

	refused("api: {listen: ['0.0.0.0:80']}", "f:1:16:", "token");
	refused("api: {listen: ['[::]:80']}", "f:1:16:", "token");
	refused("api: {listen: ['192.0.2.1:80']}", "f:1:16:", "token");
	refused("api: {listen: [localhost]}", "f:1:16:", "not an address to listen on");
	refused("api: {listen: []}", "f:1:15:", "Insufficient");
	is_int(parse(&file, "api: {listen: ['0.0.0.0:80'], token: /t}"), 0,
	       "with a token any address is taken");
	config_free(&file);
	is_int(http_address_parse("127.0.0.9:1", &at), 0, "all of 127/8 is ours");
	ok(!at.open, "and open to nobody else");
	is_int(http_address_parse("[::1]:1", &at), 0, "so is ::1");
	ok(!at.open, "and open to nobody else");
	is_int(http_address_parse("[::ffff:127.0.0.1]:1", &at), 0, "a mapped address is one");
	ok(at.open, "for which nothing is promised");
	is_int(http_address_parse("unix:/x", &at), 0, "a path is an address");
	ok(http_address_parse("unix:x", &at) != 0, "a relative path is none");
	ok(http_address_parse("1.2.3.4", &at) != 0, "nor is one without a port");
	ok(http_address_parse("1.2.3.4:", &at) != 0, "nor with an empty one");
	ok(http_address_parse("1.2.3.4:65536", &at) != 0, "nor with one too large");
	ok(http_address_parse(":80", &at) != 0, "nor a port alone");
}

int main(void)
{
	taken();
	nothing();
	unknown();
	values();
	exports();
	listens();
	return done();
}
