/*
 * whoami.c - answers with whom the server takes the client for:
 * "client CLIENT PORT peer PEER PORT SCHEME://HOST via X-FORWARDED-FOR", "-" for what is not known.
 */
#include <bulkhead.h>

#include <stdio.h>

static const char *or_none(bh_str s)
{
    return s.p != NULL ? s.p : "-";
}

static bh_rc on_request(void *self, bh_req *req, void *ctx)
{
    char text[1024];

    (void)self, (void)ctx;
    snprintf(text, sizeof text, "client %s %s peer %s %s %s://%s via %s",
             or_none(bh_attr(req, "client")), or_none(bh_attr(req, "client_port")),
             or_none(bh_attr(req, "peer")), bh_attr(req, "peer_port").p != NULL ? "PORT" : "-",
             or_none(bh_attr(req, "scheme")), or_none(bh_attr(req, "host")),
             or_none(bh_header(req, "X-Forwarded-For")));
    return bh_reply(req, 200, "text/plain", text);
}

BH_PLUGIN("whoami", "1.0.0", .summary = "Says who asks", .on_request = on_request)
