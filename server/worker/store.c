#include "worker/store.h"

#include <string.h>

#include "base/diag.h"
#include "conf/config.h"
#include "plugin/host_store.h"
#include "store/memory.h"
#include "store/store.h"

int store_open(bh_host *h, const struct config *cfg, struct store_memory *memory, struct diag *diag)
{
    struct store *store = NULL;
    int r = 0;

    if (memory == NULL)
        r = store_memory_create(STORE_MEMORY_MIN, &memory); /* kept until the process ends */
    if (r == 0)
        r = store_memory_open(memory, &store);
    if (r < 0) {
        diag_add(diag, cfg->path, 0, 0, NULL, "the store cannot be opened: %s", strerror(-r));
        return r;
    }
    host_store_init(h, store);
    return 0;
}
