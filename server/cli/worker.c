/*
 * worker.c - `bulkhead worker`: the workers that there are, and fresh ones for old ones.
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

static const char help[] =
    "usage: bulkhead worker ls [-c FILE | --socket PATH] [--json]\n"
    "       bulkhead worker recycle N|all [-c FILE | --socket PATH] [--json]\n"
    "\n"
    "ls shows the workers of the running server, as `bulkhead status` does. recycle has one of them,\n"
    "or all, one after the other, replaced by fresh ones. No connection is lost. N: the number that\n"
    "ls shows. It returns when the server has taken note; ls shows how far it is.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --json          print JSON: ls an array, recycle {\"recycled\": \"N\"}\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 no such worker, or the arguments are wrong.\n";

static int list(const struct ask *ask, bool as_json)
{
    json_t *status = NULL, *workers;
    int result;
    char *text;

    if (ask_server(ask, CONTROL_STATUS, 0, &result, &text) < 0)
        return CLI_FAILED;
    if (result == 0 && text != NULL)
        status = json_loads(text, 0, NULL);
    free(text);
    workers = json_incref(json_object_get(status, "workers"));
    json_decref(status);
    if (workers == NULL) {
        fprintf(stderr, "%s: the server could not tell: %s\n", ask->command,
                result < 0 ? strerror(-result) : "its answer makes no sense");
        return CLI_FAILED;
    }
    if (as_json)
        return cli_print_json(workers);
    cli_show_workers(workers);
    json_decref(workers);
    return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static int recycle(const struct ask *ask, const char *which, bool as_json)
{
    int slot = -1, result, r;
    char *text, *end;

    if (strcmp(which, "all") != 0) {
        long n = strtol(which, &end, 10);

        if (end == which || *end != '\0' || n < 0 || n > 65535) {
            fprintf(stderr, "%s: '%s' is neither all nor the number of a worker\n", ask->command,
                    which);
            return CLI_BAD_INPUT;
        }
        slot = (int)n;
    }
    r = ask_server(ask, CONTROL_RECYCLE, slot, &result, &text);
    if (r < 0)
        return CLI_FAILED;
    free(text);
    if (result == -ENOENT) {
        fprintf(stderr, "%s: no worker %s serves; `bulkhead status` shows those that do\n",
                ask->command, which);
        return CLI_BAD_INPUT;
    }
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", ask->command,
                result == -EBUSY ? "the server is starting or stopping" : strerror(-result));
        return CLI_FAILED;
    }
    return as_json ? cli_print_json(json_pack("{s:s}", "recycled", which)) : CLI_OK;
}

int cli_worker(int argc, char **argv)
{
    struct ask ask = {.command = argv[0]};
    bool as_json = false;
    const char *what;
    int n, r;

    if (!ask_options(argc, argv, help, &ask, &as_json, &r))
        return r;
    n = argc - optind;
    what = n > 0 ? argv[optind] : "";
    if (n == 1 && strcmp(what, "ls") == 0)
        return list(&ask, as_json);
    if (n == 2 && strcmp(what, "recycle") == 0)
        return recycle(&ask, argv[optind + 1], as_json);
    return cli_usage_error(argv);
}
