// SPDX-License-Identifier: GPL-2.0-only
/* `tidemark help`; and, from the same tables, the manual page and the shell's completion. */
#define _GNU_SOURCE 1
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "log.h"
#include "version.h"

static void help_list(void)
{
	puts("tidemark: the traffic of this host's containers, ordered, accountable, replayable\n\n"
	     "usage: tidemark COMMAND [OPTION...]\n");
	for (const struct command *c = commands; c->name; c++)
		printf("  %-8s %s\n", c->name, c->what);
	puts("\n`tidemark COMMAND --help` has the options and an example.\n"
	     "Exit status: 0 ok, 1 failed, 2 usage or bad input, 77 this kernel cannot.");
}

/* troff: a line must not begin with a dot or quote, and a backslash is written \e. */
static void man_text(const char *text)
{
	bool begin = true;

	for (; *text; text++) {
		if (begin && (*text == '.' || *text == '\''))
			fputs("\\&", stdout);
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
		begin = *text == '\n';
	}
}

static void man_options(const struct argp *argp)
{
	for (const struct argp_option *o = argp->options; o && (o->name || o->key || o->doc); o++) {
		puts(".TP");
		if (o->key > ' ' && o->key < 0x7f)
			printf("\\fB\\-%c\\fR, ", o->key);
		fputs("\\fB\\-\\-", stdout);
		man_text(o->name);
		fputs("\\fR", stdout);
		if (o->arg) {
			fputs(o->flags & OPTION_ARG_OPTIONAL ? "[=\\fI" : "=\\fI", stdout);
			man_text(o->arg);
			fputs(o->flags & OPTION_ARG_OPTIONAL ? "\\fR]" : "\\fR", stdout);
		}
		putchar('\n');
		man_text(o->doc);
		putchar('\n');
	}
	for (const struct argp_child *child = argp->children; child && child->argp; child++)
		man_options(child->argp);
}

/* What stands after \v in argp's doc: paragraphs, and examples indented by two. */
static void man_doc(const char *doc)
{
	const char *line = strchr(doc, '\v'), *end;
	bool example = false;

	for (line = line ? line + 1 : ""; *line; line = *end ? end + 1 : end) {
		end = strchrnul(line, '\n');
		if (example != (*line == ' ')) {
			if (*line == ' ')
				puts(".nf");
			else if (*line)
				puts(".fi");
			if (*line)
				example = *line == ' ';
		}
		if (end == line)
			puts(".PP");
		else {
			char copy[1024];

			snprintf(copy, sizeof(copy), "%.*s\n", (int)(end - line), line);
			man_text(copy);
		}
	}
	if (example)
		puts(".fi");
}

static void help_man(void)
{
	puts(".TH TIDEMARK 8 \"\" \"tidemark " VERSION "\"\n.SH NAME\n"
	     "tidemark \\- orders the traffic of a host's containers\n.SH SYNOPSIS\n"
	     ".B tidemark\n.I COMMAND\n[\\fIOPTION\\fR...]\n.SH COMMANDS");
	for (const struct command *c = commands; c->name; c++) {
		printf(".SS tidemark %s", c->name);
		printf(*c->arguments ? " %s\n" : "\n", c->arguments);
		man_text(c->what);
		puts(".");
		man_options(c->argp);
		if (c->argp->doc) {
			puts(".PP");
			man_doc(c->argp->doc);
		}
	}
	puts(".SH EXIT STATUS\n0 ok, 1 failed (check: an inversion was found), 2 usage or bad input,\n"
	     "77 this kernel cannot.\n.SH FILES\n.TP\n/sys/fs/bpf/tidemark\nthe pinned datapath\n.TP\n"
	     "/var/lib/tidemark/clocks\nstamps that must not come twice");
}

static void complete_options(const struct argp *argp)
{
	for (const struct argp_option *o = argp->options; o && (o->name || o->key); o++)
		printf(" --%s", o->name);
	for (const struct argp_child *child = argp->children; child && child->argp; child++)
		complete_options(child->argp);
}

static void help_complete(void)
{
	puts("# bash completion for tidemark, printed by `tidemark help --complete`\n"
	     "_tidemark()\n{\n\tlocal word=${COMP_WORDS[COMP_CWORD]} words=\n"
	     "\tif [ \"$COMP_CWORD\" -eq 1 ]; then");
	fputs("\t\twords=\"", stdout);
	for (const struct command *c = commands; c->name; c++)
		printf("%s%s", c == commands ? "" : " ", c->name);
	puts("\"\n\telse\n\t\tcase ${COMP_WORDS[1]} in");
	for (const struct command *c = commands; c->name; c++) {
		printf("\t\t%s) words=\"", c->name);
		if (c->run == cmd_show)
			fputs("nodes stages counters maps attachments", stdout);
		for (const struct command *of = commands; c->run == cmd_help && of->name; of++)
			printf("%s ", of->name);
		complete_options(c->argp);
		puts(" --help\" ;;");
	}
	puts("\t\tesac\n\tfi\n"
	     "\tcase ${COMP_WORDS[COMP_CWORD - 1]} in -n | --node)\n"
	     "\t\twords=\"netns: pid: path: container: compose: label: pod: cgroup: host\"\n"
	     "\t\tcompopt -o nospace ;;\n\tesac\n\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n}\n"
	     "complete -o default -F _tidemark tidemark");
}

enum { OPT_MAN = 0x100, OPT_COMPLETE };

static const struct argp_option options[] = {
	{ "man", OPT_MAN, NULL, 0, "Print the manual page, as troff", 0 },
	{ "complete", OPT_COMPLETE, NULL, 0, "Print the completion script for bash", 0 },
	{},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	const char **word = state->input;

	switch (key) {
	case OPT_MAN:
		help_man();
		*word = "";
		return 0;
	case OPT_COMPLETE:
		help_complete();
		*word = "";
		return 0;
	case ARGP_KEY_ARG:
		*word = arg;
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp help_argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[COMMAND]",
	.doc = "The list of commands, or one command's options.\v"
	       "Example:\n\n  tidemark help trace\n",
};

int cmd_help(int argc, char **argv)
{
	const char *word = NULL;

	argp_parse(&help_argp, argc, argv, 0, NULL, &word);
	if (!word)
		help_list();
	if (!word || !*word)
		return fflush(stdout) ? 1 : 0;
	for (const struct command *c = commands; c->name; c++) {
		char title[64];

		if (strcmp(c->name, word))
			continue;
		snprintf(title, sizeof(title), "tidemark %s", c->name);
		argp_help(c->argp, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK, title);
		return 0;
	}
	log_error("%s: no such command; `tidemark help` lists them", word);
	return 2;
}
