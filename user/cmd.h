/* SPDX-License-Identifier: GPL-2.0-only */
/* The commands, as user/main.c dispatches them: argv[0] is the command's name. */
#ifndef TIDEMARK_CMD_H
#define TIDEMARK_CMD_H

int cmd_check(int argc, char **argv);

#endif
