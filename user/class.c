// SPDX-License-Identifier: GPL-2.0-only
/* Classes of recording: read, put in order, given to the kernel. */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>

#include "class.h"
#include "expr.h"
#include "log.h"
#include "node.h"
#include "physical.h"
#include "units.h"

#define SNAP_LEAST 64 /* the headers */

static const char *const keys[] = { "filter", "cutoff", "mem",	      "disk",  "filesize", "age",
				    "snap",   "sample", "precedence", "flows", NULL };

void class_defaults(struct class_spec *spec)
{
	spec->cutoff = CLASS_WHOLE;
	spec->mem_bytes = CLASS_MEM_DEFAULT;
	spec->snap = UINT32_MAX;
}

static bool name_is_good(const char *name, size_t n)
{
	if (!n || n >= CLASS_NAME_MAX || *name == '-') /* `-` is what no class wants */
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '_')
			return false;
	return true;
}

static bool size_is(const char *value, __u64 least, __u64 most, __u64 *bytes)
{
	return !size_parse(value, bytes) && *bytes >= least && *bytes <= most;
}

static bool none(const char *value)
{
	return !strcmp(value, "no") || !strcmp(value, "none") || !strcmp(value, "unlimited");
}

/* `N` packets or `N:flows`: of what is cut, one in N. */
static bool sample_is(struct class_spec *spec, const char *value)
{
	char number[16];
	const char *colon = strchrnul(value, ':');
	__u64 n;

	if ((size_t)(colon - value) >= sizeof(number))
		return false;
	memcpy(number, value, colon - value);
	number[colon - value] = 0;
	if (*colon && strcmp(colon, ":flows") && strcmp(colon, ":packets"))
		return false;
	if (number_parse(number, UINT32_MAX, &n) || !n)
		return false;
	spec->sample = n;
	spec->sample_flows = !strcmp(colon, ":flows");
	return true;
}

int class_set(struct class_spec *spec, const char *key, const char *value, char *words, size_t size)
{
	const char *right = NULL;
	__u64 n;

	if (!strcmp(key, "filter")) {
		free(spec->filter);
		spec->filter = *value ? strdup(value) : NULL;
	} else if (!strcmp(key, "cutoff")) {
		spec->cutoff = CLASS_WHOLE;
		spec->cutoff_given = true;
		if (!none(value) && size_parse(value, &spec->cutoff))
			right = "a size like 15k, or no";
	} else if (!strcmp(key, "mem")) {
		if (!size_is(value, 1 << 20, 1ULL << 40, &spec->mem_bytes))
			right = "a size from 1m, like 64m";
	} else if (!strcmp(key, "disk")) {
		spec->disk_bytes = 0;
		if (!none(value) && !size_is(value, 1 << 20, 1ULL << 60, &spec->disk_bytes))
			right = "a size from 1m, like 500g, or no";
	} else if (!strcmp(key, "filesize")) {
		if (!size_is(value, 1 << 16, 1ULL << 40, &spec->file_bytes))
			right = "a size from 64k, like 64m";
	} else if (!strcmp(key, "age")) {
		spec->age_ns = 0;
		if (!none(value) && (span_parse(value, &spec->age_ns) || !spec->age_ns))
			right = "a span of time like 7d, or no";
	} else if (!strcmp(key, "flows")) {
		if (!size_is(value, 1 << 20, 1ULL << 60, &spec->flow_bytes))
			right = "a size from 1m, like 64m";
	} else if (!strcmp(key, "snap")) {
		spec->snap = UINT32_MAX;
		if (!none(value)) {
			if (size_is(value, SNAP_LEAST, 1 << 20, &n))
				spec->snap = n;
			else
				right = "bytes from 64, like 128, or no";
		}
	} else if (!strcmp(key, "sample")) {
		spec->sample = 0;
		if (!none(value) && !sample_is(spec, value))
			right = "one in so many: 100 or 100:packets, 100:flows, or no";
	} else if (!strcmp(key, "precedence")) {
		if (number_parse(value, 1000000, &spec->precedence))
			right = "a number up to 1000000; the highest is asked first";
	} else {
		snprintf(words, size,
			 "%s: no such key; filter, cutoff, mem, disk, filesize, age, flows, snap, "
			 "sample or precedence",
			 key);
		return -EINVAL;
	}
	if (!right)
		return 0;
	snprintf(words, size, "%s=%s: write %s", key, value, right);
	return -EINVAL;
}

