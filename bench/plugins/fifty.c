/*
 * fifty.c - a handler of 50 KB, as a plugin of usual size is: what a swap costs.
 *
 * The table stands for the code that such a plugin has; the call adds up some of it.
 */
#include <bulkhead.h>

static const unsigned char table[27 * 1024] = {1, 2, 3};
static volatile unsigned sum;

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)ctx;
    sum += table[sum % sizeof table];
    return bh_reply(req, 200, "text/plain", "hello\n");
}

BH_PLUGIN("fifty", "1.0", .summary = "Says hello, for measuring what a swap costs",
          .on_request = on_request)
