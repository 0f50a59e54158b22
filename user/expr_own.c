// SPDX-License-Identifier: GPL-2.0-only
/* Expressions read: tags, marks, names, times, stamps, which tcpdump does not have. */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "expr_parser.h"
#include "registry.h"
#include "text.h"

struct expr *parser_tagged(struct parser *p, const char *at, enum filter_field field, __u32 flag,
			   __u64 most, const char *what)
{
	__u64 n;

	if (p->len && !strchr("()!&|", *p->at) && !parser_is(p, "and") && !parser_is(p, "or") &&
	    !parser_number_follows(p))
		return parser_fail(p,
				   "%s is a number up to %llu, or left out for any; before another "
				   "word, `and` or `or` is missing",
				   what, (unsigned long long)most);
	if (!parser_number_follows(p))
		return parser_value_test(p, at, field, flag, ~0U);
	if (!parser_number(p, what, most, &n))
		return NULL;
	return parser_value_test(p, at, field, flag | (__u32)n, flag | (__u32)n);
}

static const struct registry *registry_get(struct parser *p)
{
	char why[128];

	if (!p->registry) {
		p->registry = registry_open(NULL, why, sizeof(why));
		if (!p->registry)
			parser_fail(p, "%s: %s", REGISTRY_FILE, why);
	}
	return p->registry;
}

/* EXPERIMENT[/ACTIVITY], each a number or its name in the registry. */
static bool mark_read(struct parser *p, char *word, __u32 *label, __u32 *mask)
{
	unsigned experiment, activity = 0;
	char *slash = strchr(word, '/'), why[160];
	const struct registry *names = registry_get(p);

	if (!names)
		return false;
	if (slash)
		*slash++ = 0;
	if (registry_experiment(names, word, &experiment, why, sizeof(why))) {
		parser_fail(p,
			    "%s: no such experiment; a mark is EXPERIMENT or EXPERIMENT/ACTIVITY, "
			    "numbers up to %d/%d or names in the registry",
			    word, MARK_EXPERIMENT_MAX, MARK_ACTIVITY_MAX);
		return false;
	}
	if (slash && registry_activity(names, experiment, slash, &activity, why, sizeof(why))) {
		parser_fail(p,
			    "%s: no such activity of %s; a number up to %d, or a name in the "
			    "registry (with blanks: \"%s/a name\")",
			    slash, word, MARK_ACTIVITY_MAX, word);
		return false;
	}
	*label = mark_label(experiment, activity, 0);
	*mask = mark_label(MARK_EXPERIMENT_MAX, slash ? MARK_ACTIVITY_MAX : 0, 0);
	return true;
}

/* mark EXPERIMENT[/ACTIVITY]; mark alone: any. */
struct expr *parser_mark(struct parser *p, const char *at)
{
	struct expr *expr = parser_value_test(p, at, FILTER_MARK, MARK_MARKED, MARK_MARKED);
	char word[2 * REGISTRY_NAME_MAX + 2];
	__u32 label = 0, mask = 0;

	if (!expr)
		return NULL;
	if (p->len && !strchr("()!&|", *p->at) && !parser_is(p, "and") && !parser_is(p, "or")) {
		if (!parser_value(p, "a mark", word, sizeof(word)) ||
		    !mark_read(p, word, &label, &mask)) {
			expr_free(expr);
			return NULL;
		}
		parser_advance(p);
	}
	expr->op.low |= label;
	expr->op.high = expr->op.low;
	expr->op.mask = MARK_MARKED | mask;
	return expr;
}

struct expr *parser_named(struct parser *p, const char *at, enum expr_kind kind, const char *what,
			  int field)
{
	struct expr *expr;
	__u64 n;

	if (field >= 0 && parser_number_follows(p) && strspn(p->at, "0123456789") == p->len) {
		if (!parser_number(p, what, ~0U, &n))
			return NULL;
		return parser_value_test(p, at, field, (__u32)n, (__u32)n);
	}
	expr = parser_make(p, kind, at);
	if (expr && parser_value(p, what, expr->name, sizeof(expr->name))) {
		parser_advance(p);
		return expr;
	}
	expr_free(expr);
	return NULL;
}

struct expr *parser_comm(struct parser *p, const char *at)
{
	struct expr *expr = parser_test(p, at, FILTER_COMM);
	char word[sizeof(((struct track *)0)->comm)] = "";

	if (expr && parser_value(p, "a command's name of at most 15 letters", word, sizeof(word))) {
		parser_advance(p);
		memcpy(expr->op.bytes, word, sizeof(word));
		memset(expr->op.bytes_mask, 0xff, sizeof(expr->op.bytes_mask));
		return expr;
	}
	expr_free(expr);
	return NULL;
}

struct expr *parser_range(struct parser *p, const char *at, enum expr_kind kind, __u64 from,
			  __u64 to)
{
	struct expr *expr = parser_make(p, kind, at);

	if (expr) {
		expr->from_ns = from;
		expr->to_ns = to;
	}
	return expr;
}

/* One word, or two: `5m ago`, `2026-11-20 22:31`. */
bool parser_time(struct parser *p, __u64 *ns)
{
	char word[96], more[48];
	const char *at = p->at;

	if (!parser_value(p, "a time", word, 48))
		return false;
	parser_advance(p);
	if (parser_take(p, "ago"))
		strcat(word, " ago");
	else if (p->len && p->len < sizeof(more) && memchr(p->at, ':', p->len) &&
		 strlen(word) == 10 && isdigit((unsigned char)*p->at)) {
		snprintf(more, sizeof(more), "T%.*s", (int)p->len, p->at);
		strcat(word, more);
		parser_advance(p);
	}
	if (!expr_time(word, p->now_ns, ns))
		return true;
	parser_fail_at(
		p, at,
		"%s: a time is `5m ago`, 2026-11-20, 2026-11-20T22:31:05Z or seconds since 1970",
		word);
	return false;
}

struct expr *parser_stamped(struct parser *p, const char *at, enum expr_kind kind)
{
	uint64_t stamp;
	char word[32];

	if (!parser_value(p, "a stamp of 16 hexadecimal digits", word, sizeof(word)))
		return NULL;
	if (text_parse_stamp(word, &stamp) || !stamp)
		return parser_fail(p, "%s: a stamp is 16 hexadecimal digits, as in `hlc`", word);
	parser_advance(p);
	return parser_range(p, at, kind, stamp, stamp);
}

/* STAMP or STAMP@NODE, for two nodes may have events of one stamp. */
struct expr *parser_causal(struct parser *p, const char *at, enum expr_kind kind)
{
	char word[EXPR_NAME_MAX + 17], *node;
	struct expr *expr;
	uint64_t stamp;

	if (!parser_take(p, "of"))
		return parser_fail(p, "`of` is missing here: past of STAMP, future of STAMP");
	if (!parser_value(p, "a stamp of 16 hexadecimal digits", word, sizeof(word)))
		return NULL;
	node = strchr(word, '@');
	if (node)
		*node++ = 0;
	if (text_parse_stamp(word, &stamp) || !stamp)
		return parser_fail(p, "%s: a stamp is 16 hexadecimal digits, as in `hlc`", word);
	if (node && !*node)
		return parser_fail(p, "a node is missing behind the @");
	if (p->origins == EXPR_ORIGINS_MAX)
		return parser_fail(p, "more than %d pasts and futures", EXPR_ORIGINS_MAX);
	parser_advance(p);
	expr = parser_range(p, at, kind, stamp, stamp);
	if (expr)
		expr->origin = p->origins++;
	if (expr && node)
		snprintf(expr->name, sizeof(expr->name), "%s", node);
	return expr;
}
