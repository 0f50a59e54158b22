// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: a configuration of any bytes is taken or refused; the same for addresses. */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../user/config.h"
#include "../user/http.h"
#include "../user/sinks.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is refused is said, each time. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	return freopen("/dev/null", "w", stderr) ? 0 : 1;
}

static void address(const uint8_t *data, size_t size)
{
	struct sink_otlp_options otlp = {};
	struct http_address at;
	char *text = strndup((const char *)data, size);

	if (!text)
		return;
	if (!http_address_parse(text, &at) && (!at.len || at.len > sizeof(at.at)))
		abort();
	otlp.url = text;
	if (!sink_otlp_url(&otlp) && (!*otlp.host || *otlp.path != '/' || !otlp.port))
		abort();
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_file file;
	int status;

	if (size && data[0] == '@') {
		address(data + 1, size - 1);
		return 0;
	}
	status = config_parse(&file, "f", (const char *)data, size);
	if (!status) {
		if (!file.config)
			abort();
		config_free(&file);
	} else if (file.config || file.places) {
		abort();
	}
	return 0;
}
