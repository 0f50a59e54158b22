// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: every reader of a container runtime's files, chosen by the first byte. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../user/container.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int (*const readers[])(const char *, size_t, struct container *) = {
		container_parse_runc, container_parse_crun,	 container_parse_docker,
		container_parse_oci,  container_parse_data_root,
	};
	const char *text = (const char *)data + 1;
	char pidfile[CONTAINER_PATH_MAX], bundle[CONTAINER_PATH_MAX];
	struct container c = {};
	size_t which;
	int err;

	if (!size)
		return 0;
	which = data[0] % (sizeof(readers) / sizeof(*readers) + 2);
	if (which == sizeof(readers) / sizeof(*readers) + 1) {
		struct json_t *list = container_parse_podman(text, size - 1);

		strcpy(c.id, "a");
		container_take_podman(&c, list);
		json_decref(list);
		err = 0;
	} else if (which == sizeof(readers) / sizeof(*readers))
		err = container_parse_conmon(text, size - 1, &c, pidfile, bundle);
	else
		err = readers[which](text, size - 1, &c);
	if (!err &&
	    (!memchr(c.id, 0, sizeof(c.id)) || !memchr(c.name, 0, sizeof(c.name)) || c.pid < 0))
		abort();
	container_free(&c);
	return 0;
}
