// SPDX-License-Identifier: GPL-2.0-only
/* Walks the mounts of our mount namespace. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mounts.h"

static int is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* The kernel writes space, tab, newline, backslash and '#' as \ooo. */
static void text_unescape(char *text)
{
	char *in = text, *out = text;

	while (*in) {
		if (in[0] == '\\' && is_octal(in[1]) && is_octal(in[2]) && is_octal(in[3])) {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 4;
		} else {
			*out++ = *in++;
		}
	}
	*out = '\0';
}

int mount_parse(char *line, struct mount *out)
{
	char *save, *word, *root = NULL, *point = NULL;
	int field = 0;

	for (word = strtok_r(line, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		/* The optional fields, of which there may be any number, end at a lone dash. */
		if (field > 5 && !strcmp(word, "-"))
			break;
		if (field == 0)
			out->id = strtoul(word, NULL, 10);
		else if (field == 3)
			root = word;
		else if (field == 4)
			point = word;
		field++;
	}
	if (!word)
		return -EBADMSG;
	word = strtok_r(NULL, " \n", &save);
	if (!word)
		return -EBADMSG;
	text_unescape(root);
	text_unescape(point);
	text_unescape(word);
	out->root = root;
	out->point = point;
	out->fstype = word;
	return 0;
}

int mounts_each(const char *fstype, mount_fn fn, void *ctx)
{
	struct mount mount;
	char *line = NULL;
	size_t size = 0;
	int err = 0;
	FILE *file;

	file = fopen("/proc/self/mountinfo", "re");
	if (!file)
		return -errno;
	while (!err && getline(&line, &size, file) > 0) {
		if (!mount_parse(line, &mount) && !strcmp(mount.fstype, fstype))
			err = fn(&mount, ctx);
	}
	free(line);
	fclose(file);
	return err;
}
