/*
 * secure.c - says what it can know of a connection with TLS, one "name=value" a line, and gives a
 * request's body back. ?subject=... is what the subject of the client must be, or 403.
 */
#include <bulkhead.h>

#include <stdio.h>
#include <unistd.h>

static bh_rc say(bh_req *req)
{
    static const char *const names[] = {
        "scheme",      "tls.version",         "tls.cipher",         "tls.sni",
        "tls.resumed", "tls.client.verified", "tls.client.subject", "tls.client.fingerprint",
        "tls.nonsense"};
    char text[4096];
    int n = snprintf(text, sizeof text, "pid=%d\n", (int)getpid());

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bh_str value = bh_attr(req, names[i]);

        if (value.p != NULL)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s=%.*s\n", names[i], (int)value.n,
                          value.p);
    }
    return bh_reply(req, 200, "text/plain", text);
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    (void)self, (void)ctx;
    if (!bh_str_eq(bh_attr(req, "method"), "POST"))
        return say(req);
    return bh_body_want(req, BH_REQ, BH_BODY_BUFFER, 8 << 20) == BH_OK ? BH_CONTINUE : BH_FAIL;
}

static bh_rc on_request_body(void *self, bh_req *req, void *ctx, bh_str chunk, int32_t end)
{
    bh_str whole;

    (void)self, (void)ctx, (void)chunk;
    if (!end)
        return BH_CONTINUE;
    if (bh_body(req, BH_REQ, &whole) != BH_OK)
        return BH_FAIL;
    return bh_reply_n(req, 200, "text/plain", whole.p, whole.n);
}

BH_PLUGIN("secure", "1.0.0", .summary = "Says what it knows of a connection's TLS",
          .on_request = on_request, .on_request_body = on_request_body)
