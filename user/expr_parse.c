// SPDX-License-Identifier: GPL-2.0-only
/* Expressions read: words, primitives, and what tcpdump lets one leave out. */
#define _GNU_SOURCE 1
#include <ctype.h>
#include <errno.h>
#include <net/ethernet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expr_parser.h"
#include "registry.h"

#define DEPTH_MAX 200

/* ---- primitives ------------------------------------------------------------------------ */

static struct expr *proto_test(struct parser *p, const char *at, const struct expr_proto *proto,
			       __u8 sides)
{
	struct expr *expr;

	if (proto->ethertype)
		return parser_value_test(p, at, FILTER_ETHERTYPE, proto->ethertype,
					 proto->ethertype);
	expr = parser_value_test(p, at, FILTER_PROTO, proto->number, proto->number);
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
		leaf = parser_test(p, at, FILTER_ENDPOINT);
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
		expr = expr ? parser_join(p, EXPR_AND, expr, leaf) : leaf;
	}
	if (!q->proto || (ported && q->proto->number))
		return expr;
	return parser_join(p, EXPR_AND, proto_test(p, at, q->proto, q->sides), expr);
}

static struct expr *port_primitive(struct parser *p, const struct qualifiers *q)
{
	struct filter_op op = { .flags = FILTER_PORT };
	const char *at = p->at, *why;
	char word[64];

	if (!parser_value(p, q->type == PORT ? "a port" : "a range of ports", word, sizeof(word)))
		return NULL;
	if (q->proto && (q->proto->number ? !flow_has_ports(q->proto->number)
					  : q->proto->ethertype == ETHERTYPE_ARP))
		return parser_fail(p, "%s has no ports", q->proto->name);
	why = expr_ports(word, q->type == PORTRANGE, &op.low, &op.high);
	if (why)
		return parser_fail(p, "%s: %s", word, why);
	parser_advance(p);
	return ends(p, at, q, &op);
}

/* 10.0.0.0/8, 10 (the same), 10.0.0.0 mask 255.0.0.0, an address. */
static struct expr *address_primitive(struct parser *p, const struct qualifiers *q)
{
	struct filter_op op = { .flags = FILTER_ADDRESS };
	const char *at = p->at, *why;
	char word[64], mask[64];
	bool net = q->type == NET || (q->type >= PROTO && memchr(p->at, '/', p->len));

	if (!parser_value(p, net ? "a network" : "an address", word, sizeof(word)))
		return NULL;
	parser_advance(p);
	if (net && parser_take(p, "mask")) {
		if (!parser_value(p, "a mask", mask, sizeof(mask)))
			return NULL;
		why = expr_net_mask(word, mask, &op);
		parser_advance(p);
	} else {
		why = net ? expr_net(word, &op) : expr_address(word, &op);
	}
	if (why)
		return parser_fail_at(p, at, "%s: %s", word, why);
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

	if (!parser_value(p, "a protocol", word, sizeof(word)))
		return NULL;
	why = expr_proto(word, field == FILTER_ETHERTYPE, &n);
	if (why)
		return parser_fail(p, "%s: %s", word, why);
	parser_advance(p);
	expr = parser_value_test(p, at, field, n, n);
	if (expr)
		expr->op.sides = q->sides;
	if (expr && q->proto)
		expr = parser_join(p, EXPR_AND, proto_test(p, at, q->proto, q->sides), expr);
	return expr;
}

static struct expr *typed(struct parser *p, const struct qualifiers *q)
{
	p->last = *q;
	if (parser_take(p, "(")) { /* port (80 or 443) */
		if (!expr_is_value(p->at, p->len) && !parser_is(p, "(") && !parser_is(p, "not"))
			return parser_fail(p, "a value is missing here");
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
	bool source = parser_is(p, "src");

	if (!source && !parser_is(p, "dst"))
		return false;
	parser_advance(p);
	q->directed = true;
	q->end = source ? EXPR_SOURCE : EXPR_DESTINATION;
	/* src or dst, src and dst: unless what follows is another primitive. */
	ahead = *p;
	if (parser_take(&ahead, "or") && parser_take(&ahead, source ? "dst" : "src"))
		q->end = EXPR_EITHER;
	else if (ahead = *p,
		 parser_take(&ahead, "and") && parser_take(&ahead, source ? "dst" : "src"))
		q->both = true;
	else
		return true;
	/* `src a or dst b` does not come here: there, a value stands in between. */
	parser_advance(p);
	parser_advance(p);
	return true;
}

static bool take_qualifier(struct parser *p, struct qualifiers *q)
{
	const struct expr_proto *proto;

	if (take_end(p, q))
		return true;
	if (parser_take(p, "outer"))
		q->sides = FILTER_OUTER;
	else if (parser_take(p, "inner"))
		q->sides = FILTER_INNER;
	else if (!q->proto && (proto = expr_proto_find(p->at, p->len)) && proto->leads) {
		q->proto = proto;
		parser_advance(p);
	} else {
		return false;
	}
	return true;
}

/* What may not begin a primitive, and what was probably meant. */
static struct expr *no_word(struct parser *p)
{
	char word[16] = "";

