// SPDX-License-Identifier: GPL-2.0-only
/* Physical time: CLOCK_REALTIME, told to the kernel as an offset from BOOTTIME. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdint.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "physical.h"

#define STEP_NS 1000000

static __s64 clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

__u64 physical_now_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

__u64 physical_monotonic_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/*
 * BPF can read BOOTTIME and not REALTIME, and TAI is only as good as the offset somebody
 * may have set. The narrowest of a few brackets: being scheduled away in one is common.
 */
__s64 physical_offset_ns(void)
{
	__s64 before, real, after, offset = 0, width = INT64_MAX;

	for (int i = 0; i < 5; i++) {
		before = clock_ns(CLOCK_BOOTTIME);
		real = clock_ns(CLOCK_REALTIME);
		after = clock_ns(CLOCK_BOOTTIME);
		if (after - before < width) {
			width = after - before;
			offset = real - (before + width / 2);
		}
	}
	return offset;
}

void physical_publish(struct tidemark *t)
{
	__s64 old = t->settings->realtime_offset_ns, now = physical_offset_ns();

	if (old && now < old - STEP_NS)
		t->settings->steps_back++;
	*(volatile __s64 *)&t->settings->realtime_offset_ns = now;
}

/*
 * How many ticks the kernel has a second it does not say; but we noted one when the
 * datapath was made. Among the rates Linux is built with, the nearest.
 */
__u32 physical_hz(const struct tidemark *t, __u32 now)
{
	static const __u32 rates[] = { 100, 250, 300, 1000 };
	__u64 ns = physical_monotonic_ns() - t->settings->began_ns;
	double rate = (__u32)(now - t->settings->began_jiffies) * 1e9 / (ns ? ns : 1), best = 1e9;
	__u32 hz = rates[0];

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		double off = rate > rates[i] ? rate / rates[i] : rates[i] / (rate + 1);

		if (off < best) {
			best = off;
			hz = rates[i];
		}
	}
	return hz;
}

int physical_rearm(int fd)
{
	const struct itimerspec never = { .it_value.tv_sec = INT32_MAX };
	uint64_t expired;

	if (read(fd, &expired, sizeof(expired)) < 0 && errno != ECANCELED && errno != EAGAIN)
		return -errno;
	if (timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL))
		return -errno;
	return 0;
}

int physical_timer(void)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK), err;

	if (fd < 0)
		return -errno;
	err = physical_rearm(fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}
