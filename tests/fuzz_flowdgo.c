// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: whatever flowd-go's configuration holds, what comes of it is YAML, or it is refused. */
#define _GNU_SOURCE 1
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <yaml.h>

#include "../user/flowdgo.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is refused is said, each time. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	return freopen("/dev/null", "w", stderr) ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct text out = {};
	yaml_document_t document;
	yaml_parser_t parser;

	if (!flowdgo_translate("f", (const char *)data, size, NULL, &out)) {
		if (!yaml_parser_initialize(&parser))
			abort();
		yaml_parser_set_input_string(&parser, (unsigned char *)out.at, out.len);
		if (!yaml_parser_load(&parser, &document))
			abort();
		yaml_document_delete(&document);
		yaml_parser_delete(&parser);
	}
	text_free(&out);
	return 0;
}
