/*
 * events.c - `bulkhead events`: what has happened lately, and what happens.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/ask.h"
#include "cli/cli.h"

static const char help[] =
    "usage: bulkhead events [-f] [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows what the running server remembers: reloads, steps and ends of rollouts, quarantined\n"
    "objects, crashes, breakers, workers that ended, alerts. It keeps the last 512.\n"
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

/* The last one's number, or -1: it has been said why. text: as of CONTROL_EVENTS; freed. */
static int show_all(const struct ask *ask, int last, int result, char *text, bool as_json)
{
    json_t *json = json_loads(text != NULL ? text : "", 0, NULL);
    const json_t *event;
    size_t i;

    free(text);
    if (result < 0 || json == NULL) {
        fprintf(stderr, "%s: %s\n", ask->command,
                result == -ENOSYS   ? "the server is of an earlier version"
                : result == -EUSERS ? "too many follow its events already: end one of them, or ask "
                                      "without -f"
                                    : strerror(result < 0 ? -result : EPROTO));
        json_decref(json);
        return -1;
    }
    json_array_foreach(json_object_get(json, "events"), i, event)
    {
        int number = (int)json_integer_value(json_object_get(event, "number"));

        if (i == 0 && last > 0 && number > last + 1)
            fprintf(stderr, "%s: %d events went by unseen\n", ask->command, number - last - 1);
        show(event, as_json);
    }
    last = (int)json_integer_value(json_object_get(json, "last"));
    json_decref(json);
    return fflush(stdout) == 0 ? last : -1;
}

/* Until there is something to read. False: nobody reads what we write any more. */
static bool wait_for_more(int fd)
{
    struct pollfd pfd[2] = {{.fd = fd, .events = POLLIN}, {.fd = STDOUT_FILENO}};

    while (poll(pfd, 2, -1) < 0 && errno == EINTR)
        continue;
    return (pfd[1].revents & POLLERR) == 0;
}

/* The server writes when there is something. The connection may end because we did not read, or because
 * another server has taken over (an upgrade): then there is somebody to ask again. */
static int follow(const struct ask *by, bool as_json)
{
    struct control_stream stream = {.fd = -1};
    struct control_reply reply = {.result = 0};
    struct ask ask = *by;
    bool goes_on = true;
    char *text;

    ask.stream = &stream;
    while (goes_on && ask_server(&ask, CONTROL_FOLLOW, 0, &reply.result, &text) == 0) {
        do {
            stream.last = show_all(&ask, stream.last, reply.result, text, as_json);
            goes_on = stream.last >= 0 && wait_for_more(stream.fd);
        } while (goes_on && control_next(&stream, &reply, &text) == 0);
        close(stream.fd);
    }
    return CLI_FAILED;
}

int cli_events(int argc, char **argv)
{
    static const struct option options[] = {
        {"follow", no_argument, NULL, 'f'},       {"config", required_argument, NULL, 'c'},
        {"socket", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    struct ask ask = {.command = argv[0]};
    bool as_json = false, follows = false;
    int c, result;
    char *text;

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
    if (follows)
        return follow(&ask, as_json);
    if (ask_server(&ask, CONTROL_EVENTS, 0, &result, &text) < 0)
        return CLI_FAILED;
    return show_all(&ask, 0, result, text, as_json) >= 0 ? CLI_OK : CLI_FAILED;
}
