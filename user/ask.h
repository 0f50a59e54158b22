/* SPDX-License-Identifier: GPL-2.0-only */
/* What is asked of a daemon about its record, and the frames of its answer. */
#ifndef TIDEMARK_ASK_H
#define TIDEMARK_ASK_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define QUERY_PORT 9465
#define QUERY_SOCKET "/run/tidemark/query"
#define ASK_TEXT_MOST 4096 /* of an expression */
#define ASK_LINE_MOST 32768

enum ask_what { ASK_QUERY, ASK_LIST, ASK_CANCEL };

/* The answer as: */
#define ASK_FORMATS(X) \
	X(table)       \
	X(json)        \
	X(pcapng)      \
	X(count)       \
	X(flows)       \
	X(flows_json)
enum ask_format {
#define X(name) ASK_##name,
	ASK_FORMATS(X)
#undef X
};
extern const char *const ask_formats[];

struct ask {
	enum ask_what what;
	enum ask_format format;
	char text[ASK_TEXT_MOST + 1];
	bool follow;
	char by[8], since[64], until[64]; /* as the options; empty: not given */
	__u64 limit;			  /* 0: none */
	__u32 id;			  /* to be cancelled */
};

/* -EINVAL: no such format. */
int ask_format(const char *name, enum ask_format *format);

/* A line of JSON, with its newline; to be freed. NULL: the expression is not UTF-8. */
char *ask_print(const struct ask *ask);

/* Any bytes. -EINVAL, and `words` says why. */
int ask_parse(const char *line, size_t len, struct ask *ask, char *words, size_t size);

/* HOST[:PORT], [HOST]:PORT, HOST being an address, or unix:PATH. -EINVAL. */
int query_address_parse(const char *text, struct sockaddr_storage *at, socklen_t *len);

/*
 * An answer is frames: data as they would be on stdout, words as on stderr, and at the end
 * the exit status, a byte. Without that the answer is cut short.
 */
#define FRAME_DATA 'd'
#define FRAME_WORDS 'w'
#define FRAME_END 'e'
#define FRAME_HEAD 5
#define FRAME_MOST (64 << 10)

void frame_head(unsigned char head[FRAME_HEAD], char kind, __u32 len);

/* -EINVAL: no frame of ours. */
int frame_read(const unsigned char head[FRAME_HEAD], char *kind, __u32 *len);

#endif
