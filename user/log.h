/* SPDX-License-Identifier: GPL-2.0-only */
/* Words for people, on stderr: `tidemark: COMMAND: OBJECT: WHAT; REMEDY`. */
#ifndef TIDEMARK_LOG_H
#define TIDEMARK_LOG_H

#include <stdarg.h>

#include <bpf/libbpf.h>

/* Said in front of every message from now on; NULL for none. */
void log_command(const char *name);

/* 0 errors, warnings and news; 1 (`-v`) also what we do; 2 (`-vv`) also libbpf and the verifier. */
void log_level(int level);

/* A message is one line without its newline, `OBJECT: WHAT; REMEDY`. Bytes from elsewhere may be in
 * it: they are made safe for a terminal here.
 */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* How far something is: one line, written over by the next and by any message. Nothing appears in
 * the first two seconds, nor where stderr is not a terminal, so call it as often as is convenient.
 */
void log_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_progress_end(void);

/* For libbpf_set_print(). libbpf's warnings are silent below -vv too: whoever called it knows what
 * they mean for the user, and says so once.
 */
int log_libbpf(enum libbpf_print_level level, const char *format, va_list args);

#endif
