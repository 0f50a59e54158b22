// SPDX-License-Identifier: GPL-2.0-only
/* What the files of container runtimes say about one container. */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "container.h"

/* jansson bounds its own recursion; the length is bounded by whoever read the file. */
static json_t *object_parse(const char *text, size_t len)
{
	json_t *root = json_loadb(text, len, 0, NULL);

	if (root && !json_is_object(root)) {
		json_decref(root);
		return NULL;
	}
	return root;
}

static int text_copy(const char *text, char *out, size_t size)
{
	size_t len = text ? strlen(text) : 0;

	/* Half an id would be another container's: rather none. */
	if (!len || len >= size)
		return -EBADMSG;
	memcpy(out, text, len + 1);
	return 0;
}

static pid_t pid_value(const json_t *value)
{
	json_int_t pid = json_integer_value(value);

	return pid > 0 && pid <= INT_MAX ? pid : 0;
}

int container_parse_runc(const char *text, size_t len, struct container *out)
{
	json_t *root = object_parse(text, len);
	int err;

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	err = text_copy(json_string_value(json_object_get(root, "id")), out->id, sizeof(out->id));
	out->pid = pid_value(json_object_get(root, "init_process_pid"));
	out->started = json_integer_value(json_object_get(root, "init_process_start"));
	json_decref(root);
	return err;
}

int container_parse_crun(const char *text, size_t len, struct container *out)
{
	json_t *root = object_parse(text, len);

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	out->pid = pid_value(json_object_get(root, "pid"));
	out->started = json_integer_value(json_object_get(root, "process-start-time"));
	json_decref(root);
	return 0;
}

int container_parse_docker(const char *text, size_t len, struct container *out)
{
	json_t *root = object_parse(text, len);
	const char *name;
	json_t *state;
	int err;

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	err = text_copy(json_string_value(json_object_get(root, "ID")), out->id, sizeof(out->id));
	name = json_string_value(json_object_get(root, "Name"));
	if (name && *name == '/')
		name++;
	text_copy(name, out->name, sizeof(out->name));
	state = json_object_get(root, "State");
	if (json_is_true(json_object_get(state, "Running")))
		out->pid = pid_value(json_object_get(state, "Pid"));
	json_decref(root);
	return err;
}

int container_parse_data_root(const char *text, size_t len, struct container *out)
{
	json_t *root = object_parse(text, len);

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	text_copy(json_string_value(json_object_get(root, "data-root")), out->name,
		  sizeof(out->name));
	json_decref(root);
	return 0;
}

static const char *note_find(json_t *notes, const char *key)
{
	const char *text = json_string_value(json_object_get(notes, key));

	return text && *text ? text : NULL;
}

int container_parse_oci(const char *text, size_t len, struct container *out)
{
	json_t *root = object_parse(text, len), *notes;
	const char *pod, *space, *name;
	int cut;

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	notes = json_object_get(root, "annotations");
	pod = note_find(notes, "io.kubernetes.cri.sandbox-name");
	space = note_find(notes, "io.kubernetes.cri.sandbox-namespace");
	name = note_find(notes, "nerdctl/name");
	/* The containers of a pod share its namespace: the node is the pod. */
	if (pod && space)
		cut = snprintf(out->name, sizeof(out->name), "%s/%s", space, pod);
	else
		cut = snprintf(out->name, sizeof(out->name), "%s", pod ? pod : name ? name : "");
	if (cut >= (int)sizeof(out->name))
		out->name[0] = '\0';
	json_decref(root);
	return 0;
}

int cmdline_option(const char *text, size_t len, const char *option, char *out, size_t size)
{
	const char *end = text + len, *word, *next;
	size_t known = strlen(option);

	for (word = text; word < end; word = next) {
		size_t length = strnlen(word, end - word);

		next = word + length + 1;
		if (length < known || memcmp(word, option, known))
			continue;
		if (length == known) {
			if (next >= end)
				return -ENOENT;
			word = next;
			length = strnlen(word, end - word);
		} else if (word[known] == '=') {
			word += known + 1;
			length -= known + 1;
		} else {
			continue;
		}
		if (!length || length >= size)
			return -EBADMSG;
		memcpy(out, word, length);
		out[length] = '\0';
		return 0;
	}
	return -ENOENT;
}

int container_parse_conmon(const char *text, size_t len, struct container *out,
			   char pidfile[CONTAINER_PATH_MAX])
{
	*out = (struct container){};
	if (cmdline_option(text, len, "-c", out->id, sizeof(out->id)) ||
	    cmdline_option(text, len, "-p", pidfile, CONTAINER_PATH_MAX))
		return -EBADMSG;
	cmdline_option(text, len, "-n", out->name, sizeof(out->name));
	return 0;
}
