/* SPDX-License-Identifier: GPL-2.0-only */
/* What systemd wants to hear from a service of Type=notify. */
#ifndef TIDEMARK_NOTIFY_H
#define TIDEMARK_NOTIFY_H

#include <linux/types.h>

/* Lines like READY=1; nothing happens where nobody listens. */
__attribute__((format(printf, 1, 2))) void notify(const char *format, ...);

/* How often WATCHDOG=1 is to be said, in ns; 0: nobody waits for it. */
__u64 notify_watchdog_ns(void);

#endif
