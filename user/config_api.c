// SPDX-License-Identifier: GPL-2.0-only
/* Sections `api` and `metrics`: where the daemon answers, whom, and what it tells. */
#include <stdio.h>
#include <string.h>

#include "config_api.h"
#include "http.h"

#define POINTER (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

static const cyaml_schema_value_t string = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1,
								4096) };

const cyaml_schema_field_t config_api_fields[] = {
	CYAML_FIELD_SEQUENCE("listen", CYAML_FLAG_POINTER, struct config_api, listen, &string, 1,
			     HTTP_LISTENERS),
	CYAML_FIELD_STRING_PTR("token", POINTER, struct config_api, token, 1, 4096),
	CYAML_FIELD_UINT_PTR("uid", POINTER, struct config_api, uid),
	CYAML_FIELD_UINT_PTR("gid", POINTER, struct config_api, gid),
	CYAML_FIELD_END,
};

const cyaml_schema_field_t config_metrics_fields[] = {
	CYAML_FIELD_BOOL("off", CYAML_FLAG_OPTIONAL, struct config_metrics, off),
	CYAML_FIELD_BOOL("summary", CYAML_FLAG_OPTIONAL, struct config_metrics, summary),
	CYAML_FIELD_END,
};

int config_api_check(struct config_file *file)
{
	const struct config_api *api = file->config->api;
	struct http_address address;
	char path[32];

	for (unsigned i = 0; api && i < api->listen_count; i++) {
		snprintf(path, sizeof(path), "api.listen.%u", i);
		if (http_address_parse(api->listen[i], &address))
			return config_refuse(file, path,
					     "%s: not an address to listen on; 127.0.0.1:9464, "
					     "[::1]:9464 or unix:/run/tidemark/api",
					     api->listen[i]);
		if (address.open && !api->token)
			return config_refuse(file, path,
					     "%s: anybody could ask; give `token: FILE` beside it, "
					     "or listen on 127.0.0.1, [::1] or unix:PATH",
					     api->listen[i]);
	}
	return 0;
}