/* Where the value ends: at a comma with a key behind it, for expressions may have commas. */
static char *value_end(char *at)
{
	for (; (at = strchr(at, ',')); at++)
		for (int k = 0; keys[k]; k++) {
			size_t n = strlen(keys[k]);

			if (!strncmp(at + 1, keys[k], n) && at[1 + n] == '=')
				return at;
		}
	return NULL;
}

/* -EINVAL: it was there before, and is not an oversight to guess about. */
static int key_once(const char *key, unsigned *had, char *words, size_t size)
{
	for (int k = 0; keys[k]; k++) {
		if (strcmp(keys[k], key))
			continue;
		if (*had & 1U << k) {
			snprintf(words, size, "%s=: given twice", key);
			return -EINVAL;
		}
		*had |= 1U << k;
	}
	return 0;
}

static int keys_parse(struct class_spec *spec, char *at, char *words, size_t size)
{
	unsigned had = 0;

	while (at && *at) {
		char *end = value_end(at), *equals;

		if (end)
			*end++ = 0;
		equals = strchr(at, '=');
		if (!equals) {
			snprintf(words, size, "%s: write key=value", at);
			return -EINVAL;
		}
		*equals = 0;
		if (key_once(at, &had, words, size) || class_set(spec, at, equals + 1, words, size))
			return -EINVAL;
		at = end;
	}
	return 0;
}

int class_parse(struct class_list *list, const char *text, char *words, size_t size)
{
	size_t n = strcspn(text, ":");
	struct class_spec *spec = &list->at[list->n];
	char *copy;
	int err;

	if (!name_is_good(text, n)) {
		snprintf(
			words, size,
			"a class begins with its name of letters, digits, - and _, up to %d, - not "
			"first, and a colon: web:filter=port 80,cutoff=15k",
			CLASS_NAME_MAX - 1);
		return -EINVAL;
	}
	if (list->n == CLASSES) {
		snprintf(words, size, "more than %d classes", CLASSES);
		return -EINVAL;
	}
	for (size_t i = 0; i < list->n; i++)
		if (strlen(list->at[i].name) == n && !memcmp(list->at[i].name, text, n)) {
			snprintf(words, size, "%.*s: given twice", (int)n, text);
			return -EINVAL;
		}
	memset(spec, 0, sizeof(*spec));
	memcpy(spec->name, text, n);
	class_defaults(spec);
	copy = strdup(text[n] ? text + n + 1 : "");
	err = copy ? keys_parse(spec, copy, words, size) : -ENOMEM;
	free(copy);
	if (err)
		free(spec->filter);
	else
		list->n++;
	return err;
}

#define NODE_TO_COME (~0U) /* nobody's number */

struct naming {
	const struct tidemark *t;
	bool wait;
};

static __u32 node_id(const char *name, void *ctx)
{
	const struct naming *naming = ctx;
	__u32 id = 0;

	if (!naming->t || node_by_name(naming->t, name, NULL, &id))
		id = 0;
	return id || !naming->wait ? id : NODE_TO_COME;
}

/* "And it is one of these nodes." */
static int filter_narrow(struct class_spec *spec, const __u32 *only, size_t n)
{
	const struct filter_op either = { .code = FILTER_OR }, both = { .code = FILTER_AND };
	__u32 asked = spec->ops_n;

	if (n && asked + 2 * n > FILTER_OPS_MAX) {
		log_error("class %s: %zu nodes are too many to choose beside its filter; choose "
			  "them with `tidemark up`",
			  spec->name, n);
		return -E2BIG;
	}
	for (size_t i = 0; i < n; i++) {
		spec->ops[spec->ops_n++] = (struct filter_op){ .code = FILTER_VALUE,
							       .field = FILTER_NODE,
							       .mask = ~0U,
							       .low = only[i],
							       .high = only[i] };
		if (i)
			spec->ops[spec->ops_n++] = either;
	}
	if (n && asked)
		spec->ops[spec->ops_n++] = both;
	return 0;
}

static int filter_compile(const struct class_list *list, struct class_spec *spec,
			  const struct tidemark *t)
{
	struct naming naming = { t, list->wait };
	struct expr_error error = {};
	struct expr *expr;
	int err;

	spec->ops_n = 0;
	if (!spec->filter)
		return filter_narrow(spec, list->only, list->only_n);
	err = expr_parse(spec->filter, physical_now_ns(), &expr, &error);
	if (!err && expr) {
		err = expr_compile(expr, node_id, &naming, spec->ops, &spec->ops_n, &error);
		expr_free(expr);
	}
	if (err) {
		log_error("class %s: filter: %s", spec->name, error.why);
		expr_say(spec->filter, &error);
		return err;
	}
	return filter_narrow(spec, list->only, list->only_n);
}

