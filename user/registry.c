// SPDX-License-Identifier: GPL-2.0-only
/* The SciTags registry: names of experiments and their activities, and their numbers. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "../bpf/mark.h"
#include "registry.h"
#include "units.h"

extern const char registry_start[] __asm__("data_registry_json_start");
extern const char registry_end[] __asm__("data_registry_json_end");

#define EXPERIMENTS (MARK_EXPERIMENT_MAX + 1)
#define ACTIVITIES (MARK_ACTIVITY_MAX + 1)

struct registry {
	json_t *root;			     /* owns the names */
	const char *experiment[EXPERIMENTS]; /* NULL: none of that number */
	const char **activity[EXPERIMENTS];
};

static bool name_is_fit(const char *name)
{
	size_t length = name ? strlen(name) : 0;

	if (!length || length >= REGISTRY_NAME_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
			return false;
	return name[strspn(name, "0123456789")]; /* a number would be taken for one */
}

static int activity_read(struct registry *r, unsigned experiment, json_t *entry, char *words,
			 size_t size)
{
	const char *name = json_string_value(json_object_get(entry, "activityName"));
	json_t *id = json_object_get(entry, "activityId");
	json_int_t n = json_integer_value(id);

	if (!json_is_integer(id) || n < 0 || n > MARK_ACTIVITY_MAX || !name_is_fit(name)) {
		snprintf(words, size,
			 "experiment %u: an activity needs an activityName and an activityId from "
			 "0 to %d",
			 experiment, MARK_ACTIVITY_MAX);
		return -EINVAL;
	}
	if (r->activity[experiment][n]) {
		snprintf(words, size, "experiment %u: activity %u is there twice", experiment,
			 (unsigned)n);
		return -EINVAL;
	}
	r->activity[experiment][n] = name;
	return 0;
}

static int experiment_read(struct registry *r, json_t *entry, char *words, size_t size)
{
	const char *name = json_string_value(json_object_get(entry, "expName"));
	json_t *id = json_object_get(entry, "expId"), *one;
	json_t *activities = json_object_get(entry, "activities");
	json_int_t n = json_integer_value(id);
	size_t i;

	if (!json_is_integer(id) || n < 0 || n > MARK_EXPERIMENT_MAX || !name_is_fit(name) ||
	    (activities && !json_is_array(activities))) {
		snprintf(words, size,
			 "an experiment needs an expName, an expId from 0 to %d, and activities",
			 MARK_EXPERIMENT_MAX);
		return -EINVAL;
	}
	if (r->experiment[n]) {
		snprintf(words, size, "experiment %u is there twice", (unsigned)n);
		return -EINVAL;
	}
	r->experiment[n] = name;
	r->activity[n] = calloc(ACTIVITIES, sizeof(*r->activity[n]));
	if (!r->activity[n]) {
		snprintf(words, size, "out of memory");
		return -ENOMEM;
	}
	json_array_foreach(activities, i, one)
		if (activity_read(r, n, one, words, size))
			return -EINVAL;
	return 0;
}

static struct registry *registry_read(json_t *root, char *words, size_t size)
{
	json_t *experiments = json_object_get(root, "experiments"), *one;
	struct registry *r = calloc(1, sizeof(*r));
	size_t i;

	if (!r) {
		snprintf(words, size, "out of memory");
		json_decref(root);
		return NULL;
	}
	r->root = root;
	if (!json_is_array(experiments)) {
		snprintf(words, size, "no list of experiments in it");
		goto bad;
	}
	json_array_foreach(experiments, i, one)
		if (experiment_read(r, one, words, size))
			goto bad;
	return r;
bad:
	registry_close(r);
	return NULL;
}

struct registry *registry_parse(const char *json, size_t length, char *words, size_t size)
{
	json_error_t error;
	json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &error);

	if (root)
		return registry_read(root, words, size);
	snprintf(words, size, "line %d: %s", error.line, error.text);
	return NULL;
}

struct registry *registry_open(const char *path, char *words, size_t size)
{
	json_error_t error;
	json_t *root;

	if (!path && access(REGISTRY_FILE, R_OK))
		return registry_parse(registry_start, registry_end - registry_start, words, size);
	root = json_load_file(path ? path : REGISTRY_FILE, JSON_REJECT_DUPLICATES, &error);
	if (root)
		return registry_read(root, words, size);
	if (error.line > 0)
		snprintf(words, size, "line %d: %s", error.line, error.text);
	else
		snprintf(words, size, "%s", error.text);
	return NULL;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < EXPERIMENTS; i++)
		free(r->activity[i]);
	json_decref(r->root);
	free(r);
}

static int number_or_name(const char *const *names, unsigned most, const char *text, unsigned *n)
{
	__u64 number;

	if (!number_parse(text, most, &number)) {
		*n = number;
		return 0;
	}
	for (unsigned i = 0; names && i <= most; i++)
		if (names[i] && !strcasecmp(names[i], text)) {
			*n = i;
			return 0;
		}
	return -EINVAL;
}

int registry_experiment(const struct registry *r, const char *text, unsigned *experiment,
			char *words, size_t size)
{
	if (!number_or_name(r->experiment, MARK_EXPERIMENT_MAX, text, experiment))
		return 0;
	snprintf(words, size,
		 "no such experiment; a number from 0 to %d, or a name in the registry "
		 "(--registry FILE for a newer one)",
		 MARK_EXPERIMENT_MAX);
	return -EINVAL;
}

int registry_activity(const struct registry *r, unsigned experiment, const char *text,
		      unsigned *activity, char *words, size_t size)
{
	if (!number_or_name(r->activity[experiment], MARK_ACTIVITY_MAX, text, activity))
		return 0;
	snprintf(words, size,
		 "no such activity of that experiment; a number from 0 to %d, or a name in the "
		 "registry",
		 MARK_ACTIVITY_MAX);
	return -EINVAL;
}

void registry_names(const struct registry *r, unsigned experiment, unsigned activity,
		    char experiment_name[REGISTRY_NAME_MAX], char activity_name[REGISTRY_NAME_MAX])
{
	const char *const *activities = r ? r->activity[experiment] : NULL;

	if (r && r->experiment[experiment])
		snprintf(experiment_name, REGISTRY_NAME_MAX, "%s", r->experiment[experiment]);
	else
		snprintf(experiment_name, REGISTRY_NAME_MAX, "%u", experiment);
	if (activities && activities[activity])
		snprintf(activity_name, REGISTRY_NAME_MAX, "%s", activities[activity]);
	else
		snprintf(activity_name, REGISTRY_NAME_MAX, "%u", activity);
}
