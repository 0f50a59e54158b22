/* SPDX-License-Identifier: GPL-2.0-only */
/* The process that answers one who has connected to the daemon. */
#ifndef TIDEMARK_GUEST_H
#define TIDEMARK_GUEST_H

/*
 * A connection has a process of its own, without rights beyond reading the record: TLS, the
 * question and the answer are its alone, and whatever it does, recording does not wait. It
 * begins with the connection and a socket to the daemon as these descriptors.
 */
#define GUEST_CLIENT 3
#define GUEST_DAEMON 4

/*
 * What passes between it and the daemon, packets of JSON:
 *   {"ask":{...},"who":W}  may I? The daemon says {"go":ID} or {"no":"why"}, for a list or
 *                          a cancelled query {"list":[...]} or {"cancelled":ID}
 *   {"bytes":N}            so many have been sent; at most once a second
 */
#define GUEST_PACKET_MOST (160 << 10)
#define GUEST_SECONDS 10 /* for handshake and question */
#define GUEST_STALLED 60 /* without a byte being taken */

/* `tidemark query --guest DIR [CERT KEY CA] [--key-file FILE]...`; nobody but the daemon starts it. */
int guest_main(int argc, char **argv);

#endif
