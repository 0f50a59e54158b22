// SPDX-License-Identifier: GPL-2.0-only
/* Expressions read: words, primitives, and what tcpdump lets one leave out. */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expr.h"
#include "expr_word.h"
#include "text.h"
#include "units.h"

#define DEPTH_MAX 200

/* What stands before a value, and holds for the values after it: `host a or b`. */
struct qualifiers {
	__u8 sides;
	enum expr_end end;
	bool both; /* src and dst */
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
};

/* ---- words --------------------------------------------------------------------------- */

static void advance(struct parser *p)
{
	const char *c = p->next;

	while (isspace((unsigned char)*c))
		c++;
	p->at = c;
	if (!strncmp(c, "&&", 2) || !strncmp(c, "||", 2))
		c += 2;
	else if (*c && strchr("()!&|", *c))
		c++;
	else
		while (*c && !isspace((unsigned char)*c) && !strchr("()!&|", *c))
			c++;
	p->len = (size_t)(c - p->at);
	p->next = c;
}

static bool is(const struct parser *p, const char *word)
{
	return p->len == strlen(word) && !memcmp(p->at, word, p->len);
}

static bool take(struct parser *p, const char *word)
{
	if (!is(p, word))
		return false;
	advance(p);
	return true;
}

static __attribute__((format(printf, 3, 4))) struct expr *fail_at(struct parser *p, const char *at,
								  const char *format, ...)
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

#define fail(p, ...) fail_at(p, (p)->at, __VA_ARGS__)

/* The word at hand, to be read as a value; false and said when there is none. */
static bool value(struct parser *p, const char *what, char *word, size_t size)
{
	if (!p->len || strchr("()!&|", *p->at)) {
		fail(p, "%s is missing here", what);
		return false;
	}
	if (p->len >= size) {
		fail(p, "this is too long for %s", what);
		return false;
	}
	memcpy(word, p->at, p->len);
	word[p->len] = 0;
	return true;
}

static bool number(struct parser *p, const char *what, __u64 most, __u64 *n)
{
	char word[32], *end;

	if (!value(p, what, word, sizeof(word)))
		return false;
	errno = 0;
	*n = strtoull(word, &end, 0);
	if (!isdigit((unsigned char)*word) || *end || errno || *n > most) {
		fail(p, "%s is a number up to %llu", what, (unsigned long long)most);
		return false;
	}
	advance(p);
	return true;
}

static bool number_follows(const struct parser *p)
{
	return p->len && isdigit((unsigned char)*p->at);
}

/* ---- nodes of the tree ----------------------------------------------------------------- */

static struct expr *make(struct parser *p, enum expr_kind kind, const char *at)
{
	struct expr *expr = calloc(1, sizeof(*expr));

	if (!expr)
		return fail_at(p, at, "not enough memory");
	expr->kind = kind;
	expr->column = (int)(at - p->text) + 1;
	return expr;
}

static struct expr *join(struct parser *p, enum expr_kind kind, struct expr *left,
			 struct expr *right)
{
	struct expr *expr = left && right ? make(p, kind, p->at) : NULL;

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

static struct expr *test(struct parser *p, const char *at, enum filter_code code)
{
	struct expr *expr = make(p, EXPR_TEST, at);

	if (expr) {
		expr->op.code = code;
		expr->op.sides = FILTER_ANY;
		expr->op.mask = ~0U;
	}
	return expr;
}

static struct expr *value_test(struct parser *p, const char *at, enum filter_field field, __u32 low,
			       __u32 high)
{
	struct expr *expr = test(p, at, FILTER_VALUE);

	if (expr) {
		expr->op.field = field;
		expr->op.low = low;
		expr->op.high = high;
	}
	return expr;
}

/* ---- primitives ------------------------------------------------------------------------ */

static struct expr *proto_test(struct parser *p, const char *at, const struct expr_proto *proto,
			       __u8 sides)
{
	struct expr *expr;

	if (proto->ethertype)
		return value_test(p, at, FILTER_ETHERTYPE, proto->ethertype, proto->ethertype);
	expr = value_test(p, at, FILTER_PROTO, proto->number, proto->number);
	if (expr) {
		expr->op.sides = sides;
		expr->op.flags = proto->family;
	}
	return expr;
}

/* One end's test, for the source, the destination or both, and of the protocol said before. */
static struct expr *ends(struct parser *p, const char *at, const struct qualifiers *q,
			 const struct filter_op *op)
{
	struct expr *expr = NULL, *leaf;
	bool ported = op->flags & FILTER_PORT;

	for (int i = 0; i <= q->both; i++) {
		leaf = test(p, at, FILTER_ENDPOINT);
		if (!leaf) {
			expr_free(expr);
			return NULL;
		}
		leaf->op = *op;
		leaf->op.code = FILTER_ENDPOINT;
		leaf->op.sides = q->sides;
		leaf->end = !q->both ? q->end : i ? EXPR_DESTINATION : EXPR_SOURCE;
		if (ported && q->proto && q->proto->number)
			leaf->op.proto = q->proto->number;
		expr = expr ? join(p, EXPR_AND, expr, leaf) : leaf;
	}
	if (!q->proto || (ported && q->proto->number))
		return expr;
	return join(p, EXPR_AND, proto_test(p, at, q->proto, q->sides), expr);
}

static struct expr *port_primitive(struct parser *p, const struct qualifiers *q)
{
	struct filter_op op = { .flags = FILTER_PORT };
	const char *at = p->at, *why;
	char word[64];

