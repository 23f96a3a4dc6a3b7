/*
 * ab_test_v2.c - the next version of ab_test, for rollouts: made of the same sources, and other than them in
 * one thing. It keeps clients in their groups, whatever `sticky` says.
 */
#include <bulkhead.h>

#ifndef VERSION_2
#define VERSION_2     "2.0.0"
#define KEEPS_CLIENTS 1
#endif

#pragma push_macro("BH_PLUGIN")
#undef BH_PLUGIN
#define BH_PLUGIN(...) /* this one is not plugged in */
#include "../../plugins/ab_test/ab_test.c"
#include "../../plugins/ab_test/experiment.c"
#include "../../plugins/ab_test/exposure.c"
#include "../../plugins/ab_test/siphash.c"
#include "../../plugins/ab_test/target.c"
#pragma pop_macro("BH_PLUGIN")

static bh_rc open_2(bh_inst *inst, const void *cfg, void **selfp)
{
    struct config *own = malloc(sizeof *own);
    bh_rc rc;

    if (own == NULL)
        return BH_FAIL;
    *own = *(const struct config *)cfg;
    if (KEEPS_CLIENTS)
        own->sticky = 1;
    rc = ab_test_open(inst, own, selfp);
    if (rc != BH_OK)
        free(own);
    return rc;
}

static void close_2(void *self_)
{
    struct ab_test *self = self_;
    const struct config *own = self->cfg;

    ab_test_close(self);
    free((void *)(uintptr_t)own);
}

BH_PLUGIN("ab_test", VERSION_2, .summary = "puts clients into the groups of an experiment",
          .options = ab_test_options, .cfg_size = sizeof(struct config),
          .validate = ab_test_validate, .open = open_2, .start = ab_test_start, .close = close_2,
          .on_request = ab_test_on_request)
