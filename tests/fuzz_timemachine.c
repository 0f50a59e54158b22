// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: any bytes are a configuration of Time Machine, or refused. What is taken over
 * has classes whose names are fit for directories and whose filters compile.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../user/timemachine.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every refusal is said. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return freopen("/dev/null", "w", stderr) ? 0 : 1;
}

static void classes_check(struct class_list *classes)
{
	for (size_t i = 0; i < classes->n; i++) {
		const char *name = classes->at[i].name;

		if (!*name || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					   "0123456789-_") != strlen(name))
			abort();
	}
	if (!classes->n || class_finish(classes, CLASS_WHOLE, NULL))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct class_list classes;
	static struct timemachine tm;
	char *text;

	if (size > TIMEMACHINE_TEXT_MOST)
		return -1;
	text = malloc(size + 1);
	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	memset(&classes, 0, sizeof(classes));
	if (!timemachine_parse("fuzz", text, &tm, &classes))
		classes_check(&classes);
	class_free(&classes);
	free(text);
	return 0;
}
