// SPDX-License-Identifier: GPL-2.0-only
/* For labs: which namespace a selector finds, and what each namespace of the machine is called. */
#include <stdio.h>
#include <string.h>

#include "../user/selector.h"

static int print_seen(const struct netns_seen *seen, const char *name, void *ctx)
{
	(void)ctx;
	printf("%llu %s\n", seen->inode, name);
	return 0;
}

static int print_named(const struct netns_seen *seen, void *ctx)
{
	char name[NODE_NAME_MAX];

	netns_name(seen, name);
	return print_seen(seen, name, ctx);
}

int main(int argc, char **argv)
{
	char words[256] = "";
	struct selector selector;
	int err = 0;

	if (argc == 1)
		return netns_each(print_named, NULL) != 0;
	for (int i = 1; !err && i < argc; i++) {
		err = selector_parse(argv[i], &selector, words, sizeof(words));
		if (!err)
			err = selector_each(&selector, print_seen, NULL, words, sizeof(words));
	}
	if (err)
		fprintf(stderr, "%s (%s)\n", words, strerror(-err));
	return err != 0;
}
