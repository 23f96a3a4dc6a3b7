/*
 * main.c - picks the command.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* Its file is optional: a build without crash records still serves. */
int cli_crashes(int argc, char **argv) __attribute__((weak));

static int help(int argc, char **argv);

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"run", cli_run, "serve a config file"},
    {"status", cli_status, "show how the running server is"},
    {"metrics", cli_metrics, "print its metrics, as Prometheus reads them"},
    {"reload", cli_reload, "load the config and the plugins anew, without losing a request"},
    {"diff", cli_reload, "show what a reload would change, and how"},
    {"breaker", cli_breaker, "show breakers of plugins, open or reset one"},
    {"rollout", cli_rollout, "another version of a plugin, step by step"},
    {"events", cli_events, "show what has happened lately, and what happens"},
    {"worker", cli_worker, "recycle workers of the running server"},
    {"alerts", cli_alerts, "show the alerts of the running server"},
    {"loglevel", cli_loglevel, "show or change how much the running server logs"},
    {"check", cli_check, "check a config file, its plugins and their options"},
    {"inspect", cli_inspect, "show what a plugin object says about itself"},
    {"schema", cli_schema, "print the config file's JSON Schema, or its reference"},
    {"crashes", cli_crashes, "list crash records, show one"},
    {"new", cli_new, "make a folder with a new plugin that builds and tests"},
    {"version", cli_version, "print the version"},
    {"help", help, "print this"},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_usage(FILE *out)
{
    fputs("usage: bulkhead COMMAND [OPTION...]\n\n", out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fputs(
        "\n`bulkhead COMMAND --help` says more. Exit status: 0 done, 1 it could not be done, 2 the\n"
        "config, an argument or an object is wrong. Errors go to stderr.\n",
        out);
}

static int help(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    print_usage(stdout);
    return CLI_OK;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    char title[32];

    if (name == NULL) {
        print_usage(stderr);
        return CLI_BAD_INPUT;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        name = "version";
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) != 0 || commands[i].run == NULL)
            continue;
        /* getopt names argv[0] in its messages. */
        snprintf(title, sizeof title, "bulkhead %s", name);
        argv[1] = title;
        return commands[i].run(argc - 1, argv + 1);
    }
    fprintf(stderr, "bulkhead: there is no command '%s'; see bulkhead --help\n", argv[1]);
    return CLI_BAD_INPUT;
}
