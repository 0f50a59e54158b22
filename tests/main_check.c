// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark check` alone, for trying it without the rest: $TIDEMARK of tests/check.bats. */
#include <stdio.h>
#include <string.h>

#include "../user/cmd.h"

int main(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "check") != 0) {
		fprintf(stderr, "only `check` is in here\n");
		return 2;
	}
	return cmd_check(argc - 1, argv + 1);
}