	if (!value(p, q->type == PORT ? "a port" : "a range of ports", word, sizeof(word)))
		return NULL;
	if (q->proto && q->proto->number && !flow_has_ports(q->proto->number))
		return fail(p, "%s has no ports", q->proto->name);
	why = expr_ports(word, q->type == PORTRANGE, &op.low, &op.high);
	if (why)
		return fail(p, "%s: %s", word, why);
	advance(p);
	return ends(p, at, q, &op);
}

/* 10.0.0.0/8, 10 (the same), 10.0.0.0 mask 255.0.0.0, an address. */
static struct expr *address_primitive(struct parser *p, const struct qualifiers *q)
{
	struct filter_op op = { .flags = FILTER_ADDRESS };
	const char *at = p->at, *why;
	char word[64], mask[64];
	bool net = q->type == NET || (q->type >= PROTO && memchr(p->at, '/', p->len));

	if (!value(p, net ? "a network" : "an address", word, sizeof(word)))
		return NULL;
	advance(p);
	if (net && take(p, "mask")) {
		if (!value(p, "a mask", mask, sizeof(mask)))
			return NULL;
		why = expr_net_mask(word, mask, &op);
		advance(p);
	} else {
		why = net ? expr_net(word, &op) : expr_address(word, &op);
	}
	if (why)
		return fail_at(p, at, "%s: %s", word, why);
	return ends(p, at, q, &op);
}

static struct expr *group(struct parser *p);

/* `ip proto 6`, `ether proto 0x88cc`, and either by name. */
static struct expr *number_of_proto(struct parser *p, const char *at, const struct qualifiers *q,
				    enum filter_field field)
{
	struct expr *expr;
	const char *why;
	char word[32];
	__u32 n;

	if (!value(p, "a protocol", word, sizeof(word)))
		return NULL;
	why = expr_proto(word, field == FILTER_ETHERTYPE, &n);
	if (why)
		return fail(p, "%s: %s", word, why);
	advance(p);
	expr = value_test(p, at, field, n, n);
	if (expr)
		expr->op.sides = q->sides;
	if (expr && q->proto)
		expr = join(p, EXPR_AND, proto_test(p, at, q->proto, q->sides), expr);
	return expr;
}

static struct expr *typed(struct parser *p, const struct qualifiers *q)
{
	p->last = *q;
	if (take(p, "(")) { /* port (80 or 443) */
		if (!expr_is_value(p->at, p->len) && !is(p, "(") && !is(p, "not"))
			return fail(p, "a value is missing here");
		return group(p);
	}
	if (q->type == PROTO && strspn(p->at, "0123456789") >= p->len)
		return number_of_proto(p, p->at, q, FILTER_PROTO);
	if (q->type == PORT || q->type == PORTRANGE)
		return port_primitive(p, q);
	return address_primitive(p, q);
}

static bool take_end(struct parser *p, struct qualifiers *q)
{
	struct parser ahead;
	bool source = is(p, "src");

	if (!source && !is(p, "dst"))
		return false;
	advance(p);
	q->end = source ? EXPR_SOURCE : EXPR_DESTINATION;
	/* src or dst, src and dst: unless what follows is another primitive. */
	ahead = *p;
	if (take(&ahead, "or") && take(&ahead, source ? "dst" : "src"))
		q->end = EXPR_EITHER;
	else if (ahead = *p, take(&ahead, "and") && take(&ahead, source ? "dst" : "src"))
		q->both = true;
	else
		return true;
	/* `src a or dst b` does not come here: there, a value stands in between. */
	advance(p);
	advance(p);
	return true;
}

static bool take_qualifier(struct parser *p, struct qualifiers *q)
{
	const struct expr_proto *proto;

	if (take_end(p, q))
		return true;
	if (take(p, "outer"))
		q->sides = FILTER_OUTER;
	else if (take(p, "inner"))
		q->sides = FILTER_INNER;
	else if (!q->proto && (proto = expr_proto_find(p->at, p->len)) && proto->leads) {
		q->proto = proto;
		advance(p);
	} else {
		return false;
	}
	return true;
}

static struct expr *qualified(struct parser *p)
{
	struct qualifiers q = { .sides = FILTER_ANY, .type = UNSAID };
	const char *at = p->at;
	bool any = false;

