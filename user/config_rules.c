// SPDX-License-Identifier: GPL-2.0-only
/* Of section `mark`: rules, what is excluded, and how packets carry marks. */
#define _GNU_SOURCE 1
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_rules.h"
#include "markio.h"

#define POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1,
								4096) };

#define TEXT(key, member) CYAML_FIELD_STRING_PTR(key, POINTER, struct config_rule, member, 1, 4096)

static const cyaml_schema_field_t rule_fields[] = {
	TEXT("src", src),
	TEXT("src_ports", src_ports),
	TEXT("dst", dst),
	TEXT("dst_ports", dst_ports),
	TEXT("proto", proto),
	TEXT("node", node),
	TEXT("uid", uid),
	TEXT("comm", comm),
	TEXT("cgroup", cgroup),
	TEXT("experiment", experiment),
	TEXT("activity", activity),
	TEXT("how", how),
	TEXT("for", lasts),
	TEXT("pick", pick),
	CYAML_FIELD_SEQUENCE("ids", POINTER, struct config_rule, ids, &string, 1, RULE_IDS_MAX),
	CYAML_FIELD_BOOL("inherit", CYAML_FLAG_OPTIONAL, struct config_rule, inherit),
	CYAML_FIELD_BOOL("exclude", CYAML_FLAG_OPTIONAL, struct config_rule, exclude),
	CYAML_FIELD_END,
};

const cyaml_schema_value_t config_rule_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct config_rule, rule_fields),
};

/* What `exclude: [private]` means: RFC 1918, 6598, 3927, 4193, link local, the host itself. */
static const char *const private_ranges[] = {
	"10.0.0.0/8",  "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
	"127.0.0.0/8", "fc00::/7",	"fe80::/10",	  "::1",
};

#define PRIVATE_RANGES (sizeof(private_ranges) / sizeof(private_ranges[0]))

/* As `mark list --json` has it, so that there is one reader of marks. */
static json_t *rule_json(const struct config_rule *rule, const char *how)
{
	char ids[RULE_IDS_MAX * 2 * REGISTRY_NAME_MAX];
	int n = 0;

	for (unsigned i = 0; i < rule->ids_count && n < (int)sizeof(ids); i++)
		n += snprintf(ids + n, sizeof(ids) - n, "%s%s", i ? "," : "", rule->ids[i]);
	return json_pack("{s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,s:s*,"
			 "s:b,s:b}",
			 "src", rule->src, "src_ports", rule->src_ports, "dst", rule->dst,
			 "dst_ports", rule->dst_ports, "proto", rule->proto, "node", rule->node,
			 "uid", rule->uid, "comm", rule->comm, "cgroup", rule->cgroup, "experiment",
			 rule->experiment, "activity", rule->activity, "how",
			 rule->how ? rule->how : how, "pick", rule->pick, "ids", n ? ids : NULL,
			 "inherit", rule->inherit, "exclude", rule->exclude);
}

static int rule_check(const struct config_file *file, const struct config_mark *mark,
		      const struct registry *registry, unsigned i, struct mark *out)
{
	const struct config_rule *rule = mark->rules[i];
	json_t *json = rule_json(rule, mark->how_text);
	char path[64], words[512] = "out of memory, or not UTF-8";
	int err = json ? mark_read_json(json, registry, out, words, sizeof(words)) : -1;

	json_decref(json);
	snprintf(path, sizeof(path), "mark.rules.%u", i);
	if (err)
		return config_refuse(file, path, "%s", words);
	if (endpoint_is_exact(&out->src) && endpoint_is_exact(&out->dst))
		return config_refuse(file, path,
				     "one connection, which ends; for that there is `mark add`");
	if (rule->exclude && (rule->how || rule->inherit || rule->pick))
		return config_refuse(file, path, "what is excluded has no mark to be carried");
	for (unsigned k = 0; k < i; k++)
		if (mark_same(out, &mark->marks[k]))
			return config_refuse(file, path, "the same ends as mark.rules.%u", k);
	out->configured = true;
	snprintf(path, sizeof(path), "mark.rules.%u.for", i);
	return config_span(file, path, rule->lasts, &out->for_ns);
}

/* No mark for what goes there. */
static int excluded(const struct config_file *file, const char *text, const char *path,
		    struct mark *out)
{
	const char *words = "";

	memset(out, 0, sizeof(*out));
	out->exclude = out->configured = true;
	if (endpoint_parse(text, &out->dst, &words))
		return config_refuse(file, path, "%s: %s; `private`, or what --dst takes", text,
				     words);
	return 0;
}

static int excluded_check(const struct config_file *file, struct config_mark *mark)
{
	char path[64];
	int status = 0;

	for (unsigned i = 0; i < mark->exclude_count && !status; i++) {
		snprintf(path, sizeof(path), "mark.exclude.%u", i);
		if (strcmp(mark->exclude[i], "private")) {
			status = excluded(file, mark->exclude[i], path,
					  &mark->marks[mark->marks_n++]);
			continue;
		}
		for (unsigned k = 0; k < PRIVATE_RANGES; k++)
			excluded(file, private_ranges[k], path, &mark->marks[mark->marks_n++]);
	}
	return status;
}

int config_rules_check(const struct config_file *file, struct config_mark *mark)
{
	struct registry *registry;
	char words[512];
	int status = 0;

	if (mark->how_text && mark_how_parse(mark->how_text, &mark->how))
		return config_refuse(file, "mark.how",
				     "%s: not a way; label, hop-by-hop, destination or "
				     "hop-by-hop+destination",
				     mark->how_text);
	if (!mark->rules_count && !mark->exclude_count)
		return 0;
	mark->marks = calloc(mark->rules_count + mark->exclude_count * PRIVATE_RANGES,
			     sizeof(*mark->marks));
	if (!mark->marks)
		return config_refuse(file, "mark.rules", "out of memory");
	registry = registry_open(mark->registry, words, sizeof(words));
	if (!registry)
		return config_refuse(file, "mark.registry", "%s", words);
	for (unsigned i = 0; i < mark->rules_count && !status; i++)
		status = rule_check(file, mark, registry, i, &mark->marks[mark->marks_n++]);
	registry_close(registry);
	return status ? status : excluded_check(file, mark);
}
