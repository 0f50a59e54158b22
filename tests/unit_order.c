// SPDX-License-Identifier: GPL-2.0-only
/* Merging logs: against worlds that know what really happened. */
#define _GNU_SOURCE 1
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../user/inflight.h"
#include "../user/jsonedit.h"
#include "../user/order.h"
#include "../user/sorter.h"
#include "tap.h"
#include "world.h"

static char dir[] = "/tmp/unit_order.XXXXXX";

/* What is wrong with one merge, counted. */
struct faults {
	unsigned failed, lost, unsorted, backward, before_cause, label, cause, needless, wall,
		cut_open, circles, check, again;
};

struct totals {
	uint64_t events, repaired, labels[PAIRS_LABELS_NR];
};

static bool faults_any(const struct faults *faults)
{
	static const struct faults none;

	return memcmp(faults, &none, sizeof(none)) != 0;
}

static void faults_print(const struct faults *f)
{
	printf("# failed %u lost %u unsorted %u backward %u before its cause %u label %u cause %u "
	       "needless %u wall %u cut %u circles %u check %u again %u\n",
	       f->failed, f->lost, f->unsorted, f->backward, f->before_cause, f->label, f->cause,
	       f->needless, f->wall, f->cut_open, f->circles, f->check, f->again);
}

static void logs_made(struct logs *logs, char **paths, unsigned n)
{
	*logs = (struct logs){};
	if (logs_collect(logs, paths, n))
		abort();
}

/* The world's event at each (file, line). */
struct where {
	uint32_t *event[WORLD_FILES];
};

static void where_make(struct where *where, const struct world *world)
{
	for (unsigned i = 0; i < WORLD_FILES; i++)
		where->event[i] = calloc(world->n + 2, sizeof(uint32_t));
	for (uint32_t i = 0; i < world->n; i++)
		where->event[world->events[i].file][world->events[i].line] = i;
}

static void where_free(struct where *where)
{
	for (unsigned i = 0; i < WORLD_FILES; i++)
		free(where->event[i]);
}

/* One merged event against the truth. moved: the stamps so far, 0: not seen yet. */
static void event_judge(const struct world *world, const struct order_event *got, uint32_t at,
			const uint32_t *by_ord, uint64_t *moved, uint64_t *floor,
			struct faults *faults)
{
	const struct world_event *want = &world->events[at];
	enum pairs_label label = !want->recv	  ? PAIRS_UNKNOWN
				 : want->stripped ? PAIRS_MATCHED
						  : PAIRS_IN_BAND;
	uint64_t least = 0;

	if (want->before != UINT32_MAX && !moved[want->before])
		faults->backward++;
	if (want->before != UINT32_MAX && moved[want->before] >= got->hlc)
		faults->backward++;
	for (unsigned i = 0; i < want->causes_n; i++) {
		if (!moved[want->causes[i]] || moved[want->causes[i]] >= got->hlc)
			faults->before_cause++;
		if (moved[want->causes[i]] > least)
			least = moved[want->causes[i]];
	}
	faults->label += got->label != label;
	if (want->recv &&
	    (!got->first.known || by_ord[got->first.ord] != want->causes[0] ||
	     (want->causes_n > 1 &&
	      (!got->last.known || by_ord[got->last.ord] != want->causes[want->causes_n - 1]))))
		faults->cause++;
	/* Moved only if its own stamp would not have done, and then no further than it must. */
	if (*floor > least)
		least = *floor;
	if (got->hlc != (want->hlc > least ? want->hlc : least + 1))
		faults->needless++;
	if (got->hlc != want->hlc)
		*floor = got->hlc_last;
	faults->wall += got->wall_ns != want->wall_ns || got->hlc_raw != want->hlc;
	moved[at] = got->hlc;
}

/* Every cut must be closed: whatever is inside has what came before it inside. */
static void cut_judge(struct world *world, struct order *order, const struct where *where,
		      const uint64_t *moved, struct faults *faults)
{
	uint64_t cut = moved[world_random(world, world->n)] - world_random(world, 2);
	struct inflight *inflight = inflight_new(order, cut);
	bool *inside = calloc(world->n + 1, sizeof(*inside));
	struct order_event event;

	if (order_rewind(order))
		faults->failed++;
	while (order_next(order, &event) > 0)
		inside[where->event[event.file][event.line]] =
			inflight_event(inflight, &event) == 1;
	for (uint32_t i = 0; i < world->n; i++) {
		const struct world_event *is = &world->events[i];

		faults->cut_open += inside[i] != (moved[i] <= cut);
		if (inside[i] && is->before != UINT32_MAX)
			faults->cut_open += !inside[is->before];
		for (unsigned k = 0; inside[i] && k < is->causes_n; k++)
			faults->cut_open += !inside[is->causes[k]];
	}
	inflight_free(inflight);
	free(inside);
}

