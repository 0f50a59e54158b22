// SPDX-License-Identifier: GPL-2.0-only
/* libFuzzer target: any datagram is a firefly within its bounds, or refused with a reason. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../bpf/mark.h"
#include "../user/firefly.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char words[128] = "", again[FIREFLY_BYTES_MAX];
	struct firefly f, g;
	int err = firefly_parse((const char *)data, size, &f, words, sizeof(words)), n;

	if (err) {
		if (err != -EBADMSG || !words[0])
			abort();
		return 0;
	}
	if (f.experiment > MARK_EXPERIMENT_MAX || f.activity > MARK_ACTIVITY_MAX || !f.src_port ||
	    !f.dst_port)
		abort();
	/* What was understood can be said again, and means the same. */
	n = firefly_message(&f, NULL, FIREFLY_LEAN, "h", again, sizeof(again));
	if (n < 0 || firefly_parse(again, n, &g, words, sizeof(words)) || g.state != f.state ||
	    memcmp(g.src, f.src, 16) || g.dst_port != f.dst_port || g.activity != f.activity)
		abort();
	return 0;
}
