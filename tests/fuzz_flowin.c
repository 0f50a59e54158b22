// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: any line of a pipe, and any body of POST /flow, is a flow or is refused. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "../bpf/mark.h"
#include "../user/flowapi.h"
#include "../user/registry.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge(int err, const struct firefly *f, const char *words)
{
	if (err && (err != -EBADMSG || !words[0]))
		abort();
	if (!err && (f->experiment > MARK_EXPERIMENT_MAX || f->activity > MARK_ACTIVITY_MAX ||
		     !f->src_port || !f->dst_port || f->state == REPORT_ongoing))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct registry *registry;
	struct flowin in = {};
	char words[FLOWIN_WORDS] = "";
	struct firefly f;

	if (!registry)
		registry = registry_open(NULL, words, sizeof(words));
	if (!registry)
		abort();
	in.registry = registry;
	words[0] = 0;
	judge(flowin_line(&in, (const char *)data, size, &f, words), &f, words);
	words[0] = 0;
	judge(flowapi_parse(&in, (const char *)data, size, &f, words), &f, words);
	return 0;
}
