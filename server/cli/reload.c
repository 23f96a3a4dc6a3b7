/*
 * reload.c - `bulkhead reload`: the config and the plugins anew, without losing a request; and
 * `bulkhead diff`: what that would change.
 */
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/ask.h"
#include "cli/cli.h"

#define POLL_MS     20
#define PATIENCE_MS 120000

static const char help_reload[] =
    "usage: bulkhead reload [--wait] [--dry-run] [--force] [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Has the running server load its config and its plugins anew. They are checked and tried first;\n"
    "then workers with them take over, all at once. No connection is lost, and whatever goes wrong\n"
    "leaves everything as it was. SIGHUP to the server does the same.\n"
    "\n"
    "  -w, --wait          until it is done, or has failed\n"
    "  -n, --dry-run       check and try everything, say what would change and how, change nothing\n"
    "  -f, --force         what the config names, though it is quarantined or was rolled back\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --json          print the result as JSON\n"
    "\n"
    "Exit status: 0 done (without --wait: begun), 1 no server answers, or it is busy, 2 the new\n"
    "config or a plugin is wrong, nothing has changed.\n";

static const char help_diff[] =
    "usage: bulkhead diff [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "Shows what a reload would change in the running server, and what that takes: the same as\n"
    "bulkhead reload --dry-run. Values of plugin options are not shown.\n"
    "\n"
    "Exit status: 0 it could be done, or nothing differs, 1 no server answers, 2 it would fail.\n";

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text != NULL ? text : "";
}

static void show_changes(const json_t *changes)
{
    const json_t *c;
    size_t i;

    json_array_foreach(changes, i, c)
    {
        const char *what = text_of(c, "what"), *from = text_of(c, "from"), *to = text_of(c, "to");
        char sign = strcmp(what, "added") == 0 ? '+' : strcmp(what, "removed") == 0 ? '-' : '~';

        printf("%c %s", sign, text_of(c, "path"));
        if (from[0] != '\0' && to[0] != '\0')
            printf(": %s -> %s", from, to);
        else if (from[0] != '\0' || to[0] != '\0')
            printf(": %s", from[0] != '\0' ? from : to);
        printf("  (%s)\n", text_of(c, "how"));
    }
}

/* "generation 2 serves, after 34 ms: check 1.2, preflight 12.3, prepare 3.1, swap 0.6" */
static void show_times(long long generation, long long took_ms, json_t *times)
{
    const char *name, *before = ": ";
    json_t *us;

    printf("generation %lld serves, after %lld ms", generation, took_ms);
    json_object_foreach(times, name, us)
    {
        printf("%s%s %.1f", before, name, (double)json_integer_value(us) / 1000);
        before = ", ";
    }
    printf("\n");
}

static int show(const char *command, json_t *result, bool as_json)
{
    const json_t *errors = json_object_get(result, "errors"), *line;
    const char *state = text_of(result, "state");
    bool has_failed = strcmp(state, "failed") == 0;
    long long generation = json_integer_value(json_object_get(result, "generation"));
    long long took_ms = json_integer_value(json_object_get(result, "took_ms"));
    size_t i, n = json_array_size(json_object_get(result, "changes"));

    if (as_json) {
        cli_print_json(json_incref(result));
        return has_failed ? CLI_BAD_INPUT : CLI_OK;
    }
    if (has_failed) {
        fprintf(stderr, "%s: failed (%s); generation %lld goes on serving, nothing was changed\n",
                command, text_of(result, "stage"), generation);
        json_array_foreach(errors, i, line)
        {
            fprintf(stderr, "%s\n", json_string_value(line));
        }
        return CLI_BAD_INPUT;
    }
    show_changes(json_object_get(result, "changes"));
    if (strcmp(state, "dry run") == 0)
        printf("%zu change%s; the reload would succeed\n", n, n == 1 ? "" : "s");
    else
        show_times(generation, took_ms, json_object_get(result, "times_us"));
    return CLI_OK;
}

static int say_failure(const struct ask *ask, int result)
{
    fprintf(stderr, "%s: %s\n", ask->command,
            result == -EBUSY
                ? "the server is starting, stopping, being upgraded, or reloads already"
            : result == -ENOSYS ? "the server is of an earlier version"
            : result == -ENOENT
                ? "another reload has begun meanwhile; `bulkhead status` shows how it went"
                : strerror(-result));
    return CLI_FAILED;
}

/* A master that does not answer for a while may have to wait for the kernel: on a machine with many more
 * processes than processors a fork() has been seen to take 12 s. It is said to be stopped when that goes
 * on. */
static int wait_for(struct ask *ask, int id, bool as_json)
{
    int64_t end_ms = clock_mono_ms() + PATIENCE_MS;

    for (;;) {
        struct timespec pause = {0, POLL_MS * 1000000L};
        json_t *json;
        char *text;
        int result, status, r;

        ask->is_patient = clock_mono_ms() < end_ms;
        r = ask_server(ask, CONTROL_RELOAD_RESULT, id, &result, &text);
        if (r == -ETIMEDOUT && ask->is_patient)
            continue;
        if (r < 0)
            return CLI_FAILED;
        if (result < 0) {
            free(text);
            return say_failure(ask, result);
        }
        json = json_loads(text != NULL ? text : "", 0, NULL);
        free(text);
        if (json != NULL && strcmp(text_of(json, "state"), "running") != 0) {
            status = show(ask->command, json, as_json);
            json_decref(json);
            return status;
        }
        json_decref(json);
        if (clock_mono_ms() >= end_ms) {
            fprintf(stderr, "%s: no result within %d s; `bulkhead status` shows how it is\n",
                    ask->command, PATIENCE_MS / 1000);
            return CLI_FAILED;
        }
        nanosleep(&pause, NULL);
    }
}

int cli_reload(int argc, char **argv)
{
    static const struct option options[] = {
        {"wait", no_argument, NULL, 'w'},         {"dry-run", no_argument, NULL, 'n'},
        {"force", no_argument, NULL, 'f'},        {"config", required_argument, NULL, 'c'},
        {"socket", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},         {0}};
    bool is_diff = strstr(argv[0], " diff") != NULL, is_dry = is_diff, waits = is_diff;
    struct ask ask = {.command = argv[0]};
    bool as_json = false, is_brave = false;
    json_t *json;
    int c, result, id;
    char *text;

    while ((c = getopt_long(argc, argv, is_diff ? "c:h" : "wnfc:h", options, NULL)) != -1) {
        switch (c) {
        case 'w': waits = true; break;
        case 'n': is_dry = waits = true; break;
        case 'f': is_brave = true; break;
        case 'c': ask.config = optarg; break;
        case 's': ask.socket = optarg; break;
        case 'j': as_json = true; break;
        case 'h': return fputs(is_diff ? help_diff : help_reload, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (optind < argc || (ask.config != NULL && ask.socket != NULL))
        return cli_usage_error(argv);
    if (ask_server(&ask, CONTROL_RELOAD, is_dry | is_brave << 1, &result, &text) < 0)
        return CLI_FAILED;
    if (result < 0) {
        free(text);
        return say_failure(&ask, result);
    }
    json = json_loads(text != NULL ? text : "", 0, NULL);
    free(text);
    id = (int)json_integer_value(json_object_get(json, "id"));
    json_decref(json);
    if (waits)
        return wait_for(&ask, id, as_json);
    if (as_json)
        printf("{\"id\": %d}\n", id);
    else
        printf("the reload has begun; `bulkhead status` shows how it goes\n");
    return CLI_OK;
}
