/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the fixed-width types come from, on either side. */
#ifndef TIDEMARK_TYPES_H
#define TIDEMARK_TYPES_H

#ifdef __bpf__
#include "vmlinux.h"
#else
#include <linux/types.h>
#endif

#endif
