// SPDX-License-Identifier: GPL-2.0-only
/* What to call a namespace. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "netns.h"
#include "runtime.h"
#include "selector.h"

/* Length of the UTF-8 sequence at @text if it is one and no control character, else 0. */
static size_t letter_length(const unsigned char *text)
{
	__u32 point;
	size_t len;

	if (text[0] < 0x80)
		return text[0] >= 0x20 && text[0] != 0x7f;
	len = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	point = text[0] & (0xff >> (len + 1));
	for (size_t i = 1; i < len; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (text[i] & 0x3f);
	}
	/* Control characters, overlong forms, surrogates, and beyond the end. */
	if (point < 0xa0 || (len == 3 && point < 0x800) || (len == 4 && point < 0x10000) ||
	    (point >= 0xd800 && point < 0xe000) || point > 0x10ffff)
		return 0;
	return len;
}

void name_clean(const char *text, char name[NODE_NAME_MAX])
{
	size_t used = 0, len;

	while (*text) {
		len = letter_length((const unsigned char *)text);
		if (used + (len ? len : 1) >= NODE_NAME_MAX)
			break;
		if (len)
			memcpy(name + used, text, len);
		else
			name[used] = '_';
		used += len ? len : 1;
		text += len ? len : 1;
	}
	if (!used)
		name[used++] = '_';
	name[used] = '\0';
}

/* Container runtimes mount namespaces too, under names that say nothing to anybody. */
static bool name_is_generated(const char *name)
{
	size_t len = strlen(name);

	return len >= 36 && strspn(name + len - 36, "0123456789abcdef-") == 36 &&
	       name[len - 13] == '-' && name[len - 18] == '-';
}

static const char *name_mounted(const char *path)
{
	if (!strncmp(path, "/run/netns/", 11))
		return path + 11;
	if (!strncmp(path, "/var/run/netns/", 15))
		return path + 15;
	return NULL;
}

static bool text_ends(const char *text, const char *end)
{
	size_t len = strlen(text), tail = strlen(end);

	return len > tail && !strcmp(text + len - tail, end);
}

/* The name of the systemd service, if the process is in one. */
static bool process_service(pid_t pid, char *out, size_t size)
{
	char path[64], *line = NULL, *leaf;
	size_t room = 0;
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (!found && getline(&line, &room, file) > 0) {
		line[strcspn(line, "\n")] = '\0';
		leaf = strrchr(line, '/');
		if (leaf && text_ends(leaf, ".service")) {
			snprintf(out, size, "%.*s", (int)strlen(leaf + 1) - 8, leaf + 1);
			found = true;
		}
	}
	free(line);
	fclose(file);
	return found;
}

static bool process_comm(pid_t pid, char *out, size_t size)
{
	char path[64];
	bool found;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	found = fgets(out, size, file);
	fclose(file);
	out[strcspn(out, "\n")] = '\0';
	if (pid == 2 && !strcmp(out, "kthreadd")) /* the kernel's threads: the first namespace */
		snprintf(out, size, "init");
	return found && *out;
}

void netns_name(const struct netns_seen *seen, char name[NODE_NAME_MAX])
{
	const char *mounted = name_mounted(seen->path);
	struct container container;
	char text[256];
	__u64 host;

	if (!netns_inode_pid(0, &host) && host == seen->inode)
		snprintf(text, sizeof(text), "host");
	else if (mounted && !name_is_generated(mounted))
		snprintf(text, sizeof(text), "%s", mounted);
	else if (seen->pid && !runtime_find_netns(seen->inode, &container))
		container_label(&container, text, sizeof(text));
	else if (mounted)
		snprintf(text, sizeof(text), "%s", mounted);
	else if (!seen->pid || (!process_service(seen->pid, text, sizeof(text)) &&
				!process_comm(seen->pid, text, sizeof(text))))
		snprintf(text, sizeof(text), "net-%llu", seen->inode);
	name_clean(text, name);
}
