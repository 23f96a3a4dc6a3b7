#include "cli/roles.h"

#include <stdlib.h>

#include "conf/config.h"
#include "plugin/hook.h"
#include "plugin/manifest.h"
#include "plugin/setup.h"
#include "recorder/recorder.h"
#include "worker/preflight.h"
#include "worker/worker.h"

static const struct setup *the_setup; /* what crash records say of plugins comes from here */

void cli_roles_use(const struct setup *setup)
{
    the_setup = setup;
}

static int run_recorder(const struct config *cfg, struct shm *shm)
{
    struct recorder_plugin *plugin = calloc((size_t)cfg->n_plugins + 1, sizeof *plugin);
    int r;

    if (plugin == NULL)
        return 1;
    for (int i = 0; i < cfg->n_plugins; i++) {
        const struct setup_plugin *s = &the_setup->plugin[i];

        plugin[i] = (struct recorder_plugin){.instance = cfg->plugin[i].name,
                                             .module = cfg->plugin[i].module,
                                             .object = s->object,
                                             .version = s->manifest->desc->version,
                                             .build_id = s->manifest->build_id};
    }
    r = recorder_run(cfg, shm, plugin, cfg->n_plugins);
    free(plugin);
    return r;
}

const struct master_roles cli_roles = {
    .worker = worker_run,
    .recorder = run_recorder,
    .preflight = worker_preflight,
    .hook_name = hook_name,
};