	while (take_qualifier(p, &q))
		any = true;
	if (take(p, "proto")) {
		p->last = q;
		p->last.type = PROTO;
		return number_of_proto(p, at, &q, FILTER_PROTO);
	}
	if (take(p, "host"))
		q.type = HOST;
	else if (take(p, "net"))
		q.type = NET;
	else if (take(p, "port"))
		q.type = PORT;
	else if (take(p, "portrange"))
		q.type = PORTRANGE;
	else if (!any && expr_is_value(p->at, p->len))
		return typed(p, &p->last); /* carried over */
	else if (q.end != EXPR_EITHER || q.both)
		; /* src a */
	else if (q.proto)
		return proto_test(p, at, q.proto, q.sides);
	else
		return any ? fail(p, "host, net, port or a protocol is missing here")
			   : fail(p, "`%.*s` is no word of an expression", (int)p->len, p->at);
	return typed(p, &q);
}

/* conn A:p B:p: in either direction, in either layer. */
static struct expr *conn_primitive(struct parser *p, const char *at)
{
	static const __u8 sides[][2] = { { FILTER_LOCAL, FILTER_REMOTE },
					 { FILTER_REMOTE, FILTER_LOCAL },
					 { FILTER_INNER_LOCAL, FILTER_INNER_REMOTE },
					 { FILTER_INNER_REMOTE, FILTER_INNER_LOCAL } };
	struct filter_op op[2] = {};
	struct expr *expr = NULL, *leaf[2], *both;
	const char *why;
	char word[64];

	for (int i = 0; i < 2; i++) {
		if (!value(p, "an endpoint, ADDRESS:PORT,", word, sizeof(word)))
			return NULL;
		why = expr_endpoint(word, &op[i]);
		if (why)
			return fail(p, "%s: %s", word, why);
		advance(p);
	}
	for (int s = 0; s < 4 && !p->failed; s++) {
		for (int i = 0; i < 2; i++) {
			leaf[i] = test(p, at, FILTER_ENDPOINT);
			if (!leaf[i])
				continue;
			leaf[i]->op = op[i];
			leaf[i]->op.code = FILTER_ENDPOINT;
			leaf[i]->op.sides = sides[s][i];
		}
		both = join(p, EXPR_AND, leaf[0], leaf[1]);
		expr = s ? join(p, EXPR_OR, expr, both) : both;
	}
	return expr;
}

/* ---- what tcpdump does not have ---------------------------------------------------------- */

static struct expr *tagged(struct parser *p, const char *at, enum filter_field field, __u32 flag,
			   __u64 most, const char *what)
{
	__u64 n;

	if (!number_follows(p))
		return value_test(p, at, field, flag, ~0U);
	if (!number(p, what, most, &n))
		return NULL;
	return value_test(p, at, field, flag | (__u32)n, flag | (__u32)n);
}

/* mark EXPERIMENT[/ACTIVITY]; mark alone: any. */
static struct expr *mark_primitive(struct parser *p, const char *at)
{
	unsigned experiment, activity = 0;
	struct expr *expr;
	char word[32];
	int end = 0, n;

