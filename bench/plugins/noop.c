/*
 * noop.c - a plugin that does nothing, three times a request.
 *
 * Eight of these in a chain cost what the chain and the recovery boundary cost, and nothing else.
 */
#include <bulkhead.h>

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return BH_CONTINUE;
}

static bh_rc on_response(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
    return BH_CONTINUE;
}

static void on_log(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)req, (void)ctx;
}

BH_PLUGIN("noop", "1.0", .summary = "Does nothing, for measuring what a plugin call costs",
          .on_request = on_request, .on_response = on_response, .on_log = on_log)
