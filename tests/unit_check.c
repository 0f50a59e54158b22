// SPDX-License-Identifier: GPL-2.0-only
/* Reading event logs, pairing effects with causes, and the inversions in them. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>

#include "../user/causal.h"
#include "../user/eventlog.h"
#include "tap.h"

#define WEB "\"node\":\"web\",\"wall\":\"2026-11-20T22:31:05.5Z\""
#define DB "\"node\":\"db\",\"wall\":\"2026-11-20T22:31:05.6Z\""
#define TO "\"proto\":\"tcp\",\"src\":\"10.0.0.2:41234\",\"dst\":\"10.0.0.3:80\""
#define FRO "\"proto\":\"tcp\",\"src\":\"10.0.0.3:80\",\"dst\":\"10.0.0.2:41234\""

#define LINE(type, first, last, rest)                           \
	"{\"type\":\"" type "\",\"hlc\":\"00000000000000" first \
	"\",\"hlc_last\":\"00000000000000" last "\"," rest "}\n"
#define CAUSE(first, last) \
	"\"cause\":\"00000000000000" first "\",\"cause_last\":\"00000000000000" last "\","

struct log {
	const char *sentence;
	const char *text;
	struct causal_counts want;
};

static const struct log logs[] = {
	{ "an empty log has no events", "", {} },
	{ "empty lines are passed over", "\n  \n\t\r\n", {} },
	{ "a message received after it was sent is a pair",
	  LINE("send", "10", "10", WEB "," TO)
		  LINE("recv", "11", "11", CAUSE("10", "10") DB "," TO),
	  { .events = 2, .pairs = 1 } },
	{ "the order of lines does not matter",
	  LINE("recv", "11", "11", CAUSE("10", "10") DB "," TO)
		  LINE("send", "10", "10", WEB "," TO),
	  { .events = 2, .pairs = 1 } },
	{ "a message received at its own stamp is an inversion",
	  LINE("send", "10", "10", WEB "," TO)
		  LINE("recv", "10", "11", CAUSE("10", "10") DB "," TO),
	  { .events = 2, .pairs = 1, .inversions = 1 } },
	{ "a message received before it was sent is an inversion",
	  LINE("send", "10", "10", WEB "," TO)
		  LINE("recv", "0f", "0f", CAUSE("10", "10") DB "," TO),
	  { .events = 2, .pairs = 1, .inversions = 1 } },
	{ "a burst whose last message came too early is an inversion",
	  LINE("send", "10", "18", WEB "," TO)
		  LINE("recv", "11", "17", CAUSE("10", "18") DB "," TO),
	  { .events = 2, .pairs = 1, .inversions = 1 } },
	{ "a burst may be received while it is still being sent",
	  LINE("send", "10", "18", WEB "," TO) LINE("recv", "11", "14", CAUSE("10", "12") DB "," TO)
		  LINE("recv", "16", "20", CAUSE("13", "18") DB "," TO),
	  { .events = 3, .pairs = 2 } },
	{ "a cause lies anywhere in its burst, and the nearest burst is it",
	  LINE("send", "10", "18", WEB "," TO) LINE("send", "20", "28", WEB "," TO)
		  LINE("recv", "30", "30", CAUSE("28", "28") DB "," TO),
	  { .events = 3, .pairs = 1, .unmatched_send = 1 } },
	{ "a cause beyond the end of every burst is not matched",
	  LINE("send", "10", "18", WEB "," TO)
		  LINE("recv", "30", "30", CAUSE("19", "19") DB "," TO),
	  { .events = 2, .unmatched_send = 1, .unmatched_recv = 1 } },
	{ "a long burst is found behind shorter ones of another node that end before the cause",
	  LINE("send", "10", "80", WEB "," TO) LINE("send", "20", "21", DB "," TO)
		  LINE("send", "30", "31", DB "," TO)
			  LINE("recv", "81", "81", CAUSE("70", "70") DB "," TO),
	  { .events = 4, .pairs = 1, .unmatched_send = 2, .wall_inversions = 0 } },
	{ "the same stamp on another flow is another message",
	  LINE("send", "10", "10", WEB "," TO)
		  LINE("recv", "11", "11", CAUSE("10", "10") DB "," FRO),
	  { .events = 2, .unmatched_send = 1, .unmatched_recv = 1 } },
	{ "one message may be received twice",
	  LINE("send", "10", "10", WEB "," TO) LINE("recv", "11", "11", CAUSE("10", "10") DB "," TO)
		  LINE("recv", "12", "12", CAUSE("10", "10") DB "," TO),
	  { .events = 3, .pairs = 2 } },
	{ "connect and accept, close and close are pairs too",
	  LINE("connect", "10", "10", WEB "," TO)
		  LINE("accept", "11", "11", CAUSE("10", "10") DB "," TO)
			  LINE("close", "12", "12", WEB "," TO)
				  LINE("close", "13", "13", CAUSE("12", "12") DB "," TO),
	  { .events = 4, .pairs = 2 } },
	{ "a recv without a cause, and an accept, are unmatched; a close is not",
	  LINE("recv", "10", "10", WEB "," TO) LINE("accept", "11", "11", DB "," TO)
		  LINE("close", "12", "12", WEB "," TO),
	  { .events = 3, .unmatched_recv = 2 } },
	{ "a recv is never a cause",
	  LINE("recv", "10", "10", WEB "," TO)
		  LINE("recv", "11", "11", CAUSE("10", "10") DB "," TO),
	  { .events = 2, .unmatched_recv = 2 } },
	{ "a stamp used twice by one node is an inversion",
	  LINE("send", "10", "10", WEB "," TO) LINE("send", "10", "10", WEB "," FRO),
	  { .events = 2, .inversions = 1, .unmatched_send = 2 } },
	{ "two bursts of one node that overlap are an inversion",
	  LINE("send", "10", "18", WEB "," TO) LINE("recv", "18", "20", WEB "," FRO),
	  { .events = 2, .inversions = 1, .unmatched_send = 1, .unmatched_recv = 1 } },
	{ "a short burst inside a long one does not hide the next overlap",
	  LINE("send", "10", "30", WEB "," TO) LINE("send", "11", "12", WEB "," FRO)
		  LINE("send", "20", "21", WEB "," FRO),
	  { .events = 3, .inversions = 2, .unmatched_send = 3 } },
	{ "bursts per flow may overlap when the node says so",
	  LINE("send", "10", "18", WEB "," TO) LINE("send", "14", "20", WEB "," FRO)
		  LINE("node-up", "01", "01", WEB ",\"burst\":\"flow\""),
	  { .events = 3, .unmatched_send = 2 } },
	{ "the same stamp at two nodes is no inversion",
	  LINE("send", "10", "10", WEB "," TO) LINE("send", "10", "10", DB "," FRO),
	  { .events = 2, .unmatched_send = 2 } },
	{ "nodes of the same name on two hosts are two nodes",
	  LINE("send", "10", "10", "\"host\":\"a\"," WEB "," TO)
		  LINE("send", "10", "10", "\"host\":\"b\"," WEB "," TO),
	  { .events = 2, .unmatched_send = 2 } },
	{ "a host and node are not confused with others that read the same together",
	  LINE("send", "10", "10", "\"host\":\"aweb\"," WEB "," TO)
		  LINE("send", "10", "10",
		       "\"host\":\"a\",\"node\":\"webweb\",\"wall\":\"2026-11-20T22:31:05Z\"," TO),
	  { .events = 2, .unmatched_send = 2 } },
	{ "a burst that ends before it begins is an inversion",
	  LINE("send", "10", "0f", WEB "," TO),
	  { .events = 1, .inversions = 1, .unmatched_send = 1 } },
	{ "what is not a message may repeat a stamp",
	  LINE("send", "10", "10", WEB "," TO) LINE("retransmit", "10", "10", WEB "," TO)
		  LINE("drop", "10", "10", WEB "," TO) LINE("node-down", "10", "10", WEB),
	  { .events = 4, .unmatched_send = 1 } },
	{ "an effect whose wall clock is behind its cause's is counted, and no inversion",
	  LINE("send", "10", "10", DB "," TO)
		  LINE("recv", "11", "11", CAUSE("10", "10") WEB "," TO),
	  { .events = 2, .pairs = 1, .wall_inversions = 1 } },
	{ "two wall clocks that read the same are not in the wrong order",
	  LINE("send", "10", "10", WEB "," TO)
		  LINE("recv", "11", "11", CAUSE("10", "10") WEB "," TO),
	  { .events = 2, .pairs = 1 } },
	{ "what gaps lost is added up",
	  LINE("gap", "10", "10", "\"count\":3," WEB) LINE("gap", "11", "11", "\"count\":40," WEB),
	  { .events = 2, .gaps = 43 } },
	{ "more loss than can be counted stays the most that can",
	  LINE("gap", "10", "10", "\"count\":9223372036854775807," WEB)
		  LINE("gap", "11", "11", "\"count\":9223372036854775807," WEB)
			  LINE("gap", "12", "12", "\"count\":9223372036854775807," WEB),
	  { .events = 3, .gaps = UINT64_MAX } },
	{ "keys and types of a newer version are passed over",
	  LINE("levitate", "10", "10", "\"colour\":[1,{}]," WEB),
	  { .events = 1 } },
	{ "the last line needs no newline",
	  "{\"hlc\":\"0000000000000010\",\"type\":\"node-up\"," WEB "}",
	  { .events = 1 } },
};

static int log_run(struct causal *causal, const char *text, size_t len,
		   struct eventlog_error *error)
{
	FILE *file = fmemopen((void *)(len ? text : "\n"), len ? len : 1, "r");
	int err = eventlog_each(file, eventlog_add, causal, NULL, error);

	fclose(file);
	return err ? err : causal_finish(causal);
}

static void counts_dump(const char *name, const struct causal_counts *c)
{
	printf("# %s events %" PRIu64 " pairs %" PRIu64 " inversions %" PRIu64 " wall %" PRIu64
	       " unmatched %" PRIu64 "/%" PRIu64 " gaps %" PRIu64 "\n",
	       name, c->events, c->pairs, c->inversions, c->wall_inversions, c->unmatched_send,
	       c->unmatched_recv, c->gaps);
}

static void test_logs(void)
{
	for (size_t i = 0; i < sizeof(logs) / sizeof(logs[0]); i++) {
		struct causal causal = {};
		struct eventlog_error error;
		int err = log_run(&causal, logs[i].text, strlen(logs[i].text), &error);

		if (!ok(!err && memcmp(&causal.counts, &logs[i].want, sizeof(causal.counts)) == 0,
			"%s", logs[i].sentence)) {
			if (err)
				printf("# line %" PRIu64 ": %s\n", error.line, error.why);
			counts_dump("got ", &causal.counts);
			counts_dump("want", &logs[i].want);
		}
		causal_free(&causal);
	}
}

#define GOOD LINE("send", "10", "10", WEB "," TO)

static const struct {
	const char *sentence, *text, *why;
} broken[] = {
	{ "a line cut short is refused", GOOD "{\"hlc\":\"00000000000000", "not a JSON object" },
	{ "another JSON value is refused", GOOD "[]\n", "not a JSON object" },
	{ "two objects on a line are refused", GOOD "{} {}\n", "not a JSON object" },
	{ "a key given twice is refused", GOOD "{\"hlc\":\"1\",\"hlc\":\"2\"}\n",
	  "not a JSON object" },
	{ "a line without a stamp is refused", GOOD "{\"type\":\"send\"," WEB "," TO "}\n",
	  "no hlc" },
	{ "a line without a type is refused", GOOD "{\"hlc\":\"0000000000000010\"," WEB "}\n",
	  "no type" },
	{ "a line without a node is refused",
	  GOOD "{\"hlc\":\"0000000000000010\",\"type\":\"gap\",\"wall\":\"x\"}\n", "no node" },
	{ "a line without a wall clock is refused",
	  GOOD "{\"hlc\":\"0000000000000010\",\"type\":\"gap\",\"node\":\"x\"}\n", "no wall" },
	{ "a message without a destination is refused",
	  GOOD LINE("send", "10", "10", "\"proto\":\"tcp\",\"src\":\"10.0.0.2:1\"," WEB),
	  "no dst" },
	{ "a gap without a count is refused", GOOD LINE("gap", "10", "10", WEB), "no count" },
	{ "a negative count is refused", GOOD LINE("gap", "10", "10", "\"count\":-1," WEB),
	  "count is not" },
	{ "a stamp with capitals is refused", GOOD LINE("gap", "1F", "10", "\"count\":1," WEB),
	  "hlc is not" },
	{ "a stamp that is a number is refused", GOOD "{\"hlc\":10,\"type\":\"gap\"," WEB "}\n",
	  "hlc is not a string" },
	{ "cause_last alone is refused",
	  GOOD LINE("recv", "10", "10", "\"cause_last\":\"0000000000000001\"," WEB "," TO),
	  "cause_last without cause" },
	{ "a sequence number of 33 bits is refused",
	  GOOD LINE("send", "11", "11", "\"seq\":4294967296," WEB "," TO), "seq is not" },
};

static void test_broken(void)
{
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct causal causal = {};
		struct eventlog_error error;
		int err = log_run(&causal, broken[i].text, strlen(broken[i].text), &error);

		if (!ok(err == -EINVAL && error.line == 2 && strstr(error.why, broken[i].why),
			"%s, with its line", broken[i].sentence))
			printf("# err %d line %" PRIu64 ": %s\n", err, error.line, error.why);
		causal_free(&causal);
	}
}

static void test_lengths(void)
{
	size_t len = EVENTLOG_LINE_MOST * 3;
	char *text = malloc(len);
	struct causal causal = {};
	struct eventlog_error error;

	memset(text, ' ', len);
	text[EVENTLOG_LINE_MOST - 1] = '\n';
	is_int(log_run(&causal, text, EVENTLOG_LINE_MOST, &error), 0,
	       "the longest line there may be is read");
	text[EVENTLOG_LINE_MOST - 1] = ' ';
	is_int(log_run(&causal, text, len, &error), -EINVAL, "a line without end is refused");
	is_int((int64_t)error.line, 1, "with its line");
	causal_free(&causal);
	free(text);
}

/* Two thousand requests and replies, in every-packet lines, shuffled; then each stamp of each recv
 * lowered in turn to its cause.
 */
