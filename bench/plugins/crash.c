/*
 * crash.c - a plugin that dereferences NULL on every request; those for /abort it aborts.
 *
 * Has the three hooks of noop.c, so that the only difference between the two is the fault.
 */
#include <bulkhead.h>
#include <stdlib.h>

static int *volatile nowhere; /* volatile: the compiler must not see that this is NULL */

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str path = bh_attr(req, "path");

    (void)self, (void)ctx;
    if (path.n > 1 && path.p[1] == 'a')
        abort(); /* what a failed assert() does, and a panic is in Go: no signal is needed */
    *nowhere = 1;
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

BH_PLUGIN("crash", "1.0", .summary = "Dereferences NULL, for measuring what recovery costs",
          .on_request = on_request, .on_response = on_response, .on_log = on_log)
