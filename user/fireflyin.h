/* SPDX-License-Identifier: GPL-2.0-only */
/* Receives fireflies: what another host says its flows here are for, they are for here too. */
#ifndef TIDEMARK_FIREFLYIN_H
#define TIDEMARK_FIREFLYIN_H

#include <netinet/in.h>

#include "flowin.h"

struct event_base;
struct fireflyin;
struct relay;

/* What is one is handed on by `relay`. NULL: said why. */
struct fireflyin *fireflyin_open(struct event_base *base, const struct sockaddr_in6 *at,
				 const char *name, struct flowin *in, struct relay *relay);
bool fireflyin_is(const struct fireflyin *f, const struct sockaddr_in6 *at);
void fireflyin_close(struct fireflyin *f);

#endif
