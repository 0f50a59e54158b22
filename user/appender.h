/* SPDX-License-Identifier: GPL-2.0-only */
/* Text appended to a file by a thread of its own: who has something to say waits for no disk. */
#ifndef TIDEMARK_APPENDER_H
#define TIDEMARK_APPENDER_H

#include <stdbool.h>
#include <stdio.h>

struct appender;

/* NULL: errno. */
struct appender *appender_open(const char *path);

/* Nothing is on its way: only then may the stream be written to, and sent. */
bool appender_ready(struct appender *a);
FILE *appender_stream(struct appender *a);
void appender_send(struct appender *a);

/* Waits for what is on its way, once more if the disk had no room. -errno of the last try. */
int appender_wait(struct appender *a);
int appender_close(struct appender *a);

#endif
