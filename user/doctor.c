// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark doctor`: what this kernel can do, asked of the kernel itself, and what is used instead. */
#define _GNU_SOURCE 1
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cmd.h"
#include "feat.h"
#include "log.h"
#include "out.h"

enum { FEATURE, HERE, NEEDED, WHAT, INSTEAD };

static const struct out_column columns[] = {
	[FEATURE] = { "feature", "FEATURE", 16, 0, 0 },
	[HERE] = { "here", "HERE", 5, 0, 0 },
	[NEEDED] = { "needed", "NEEDED", 6, 0, 0 },
	[WHAT] = { "what", "FOR", 24, 0, OUT_OPTIONAL },
	[INSTEAD] = { "instead", "WITHOUT IT", 44, 0, 0 },
	{},
};

static const char doc[] =
	"What this kernel can do for Tidemark, and what is used instead.\v"
	"Every feature is asked for by trying it, never by the kernel's version. Nothing is left "
	"behind.\n"
	"\n"
	"Exit status: 0 all that is needed is here, 1 something can be put right (a mount, "
	"privileges), 77 this kernel cannot.\n"
	"\n"
	"Example:\n"
	"\n"
	"  tidemark doctor --json | jq 'select(.here == false)'\n";

static const struct argp_option options[] = {
	{ "json", 'j', NULL, 0, "One JSON object per line", 0 },
	{},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	if (key != 'j')
		return ARGP_ERR_UNKNOWN;
	*(unsigned *)state->input = OUT_JSON;
	return 0;
}

const struct argp doctor_argp = { .options = options, .parser = parse, .doc = doc };

int cmd_doctor(int argc, char **argv)
{
	unsigned flags = 0;
	struct out *out;
	int status = 0;

	argp_parse(&doctor_argp, argc, argv, 0, NULL, &flags);
	if (geteuid()) {
		log_error("not root: a kernel answers these questions to root only; use sudo");
		return 1;
	}
	out = out_open(stdout, columns, flags);
	if (!out)
		return 1;
	for (const struct feature *f = features; f->name; f++) {
		bool here = f->probe();

		out_str(out, FEATURE, f->name);
		out_bool(out, HERE, here);
		out_bool(out, NEEDED, f->missing != 0);
		out_str(out, WHAT, f->what);
		out_str(out, INSTEAD, f->instead);
		out_colour(out, here ? OUT_PLAIN : f->missing ? OUT_RED : OUT_YELLOW);
		out_row(out);
		if (!here && f->missing > status)
			status = f->missing;
	}
	return out_finish(out, status);
}
