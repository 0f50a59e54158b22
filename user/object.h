/* SPDX-License-Identifier: GPL-2.0-only */
/* BPF objects in the program: packed, and unpacked for as long as it takes to open one. */
#ifndef TIDEMARK_OBJECT_H
#define TIDEMARK_OBJECT_H

#include <stddef.h>

/* What lies between the two, unpacked: to be freed. NULL and errno. */
void *object_unpack(const unsigned char *from, const unsigned char *to, size_t *size);

/*
 * The end of a skeleton that bpftool has made: where it would have the object itself, which is
 * four times the size. libbpf has copied all it needs once an object is open.
 */
#define OBJECT(name)                                                                        \
	extern const unsigned char data_##name##_zst_start[], data_##name##_zst_end[];      \
                                                                                            \
	static inline const void *name##_bpf__elf_bytes(size_t *size)                       \
	{                                                                                   \
		return object_unpack(data_##name##_zst_start, data_##name##_zst_end, size); \
	}                                                                                   \
                                                                                            \
	static inline struct name##_bpf *name##_bpf_unpack(void)                            \
	{                                                                                   \
		struct name##_bpf *skel = name##_bpf__open();                               \
                                                                                            \
		if (skel) {                                                                 \
			free((void *)skel->skeleton->data);                                 \
			skel->skeleton->data = NULL;                                        \
		}                                                                           \
		return skel;                                                                \
	}

#endif
