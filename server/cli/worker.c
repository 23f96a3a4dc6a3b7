/*
 * worker.c - `bulkhead worker recycle`: fresh workers for old ones.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"

static const char help[] =
    "usage: bulkhead worker recycle N|all [-c FILE | --socket PATH]\n"
    "\n"
    "Has a worker of the running server, or all of them, one after the other, replaced by fresh\n"
    "ones. No connection is lost. N: the number that `bulkhead status` shows. Returns when the server\n"
    "has taken note; status shows how far it is.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "\n"
    "Exit status: 0 done, 1 it could not be done, 2 no such worker, or the arguments are wrong.\n";

static int recycle(const struct ask *ask, const char *which)
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
    return CLI_OK;
}

int cli_worker(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"socket", required_argument, NULL, 's'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct ask ask = {.command = argv[0]};
    int c;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': ask.config = optarg; break;
        case 's': ask.socket = optarg; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (argc - optind != 2 || strcmp(argv[optind], "recycle") != 0 ||
        (ask.config != NULL && ask.socket != NULL))
        return cli_usage_error(argv);
    return recycle(&ask, argv[optind + 1]);
}
