// SPDX-License-Identifier: GPL-2.0-only
/* Fuzzes what marks are read from: registries, lines, endpoints, options. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../user/endpoint.h"
#include "../user/markcode.h"
#include "../user/markio.h"
#include "../user/registry.h"

/* What was read is printed, and what was printed is read as the same. */
static void endpoint_again(const char *text)
{
	char address[ENDPOINT_TEXT_MAX], ports[ENDPOINT_TEXT_MAX];
	struct endpoint e = {}, again = {};
	const char *words;

	if (endpoint_parse(text, &e, &words))
		return;
	endpoint_print(&e, address, ports);
	if (endpoint_parse(address, &again, &words) || !endpoint_same(&e, &again))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct registry *own;
	unsigned experiment, activity;
	struct registry *registry;
	char words[256], *text;
	struct mark mark;

	if (!size)
		return 0;
	if (!own)
		own = registry_open(NULL, words, sizeof(words));
	text = strndup((const char *)data + 1, size - 1);
	switch (data[0] % 4) {
	case 0:
		registry = registry_parse((const char *)data + 1, size - 1, words, sizeof(words));
		registry_close(registry);
		break;
	case 1:
		mark_read((const char *)data + 1, size - 1, own, &mark, words, sizeof(words));
		break;
	case 2:
		endpoint_again(text);
		break;
	default:
		option_read(text, &experiment, &activity);
	}
	free(text);
	return 0;
}