	expr = value_test(p, at, FILTER_MARK, MARK_MARKED, MARK_MARKED);
	if (!expr || !number_follows(p)) {
		if (expr)
			expr->op.mask = MARK_MARKED;
		return expr;
	}
	if (!value(p, "a mark", word, sizeof(word)))
		goto out;
	n = sscanf(word, "%u%n/%u%n", &experiment, &end, &activity, &end);
	if (n < 1 || word[end] || experiment > MARK_EXPERIMENT_MAX ||
	    activity > MARK_ACTIVITY_MAX) {
		fail(p, "%s: a mark is EXPERIMENT or EXPERIMENT/ACTIVITY, up to %d/%d", word,
		     MARK_EXPERIMENT_MAX, MARK_ACTIVITY_MAX);
		goto out;
	}
	advance(p);
	expr->op.low |= mark_label(experiment, n == 2 ? activity : 0, 0);
	expr->op.high = expr->op.low;
	expr->op.mask =
		MARK_MARKED | mark_label(MARK_EXPERIMENT_MAX, n == 2 ? MARK_ACTIVITY_MAX : 0, 0);
	return expr;
out:
	expr_free(expr);
	return NULL;
}

static struct expr *named(struct parser *p, const char *at, enum expr_kind kind, const char *what,
			  int field)
{
	struct expr *expr;
	__u64 n;

	if (field >= 0 && number_follows(p) && strspn(p->at, "0123456789") == p->len) {
		if (!number(p, what, ~0U, &n))
			return NULL;
		return value_test(p, at, field, (__u32)n, (__u32)n);
	}
	expr = make(p, kind, at);
	if (expr && value(p, what, expr->name, sizeof(expr->name))) {
		advance(p);
		return expr;
	}
	expr_free(expr);
	return NULL;
}

static struct expr *comm_primitive(struct parser *p, const char *at)
{
	struct expr *expr = test(p, at, FILTER_COMM);
	char word[sizeof(((struct track *)0)->comm)] = "";

	if (expr && value(p, "a command's name of at most 15 letters", word, sizeof(word))) {
		advance(p);
		memcpy(expr->op.bytes, word, sizeof(word));
		memset(expr->op.bytes_mask, 0xff, sizeof(expr->op.bytes_mask));
		return expr;
	}
	expr_free(expr);
	return NULL;
}

static struct expr *range(struct parser *p, const char *at, enum expr_kind kind, __u64 from,
			  __u64 to)
{
	struct expr *expr = make(p, kind, at);

	if (expr) {
		expr->from_ns = from;
		expr->to_ns = to;
	}
	return expr;
}

/* One word, or two: `5m ago`, `2026-11-20 22:31`. */
static bool time_value(struct parser *p, __u64 *ns)
{
	char word[96], more[48];
	const char *at = p->at;

	if (!value(p, "a time", word, 48))
		return false;
	advance(p);
	if (take(p, "ago"))
		strcat(word, " ago");
	else if (p->len && p->len < sizeof(more) && memchr(p->at, ':', p->len) &&
		 strlen(word) == 10 && isdigit((unsigned char)*p->at)) {
		snprintf(more, sizeof(more), "T%.*s", (int)p->len, p->at);
		strcat(word, more);
		advance(p);
	}
	if (!expr_time(word, p->now_ns, ns))
		return true;
	fail_at(p, at,
		"%s: a time is `5m ago`, 2026-11-20, 2026-11-20T22:31:05Z or seconds since 1970",
		word);
	return false;
}

static struct expr *stamped(struct parser *p, const char *at, enum expr_kind kind)
{
	uint64_t stamp;
	char word[32];

	if (!value(p, "a stamp of 16 hexadecimal digits", word, sizeof(word)))
		return NULL;
	if (text_parse_stamp(word, &stamp) || !stamp)
		return fail(p, "%s: a stamp is 16 hexadecimal digits, as in `hlc`", word);
	advance(p);
	return range(p, at, kind, stamp, stamp);
}

/* STAMP or STAMP@NODE, for two nodes may have events of one stamp. */
static struct expr *causal(struct parser *p, const char *at, enum expr_kind kind)
{
	char word[EXPR_NAME_MAX + 17], *node;
	struct expr *expr;
	uint64_t stamp;

	if (!take(p, "of"))
		return fail(p, "`of` is missing here: past of STAMP, future of STAMP");
	if (!value(p, "a stamp of 16 hexadecimal digits", word, sizeof(word)))
		return NULL;
	node = strchr(word, '@');
	if (node)
		*node++ = 0;
	if (text_parse_stamp(word, &stamp) || !stamp)
		return fail(p, "%s: a stamp is 16 hexadecimal digits, as in `hlc`", word);
	if (node && !*node)
		return fail(p, "a node is missing behind the @");
	if (p->origins == EXPR_ORIGINS_MAX)
		return fail(p, "more than %d pasts and futures", EXPR_ORIGINS_MAX);
	advance(p);
	expr = range(p, at, kind, stamp, stamp);
	if (expr)
		expr->origin = p->origins++;
	if (expr && node)
		snprintf(expr->name, sizeof(expr->name), "%s", node);
	return expr;
}

static struct expr *primitive(struct parser *p)
{
	const struct qualifiers any = { .sides = FILTER_ANY };
	const char *at = p->at;
	__u64 n;

