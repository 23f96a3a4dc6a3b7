/*
 * breaker.c - `bulkhead breaker`: breakers of the running server's plugins.
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

static const char help[] =
    "usage: bulkhead breaker [-c FILE | --socket PATH] [--json]\n"
    "       bulkhead breaker reset PLUGIN [-c FILE | --socket PATH] [--json]\n"
    "       bulkhead breaker open PLUGIN [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows the breakers of all plugins. reset closes that of a plugin, frees its blocked routes, and\n"
    "forgets the crashes that led to it. open takes the plugin out, in all workers, until it is reset:\n"
    "its requests are answered 503, or served without it (on_error: fail_open).\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --json          print them, or what was done, as JSON\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 no such plugin, or the arguments are wrong.\n";

/* The plugins as `status` has them; NULL, and it has been said why. */
static json_t *ask_plugins(const struct ask *ask)
{
    json_t *json = NULL, *plugins;
    char *text = NULL;
    int result = 0;

    if (ask_server(ask, CONTROL_STATUS, 0, &result, &text) < 0)
        return NULL;
    if (result == 0 && text != NULL)
        json = json_loads(text, 0, NULL);
    free(text);
    plugins = json_incref(json_object_get(json, "plugins"));
    json_decref(json);
    if (plugins == NULL)
        fprintf(stderr, "%s: the server's answer makes no sense\n", ask->command);
    return plugins;
}

static int find_place(const json_t *plugins, const char *name)
{
    const json_t *p;
    size_t i;

    json_array_foreach(plugins, i, p)
    {
        if (strcmp(cli_text_of(p, "name"), name) == 0)
            return (int)json_integer_value(json_object_get(p, "place"));
    }
    return 0;
}

static int say_done(enum control_breaker_action action, const char *plugin, bool is_json)
{
    bool is_reset = action == CONTROL_BREAKER_RESET;

    if (is_json)
        return cli_print_json(
            json_pack("{s:s, s:s}", "plugin", plugin, "breaker", is_reset ? "reset" : "open"));
    if (is_reset)
        printf("the breaker of '%s' is closed, its routes are free\n", plugin);
    else
        printf("'%s' is taken out, until: bulkhead breaker reset %s\n", plugin, plugin);
    return CLI_OK;
}

static int change(const struct ask *ask, enum control_breaker_action action, const char *plugin,
                  bool is_json)
{
    json_t *plugins = ask_plugins(ask);
    int place, result = 0;
    char *text = NULL;

    if (plugins == NULL)
        return CLI_FAILED;
    place = find_place(plugins, plugin);
    json_decref(plugins);
    if (place < 1) {
        fprintf(stderr, "%s: no plugin '%s' there; `bulkhead breaker` shows them\n", ask->command,
                plugin);
        return CLI_BAD_INPUT;
    }
    if (ask_server(ask, CONTROL_BREAKER, control_breaker(place, action), &result, &text) < 0)
        return CLI_FAILED;
    free(text);
    if (result == 0)
        return say_done(action, plugin, is_json);
    if (result == -EOPNOTSUPP)
        fprintf(stderr,
                "%s: the breaker of '%s' is off (breaker.crashes: 0 in the config): nothing would "
                "heed it\n",
                ask->command, plugin);
    else
        fprintf(stderr, "%s: %s\n", ask->command,
                result == -ENOSYS ? "the server is of another version, and does not know this"
                                  : strerror(-result));
    return CLI_FAILED;
}

static int show(const struct ask *ask, bool is_json)
{
    json_t *plugins = ask_plugins(ask), *out = json_array();
    const json_t *p, *block;
    struct table t;
    size_t i, k;

    if (plugins == NULL) {
        json_decref(out);
        return CLI_FAILED;
    }
    table_init(&t, 5);
    table_row(&t, "PLUGIN", "BREAKER", "CRASHES", "OPENED", "ROUTE");
    json_array_foreach(plugins, i, p)
    {
        const json_t *b = json_object_get(p, "breaker");
        const json_t *blocked = json_object_get(p, "blocked_routes");
        char crashes[24], opened[24], state[32];

        snprintf(crashes, sizeof crashes, "%lld",
                 (long long)json_integer_value(json_object_get(b, "recent_crashes")));
        snprintf(opened, sizeof opened, "%lld",
                 (long long)json_integer_value(json_object_get(b, "opened")));
        snprintf(state, sizeof state, "%s%s", cli_text_of(b, "state"),
                 json_is_true(json_object_get(b, "held")) ? " (held)" : "");
        table_row(&t, cli_text_of(p, "name"), state, crashes, opened, "");
        json_array_foreach(blocked, k, block)
        {
            table_row(&t, "", cli_text_of(block, "state"), "", "", cli_text_of(block, "route"));
        }
        json_array_append_new(out,
                              json_pack("{s:O?, s:O?, s:O?}", "plugin", json_object_get(p, "name"),
                                        "breaker", b, "blocked_routes", blocked));
    }
    json_decref(plugins);
    if (is_json)
        return cli_print_json(out);
    json_decref(out);
    table_print(&t, stdout);
    return CLI_OK;
}

int cli_breaker(int argc, char **argv)
{
    struct ask ask = {.command = argv[0]};
    bool is_json = false;
    int r;

    if (!ask_options(argc, argv, help, &ask, &is_json, &r))
        return r;
    if (argc == optind)
        return show(&ask, is_json);
    if (argc - optind == 2 && strcmp(argv[optind], "reset") == 0)
        return change(&ask, CONTROL_BREAKER_RESET, argv[optind + 1], is_json);
    if (argc - optind == 2 && strcmp(argv[optind], "open") == 0)
        return change(&ask, CONTROL_BREAKER_OPEN, argv[optind + 1], is_json);
    return cli_usage_error(argv);
}
