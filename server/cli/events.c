/*
 * events.c - `bulkhead events`: what has happened lately, and what happens.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/ask.h"
#include "cli/cli.h"

#define POLL_MS 200

static const char help[] =
    "usage: bulkhead events [-f] [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows what the running server remembers: reloads, steps and ends of rollouts, quarantined\n"
    "objects, workers that ended. It keeps the last 512.\n"
    "\n"
    "  -f, --follow        goes on, until the server ends\n"
    "  -c, --config FILE   the config that the server runs with\n"
    "      --socket PATH   its control socket\n"
    "      --json          one JSON object a line\n"
    "\n"
    "Exit status: 0 done, 1 no server answers (with -f: any more).\n";

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text != NULL ? text : "";
}

static void show(const json_t *event, bool as_json)
{
    if (as_json) {
        json_dumpf(event, stdout, JSON_COMPACT);
        putchar('\n');
        return;
    }
    printf("%s  %-19s  %s%s%s%s%s\n", text_of(event, "time"), text_of(event, "kind"),
           text_of(event, "plugin"), text_of(event, "plugin")[0] != '\0' ? ": " : "",
           text_of(event, "name"), text_of(event, "name")[0] != '\0' ? ": " : "",
           text_of(event, "text"));
}

/* The last one's number, or -1: it has been said why. */
static int show_since(const struct ask *ask, int last, bool as_json)
{
    json_t *json;
    const json_t *event;
    char *text;
    int result;
    size_t i;

    if (ask_server(ask, CONTROL_EVENTS, last, &result, &text) < 0)
        return -1;
    json = json_loads(text != NULL ? text : "", 0, NULL);
    free(text);
    if (result < 0 || json == NULL) {
        fprintf(stderr, "%s: %s\n", ask->command,
                result == -ENOSYS ? "the server is of an earlier version" : strerror(-result));
        json_decref(json);
        return -1;
    }
    json_array_foreach(json_object_get(json, "events"), i, event)
    {
        show(event, as_json);
    }
    last = (int)json_integer_value(json_object_get(json, "last"));
    json_decref(json);
    return fflush(stdout) == 0 ? last : -1;
}

int cli_events(int argc, char **argv)
{
    static const struct option options[] = {
        {"follow", no_argument, NULL, 'f'},       {"config", required_argument, NULL, 'c'},
        {"socket", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    struct ask ask = {.command = argv[0]};
    bool as_json = false, follows = false;
    int c, last = 0;

    while ((c = getopt_long(argc, argv, "fc:h", options, NULL)) != -1) {
        switch (c) {
        case 'f': follows = true; break;
        case 'c': ask.config = optarg; break;
        case 's': ask.socket = optarg; break;
        case 'j': as_json = true; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (optind < argc || (ask.config != NULL && ask.socket != NULL))
        return cli_usage_error(argv);
    while ((last = show_since(&ask, last, as_json)) >= 0 && follows) {
        struct timespec pause = {0, POLL_MS * 1000000L};

        nanosleep(&pause, NULL);
    }
    return last >= 0 ? CLI_OK : CLI_FAILED;
}
