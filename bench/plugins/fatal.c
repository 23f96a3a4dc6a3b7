/*
 * fatal.c - a plugin that faults inside the allocator, whose lock may be held: nothing to recover, the
 * worker has to be replaced.
 */
#include <bulkhead.h>
#include <stdint.h>
#include <stdlib.h>

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    void *volatile nowhere =
        (void *)(uintptr_t)0x414141414140; /* volatile: or the compiler objects */

    (void)self, (void)req, (void)ctx;
    free(nowhere); // NOLINT(clang-analyzer-unix.Malloc): that is what it is for
    return BH_CONTINUE;
}

BH_PLUGIN("fatal", "1.0", .summary = "Ends its worker, for measuring how it is replaced",
          .on_request = on_request)
