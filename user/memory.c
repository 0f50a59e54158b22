// SPDX-License-Identifier: GPL-2.0-only
/* What a daemon holds of memory once it has started. */
#define _GNU_SOURCE 1
#include <link.h>
#include <malloc.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"

void memory_begin(void)
{
	mallopt(M_ARENA_MAX, 1);
}

/* Only what cannot have been written to: the rest would come back as it is in the file. */
static int segments_drop(struct dl_phdr_info *info, size_t size, void *ctx)
{
	uintptr_t page = getpagesize(), from, to;

	(void)size, (void)ctx;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

		if (segment->p_type != PT_LOAD || segment->p_flags & PF_W)
			continue;
		from = (info->dlpi_addr + segment->p_vaddr + page - 1) & -page;
		to = (info->dlpi_addr + segment->p_vaddr + segment->p_filesz) & -page;
		if (from < to)
			madvise((void *)from, to - from, MADV_DONTNEED);
	}
	return 1; /* the program itself comes first */
}

void memory_give_back(void)
{
	malloc_trim(0);
	dl_iterate_phdr(segments_drop, NULL);
}
