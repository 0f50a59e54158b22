// SPDX-License-Identifier: GPL-2.0-only
/* What the files of container runtimes say about one container. */
#define _GNU_SOURCE
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

void container_free(struct container *container)
{
	json_decref(container->labels);
	container->labels = NULL;
}

static const char *note_find(json_t *notes, const char *key)
{
	const char *text = json_string_value(json_object_get(notes, key));

	return text && *text ? text : NULL;
}

const char *container_label_get(const struct container *container, const char *key)
{
	return json_string_value(json_object_get(container->labels, key));
}

/* "SPACE/POD", or "POD" where nobody told a namespace; one that does not fit is none. */
static void pod_set(struct container *container, const char *space, const char *pod)
{
	int len = snprintf(container->pod, sizeof(container->pod), "%s%s%s", space ? space : "",
			   space ? "/" : "", pod);

	if (len >= (int)sizeof(container->pod))
		container->pod[0] = '\0';
}

/* A swarm names its services STACK_SERVICE. */
static void swarm_take(struct container *container, json_t *labels)
{
	const char *stack = note_find(labels, "com.docker.stack.namespace");
	const char *service = note_find(labels, "com.docker.swarm.service.name");
	size_t len = stack ? strlen(stack) : 0;

	if (!stack || text_copy(stack, container->project, sizeof(container->project)))
		return;
	if (service && !strncmp(service, stack, len) && service[len] == '_')
		service += len + 1;
	text_copy(service, container->service, sizeof(container->service));
	container->number = 1;
}

static void compose_take(struct container *container, json_t *labels)
{
	const char *project = note_find(labels, "com.docker.compose.project");
	const char *number = note_find(labels, "com.docker.compose.container-number");
	const char *once = note_find(labels, "com.docker.compose.oneoff");

	if (!project)
		project = note_find(labels, "io.podman.compose.project");
	if (!project || text_copy(project, container->project, sizeof(container->project)))
		return;
	text_copy(note_find(labels, "com.docker.compose.service"), container->service,
		  sizeof(container->service));
	/* `compose run` makes one beside the service's own, under a name of its own. */
	if (number && !(once && !strcasecmp(once, "true")))
		container->number = strtoul(number, NULL, 10);
}

void container_label_all(struct container *container, json_t *labels)
{
	const char *pod = note_find(labels, "io.kubernetes.pod.name");
	const char *type = note_find(labels, "io.kubernetes.docker.type");

	if (!json_is_object(labels))
		return;
	json_decref(container->labels);
	container->labels = json_incref(labels);
	compose_take(container, labels);
	if (!container->project[0])
		swarm_take(container, labels);
	if (pod)
		pod_set(container, note_find(labels, "io.kubernetes.pod.namespace"), pod);
	if (type && !strcmp(type, "podsandbox"))
		container->pause = true;
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
	const char *name, *mode;
	json_t *state, *config;
	int err;

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	err = text_copy(json_string_value(json_object_get(root, "ID")), out->id, sizeof(out->id));
	name = json_string_value(json_object_get(root, "Name"));
	if (name && *name == '/')
		name++;
	text_copy(name, out->name, sizeof(out->name));
	mode = json_string_value(
		json_object_get(json_object_get(root, "HostConfig"), "NetworkMode"));
	out->guest = mode && !strncmp(mode, "container:", 10);
	config = json_object_get(root, "Config");
	container_label_all(out, json_object_get(config, "Labels"));
	state = json_object_get(root, "State");
	if (json_is_true(json_object_get(state, "Running")))
		out->pid = pid_value(json_object_get(state, "Pid"));
	json_decref(root);
	if (err)
		container_free(out);
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

/* The keys that every runtime of Kubernetes but containerd uses, for one way to ask. */
static void cri_translate(json_t *notes)
{
	static const char *const keys[][2] = {
		{ "io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name" },
		{ "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace" },
		{ "io.kubernetes.cri.container-name", "io.kubernetes.container.name" },
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		json_t *value = json_object_get(notes, keys[i][0]);

		if (value && !json_object_get(notes, keys[i][1]))
			json_object_set(notes, keys[i][1], value);
	}
}

int container_parse_oci(const char *text, size_t len, struct container *out)
{
	json_t *root = object_parse(text, len), *notes;
	const char *type, *name;

	*out = (struct container){};
	if (!root)
		return -EBADMSG;
	text_copy(json_string_value(json_object_get(root, "hostname")), out->host,
		  sizeof(out->host));
	notes = json_object_get(root, "annotations");
	if (json_is_object(notes))
		cri_translate(notes);
	container_label_all(out, notes);
	name = note_find(notes, "io.kubernetes.container.name");
	if (!name)
		name = note_find(notes, "nerdctl/name");
	text_copy(name, out->name, sizeof(out->name));
	type = note_find(notes, "io.kubernetes.cri.container-type");
	if (!type)
		type = note_find(notes, "io.kubernetes.cri-o.ContainerType");
	out->pause = type && !strcmp(type, "sandbox");
	out->guest = type && !strcmp(type, "container");
	text_copy(note_find(notes, "io.kubernetes.cri-o.SandboxID"), out->sandbox,
		  sizeof(out->sandbox));
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
			   char pidfile[CONTAINER_PATH_MAX], char bundle[CONTAINER_PATH_MAX])
{
	*out = (struct container){};
	*bundle = '\0';
	if (cmdline_option(text, len, "-c", out->id, sizeof(out->id)) ||
	    cmdline_option(text, len, "-p", pidfile, CONTAINER_PATH_MAX))
		return -EBADMSG;
	cmdline_option(text, len, "-n", out->name, sizeof(out->name));
	cmdline_option(text, len, "-b", bundle, CONTAINER_PATH_MAX);
	return 0;
}

json_t *container_parse_podman(const char *text, size_t len)
{
	static const char ok[] = "HTTP/1.0 200 ", end[] = "\r\n\r\n";
	const char *body;
	json_t *list;

	if (len < sizeof(ok) || memcmp(text, ok, sizeof(ok) - 1))
		return NULL;
	body = memmem(text, len, end, sizeof(end) - 1);
	if (!body)
		return NULL;
	body += sizeof(end) - 1;
	list = json_loadb(body, text + len - body, 0, NULL);
	if (list && !json_is_array(list)) {
		json_decref(list);
		return NULL;
	}
	return list;
}

void container_take_podman(struct container *container, json_t *list)
{
	const char *id, *pod;
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item) {
		id = json_string_value(json_object_get(item, "Id"));
		if (!id || strcmp(id, container->id))
			continue;
		container_label_all(container, json_object_get(item, "Labels"));
		pod = note_find(item, "PodName");
		if (pod)
			pod_set(container, NULL, pod);
		if (json_is_true(json_object_get(item, "IsInfra")))
			container->pause = true;
		return;
	}
}