	if (!p->len || strchr(")&|", *p->at) || parser_is(p, "and") || parser_is(p, "or"))
		return parser_fail(p, "what to look for is missing here: tcp, host 10.0.0.2, ...");
	for (size_t i = 0; i < p->len && i < sizeof(word) - 1; i++)
		word[i] = (char)tolower((unsigned char)p->at[i]);
	if (p->len < sizeof(word) && memcmp(word, p->at, p->len))
		return parser_fail(p,
				   "`%.*s` is no word of an expression: all of them are in lower "
				   "case, `%s`",
				   (int)p->len, p->at, word);
	if (memchr(p->at, '[', p->len))
		return parser_fail(p,
				   "`%.*s`: bytes cannot be asked for; write them with -w and "
				   "let tcpdump or tshark look",
				   (int)p->len, p->at);
	return parser_fail(p,
			   "`%.*s` is no word of an expression; `tidemark query --help` has them",
			   (int)p->len, p->at);
}

static struct expr *qualified(struct parser *p)
{
	struct qualifiers q = { .sides = FILTER_ANY, .type = UNSAID };
	const char *at = p->at;
	bool any = false;

	while (take_qualifier(p, &q))
		any = true;
	if (parser_take(p, "proto")) {
		p->last = q;
		p->last.type = PROTO;
		return number_of_proto(p, at, &q, FILTER_PROTO);
	}
	if (parser_take(p, "host"))
		q.type = HOST;
	else if (parser_take(p, "net"))
		q.type = NET;
	else if (parser_take(p, "port"))
		q.type = PORT;
	else if (parser_take(p, "portrange"))
		q.type = PORTRANGE;
	else if (!any && expr_is_value(p->at, p->len))
		return typed(p, &p->last); /* carried over */
	else if (q.directed)
		; /* src a, src or dst a */
	else if (q.proto)
		return proto_test(p, at, q.proto, q.sides);
	else
		return any ? parser_fail(p, "host, net, port or a protocol is missing here")
			   : no_word(p);
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
		if (!parser_value(p, "an endpoint, ADDRESS:PORT,", word, sizeof(word)))
			return NULL;
		why = expr_endpoint(word, &op[i]);
		if (why)
			return parser_fail(p, "%s: %s", word, why);
		parser_advance(p);
	}
	for (int s = 0; s < 4 && !p->failed; s++) {
		for (int i = 0; i < 2; i++) {
			leaf[i] = parser_test(p, at, FILTER_ENDPOINT);
			if (!leaf[i])
				continue;
			leaf[i]->op = op[i];
			leaf[i]->op.code = FILTER_ENDPOINT;
			leaf[i]->op.sides = sides[s][i];
		}
		both = parser_join(p, EXPR_AND, leaf[0], leaf[1]);
		expr = s ? parser_join(p, EXPR_OR, expr, both) : both;
	}
	return expr;
}

static struct expr *primitive(struct parser *p)
{
	const struct qualifiers any = { .sides = FILTER_ANY };
	const char *at = p->at;
	__u64 n;