static void merged_write(struct order *order, FILE *file, struct faults *faults)
{
	struct order_event event;
	struct text text = {};

	if (order_rewind(order))
		faults->failed++;
	while (order_next(order, &event) > 0) {
		text.len = 0;
		faults->failed += order_line_merged(order, &event, &text) != 0;
		fwrite(text.at, 1, text.len, file);
		fputc('\n', file);
	}
	text_free(&text);
}

static char *file_text(const char *path, size_t *len)
{
	FILE *file = fopen(path, "r");
	struct stat status;
	char *text;

	fstat(fileno(file), &status);
	text = malloc((size_t)status.st_size + 1);
	*len = fread(text, 1, (size_t)status.st_size, file);
	fclose(file);
	return text;
}

/* The merged log is in order for `check`, and merging it again changes nothing. */
static void merged_judge(struct order *order, struct faults *faults)
{
	char path[2][64];
	struct causal causal = {};
	struct eventlog_error error;
	struct order *again;
	struct logs logs;
	size_t len[2];
	char *text[2], *name = path[0];
	int status;
	FILE *file;

	for (int i = 0; i < 2; i++)
		snprintf(path[i], sizeof(path[i]), "%s/merged%d", dir, i);
	file = fopen(path[0], "w");
	merged_write(order, file, faults);
	fclose(file);
	file = fopen(path[0], "r");
	faults->check += eventlog_each(file, eventlog_add, &causal, NULL, &error) != 0 ||
			 causal_finish(&causal) || causal.counts.inversions;
	fclose(file);
	causal_free(&causal);
	logs_made(&logs, &name, 1);
	again = order_open(&logs, 0, &status);
	file = fopen(path[1], "w");
	if (again)
		merged_write(again, file, faults);
	fclose(file);
	for (int i = 0; i < 2; i++)
		text[i] = file_text(path[i], &len[i]);
	faults->again += !again || order_counts(again)->repaired || len[0] != len[1] ||
			 memcmp(text[0], text[1], len[0]) != 0;
	free(text[0]);
	free(text[1]);
	order_free(again);
	logs_free(&logs);
}

static void order_judge(struct world *world, struct order *order, struct totals *totals,
			struct faults *faults)
{
	uint64_t *moved = calloc(world->n + 1, sizeof(*moved));
	uint32_t *by_ord = calloc(world->n + 1, sizeof(*by_ord));
	uint64_t floor[WORLD_NODES] = {}, now = 0, seen = 0;
	struct order_event event;
	struct where where;
	int got;

	where_make(&where, world);
	while ((got = order_next(order, &event)) > 0) {
		uint32_t at = where.event[event.file][event.line];

		by_ord[event.ord] = at;
		faults->unsorted += event.hlc < now;
		now = event.hlc;
		event_judge(world, &event, at, by_ord, moved, &floor[world->events[at].node],
			    faults);
		seen++;
	}
	faults->failed += got != 0;
	faults->lost += seen != world->n;
	faults->circles += order_counts(order)->circles != 0;
	totals->events += seen;
	totals->repaired += order_counts(order)->repaired;
	for (int i = 0; i < PAIRS_LABELS_NR; i++)
		totals->labels[i] += order_counts(order)->labels[i];
	if (world->n)
		cut_judge(world, order, &where, moved, faults);
	where_free(&where);
	free(moved);
	free(by_ord);
}

static void world_judge(struct world *world, bool shuffled, uint64_t memory, struct totals *totals,
			struct faults *faults)
{
	char path[WORLD_FILES][64], *paths[WORLD_FILES];
	FILE *files[WORLD_FILES];
	struct order *order;
	struct logs logs;
	int status;

	for (unsigned i = 0; i < world->files_n; i++) {
		snprintf(path[i], sizeof(path[i]), "%s/log%u", dir, i);
		paths[i] = path[i];
		files[i] = fopen(path[i], "w");
	}
	world_write(world, files, shuffled);
	for (unsigned i = 0; i < world->files_n; i++)
		fclose(files[i]);
	logs_made(&logs, paths, world->files_n);
	order = order_open(&logs, memory, &status);
	faults->failed += !order;
	if (order) {
		order_judge(world, order, totals, faults);
		merged_judge(order, faults);
	}
	order_free(order);
	logs_free(&logs);
}

/* How many of so many worlds have a fault. */
static unsigned worlds(unsigned n, unsigned steps, int strip, unsigned nat, struct totals *totals)
{
	unsigned bad = 0;

	for (uint64_t seed = 1; seed <= n; seed++) {
		struct world world = {
			.strip_percent = strip < 0 ? (unsigned)(seed * 7 % 101) : (unsigned)strip,
			.nat_percent = nat,
			.lose_percent = seed % 3 * 5,
			.twice_percent = seed % 2 * 10,
		};
		struct faults faults = {};

		world_make(&world, seed + (uint64_t)nat * 1000);
		world_run(&world, steps);
		/* Every other in so little memory that everything goes through files. */
		world_judge(&world, seed % 2, seed % 4 < 2 ? 0 : 1 << 14, totals, &faults);
		if (faults_any(&faults)) {
			printf("# seed %" PRIu64 ":\n", seed);
			faults_print(&faults);
			bad++;
		}
		world_free(&world);
	}
	return bad;
}

