/*
 * check.c - `bulkhead check`: everything that can be known about a config without serving it.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/diag.h"
#include "cli/cli.h"
#include "cli/roles.h"
#include "conf/config.h"
#include "ipc/shm.h"
#include "plugin/manifest.h"
#include "plugin/object.h"
#include "plugin/setup.h"

static const char help[] =
    "usage: bulkhead check [-c FILE] [--json]\n"
    "\n"
    "Checks a config file, the plugin objects that it names, and their options; then lets the plugins\n"
    "that can do so validate their options, in a process of their own. Opens no socket.\n"
    "\n"
    "  -c, --config FILE   default: /etc/bulkhead/bulkhead.yaml, else config/bulkhead.yaml\n"
    "  -n, --no-run        run no code of plugins: leave their own validation out\n"
    "      --json          print the result as JSON\n"
    "\n"
    "Exit status: 0 the config is sound, 1 it could not be checked, 2 it is wrong.\n";

static bool has_validate_hook(const struct setup *setup)
{
    for (int i = 0; i < setup->n; i++)
        if (setup->plugin[i].manifest->desc->validate != NULL)
            return true;
    return false;
}

/* The plugins' own validation, and is the store's library here? What is found goes to stderr. */
static int validate(const struct config *cfg, struct setup *setup, struct diag *diag)
{
    struct shm *shm;
    int r;

    if (!has_validate_hook(setup) && cfg->store.backend == CONFIG_STORE_MEMORY)
        return CLI_OK;
    r = shm_create(1, (uint32_t)cfg->n_plugins, &shm);
    if (r < 0) {
        fprintf(stderr, "bulkhead check: no shared memory\n");
        return CLI_FAILED;
    }
    r = setup_copy(cfg, setup, NULL, diag);
    fflush(NULL); /* the child must not print it again */
    if (r == 0)
        r = master_preflight(cfg, setup, shm, &cli_roles, 1);
    object_dir_remove();
    shm_destroy(&shm);
    return r < 0 ? CLI_BAD_INPUT : CLI_OK;
}

static int report(const char *path, int status, const struct diag *diag, const struct config *cfg,
                  bool as_json)
{
    if (as_json) {
        json_t *json = json_pack("{s:s, s:b, s:o}", "file", path, "ok", status == CLI_OK, "errors",
                                 cli_diag_json(diag));

        if (cfg != NULL) {
            json_object_set_new(json, "plugins", json_integer(cfg->n_plugins));
            json_object_set_new(json, "routes", json_integer(cfg->n_routes));
        }
        if (diag->n_errors == 0 && status == CLI_BAD_INPUT)
            json_object_set_new(json, "plugin_validation", json_string("failed, see stderr"));
        return cli_print_json(json) == CLI_OK ? status : CLI_FAILED;
    }
    diag_print(diag, stderr);
    if (status == CLI_OK)
        printf("%s: ok (%d plugin%s, %d route%s)\n", path, cfg->n_plugins,
               cfg->n_plugins == 1 ? "" : "s", cfg->n_routes, cfg->n_routes == 1 ? "" : "s");
    return status;
}

int cli_check(int argc, char **argv)
{
    static const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                            {"no-run", no_argument, NULL, 'n'},
                                            {"json", no_argument, NULL, 'j'},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    const char *path = cli_default_config();
    bool as_json = false, may_run = true;
    struct config *cfg = NULL;
    struct setup *setup = NULL;
    struct diag diag;
    int c, status;

    while ((c = getopt_long(argc, argv, "c:nh", options, NULL)) != -1) {
        switch (c) {
        case 'c': path = optarg; break;
        case 'n': may_run = false; break;
        case 'j': as_json = true; break;
        case 'h': return fputs(help, stdout) < 0 ? CLI_FAILED : CLI_OK;
        default: return cli_usage_error(argv);
        }
    }
    if (argc - optind == 1)
        path = argv[optind];
    else if (argc > optind)
        return cli_usage_error(argv);
    diag_init(&diag);
    status = cli_load(path, &diag, &cfg, &setup) < 0 ? CLI_BAD_INPUT : CLI_OK;
    if (status == CLI_OK && may_run)
        status = validate(cfg, setup, &diag);
    status = report(path, status, &diag, cfg, as_json);
    diag_fini(&diag);
    setup_destroy(&setup);
    config_destroy(&cfg);
    return status;
}