/* By insertion, which leaves what is equal in its order. */
static void precedence_sort(struct class_list *list)
{
	for (size_t i = 1; i < list->n; i++) {
		struct class_spec moved = list->at[i];
		size_t k = i;

		for (; k && list->at[k - 1].precedence < moved.precedence; k--)
			list->at[k] = list->at[k - 1];
		list->at[k] = moved;
	}
}

int class_finish(struct class_list *list, __u64 cutoff, const struct tidemark *t)
{
	int err = 0;

	if (!list->n) {
		memset(&list->at[0], 0, sizeof(list->at[0]));
		strcpy(list->at[0].name, "all");
		class_defaults(&list->at[0]);
		list->n = 1;
	}
	for (size_t i = 0; i < list->n && !err; i++) {
		if (!list->at[i].cutoff_given)
			list->at[i].cutoff = cutoff;
		err = filter_compile(list, &list->at[i], t);
	}
	precedence_sort(list);
	return err;
}

int class_compile(struct class_list *list, const struct tidemark *t)
{
	struct filter_op before[FILTER_OPS_MAX];
	int changed = 0;

	for (size_t i = 0; i < list->n; i++) {
		memcpy(before, list->at[i].ops, sizeof(before));
		if (filter_compile(list, &list->at[i], t))
			return 0;
		changed |= memcmp(before, list->at[i].ops, sizeof(before)) != 0;
	}
	return changed;
}

void class_free(struct class_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->at[i].filter);
	list->n = 0;
}

int class_name(const struct tidemark *t, __u32 slot, char name[CLASS_NAME_MAX])
{
	struct class c;

	if (slot >= CLASSES || bpf_map_lookup_elem(t->map[MAP_classes], &slot, &c) || !*c.name)
		return -ENOENT;
	memcpy(name, c.name, CLASS_NAME_MAX);
	name[CLASS_NAME_MAX - 1] = 0;
	return 0;
}

int class_slot(const struct tidemark *t, const char *name, __u32 *slot)
{
	char has[CLASS_NAME_MAX];

	for (*slot = 0; *slot < CLASSES; ++*slot)
		if (!class_name(t, *slot, has) && !strcmp(has, name))
			return 0;
	return -ENOENT;
}

/* A slot nobody has, or one whose class is in no list any more. */
static int slot_find(const struct tidemark *t, const struct class_list *list, const char *name,
		     __u32 *slot)
{
	char has[CLASS_NAME_MAX];
	bool used;

	if (!class_slot(t, name, slot))
		return 0;
	for (int pass = 0; pass < 2; pass++)
		for (*slot = 0; *slot < CLASSES; ++*slot) {
			used = !class_name(t, *slot, has);
			for (size_t i = 0; used && pass && i < list->n; i++)
				if (!strcmp(list->at[i].name, has))
					break;
				else if (i == list->n - 1)
					used = false;
			if (!used)
				return 0;
		}
	return -ENOSPC;
}

void class_generation(const struct tidemark *t)
{
	__u32 next = t->settings->recording + 1;

	t->settings->recording = next > 255 ? 1 : next;
}

int class_publish(const struct tidemark *t, const struct class_list *list, __u32 wake,
		  __u32 slots[CLASSES])
{
	struct precedence order = { .n = list->n }, old;
	__u32 zero = 0;
	int err;

	if (!bpf_map_lookup_elem(t->map[MAP_precedences], &zero, &old))
		order.assigned = old.assigned;
	for (size_t i = 0; i < list->n; i++) {
		const struct class_spec *spec = &list->at[i];
		struct class c = {
			.cutoff = spec->cutoff,
			.snap = spec->snap,
			.sample = spec->sample,
			.flags = spec->sample_flows ? CLASS_SAMPLE_FLOWS : 0,
			.wake = wake,
			.ops_n = spec->ops_n,
		};

		memcpy(c.name, spec->name, sizeof(c.name));
		memcpy(c.ops, spec->ops, sizeof(c.ops));
		err = slot_find(t, list, spec->name, &slots[i]);
		if (err)
			return err;
		order.slot[i] = slots[i];
		if (bpf_map_update_elem(t->map[MAP_classes], &slots[i], &c, BPF_ANY))
			return -errno;
	}
	if (bpf_map_update_elem(t->map[MAP_precedences], &zero, &order, BPF_ANY))
		return -errno;
	return 0;
}
