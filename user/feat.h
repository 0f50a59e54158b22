/* SPDX-License-Identifier: GPL-2.0-only */
/* What kernels differ in, each asked by trying it. */
#ifndef TIDEMARK_FEAT_H
#define TIDEMARK_FEAT_H

#include <stdbool.h>

struct feature {
	const char *name;
	bool (*probe)(void);
	int missing; /* exit status without it; 0: Tidemark does without */
	const char *what;
	const char *instead;
};

/* Ends with a feature without a name. */
extern const struct feature features[];

#endif
