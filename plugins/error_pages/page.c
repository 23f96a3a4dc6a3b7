/*
 * page.c - error pages from templates, and problem documents (RFC 9457).
 *
 * Everything that comes from outside is escaped on its way in. Each text is written twice: once to
 * learn its length, once into memory of that length; so both ways have to go through put().
 */
#define _GNU_SOURCE
#include "page.h"

struct out {
    char *p; /* NULL: only count */
    size_t n;
};

static void put(struct out *o, const char *p, size_t n)
{
    if (o->p != NULL && n > 0)
        memcpy(o->p + o->n, p, n);
    o->n += n;
}

static void puts_to(struct out *o, const char *s)
{
    put(o, s, strlen(s));
}

/* ---- HTML --------------------------------------------------------------------------------- */

static void put_html(struct out *o, bh_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        switch (s.p[i]) {
        case '&': puts_to(o, "&amp;"); break;
        case '<': puts_to(o, "&lt;"); break;
        case '>': puts_to(o, "&gt;"); break;
        case '"': puts_to(o, "&quot;"); break;
        case '\'': puts_to(o, "&#39;"); break;
        case '\0': break;
        default: put(o, s.p + i, 1);
        }
    }
}

/* 0: that is no placeholder. */
static int put_placeholder(struct out *o, bh_str name, const struct page_facts *f)
{
    char status[16];

    if (bh_str_eq(name, "status")) {
        snprintf(status, sizeof status, "%d", f->status);
        puts_to(o, status);
    } else if (bh_str_eq(name, "title")) {
        put_html(o, bh_s(f->title));
    } else if (bh_str_eq(name, "detail")) {
        put_html(o, bh_s(f->detail));
    } else if (bh_str_eq(name, "id")) {
        put_html(o, f->id);
    } else if (bh_str_eq(name, "path")) {
        put_html(o, f->path);
    } else {
        return 0;
    }
    return 1;
}

static void write_html(struct out *o, bh_str t, const struct page_facts *facts)
{
    while (t.n > 0) {
        const char *open = memmem(t.p, t.n, "{{", 2), *close = NULL;
        size_t left;

        if (open != NULL) {
            left = t.n - (size_t)(open - t.p);
            close = memmem(open, left, "}}", 2);
        }
        if (open == NULL || close == NULL) {
            put(o, t.p, t.n);
            return;
        }
        put(o, t.p, (size_t)(open - t.p));
        if (put_placeholder(o, bh_sn(open + 2, (size_t)(close - open) - 2), facts)) {
            open = close + 2;
        } else { /* keep the brace; the next one may begin a placeholder */
            put(o, open, 1);
            open += 1;
        }
        t = bh_sn(open, t.n - (size_t)(open - t.p));
    }
}

bh_str page_html(bh_req *req, bh_str template, const struct page_facts *facts)
{
    struct out o = {NULL, 0};

    write_html(&o, template, facts);
    o.p = bh_alloc(req, o.n + 1);
    if (o.p == NULL)
        return bh_s(NULL);
    o.n = 0;
    write_html(&o, template, facts);
    return bh_sn(o.p, o.n);
}

/* ---- JSON --------------------------------------------------------------------------------- */

/* ASCII only: nothing else is put into problem documents. */
static void put_json(struct out *o, const char *p, size_t n)
{
    char hex[8];

    puts_to(o, "\"");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];

        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
            snprintf(hex, sizeof hex, "\\u%04x", c);
            puts_to(o, hex);
        } else {
            put(o, p + i, 1);
        }
    }
    puts_to(o, "\"");
}

static void write_json(struct out *o, const struct page_facts *f)
{
    char status[48];

    puts_to(o, "{\"type\":\"about:blank\",\"title\":");
    put_json(o, f->title, strlen(f->title));
    snprintf(status, sizeof status, ",\"status\":%d,\"detail\":", f->status);
    puts_to(o, status);
    put_json(o, f->detail, strlen(f->detail));
    if (f->id.n > 0) {
        puts_to(o, ",\"id\":");
        put_json(o, f->id.p, f->id.n);
    }
    puts_to(o, "}\n");
}

bh_str page_json(bh_req *req, const struct page_facts *facts)
{
    struct out o = {NULL, 0};

    write_json(&o, facts);
    o.p = bh_alloc(req, o.n + 1);
    if (o.p == NULL)
        return bh_s(NULL);
    o.n = 0;
    write_json(&o, facts);
    return bh_sn(o.p, o.n);
}

/* ---- the built-in page -------------------------------------------------------------------- */

const char page_default[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<head>\n"
    "<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<meta name=\"robots\" content=\"noindex\">\n"
    "<title>{{status}} {{title}}</title>\n"
    "<style>\n"
    ":root { color-scheme: light dark; --ink: #1d2733; --dim: #5c6b7a; --paper: #f4f6f8;\n"
    "        --card: #fff; --edge: #dfe5eb; --mark: #c2410c; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "  :root { --ink: #e6ebf0; --dim: #94a3b3; --paper: #11171d; --card: #1a222b;\n"
    "          --edge: #2b3641; --mark: #fb923c; } }\n"
    "* { box-sizing: border-box; }\n"
    "body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem;\n"
    "       background: var(--paper); color: var(--ink);\n"
    "       font: 1rem/1.6 system-ui, -apple-system, \"Segoe UI\", Roboto, sans-serif; }\n"
    "main { width: 100%; max-width: 34rem; padding: 2.5rem; background: var(--card);\n"
    "       border: 1px solid var(--edge); border-top: 4px solid var(--mark);\n"
    "       border-radius: .5rem; }\n"
    "b { display: block; color: var(--mark); font-size: 3.5rem; line-height: 1;\n"
    "    font-variant-numeric: tabular-nums; letter-spacing: -.02em; }\n"
    "h1 { margin: .5rem 0 1rem; font-size: 1.4rem; line-height: 1.3; }\n"
    "p { margin: 0; color: var(--dim); }\n"
    ".id { margin-top: 1.5rem; padding-top: 1rem; border-top: 1px solid var(--edge);\n"
    "      font-size: .875rem; overflow-wrap: anywhere; }\n"
    ".id::before { content: \"Reference: \"; }\n"
    ".id:empty { display: none; }\n"
    "</style>\n"
    "</head>\n"
    "<body>\n"
    "<main>\n"
    "<b>{{status}}</b>\n"
    "<h1>{{title}}</h1>\n"
    "<p>{{detail}}</p>\n"
    "<p class=\"id\">{{id}}</p>\n"
    "</main>\n"
    "</body>\n"
    "</html>\n";