static void test_ping_pong(void)
{
	enum { ROUNDS = 2000 };
	struct causal causal = {};
	struct causal_event events[ROUNDS * 2];
	int64_t web = causal_node(&causal, "", "web"), db = causal_node(&causal, "", "db");
	int64_t flow = causal_flow(&causal, "tcp", "a:1", "b:2");
	unsigned missed = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t hlc = 0x10000 + 2 * i;

		events[2 * i] = (struct causal_event){
			.hlc = hlc,
			.hlc_last = hlc,
			.node = (uint32_t)web,
			.flow = (uint32_t)flow,
			.type = CAUSAL_SEND,
		};
		events[2 * i + 1] = (struct causal_event){
			.hlc = hlc + 1,
			.hlc_last = hlc + 1,
			.cause = hlc,
			.cause_last = hlc,
			.node = (uint32_t)db,
			.flow = (uint32_t)flow,
			.type = CAUSAL_RECV,
			.flags = CAUSAL_HAS_CAUSE,
		};
	}
	for (unsigned i = 0; i < ROUNDS * 2; i++)
		causal_add(&causal, &events[i * 1777 % (ROUNDS * 2)], 0);
	causal_finish(&causal);
	is_int((int64_t)causal.counts.pairs, ROUNDS, "2000 requests are 2000 pairs in any order");
	is_int((int64_t)causal.counts.inversions, 0, "and none is inverted");
	for (unsigned i = 0; i < causal.n; i++)
		if (causal.events[i].type == CAUSAL_RECV)
			missed +=
				causal.events[causal.events[i].pair].hlc != causal.events[i].cause;
	is_int(missed, 0, "and each is paired with its own request");
	for (unsigned low = 0; low < 50; low++) {
		struct causal again = { .nodes = causal.nodes, .flows = causal.flows };

		for (unsigned i = 0; i < ROUNDS * 2; i++) {
			struct causal_event event = events[i];

			if (i == low * 80 + 1)
				event.hlc = event.cause;
			causal_add(&again, &event, 0);
		}
		causal_finish(&again);
		missed += again.counts.inversions != 1;
		free(again.events);
	}
	is_int(missed, 0, "one stamp lowered is one inversion, wherever it is");
	causal_free(&causal);
}

static void test_names(void)
{
	struct names names = {};
	unsigned wrong = 0;
	char name[16];

	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 100000; i++) {
			int len = snprintf(name, sizeof(name), "%u", i);

			wrong += names_id(&names, name, (size_t)len) != i;
		}
	}
	is_int(wrong, 0, "100000 names keep their numbers when they come again");
	is_str(names_get(&names, 4711), "4711", "and their bytes");
	is_int(names_id(&names, "a\0b", 3) == names_id(&names, "a\0c", 3), 0,
	       "names that differ after a NUL differ");
	names_free(&names);
}

int main(void)
{
	test_logs();
	test_broken();
	test_lengths();
	test_ping_pong();
	test_names();
	return done();
}
