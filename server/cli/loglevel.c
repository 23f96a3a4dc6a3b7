/*
 * loglevel.c - `bulkhead loglevel`: how much the running server logs.
 */
#include <errno.h>
#include <getopt.h> /* optind */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "cli/table.h"
#include "obs/log.h"

static const char help[] =
    "usage: bulkhead loglevel [[PLUGIN] LEVEL] [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows the levels of the running server's error log, or changes one, in all its processes at\n"
    "once. LEVEL: error, warn, info, debug, or default, which is what the config says. Without a\n"
    "plugin it is that of the server and of all plugins that have none of their own. A change holds\n"
    "until the next one, or until the server ends.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --json          print them as JSON\n"
    "\n"
    "Exit status: 0 done, 1 no server answers, 2 no such plugin or level, or the arguments are wrong.\n";

/* The levels; an argument as of control_log_level(), or -1. NULL, and it has been said why. */
static json_t *ask_levels(const struct ask *ask, int argument, int *status)
{
    json_t *json = NULL;
    char *text = NULL;
    int result = 0;

    *status = CLI_FAILED;
    if (ask_server(ask, CONTROL_LOG_LEVEL, argument, &result, &text) < 0)
        return NULL;
    if (result == 0 && text != NULL)
        json = json_loads(text, 0, NULL);
    free(text);
    if (json == NULL)
        fprintf(stderr, "%s: %s\n", ask->command,
                result == -ENOSYS ? "the server is of another version, and does not know this"
                : result < 0      ? strerror(-result)
                                  : "the server's answer makes no sense");
    return json;
}

/* Its place; -1: there is no such plugin. */
static int find_place(const json_t *levels, const char *plugin)
{
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(levels, "levels"), i, item)
    {
        const char *name = json_string_value(json_object_get(item, "plugin"));

        if (name != NULL && strcmp(name, plugin) == 0)
            return (int)json_integer_value(json_object_get(item, "place"));
    }
    return -1;
}

static int change(const struct ask *ask, const char *plugin, const char *level, json_t **levels)
{
    int number = log_level_find(level), place = 0, status;

    if (number == 0 && strcmp(level, "default") != 0) {
        fprintf(stderr, "%s: '%s' is no level: error, warn, info, debug or default\n", ask->command,
                level);
        return CLI_BAD_INPUT;
    }
    if (plugin != NULL) {
        *levels = ask_levels(ask, -1, &status);
        if (*levels == NULL)
            return status;
        place = find_place(*levels, plugin);
        json_decref(*levels);
        *levels = NULL;
    }
    if (place < 0) {
        fprintf(stderr, "%s: no plugin '%s' there; `bulkhead loglevel` shows them\n", ask->command,
                plugin);
        return CLI_BAD_INPUT;
    }
    *levels = ask_levels(ask, control_log_level(place, number), &status);
    return *levels != NULL ? CLI_OK : status;
}

static void print_levels(const json_t *levels)
{
    const json_t *item;
    struct table t;
    size_t i;

    table_init(&t, 4);
    table_row(&t, "PLUGIN", "LEVEL", "CONFIG", "SET");
    json_array_foreach(json_object_get(levels, "levels"), i, item)
    {
        table_row(&t, i == 0 ? "(server)" : cli_text_of(item, "plugin"), cli_text_of(item, "level"),
                  cli_text_of(item, "config"), cli_text_of(item, "set"));
    }
    table_print(&t, stdout);
}

int cli_loglevel(int argc, char **argv)
{
    struct ask ask = {.command = argv[0]};
    bool is_json = false;
    json_t *levels = NULL;
    int n, r, status;

    if (!ask_options(argc, argv, help, &ask, &is_json, &r))
        return r;
    n = argc - optind;
    if (n > 2)
        return cli_usage_error(argv);
    if (n == 0) {
        levels = ask_levels(&ask, -1, &status);
        if (levels == NULL)
            return status;
    } else {
        status = change(&ask, n == 2 ? argv[optind] : NULL, argv[argc - 1], &levels);
        if (status != CLI_OK)
            return status;
    }
    if (is_json)
        return cli_print_json(levels);
    if (n == 0)
        print_levels(levels);
    json_decref(levels);
    return CLI_OK;
}