static void test_worlds(void)
{
	struct totals none = {}, some = {}, all = {}, nat = {};

	is_int(worlds(40, 300, 0, 0, &none), 0,
	       "with every stamp in place merging changes no stamp, whatever the wall clocks (T19, "
	       "T33)");
	is_int((int64_t)none.repaired, 0, "and repairs nothing");
	is_int((int64_t)none.labels[PAIRS_MATCHED], 0, "and calls nothing matched");
	is_int(worlds(120, 300, -1, 0, &some), 0,
	       "with 0 to 100 % of stamps stripped no effect is before its cause, every label and "
	       "cause is true, no stamp is moved without need (T36)");
	ok(some.repaired > 1000 && some.labels[PAIRS_MATCHED] > 1000 &&
		   some.labels[PAIRS_IN_BAND] > 1000,
	   "and that was some work");
	is_int(worlds(40, 300, 100, 0, &all), 0, "with all stamps stripped the same");
	is_int((int64_t)all.labels[PAIRS_IN_BAND], 0, "and nothing is called in-band");
	is_int(worlds(60, 600, -1, 60, &nat), 0,
	       "through NAT of sources, destinations and both the same");
}

#define EDIT(before, after, ...)                                                           \
	do {                                                                               \
		struct jsonedit edit = {};                                                 \
		struct text text = {};                                                     \
		__VA_ARGS__;                                                               \
		if (jsonedit_write(&edit, before, strlen(before), &text))                  \
			text.len = 0;                                                      \
		text_add_char(&text, 0);                                                   \
		is_str(text.at, after, "a line is changed where asked, and nowhere else"); \
		text_free(&text);                                                          \
	} while (0)

static void test_edit(void)
{
	EDIT("{\"a\":1,\"hlc\":\"x\", \"b\" : [{\"hlc\":2}, \"}\\\"\"]} ",
	     "{\"a\":1,\"hlc\":\"0000000000000007\",\"b\":[{\"hlc\":2}, \"}\\\"\"],\"edge\":\"matched\"}",
	     jsonedit_stamp(&edit, "hlc", 7, false), jsonedit_str(&edit, "edge", "matched"));
	EDIT("{\"raw\":\"1\"}", "{\"raw\":\"1\"}", jsonedit_stamp(&edit, "raw", 7, true));
	EDIT("{}", "{\"raw\":\"0000000000000007\"}", jsonedit_stamp(&edit, "raw", 7, true));
	EDIT("{\"h\\u006cc\":\"x\",\"n\":1.50,\"u\":\"\\u202e\"}",
	     "{\"hlc\":\"0000000000000007\",\"n\":1.5,\"u\":\"\\u202E\"}",
	     jsonedit_stamp(&edit, "hlc", 7, false));
}

static int number_compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

static void test_sorter(void)
{
	static const size_t budgets[] = { 1, 512, 4096, 1 << 26 };
	unsigned wrong = 0;

	for (size_t k = 0; k < sizeof(budgets) / sizeof(budgets[0]); k++) {
		struct sorter *sorter = sorter_new(sizeof(uint64_t), number_compare, budgets[k]);
		struct sorter_cursor cursor;
		const uint64_t *number;
		uint64_t value = 1, sum = 0, got = 0, before = 0, n = 0;
		int err;

		for (unsigned i = 0; i < 50000; i++) {
			value = value * 6364136223846793005ULL + 1442695040888963407ULL;
			sum += value;
			wrong += sorter_add(sorter, &value) != 0;
		}
		wrong += sorter_sort(sorter) != 0;
		sorter_cursor_open(&cursor, sorter, 0, 7);
		while ((number = sorter_cursor_next(&cursor, &err))) {
			wrong += *number < before;
			before = *number;
			got += *number;
			n++;
		}
		wrong += n != 50000 || got != sum || sorter_count(sorter) != n;
		wrong += sorter_read(sorter, 49999, &value, 5) != 1 || value != before;
		sorter_cursor_close(&cursor);
		sorter_free(sorter);
	}
	is_int(wrong, 0, "50000 numbers are sorted in a few bytes of memory, or in much");
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	test_sorter();
	test_edit();
	test_worlds();
	for (int i = 0; i < WORLD_FILES + 2; i++) {
		char path[64];

		snprintf(path, sizeof(path), i < WORLD_FILES ? "%s/log%d" : "%s/merged%d", dir,
			 i < WORLD_FILES ? i : i - WORLD_FILES);
		unlink(path);
	}
	rmdir(dir);
	return done();
}
