/* SPDX-License-Identifier: GPL-2.0-only */
/* For the readers of expressions: the word at hand, and trees of what was read. */
#ifndef TIDEMARK_EXPR_PARSER_H
#define TIDEMARK_EXPR_PARSER_H

#include "expr.h"
#include "expr_word.h"

struct registry;

/* What stands before a value, and holds for the values after it: `host a or b`. */
struct qualifiers {
	__u8 sides;
	enum expr_end end;
	bool both;     /* src and dst */
	bool directed; /* any of these was said */
	const struct expr_proto *proto;
	enum type { HOST, NET, PORT, PORTRANGE, PROTO, UNSAID } type;
};

struct parser {
	const char *text, *next; /* the word at hand begins at `at` */
	const char *at;
	size_t len;
	__u64 now_ns;
	int depth;
	unsigned origins;
	struct qualifiers last;
	struct expr_error *error;
	bool failed;
	struct registry *registry; /* opened for the first name of a mark */
};

void parser_advance(struct parser *p);
bool parser_is(const struct parser *p, const char *word);
bool parser_take(struct parser *p, const char *word);

/* Always NULL. What went wrong first is what is said. */
__attribute__((format(printf, 3, 4))) struct expr *parser_fail_at(struct parser *p, const char *at,
								  const char *format, ...);
#define parser_fail(p, ...) parser_fail_at(p, (p)->at, __VA_ARGS__)

/* The word at hand, to be read as a value; false and said when there is none. */
bool parser_value(struct parser *p, const char *what, char *word, size_t size);
bool parser_number(struct parser *p, const char *what, __u64 most, __u64 *n);
bool parser_number_follows(const struct parser *p);

/* Nodes of the tree; NULL when there is no memory, and said. */
struct expr *parser_make(struct parser *p, enum expr_kind kind, const char *at);
struct expr *parser_join(struct parser *p, enum expr_kind kind, struct expr *left,
			 struct expr *right);
struct expr *parser_test(struct parser *p, const char *at, enum filter_code code);
struct expr *parser_value_test(struct parser *p, const char *at, enum filter_field field, __u32 low,
			       __u32 high);

/* What tcpdump does not have, where its first word was at `at` and is behind us. */
struct expr *parser_tagged(struct parser *p, const char *at, enum filter_field field, __u32 flag,
			   __u64 most, const char *what);
struct expr *parser_mark(struct parser *p, const char *at);
/* By name, or, if `field` is not -1, by number. */
struct expr *parser_named(struct parser *p, const char *at, enum expr_kind kind, const char *what,
			  int field);
struct expr *parser_comm(struct parser *p, const char *at);
struct expr *parser_range(struct parser *p, const char *at, enum expr_kind kind, __u64 from,
			  __u64 to);
bool parser_time(struct parser *p, __u64 *ns);
struct expr *parser_stamped(struct parser *p, const char *at, enum expr_kind kind);
struct expr *parser_causal(struct parser *p, const char *at, enum expr_kind kind);

#endif
