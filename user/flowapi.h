/* SPDX-License-Identifier: GPL-2.0-only */
/* POST /flow as flowd-go takes it, and single flows listed, looked up and ended over HTTP. */
#ifndef TIDEMARK_FLOWAPI_H
#define TIDEMARK_FLOWAPI_H

#include "flowin.h"
#include "marking.h"

struct flowin *marking_in(struct marking *m);

/* flowd-go's JSON. -EBADMSG, and `words` says why. */
int flowapi_parse(const struct flowin *in, const char *body, size_t n, struct firefly *out,
		  char words[FLOWIN_WORDS]);

#endif
