/*
 * version.c - `bulkhead version`.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include <bulkhead.h>

#include "cli/cli.h"

#ifndef BULKHEAD_VERSION
#define BULKHEAD_VERSION "unknown"
#endif

static const char help[] = "usage: bulkhead version [--json]\n"
                           "\n"
                           "Prints the version of the server and of its plugin interface.\n"
                           "\n"
                           "      --json   as JSON\n";

int cli_version(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool as_json = false;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'h')
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        if (c != 'j')
            return cli_usage_error(argv);
        as_json = true;
    }
    if (optind < argc)
        return cli_usage_error(argv);
    if (as_json)
        return cli_print_json(json_pack("{s:s, s:{s:i, s:i}}", "version", BULKHEAD_VERSION,
                                        "plugin_abi", "major", BH_ABI_MAJOR, "minor",
                                        BH_ABI_MINOR));
    printf("bulkhead %s (plugin ABI %d.%d)\n", BULKHEAD_VERSION, BH_ABI_MAJOR, BH_ABI_MINOR);
    return CLI_OK;
}
