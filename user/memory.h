/* SPDX-License-Identifier: GPL-2.0-only */
/* What a daemon holds of memory once it has started. */
#ifndef TIDEMARK_MEMORY_H
#define TIDEMARK_MEMORY_H

/* Before there are threads: one heap for all of them. None of them allocates much. */
void memory_begin(void);

/*
 * Loading took much that is never needed again: of the heap, and of the program itself, whose
 * embedded objects and one-time code stay mapped. What is needed after all is read back from the
 * page cache, where it stays.
 */
void memory_give_back(void);

#endif
