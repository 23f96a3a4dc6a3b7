/*
 * main.c - picks the command.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    char title[32];

    if (name == NULL) {
        cli_print_usage(stderr);
        return CLI_BAD_INPUT;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (strcmp(name, c->name) != 0)
            continue;
        /* getopt names argv[0] in its messages. */
        snprintf(title, sizeof title, "bulkhead %s", name);
        argv[1] = title;
        return c->run(argc - 1, argv + 1);
    }
    fprintf(stderr, "bulkhead: there is no command '%s'; see bulkhead --help\n", argv[1]);
    return CLI_BAD_INPUT;
}
