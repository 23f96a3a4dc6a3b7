/*
 * alloc.c - noop.c with ten allocations in each request, of 16 bytes to 4 KiB, and as many frees.
 */
#include <bulkhead.h>
#include <stdlib.h>

enum { BLOCKS = 10 };

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    void *volatile block[BLOCKS]; /* volatile: the compiler must not leave them out */

    (void)self, (void)req, (void)ctx;
    for (int i = 0; i < BLOCKS; i++)
        block[i] = malloc((size_t)16 << (i < 9 ? i : 3));
    for (int i = 0; i < BLOCKS; i++)
        free(block[i]);
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

BH_PLUGIN("alloc", "1.0", .summary = "Allocates, for measuring what its heap costs",
          .on_request = on_request, .on_response = on_response, .on_log = on_log)
