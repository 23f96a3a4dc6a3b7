/*
 * run.c - `bulkhead run`: serve until told to stop.
 */
#include <getopt.h>
#include <stdio.h>

#include "base/diag.h"
#include "cli/cli.h"
#include "cli/roles.h"
#include "conf/config.h"
#include "plugin/object.h"
#include "plugin/setup.h"

static const char help[] =
    "usage: bulkhead run [-c FILE]\n"
    "\n"
    "Serves in the foreground. SIGTERM or SIGINT: no new connections, requests in flight get\n"
    "limits.timeouts.drain to end; a second one, or SIGQUIT: ends at once.\n"
    "\n"
    "  -c, --config FILE   default: /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "\n"
    "Exit status: 0 stopped when told to, 1 could not serve, 2 the config is wrong.\n";

int cli_run(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *path = cli_default_config();
    struct config *cfg;
    struct setup *setup;
    struct diag diag;
    int c, r;

    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        if (c == 'h')
            return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        if (c != 'c')
            return cli_usage_error(argv);
        path = optarg;
    }
    if (optind < argc)
        return cli_usage_error(argv);
    diag_init(&diag);
    r = cli_load(path, &diag, &cfg, &setup);
    if (r < 0) {
        diag_print(&diag, stderr);
        diag_fini(&diag);
        return CLI_BAD_INPUT;
    }
    r = setup_copy(setup, &diag);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    cli_roles_use(setup);
    r = r < 0 ? CLI_FAILED : master_run(cfg, setup, &cli_roles);
    object_dir_remove();
    setup_destroy(&setup);
    config_destroy(&cfg);
    return r;
}
