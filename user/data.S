/* SPDX-License-Identifier: GPL-2.0-only */
/* One file as bytes in the program; the Makefile gives NAME and FILE. */

#define JOIN(a, b) a##b
#define SYMBOL(name, part) JOIN(name, part)

	.section .rodata
	.global SYMBOL(NAME, _start)
	.global SYMBOL(NAME, _end)
SYMBOL(NAME, _start):
	.incbin FILE
SYMBOL(NAME, _end):
	.byte 0		/* so that it can also be read as a string */
	.section .note.GNU-stack, "", %progbits
