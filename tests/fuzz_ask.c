// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: a question of any bytes is refused, or means the same once printed again. */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../user/ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frame(const uint8_t *data)
{
	unsigned char again[FRAME_HEAD];
	char kind;
	__u32 n;

	if (frame_read(data, &kind, &n))
		return;
	frame_head(again, kind, n);
	if (n > FRAME_MOST || memcmp(again, data, FRAME_HEAD))
		abort();
}

static void address(const uint8_t *data, size_t size)
{
	struct sockaddr_storage at;
	socklen_t len = 0;
	char *text = strndup((const char *)data, size);

	if (text && !query_address_parse(text, &at, &len) && (!len || len > sizeof(at)))
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ask ask, same;
	char words[160], *line;

	if (size && data[0] == '@') {
		address(data + 1, size - 1);
		return 0;
	}
	if (size >= FRAME_HEAD)
		frame(data);
	if (ask_parse((const char *)data, size, &ask, words, sizeof(words))) {
		if (!*words)
			abort();
		return 0;
	}
	line = ask_print(&ask);
	if (!line || ask_parse(line, strlen(line), &same, words, sizeof(words)) ||
	    same.what != ask.what || same.id != ask.id || same.limit != ask.limit ||
	    same.format != ask.format || strcmp(same.text, ask.text) || strcmp(same.by, ask.by) ||
	    strcmp(same.since, ask.since) || same.follow != ask.follow)
		abort();
	free(line);
	return 0;
}
