/*
 * metrics.c - `bulkhead metrics`: what a scraper gets, on the terminal.
 */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/cli.h"
#include "obs/metrics_text.h"

static const char help[] =
    "usage: bulkhead metrics [-c FILE | --socket PATH] [--openmetrics]\n"
    "\n"
    "Prints the metrics of the running server, those that its plugins define included, in the text\n"
    "format of Prometheus. docs/metrics.md says what they mean. Asks the master through its control\n"
    "socket; root may, and who runs the server.\n"
    "\n"
    "  -c, --config FILE   the config that the server runs with; default:\n"
    "                      /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "      --socket PATH   its control socket\n"
    "      --openmetrics   in the format of OpenMetrics 1.0\n"
    "\n"
    "Exit status: 0 done, 1 no server answers, 2 the arguments are wrong.\n";

static int run(const struct ask *ask, enum metrics_format format)
{
    char *text = NULL;
    int result, r;

    if (ask_server(ask, CONTROL_METRICS, (int)format, &result, &text) < 0)
        return CLI_FAILED;
    if (result < 0 || text == NULL) {
        fprintf(stderr, "%s: the server could not tell: %s\n", ask->command, strerror(-result));
        free(text);
        return CLI_FAILED;
    }
    r = fputs(text, stdout) < 0 || fflush(stdout) != 0 ? CLI_FAILED : CLI_OK;
    free(text);
    return r;
}

int cli_metrics(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"socket", required_argument, NULL, 's'},
                                            {"openmetrics", no_argument, NULL, 'o'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    struct ask ask = {.command = argv[0]};
    enum metrics_format format = METRICS_PROMETHEUS;
    int c;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (c) {
        case 'c': ask.config = optarg; break;
        case 's': ask.socket = optarg; break;
        case 'o': format = METRICS_OPENMETRICS; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (optind < argc || (ask.config != NULL && ask.socket != NULL))
        return cli_usage_error(argv);
    return run(&ask, format);
}
