/*
 * run.c - `bulkhead run`: serve until told to stop.
 */
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/diag.h"
#include "cli/cli.h"
#include "cli/roles.h"
#include "conf/config.h"
#include "conf/overlay.h"
#include "master/environment.h"
#include "plugin/object.h"
#include "plugin/recover.h"
#include "plugin/setup.h"

static const char help[] =
    "usage: bulkhead run [-c FILE]\n"
    "\n"
    "Serves in the foreground. SIGTERM or SIGINT: no new connections, requests in flight get\n"
    "limits.timeouts.drain to end; a second one, or SIGQUIT: ends at once. SIGHUP: config, plugins and\n"
    "certificates are loaded anew. SIGUSR1: log files are opened anew. SIGUSR2: the executable is run\n"
    "again, with the config as it is now, and takes over listening sockets and connections; this one\n"
    "ends when its requests have.\n"
    "\n"
    "  -c, --config FILE   default: /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "\n"
    "Exit status: 0 stopped when told to, 1 could not serve, 2 the config is wrong.\n";

/* The arguments to run the same command again, by the path of this executable; NULL: no memory, or
 * no /proc. */
static char **arguments(int argc, char **argv)
{
    static char run[] = "run";
    char **again = calloc((size_t)argc + 2, sizeof *again);
    char *path = realpath("/proc/self/exe", NULL);

    if (again == NULL || path == NULL) {
        free(again);
        free(path);
        return NULL;
    }
    again[0] = path;
    again[1] = run;
    for (int i = 1; i < argc; i++)
        again[i + 1] = argv[i];
    return again;
}

int cli_run(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
    struct master_roles roles = cli_roles;
    const char *path = cli_default_config();
    struct config *cfg;
    struct overlay overlay = {.n = 0};
    char interrupted[64] = "";
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
    if (environment_prepare() < 0)
        return CLI_FAILED;
    diag_init(&diag);
    r = cli_load_kept(path, &diag, &overlay, interrupted, sizeof interrupted, &cfg, &setup);
    if (r < 0) {
        diag_print(&diag, stderr);
        diag_fini(&diag);
        return CLI_BAD_INPUT;
    }
    r = setup_copy(cfg, setup, NULL, &diag);
    diag_print(&diag, stderr);
    diag_fini(&diag);
    roles.argv = arguments(argc, argv);
    recover_prepare(); /* its children need not find out */
    roles.interrupted = interrupted;
    if (overlay.n > 0 || interrupted[0] != '\0')
        roles.overlay = &overlay;
    r = r < 0 ? CLI_FAILED : master_run(cfg, setup, &roles);
    overlay_fini(&overlay);
    object_dir_remove();
    setup_destroy(&setup);
    config_destroy(&cfg);
    if (roles.argv != NULL)
        free(roles.argv[0]);
    free((void *)(uintptr_t)roles.argv);
    return r;
}