	if (take(p, "vlan"))
		return tagged(p, at, FILTER_VLAN, TRACK_TAGGED, 4095, "a VLAN");
	if (take(p, "mpls"))
		return tagged(p, at, FILTER_MPLS, TRACK_LABELLED, TRACK_LABELLED - 1, "a label");
	if (take(p, "vni"))
		return tagged(p, at, FILTER_VNI, TRACK_NUMBERED, TRACK_NUMBERED - 1, "a VNI");
	if (take(p, "mark"))
		return mark_primitive(p, at);
	if (take(p, "node"))
		return named(p, at, EXPR_NODE_NAME, "a node", FILTER_NODE);
	if (take(p, "device") || take(p, "ifname"))
		return named(p, at, EXPR_DEVICE_NAME, "a device", FILTER_DEVICE);
	if (take(p, "class"))
		return named(p, at, EXPR_CLASS_NAME, "a class", -1);
	if (take(p, "comm"))
		return comm_primitive(p, at);
	if (take(p, "conn"))
		return conn_primitive(p, at);
	if (take(p, "pid"))
		return number(p, "a process id", ~0U, &n) ? value_test(p, at, FILTER_PID, n, n)
							  : NULL;
	if (take(p, "before"))
		return time_value(p, &n) ? range(p, at, EXPR_TIME, 0, n ? n - 1 : 0) : NULL;
	if (take(p, "after"))
		return time_value(p, &n) ? range(p, at, EXPR_TIME, n, ~0ULL) : NULL;
	if (take(p, "less"))
		return number(p, "a length", ~0U, &n) ? range(p, at, EXPR_LENGTH, 0, n) : NULL;
	if (take(p, "greater"))
		return number(p, "a length", ~0U, &n) ? range(p, at, EXPR_LENGTH, n, ~0U) : NULL;
	if (take(p, "stamp"))
		return stamped(p, at, EXPR_STAMP);
	if (take(p, "past"))
		return causal(p, at, EXPR_PAST);
	if (take(p, "future"))
		return causal(p, at, EXPR_FUTURE);
	if (take(p, "ether")) {
		if (!take(p, "proto"))
			return fail(p, "of Ethernet only `ether proto` can be asked");
		return number_of_proto(p, at, &any, FILTER_ETHERTYPE);
	}
	return qualified(p);
}

/* ---- connectives: `and` and `or` bind alike, left to right, as in tcpdump ------------------- */

static struct expr *alternation(struct parser *p);

static struct expr *group(struct parser *p)
{
	struct expr *expr = alternation(p);

	if (!expr || take(p, ")"))
		return expr;
	expr_free(expr);
	return fail(p, "`)` is missing here");
}

static struct expr *factor(struct parser *p)
{
	const char *at = p->at;
	struct expr *expr, *negation;

	if (++p->depth > DEPTH_MAX)
		return fail(p, "nested too deeply");
	if (take(p, "not") || take(p, "!")) {
		expr = factor(p);
		negation = expr ? make(p, EXPR_NOT, at) : NULL;
		if (negation)
			negation->left = expr;
		else
			expr_free(expr);
		expr = negation;
	} else if (take(p, "(")) {
		expr = group(p);
	} else if (!p->len) {
		expr = fail(p, "the expression ends too early");
	} else {
		expr = primitive(p);
	}
	p->depth--;
	return expr;
}

static struct expr *alternation(struct parser *p)
{
	struct expr *expr = factor(p);
	enum expr_kind kind;

	while (expr) {
		if (take(p, "and") || take(p, "&&"))
			kind = EXPR_AND;
		else if (take(p, "or") || take(p, "||"))
			kind = EXPR_OR;
		else
			return expr;
		expr = join(p, kind, expr, factor(p));
	}
	return NULL;
}

int expr_parse(const char *text, __u64 now_ns, struct expr **expr, struct expr_error *error)
{
	struct parser p = { .text = text,
			    .next = text,
			    .now_ns = now_ns,
			    .last = { .sides = FILTER_ANY, .type = UNSAID },
			    .error = error };

	*expr = NULL;
	advance(&p);
	if (!p.len)
		return 0;
	*expr = alternation(&p);
	if (*expr && p.len) {
		fail(&p, "`and` or `or` is missing here");
		expr_free(*expr);
		*expr = NULL;
	}
	return *expr ? 0 : -EINVAL;
}
