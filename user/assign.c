// SPDX-License-Identifier: GPL-2.0-only
/* What is said to a recorder that runs: other classes for hosts, no cutoff for a flow. */
#define _GNU_SOURCE 1
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../bpf/record.h"
#include "assign.h"
#include "class.h"
#include "log.h"
#include "node.h"
#include "units.h"

static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };

/* An address of n characters, in brackets or not; returns its bits of 128, 0: it is none. */
static unsigned address_parse(const char *text, size_t n, __u8 address[16])
{
	char copy[INET6_ADDRSTRLEN + 2];

	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
	}
	if (n >= sizeof(copy))
		return 0;
	memcpy(copy, text, n);
	copy[n] = 0;
	if (inet_pton(AF_INET6, copy, address) == 1)
		return 128;
	memcpy(address, mapped, sizeof(mapped));
	return inet_pton(AF_INET, copy, address + 12) == 1 ? 32 : 0;
}

/* Up to the end, or the colon behind it: of IPv6, that behind its bracket or its length. */
static const char *prefix_parse(const char *text, struct assignment_key *key)
{
	const char *slash, *end;
	char *rest;
	unsigned bits;
	long length;

	memset(key, 0, sizeof(*key));
	slash = strchr(text, '/');
	end = *text == '[' ? strchr(text, ']') : NULL;
	if (end)
		end++;
	else
		end = slash ? slash : strchrnul(text, strchr(text, '.') ? ':' : 0);
	bits = address_parse(text, end - text, key->address);
	if (!bits)
		return NULL;
	length = bits;
	if (*end == '/') {
		length = strtol(end + 1, &rest, 10);
		if (rest == end + 1 || length < 0 || length > bits)
			return NULL;
		end = rest;
	}
	key->prefix = 128 - bits + length;
	for (unsigned i = key->prefix; i < 128; i++)
		key->address[i / 8] &= ~(0x80 >> i % 8);
	return *end && *end != ':' ? NULL : end;
}

/* Is there any? The kernel looks for one only if so. */
static int assigned_set(const struct tidemark *t)
{
	struct precedence order;
	struct assignment_key key;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(t->map[MAP_precedences], &zero, &order))
		return -errno;
	order.assigned = !bpf_map_get_next_key(t->map[MAP_assignments], NULL, &key);
	if (bpf_map_update_elem(t->map[MAP_precedences], &zero, &order, BPF_ANY))
		return -errno;
	if (t->settings->recording)
		class_generation(t);
	return 0;
}

static int rest_parse(const struct tidemark *t, const char *text, char *at, struct assignment *a)
{
	char *name = strsep(&at, ":"), *word;
	struct timespec now;
	__u64 span;

	if (class_slot(t, name, &a->class)) {
		log_error("%s: %s: no such class here; `tidemark show record` lists them", text,
			  name);
		return 2;
	}
	a->ends = ASSIGN_ORIG | ASSIGN_RESP;
	while ((word = strsep(&at, ":"))) {
		if (!strcmp(word, "orig")) {
			a->ends = ASSIGN_ORIG;
		} else if (!strcmp(word, "resp")) {
			a->ends = ASSIGN_RESP;
		} else if (!strcmp(word, "both")) {
			a->ends = ASSIGN_ORIG | ASSIGN_RESP;
		} else if (!span_parse(word, &span) && span) {
			clock_gettime(CLOCK_BOOTTIME, &now);
			a->until_ns = now.tv_sec * 1000000000ULL + now.tv_nsec + span;
		} else {
			log_error("%s: %s: write orig, resp or both, or a span of time like 4h",
				  text, word);
			return 2;
		}
	}
	return 0;
}

int assign_add(const struct tidemark *t, const char *text)
{
	struct assignment_key key;
	struct assignment a = {};
	const char *rest = prefix_parse(text, &key);
	char *copy;
	int status;

	if (!rest || !*rest) {
		log_error("%s: write PREFIX:CLASS[:orig|resp|both][:SPAN], like "
			  "192.0.2.7:hosts:4h or [2001:db8::]/32:hosts",
			  text);
		return 2;
	}
	copy = strdup(rest + 1);
	status = copy ? rest_parse(t, text, copy, &a) : 1;
	free(copy);
	if (status)
		return status;
	if (bpf_map_update_elem(t->map[MAP_assignments], &key, &a, BPF_ANY)) {
		log_error("%s: %s", text,
			  errno == ENOSPC ? "there are as many as there can be; --unassign some"
					  : strerror(errno));
		return 1;
	}
	return assigned_set(t) ? 1 : 0;
}

int assign_remove(const struct tidemark *t, const char *prefix)
{
	struct assignment_key key;
	const char *rest = prefix_parse(prefix, &key);

	if (!rest || *rest) {
		log_error("%s: not an address or a prefix; write 192.0.2.0/24 or 2001:db8::/32",
			  prefix);
		return 2;
	}
	if (bpf_map_delete_elem(t->map[MAP_assignments], &key)) {
		log_error("%s: was not given a class", prefix);
		return 1;
	}
	return assigned_set(t) ? 1 : 0;
}

struct suspension {
	const struct tidemark *t;
	struct flow_key key[2]; /* either end is the node's */
	int program;
	bool on;
	unsigned found;
};

static int end_parse(const char *text, __u8 address[16], __u16 *port)
{
	const char *colon = strrchr(text, ':');
	__u64 n;

	if (!colon || number_parse(colon + 1, 65535, &n) ||
	    !address_parse(text, colon - text, address))
		return -EINVAL;
	*port = n;
	return 0;
}

static int suspend_node(__u32 id, const struct node *node, void *ctx)
{
	struct suspension *s = ctx;
	static const __u8 protos[] = { 6, 17 };

	(void)node;
	for (int end = 0; end < 2; end++)
		for (size_t i = 0; i < sizeof(protos); i++) {
			struct record_call call = { .key = s->key[end], .on = s->on };
			LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &call,
				    .ctx_size_in = sizeof(call));

			call.key.node = id;
			call.key.proto = protos[i];
			if (!bpf_prog_test_run_opts(s->program, &opts))
				s->found += call.found;
		}
	return 0;
}

int suspend(const struct tidemark *t, const char *conn, bool on)
{
	struct suspension s = { .t = t, .on = on };
	char path[PATH_MAX], a[80], b[80], more;
	struct flow_key *key = s.key;
	const char *text = conn;

	if (!strncmp(text, "conn ", 5))
		text += 5;
	if (sscanf(text, "%79s %79s %c", a, b, &more) != 2 ||
	    end_parse(a, key->local, &key->local_port) ||
	    end_parse(b, key->remote, &key->remote_port)) {
		log_error("%s: write conn ADDRESS:PORT ADDRESS:PORT, IPv6 in brackets", conn);
		return 2;
	}
	memcpy(key[1].local, key->remote, 16);
	memcpy(key[1].remote, key->local, 16);
	key[1].local_port = key->remote_port;
	key[1].remote_port = key->local_port;
	if (snprintf(path, sizeof(path), "%s/record_suspend", t->pin_dir) >= (int)sizeof(path))
		return 1;
	s.program = bpf_obj_get(path);
	if (s.program < 0) {
		log_error("%s: %s", path, strerror(errno));
		return 1;
	}
	node_each(t, suspend_node, &s);
	close(s.program);
	if (s.found)
		return 0;
	log_error("%s: no node has this connection now; `tidemark flows` lists them", conn);
	return 1;
}
