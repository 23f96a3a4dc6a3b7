/*
 * help_page.h - what a command says to --help, taken apart: for completions and manual pages.
 *
 * The texts are the one place where options are described. Their form is checked by a test, which has
 * to find every option of every command (tests/unit/cli/test_help_page.c):
 *
 *     usage: bulkhead COMMAND [SUBCOMMAND] ARGUMENT [-x VALUE] [--option VALUE]
 *            bulkhead COMMAND OTHER...
 *
 *     Paragraphs; `code`.
 *
 *       -x, --option VALUE   what it is for, which may
 *                            go on like this
 *
 *     Exit status: 0 done, ...
 *
 * Other lines that are indented are kept as they are.
 */
#ifndef CLI_HELP_PAGE_H
#define CLI_HELP_PAGE_H

#include <stdbool.h>

struct cli_command;

#define HELP_OPTIONS     32
#define HELP_SUBCOMMANDS 16
#define HELP_WORD        32
#define HELP_TEXT        512

struct help_option {
    char letter;          /* '\0': none */
    char name[HELP_WORD]; /* "config"; "": none */
    char arg[HELP_WORD];  /* "FILE"; "": takes none */
    char text[HELP_TEXT]; /* "": only the usage names it */
};

struct help_page {
    const char *name, *summary;
    char *text; /* as it was printed; malloc'd */
    int n_options, n_subcommands;
    struct help_option option[HELP_OPTIONS]; /* --help is the last */
    char subcommand[HELP_SUBCOMMANDS][HELP_WORD];
    bool takes_files; /* a positional argument is a file or folder */
    bool takes_ids;   /* ... or the id of a crash record */
};

/* Runs `COMMAND --help` in this process. 0 and to be freed by help_page_fini(), or -errno. */
int help_page_read(const struct cli_command *c, struct help_page *out);
/* Of such a text, which is taken over. */
void help_page_parse(const struct cli_command *c, char *text, struct help_page *out);
void help_page_fini(struct help_page *p);

#endif
