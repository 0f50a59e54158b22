// SPDX-License-Identifier: GPL-2.0-only
/* A JSON object with some members changed, and every other byte as it was. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "jsonedit.h"

void jsonedit_str(struct jsonedit *edit, const char *key, const char *str)
{
	edit->member[edit->n].key = key;
	edit->member[edit->n++].str = str;
}

void jsonedit_stamp(struct jsonedit *edit, const char *key, uint64_t stamp, bool keep)
{
	edit->member[edit->n].key = key;
	edit->member[edit->n].keep = keep;
	edit->member[edit->n++].stamp = stamp;
}

static const char *space_skip(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
		at++;
	return at;
}

/* at: behind the opening quote. Returns the closing one, or end. */
static const char *string_end(const char *at, const char *end)
{
	for (; at < end && *at != '"'; at++)
		if (*at == '\\')
			at++;
	return at < end ? at : end;
}

/* To the comma or brace behind a value. */
static const char *value_end(const char *at, const char *end)
{
	unsigned depth = 0;

	for (; at < end; at++) {
		if (*at == '"')
			at = string_end(at + 1, end);
		else if (*at == '{' || *at == '[')
			depth++;
		else if (!depth && (*at == ',' || *at == '}'))
			return at;
		else if (*at == '}' || *at == ']')
			depth--;
	}
	return end;
}

static void value_write(const struct jsonedit *edit, unsigned i, struct text *text)
{
	text_add_char(text, '"');
	if (edit->member[i].str)
		text_add_str(text, edit->member[i].str);
	else
		text_add_stamp(text, edit->member[i].stamp);
	text_add_char(text, '"');
}

/* The member key..value (raw bytes, the key without quotes). */
static void member_write(struct jsonedit *edit, const char *key, size_t key_len, const char *value,
			 const char *end, struct text *text)
{
	text_add_char(text, '"');
	text_add(text, key, key_len);
	text_add_str(text, "\":");
	for (unsigned i = 0; i < edit->n; i++) {
		if (strlen(edit->member[i].key) != key_len ||
		    memcmp(edit->member[i].key, key, key_len) != 0)
			continue;
		edit->member[i].done = true;
		if (edit->member[i].keep)
			break;
		value_write(edit, i, text);
		return;
	}
	while (end > value && strchr(" \t\r\n", end[-1]))
		end--;
	text_add(text, value, (size_t)(end - value));
}

/* 0, -EINVAL, or -EILSEQ for a key that is written with escapes, so that it cannot be compared. */
static int members_write(struct jsonedit *edit, const char *at, const char *end, struct text *text)
{
	bool first = true;

	at = space_skip(at, end);
	if (at == end || *at++ != '{')
		return -EINVAL;
	text_add_char(text, '{');
	for (at = space_skip(at, end); at < end && *at == '"'; first = false) {
		const char *key = at + 1, *key_end = string_end(key, end), *value;

		if (memchr(key, '\\', (size_t)(key_end - key)))
			return -EILSEQ;
		value = space_skip(key_end + 1, end);
		if (key_end == end || value >= end || *value != ':')
			return -EINVAL;
		value = space_skip(value + 1, end);
		at = value_end(value, end);
		if (!first)
			text_add_char(text, ',');
		member_write(edit, key, (size_t)(key_end - key), value, at, text);
		if (at < end && *at == ',')
			at = space_skip(at + 1, end);
	}
	if (at >= end || *at != '}')
		return -EINVAL;
	for (unsigned i = 0; i < edit->n; i++) {
		if (edit->member[i].done)
			continue;
		if (!first)
			text_add_char(text, ',');
		first = false;
		text_add_char(text, '"');
		text_add_str(text, edit->member[i].key);
		text_add_str(text, "\":");
		value_write(edit, i, text);
	}
	text_add_char(text, '}');
	return text->err;
}

int jsonedit_write(struct jsonedit *edit, const char *line, size_t len, struct text *text)
{
	size_t before = text->len;
	json_t *object;
	char *plain;
	int err = members_write(edit, line, line + len, text);

	if (err != -EILSEQ)
		return err;
	text->len = before;
	for (unsigned i = 0; i < edit->n; i++)
		edit->member[i].done = false;
	object = json_loadb(line, len, 0, NULL);
	plain = object ? json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(object);
	if (!plain)
		return -EINVAL;
	err = members_write(edit, plain, plain + strlen(plain), text);
	free(plain);
	return err == -EILSEQ ? -EINVAL : err;
}
