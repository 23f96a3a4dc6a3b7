/*
 * hold.c - requests that wait, end, or fail as the test wants: the company in which plugins crash.
 *
 * By the end of the path: /hold waits until a /release comes to the same worker, and /held tells
 * whether one does; /fail returns BH_FAIL, for the on_error hooks before it; everything else is
 * answered "ok".
 */
#include <bulkhead.h>

static bh_ticket *held;

static int ends_in(bh_str path, const char *what)
{
    size_t n = strlen(what);

    return path.n >= n && memcmp(path.p + path.n - n, what, n) == 0;
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    bh_str path = bh_attr(req, "path");

    (void)self, (void)ctx;
    if (ends_in(path, "/fail"))
        return BH_FAIL;
    if (ends_in(path, "/hold")) {
        held = bh_ticket_take(req, 60000);
        return held != NULL ? BH_PAUSE : BH_FAIL;
    }
    if (ends_in(path, "/held"))
        return bh_reply(req, held != NULL ? 200 : 404, "text/plain",
                        held != NULL ? "ok\n" : "no\n");
    if (ends_in(path, "/release")) {
        bh_rc r = held != NULL ? bh_resume_reply(held, 200, "text/plain", "held\n", 5) : BH_ENOENT;

        held = NULL;
        return bh_reply(req, r == BH_OK ? 200 : 404, "text/plain",
                        r == BH_OK ? "ok\n" : "nobody\n");
    }
    return bh_reply(req, 200, "text/plain", "ok\n");
}

BH_PLUGIN("hold", "1.0.0", .summary = "Holds requests until it is told to let go",
          .on_request = on_request)
