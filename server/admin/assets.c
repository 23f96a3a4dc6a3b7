/*
 * assets.c - files that are part of the executable: the dashboard, and the description of the API.
 *
 * They need no token: there is nothing in them but what everybody can read in the sources.
 */
#include <gnutls/crypto.h>
#include <stdio.h>
#include <string.h>

#include "admin/internal.h"

/* NAME_begin and NAME_end, around the bytes of a file; its path is meant from the top folder, where
 * make runs. */
#define EMBED(NAME, PATH)                                                               \
    __asm__(".section .rodata\n.balign 16\n.global asset_" #NAME "_begin\nasset_" #NAME \
            "_begin:\n.incbin \"" PATH "\"\n.global asset_" #NAME "_end\nasset_" #NAME  \
            "_end:\n.byte 0\n.previous\n");                                             \
    extern const char asset_##NAME##_begin[], asset_##NAME##_end[]

EMBED(openapi, "server/admin/openapi.json");
EMBED(index, "server/admin/dashboard/index.html");
EMBED(style, "server/admin/dashboard/style.css");
EMBED(app, "server/admin/dashboard/app.js");
EMBED(views, "server/admin/dashboard/views.js");
EMBED(charts, "server/admin/dashboard/charts.js");
EMBED(api, "server/admin/dashboard/api.js");
EMBED(dom, "server/admin/dashboard/dom.js");
EMBED(icon, "server/admin/dashboard/icon.svg");

static const struct asset {
    const char *name, *type, *begin, *end;
} assets[] = {
    {"index.html", "text/html; charset=utf-8", asset_index_begin, asset_index_end},
    {"style.css", "text/css; charset=utf-8", asset_style_begin, asset_style_end},
    {"app.js", "text/javascript; charset=utf-8", asset_app_begin, asset_app_end},
    {"views.js", "text/javascript; charset=utf-8", asset_views_begin, asset_views_end},
    {"charts.js", "text/javascript; charset=utf-8", asset_charts_begin, asset_charts_end},
    {"api.js", "text/javascript; charset=utf-8", asset_api_begin, asset_api_end},
    {"dom.js", "text/javascript; charset=utf-8", asset_dom_begin, asset_dom_end},
    {"icon.svg", "image/svg+xml", asset_icon_begin, asset_icon_end},
    {"openapi.json", "application/json", asset_openapi_begin, asset_openapi_end},
};

static void send_asset(struct request *req, const char *name)
{
    for (size_t i = 0; i < sizeof assets / sizeof assets[0]; i++) {
        size_t n = (size_t)(assets[i].end - assets[i].begin);
        char etag[32] = "\"";
        uint8_t sum[32];

        if (strcmp(assets[i].name, name) != 0)
            continue;
        if (gnutls_hash_fast(GNUTLS_DIG_SHA256, assets[i].begin, n, sum) < 0)
            return;
        for (int k = 0; k < 8; k++)
            snprintf(etag + 1 + 2 * k, 3, "%02x", sum[k]);
        strcat(etag, "\"");
        reply_static(req, assets[i].type, assets[i].begin, n, etag);
        return;
    }
    reply_problem(req, 404, "Not Found", "there is no such file");
}

void get_index(struct request *req)
{
    send_asset(req, "index.html");
}

void get_asset(struct request *req)
{
    send_asset(req, req->argument);
}

void get_openapi(struct request *req)
{
    send_asset(req, "openapi.json");
}
