/* SPDX-License-Identifier: GPL-2.0-only */
/* The sink that prints: a table or JSON lines, to stdout or a file that grows. */
#ifndef TIDEMARK_PRINT_H
#define TIDEMARK_PRINT_H

#include <stdio.h>

#include "sink.h"
#include "tidemark.h"

/*
 * An error of writing ends the tracer: nobody reads any more. The file stays the caller's;
 * `name` is what to call it. NULL without memory.
 */
struct sink *print_open(const struct tidemark *t, FILE *file, const char *name, bool json);

#endif
