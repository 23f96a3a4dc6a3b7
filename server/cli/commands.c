/*
 * commands.c - the table of commands, and `bulkhead help`, which prints it.
 *
 * Completions and manual pages are made from this table and from what each command says to --help: a
 * new command is in them by itself.
 */
#include <stdio.h>

#include "cli/cli.h"

const struct cli_command cli_commands[] = {
    {"run", cli_run, "serve a config file"},
    {"status", cli_status, "show how the running server is"},
    {"top", cli_top, "show what the running server does just now, live"},
    {"metrics", cli_metrics, "print its metrics, as Prometheus reads them"},
    {"reload", cli_reload, "load the config and the plugins anew, without losing a request"},
    {"diff", cli_reload, "show what a reload would change, and how"},
    {"breaker", cli_breaker, "show breakers of plugins, open or reset one"},
    {"rollout", cli_rollout, "another version of a plugin, step by step"},
    {"events", cli_events, "show what has happened lately, and what happens"},
    {"worker", cli_worker, "list the workers of the running server, recycle them"},
    {"alerts", cli_alerts, "show the alerts of the running server"},
    {"loglevel", cli_loglevel, "show or change how much the running server logs"},
    {"check", cli_check, "check a config file, its plugins and their options"},
    {"inspect", cli_inspect, "show what a plugin object says about itself"},
    {"schema", cli_schema, "print the config file's JSON Schema, or its reference"},
    {"crashes", cli_crashes, "list crash records, show one, watch them come"},
    {"replay", cli_replay, "send the request of a crash record once more, or debug it"},
    {"new", cli_new, "make a folder with a new plugin that builds and tests"},
    {"completion", cli_completion, "print a completion script for bash, zsh or fish"},
    {"manual", cli_manual, "print a manual page"},
    {"version", cli_version, "print the version"},
    {"help", cli_help, "print this"},
    {0},
};

void cli_print_usage(FILE *out)
{
    fputs("usage: bulkhead COMMAND [OPTION...]\n\n", out);
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++)
        fprintf(out, "  %-10s %s\n", c->name, c->summary);
    fputs(
        "\n`bulkhead COMMAND --help` says more. Exit status: 0 done, 1 it could not be done, 2 the\n"
        "config, an argument or an object is wrong. Errors go to stderr.\n",
        out);
}

int cli_help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    cli_print_usage(stdout);
    return CLI_OK;
}
