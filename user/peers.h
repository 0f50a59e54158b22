/* SPDX-License-Identifier: GPL-2.0-only */
/* Peers and their observed clocks, as `show` prints them. */
#ifndef TIDEMARK_PEERS_H
#define TIDEMARK_PEERS_H

#include "out.h"
#include "tidemark.h"

extern const struct out_column peer_columns[], skew_columns[];

/* Fill, finish and close a table of these columns: an exit status. */
int peers_show(struct tidemark *t, struct out *out);
int skews_show(struct tidemark *t, struct out *out);

#endif