	if (parser_take(p, "vlan"))
		return parser_tagged(p, at, FILTER_VLAN, TRACK_TAGGED, 4095, "a VLAN");
	if (parser_take(p, "mpls"))
		return parser_tagged(p, at, FILTER_MPLS, TRACK_LABELLED, TRACK_LABELLED - 1,
				     "a label");
	if (parser_take(p, "vni"))
		return parser_tagged(p, at, FILTER_VNI, TRACK_NUMBERED, TRACK_NUMBERED - 1,
				     "a VNI");
	if (parser_take(p, "mark"))
		return parser_mark(p, at);
	if (parser_take(p, "node"))
		return parser_named(p, at, EXPR_NODE_NAME, "a node", FILTER_NODE);
	if (parser_take(p, "device") || parser_take(p, "ifname"))
		return parser_named(p, at, EXPR_DEVICE_NAME, "a device", FILTER_DEVICE);
	if (parser_take(p, "class"))
		return parser_named(p, at, EXPR_CLASS_NAME, "a class", -1);
	if (parser_take(p, "comm"))
		return parser_comm(p, at);
	if (parser_take(p, "conn"))
		return conn_primitive(p, at);
	if (parser_take(p, "pid"))
		return parser_number(p, "a process id", ~0U, &n)
			       ? parser_value_test(p, at, FILTER_PID, n, n)
			       : NULL;
	if (parser_take(p, "before"))
		return parser_time(p, &n) ? parser_range(p, at, EXPR_TIME, 0, n ? n - 1 : 0) : NULL;
	if (parser_take(p, "after"))
		return parser_time(p, &n) ? parser_range(p, at, EXPR_TIME, n, ~0ULL) : NULL;
	if (parser_take(p, "less"))
		return parser_number(p, "a length", ~0U, &n)
			       ? parser_range(p, at, EXPR_LENGTH, 0, n)
			       : NULL;
	if (parser_take(p, "greater"))
		return parser_number(p, "a length", ~0U, &n)
			       ? parser_range(p, at, EXPR_LENGTH, n, ~0U)
			       : NULL;
	if (parser_take(p, "stamp"))
		return parser_stamped(p, at, EXPR_STAMP);
	if (parser_take(p, "past"))
		return parser_causal(p, at, EXPR_PAST);
	if (parser_take(p, "future"))
		return parser_causal(p, at, EXPR_FUTURE);
	if (parser_take(p, "ether")) {
		if (!parser_take(p, "proto"))
			return parser_fail(p, "of Ethernet only `ether proto` can be asked: MAC "
					      "addresses are in no index");
		return number_of_proto(p, at, &any, FILTER_ETHERTYPE);
	}
	return qualified(p);
}

/* ---- connectives: `and` and `or` bind alike, left to right, as in tcpdump ------------------- */

static struct expr *alternation(struct parser *p);

static struct expr *group(struct parser *p)
{
	struct expr *expr = alternation(p);

	if (!expr || parser_take(p, ")"))
		return expr;
	expr_free(expr);
	return parser_fail(p, "`)` is missing here");
}

static struct expr *factor(struct parser *p)
{
	const char *at = p->at;
	struct expr *expr, *negation;

	if (++p->depth > DEPTH_MAX)
		return parser_fail(p, "nested too deeply");
	if (parser_take(p, "not") || parser_take(p, "!")) {
		expr = factor(p);
		negation = expr ? parser_make(p, EXPR_NOT, at) : NULL;
		if (negation)
			negation->left = expr;
		else
			expr_free(expr);
		expr = negation;
	} else if (parser_take(p, "(")) {
		expr = group(p);
	} else if (!p->len) {
		expr = parser_fail(p, "the expression ends too early");
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
		if (parser_take(p, "and") || parser_take(p, "&&"))
			kind = EXPR_AND;
		else if (parser_take(p, "or") || parser_take(p, "||"))
			kind = EXPR_OR;
		else
			return expr;
		expr = parser_join(p, kind, expr, factor(p));
	}
	return NULL;
}

/* What cannot go on a whole expression: a word too many, or one that is missing before it. */
static void unexpected(struct parser *p)
{
	if (parser_is(p, ")"))
		parser_fail(p, "there is no `(` to this");
	else if (parser_is(p, "&") || parser_is(p, "|"))
		parser_fail(p, "write %c%c, or `%s`", *p->at, *p->at, *p->at == '&' ? "and" : "or");
	else
		parser_fail(p, "`and` or `or` is missing here");
}

int expr_parse(const char *text, __u64 now_ns, struct expr **expr, struct expr_error *error)
{
	struct parser p = { .text = text,
			    .next = text,
			    .now_ns = now_ns,
			    .last = { .sides = FILTER_ANY, .type = UNSAID },
			    .error = error };

	*expr = NULL;
	parser_advance(&p);
	if (p.len)
		*expr = alternation(&p);
	if (*expr && p.len)
		unexpected(&p);
	registry_close(p.registry);
	if (p.failed) {
		expr_free(*expr);
		*expr = NULL;
	}
	return p.failed ? -EINVAL : 0;
}
