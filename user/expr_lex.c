// SPDX-License-Identifier: GPL-2.0-only
/* Expressions cut into words, and the trees that are made of them. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expr_parser.h"

/* ---- words --------------------------------------------------------------------------- */

void parser_advance(struct parser *p)
{
	const char *c = p->next;
	bool quoted = false; /* as names may have blanks in them */

	while (isspace((unsigned char)*c))
		c++;
	p->at = c;
	if (!strncmp(c, "&&", 2) || !strncmp(c, "||", 2))
		c += 2;
	else if (*c && strchr("()!&|", *c))
		c++;
	else
		for (; *c && (quoted || (!isspace((unsigned char)*c) && !strchr("()!&|", *c))); c++)
			quoted ^= *c == '"';
	if (quoted)
		parser_fail(p, "the quote that begins here does not end");
	p->len = (size_t)(c - p->at);
	p->next = c;
}

bool parser_is(const struct parser *p, const char *word)
{
	return p->len == strlen(word) && !memcmp(p->at, word, p->len);
}

bool parser_take(struct parser *p, const char *word)
{
	if (!parser_is(p, word))
		return false;
	parser_advance(p);
	return true;
}

struct expr *parser_fail_at(struct parser *p, const char *at, const char *format, ...)
{
	va_list args;

	if (p->failed) /* what went wrong first is what is wrong */
		return NULL;
	p->failed = true;
	p->error->column = (int)(at - p->text) + 1;
	va_start(args, format);
	vsnprintf(p->error->why, sizeof(p->error->why), format, args);
	va_end(args);
	return NULL;
}

/* The word at hand, to be read as a value; false and said when there is none. */
bool parser_value(struct parser *p, const char *what, char *word, size_t size)
{
	size_t n = 0;

	if (!p->len || strchr("()!&|", *p->at)) {
		parser_fail(p, "%s is missing here", what);
		return false;
	}
	if (p->len >= size) {
		parser_fail(p, "this is too long for %s", what);
		return false;
	}
	for (size_t i = 0; i < p->len; i++)
		if (p->at[i] != '"')
			word[n++] = p->at[i];
	word[n] = 0;
	return true;
}

bool parser_number(struct parser *p, const char *what, __u64 most, __u64 *n)
{
	char word[32], *end;

	if (!parser_value(p, what, word, sizeof(word)))
		return false;
	errno = 0;
	*n = strtoull(word, &end, 0);
	if (!isdigit((unsigned char)*word) || *end || errno || *n > most) {
		parser_fail(p, "%s is a number up to %llu", what, (unsigned long long)most);
		return false;
	}
	parser_advance(p);
	return true;
}

bool parser_number_follows(const struct parser *p)
{
	return p->len && isdigit((unsigned char)*p->at);
}

/* ---- nodes of the tree ----------------------------------------------------------------- */

struct expr *parser_make(struct parser *p, enum expr_kind kind, const char *at)
{
	struct expr *expr = calloc(1, sizeof(*expr));

	if (!expr)
		return parser_fail_at(p, at, "not enough memory");
	expr->kind = kind;
	expr->column = (int)(at - p->text) + 1;
	return expr;
}

struct expr *parser_join(struct parser *p, enum expr_kind kind, struct expr *left,
			 struct expr *right)
{
	struct expr *expr = left && right ? parser_make(p, kind, p->at) : NULL;

	if (!expr) {
		expr_free(left);
		expr_free(right);
		return NULL;
	}
	expr->column = left->column;
	expr->left = left;
	expr->right = right;
	return expr;
}

struct expr *parser_test(struct parser *p, const char *at, enum filter_code code)
{
	struct expr *expr = parser_make(p, EXPR_TEST, at);

	if (expr) {
		expr->op.code = code;
		expr->op.sides = FILTER_ANY;
		expr->op.mask = ~0U;
	}
	return expr;
}

struct expr *parser_value_test(struct parser *p, const char *at, enum filter_field field, __u32 low,
			       __u32 high)
{
	struct expr *expr = parser_test(p, at, FILTER_VALUE);

	if (expr) {
		expr->op.field = field;
		expr->op.low = low;
		expr->op.high = high;
	}
	return expr;
}
