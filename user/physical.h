/* SPDX-License-Identifier: GPL-2.0-only */
/* Physical time for the kernel's clocks: how far CLOCK_REALTIME is from BOOTTIME. */
#ifndef TIDEMARK_PHYSICAL_H
#define TIDEMARK_PHYSICAL_H

#include "tidemark.h"

/*
 * Measures the offset and publishes it to the packet programs. A wrong or late one moves
 * accuracy only, never the order. Steps back of more than a millisecond are counted.
 */
void physical_publish(struct tidemark *t);

/* The same measurement: CLOCK_REALTIME - CLOCK_BOOTTIME in ns. */
__s64 physical_offset_ns(void);

__u64 physical_now_ns(void); /* CLOCK_REALTIME */
__u64 physical_monotonic_ns(void);

/* Ticks a second, at the tick `now` of tidemark_tick(): the unit of struct flow.last. */
__u32 physical_hz(const struct tidemark *t, __u32 now);

/*
 * A descriptor that becomes readable whenever somebody sets CLOCK_REALTIME, so that the
 * offset is published again at once. physical_rearm() after each.
 */
int physical_timer(void);
int physical_rearm(int fd);

#endif
