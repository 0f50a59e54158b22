/* SPDX-License-Identifier: GPL-2.0-only */
/* A named pipe by which others say what flows are for, a line each: flowd's grammar. */
#ifndef TIDEMARK_PIPEIN_H
#define TIDEMARK_PIPEIN_H

#include "config_mark.h"
#include "flowin.h"

struct event_base;
struct pipein;

/* Makes the pipe, or takes one that is there. NULL: said why. */
struct pipein *pipein_open(struct event_base *base, const struct config_pipe *o, struct flowin *in);

/* Is it what this asks for? */
bool pipein_is(const struct pipein *p, const struct config_pipe *o);

/* Reads what is left; takes the pipe away if it made it. */
void pipein_close(struct pipein *p);

#endif
